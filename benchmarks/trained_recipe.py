"""How is an encoder trained on few labels? Variants of the defaults, paired, on texts that no table scores.

    GRAPHLOSS_DATA=FOLDER python benchmarks/trained_recipe.py run --variants rate=2e-4 --cells trec-8 cr-300
    python benchmarks/trained_recipe.py page      the table, for docs/research/trained.md

As `trained.py`, but scored on documents of the training split that are neither labeled nor given as unlabeled text. A
variant is a list of settings, `default` for none of them; `rounds=2` trains again from the trained encoder, with
pseudo-labels of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from result_table import FOLDER, ResultTable
from trained import TOKENS, UNLABELED, drawn, in_own_process, read

from graphloss import TextClassifier

RESULTS = ResultTable(FOLDER / "trained_recipe.jsonl", ("data", "shots", "draw", "variant"))
SCORED = 700
SETTINGS = {"epochs": ("epochs", int), "rate": ("learning_rate", float), "rounds": ("rounds", int)}


def settings_of(variant: str) -> dict[str, Any]:
    """Settings of a variant: `epochs=2 rate=2e-4`."""
    pairs = [part.split("=") for part in variant.split()] if variant != "default" else []
    return {SETTINGS[name][0]: SETTINGS[name][1](value) for name, value in pairs}


def run(name: str, shots: int, draw: int, variant: str) -> None:
    """One cell, written down."""
    torch.set_num_threads(1)
    cell, (texts, y) = drawn(name, shots, draw, "lines"), read(name, "train")
    rng = np.random.default_rng(1000 + draw)
    order = rng.permutation(len(y))
    chosen = [row for label in np.unique(y) for row in order[y[order] == label][:shots]]
    rest = rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))
    given = min(UNLABELED, len(rest) - SCORED)
    unlabeled, scored = [texts[row] for row in rest[:given]], rest[given : given + SCORED]
    own = settings_of(variant)
    rounds, clock, encoder = own.pop("rounds", 1), time.process_time(), None
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            if encoder is not None:
                encoder.save(folder)
                own["model"] = folder
            shared: dict[str, Any] = {
                "max_length": TOKENS[name],
                "validation": 0.0,
                "seed": draw + 100 * number,
                "precision": "bf16",
            }
            model = TextClassifier(**shared | own)
            model.fit(cell["texts"], cell["labels"], unlabeled, descriptions=cell["lines"] or False)
            encoder = model.encoder_
    row = {"data": name, "shots": shots, "draw": draw, "variant": variant}
    row |= {"processor_seconds": round(time.process_time() - clock, 1)}
    right = model.predict([texts[row] for row in scored]) == y[scored]
    RESULTS.put(row | {"accuracy": float(right.mean())})
    print(row, right.mean(), flush=True)


def page() -> None:
    """Each variant beside the default on the cells of both."""
    rows = {(row["data"], row["shots"], row["draw"], row["variant"]): row for row in RESULTS.rows()}
    print("| variant | default | variant | difference, by cell | seconds |\n| --- | ---: | ---: | --- | ---: |")
    for variant in sorted({key[-1] for key in rows} - {"default"}):
        cells = sorted(key[:-1] for key in rows if key[-1] == variant and (*key[:-1], "default") in rows)
        pairs = [(rows[*cell, "default"], rows[*cell, variant]) for cell in cells]
        before, after = (fmean(100 * pair[side]["accuracy"] for pair in pairs) for side in (0, 1))
        seconds = fmean(b["processor_seconds"] / a["processor_seconds"] for a, b in pairs)
        each = ", ".join(
            f"{cell[0]} {cell[1]} {100 * (b['accuracy'] - a['accuracy']):+.1f}"
            for cell, (a, b) in zip(cells, pairs, strict=True)
        )
        print(f"| {variant} | {before:.1f} | {after:.1f} | {each} | {seconds:.2f} |")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "page"))
    parser.add_argument("--variants", nargs="+", default=["default"])
    parser.add_argument("--cells", nargs="+", default=["trec-8", "cr-8", "hwu64-1", "mr-8"], metavar="DATA-SHOTS")
    parser.add_argument("--draws", nargs="+", type=int, default=[200])
    given = parser.parse_args()
    if given.stage == "page":
        page()
        return
    for draw, cell, variant in product(given.draws, given.cells, given.variants):
        name, shots = cell.split("-")
        if RESULTS.find(name, int(shots), draw, variant) is None:
            in_own_process(run, name, int(shots), draw, variant)


if __name__ == "__main__":
    main()
