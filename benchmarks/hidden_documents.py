"""Do unlabeled documents pay inside the training too, or only after it? Three data sets, a few labels a class.

    GRAPHLOSS_DATA=FOLDER python benchmarks/hidden_documents.py [--seeds 3]    train what is missing
    python benchmarks/hidden_documents.py --table                              print the table

The same labels, `UNLABELED` other training texts and `TEST` test texts for every case, the lower three layers as they
are, `EPOCHS` epochs, no validation split:

    labels alone       the encoder learns from the given labels, as by default
    hidden             `--hidden 32`: so many unlabeled documents in the graph of every batch
    hidden and soft    `--soft-weight 1` as well: head and encoder are asked for what the corpus graph says of them

Each is scored by its head before the unlabeled documents teach it and by the taught head (`--corpus-graph auto`).
Cells are appended to `results/hidden_documents.jsonl`; a second call goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from headline import drawn, scores

from graphloss.inference.self_training import self_train_head
from graphloss.text.documents import Documents
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings

RESULTS = Path(__file__).parent / "results" / "hidden_documents.jsonl"
DATA = {"r8": 8, "banking77": 4, "ohsumed": 4}
TOKENS = {"r8": 48, "banking77": 32, "ohsumed": 64}
UNLABELED, TEST, EPOCHS = 1000, 600, 8
VARIANTS: dict[str, dict[str, Any]] = {
    "labels alone": {},
    "hidden": {"hidden": 32},
    "hidden and soft": {"hidden": 32, "soft_weight": 1.0},
}


def cell(variant: str, task: str, seed: int) -> dict[str, Any]:
    """Train and score one cell."""
    found = drawn(task, DATA[task], seed)
    found = found | {name: found[name][:TEST] for name in ("test", "truth")}
    rest = found["unlabeled"][:UNLABELED]
    settings = TrainSettings(
        freeze=3, epochs=EPOCHS, max_length=TOKENS[task], seed=seed, corpus_graph="off", **VARIANTS[variant]
    )
    encoder = load(resolve(None), max_length=TOKENS[task], device="cpu")
    documents = Documents(found["texts"] + rest, found["labels"] + [-1] * len(rest))
    clock = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        checked = preflight(check_settings(settings, documents, Documents([], []), found["names"]), encoder)
        fitted = fit(encoder, checked, folder=Path(folder))
    spent = time.process_time() - clock
    taught, _ = self_train_head(fitted.model.predictor, encode(fitted.model.encoder, rest))
    z = encode(fitted.model.encoder, found["test"])
    row = {"variant": variant, "task": task, "seed": seed, "processor_seconds": spent}
    return row | {
        "head": scores(found, fitted.model.predictor.head(z)),
        "mix": scores(found, fitted.model.predictor.probabilities(z)),
        "taught": scores(found, taught.head(z)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy and macro-F1 by head and by taught head, and paired differences from the labels alone."""
    found = {(row["variant"], row["task"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| training, answered by | "
        + " | ".join(f"{task} {shots}" for task, shots in DATA.items())
        + " | mean difference | processor's time |",
        "| --- |" + " ---: |" * (len(DATA) + 2),
    ]
    for predictor in ("head", "taught"):
        for variant in VARIANTS:
            cells = {t: [found[variant, t, s] for s in seeds if (variant, t, s) in found] for t in DATA}
            if not all(cells.values()):
                continue
            shown = [
                " / ".join(f"{100 * np.mean([row[predictor][m] for row in c]):.1f}" for m in ("accuracy", "macro_f1"))
                for c in cells.values()
            ]
            pairs = [(row, found["labels alone", t, row["seed"]]) for t, c in cells.items() for row in c]
            gains = (
                100 * np.mean([one[predictor][m] - other[predictor][m] for one, other in pairs])
                for m in ("accuracy", "macro_f1")
            )
            cost = np.mean([one["processor_seconds"] / other["processor_seconds"] for one, other in pairs])
            gain = " / ".join(f"{x:+.1f}" for x in gains) if variant != "labels alone" else ""
            lines.append(f"| {variant}, {predictor} | " + " | ".join(shown) + f" | {gain} | {cost:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if not options.table:
        torch.set_num_threads(1)
        done = {(row["variant"], row["task"], row["seed"]) for row in rows}
        for seed in range(options.seeds):
            for task in DATA:
                for variant in VARIANTS:
                    if (variant, task, seed) not in done:
                        rows.append(cell(variant, task, seed))
                        with RESULTS.open("a") as stream:
                            stream.write(json.dumps(rows[-1]) + "\n")
                        print(variant, task, seed, {n: rows[-1][n] for n in ("head", "taught")}, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
