"""Wrong labels, trained: does `--clean auto` help, beside cross-entropy, generalized cross-entropy and SupCon?

    GRAPHLOSS_DATA=FOLDER python benchmarks/wrong_labels.py run [--data r8 ...] [--draws 0 ...]   train what is missing
    GRAPHLOSS_DATA=FOLDER python benchmarks/wrong_labels.py gate [--data mr ...] [--draws 0 ...]  does it weigh at all?
    python benchmarks/wrong_labels.py page                                                      print the tables

The cells of `trained.py`, 16 labels per class and no lines, with a share of the labels wrong: at random, each by any
other class, or each by the class whose labeled texts are the most similar in the mean, on the untouched encoder.

- off, auto: `TextClassifier` with its defaults and `clean`
- ce, supcon: with that loss;  gce: G-Loss with q = 0.7
- known: the wrong labels are known and taken for unlabeled texts

`gate` trains nothing: it asks, on ten data sets, in which draws `auto` begins to weigh. Where it does not, it is `off`.
Draws from `TRIALS` on are scored on texts of the training split, which no table scores. The rows of *left out* are of a
former `auto`, which took contradicted labels for unlabeled texts, and of *both*, which weighed the others too.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from itertools import compress, product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from audit import flipped
from result_table import FOLDER, ResultTable
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score
from trained import TOKENS, WORK, drawn, in_own_process

from graphloss import TextClassifier
from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.label_errors import SURE, doubtful, suspicion
from graphloss.research.bench.storage import locked
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve

RESULTS = ResultTable(FOLDER / "wrong_labels.jsonl", ("data", "kind", "rate", "draw", "method"))
GATE = ResultTable(FOLDER / "wrong_labels_gate.jsonl", ("data", "kind", "rate", "draw"))
DATA, SHOTS, DRAWS = ("r8", "banking77", "20ng", "trec", "agnews"), 16, 5
TRIALS, HELD_OUT = 200, 700
NOISE = (("random", 0.0), ("random", 0.2), ("random", 0.4), ("confusable", 0.2), ("confusable", 0.4))
METHODS: dict[str, dict[str, Any]] = {
    "off": {},
    "auto": {"clean": "auto"},
    "ce": {"loss": "ce"},
    "gce": {"q": 0.7},
    "supcon": {"loss": "supcon"},
    "known": {},
}
SHOWN = (*METHODS, "left out", "both")


def given_labels(name: str, cell: dict[str, Any], kind: str, rate: float, draw: int) -> list[Any]:
    """The labels of a cell, a share of them wrong."""
    names, y = np.unique(cell["labels"], return_inverse=True)
    taken_for = np.zeros(len(names), dtype=int)
    if kind == "confusable":
        z = encode(load(resolve(None), max_length=TOKENS[name], device="cpu"), cell["texts"]).numpy()
        means = np.stack([z[y == place].mean(0) for place in range(len(names))])
        similar = means @ means.T
        np.fill_diagonal(similar, -np.inf)
        taken_for = similar.argmax(1)
    found: list[Any] = names[flipped(y, len(names), kind, rate, draw, taken_for)].tolist()
    return found


def run(name: str, kind: str, rate: float, draw: int, method: str) -> None:
    """One cell, written down; seconds are the processor's, of training and of predicting the test texts."""
    torch.set_num_threads(1)
    cell = drawn(name, SHOTS, draw, "none")
    if draw >= TRIALS:
        cell |= {"test": cell["unlabeled"][-HELD_OUT:], "truth": cell["unlabeled_truth"][-HELD_OUT:]}
        cell |= {"unlabeled": cell["unlabeled"][:-HELD_OUT]}
    labels, clock = given_labels(name, cell, kind, rate, draw), time.process_time()
    shared: dict[str, Any] = {"max_length": TOKENS[name], "validation": 0.0, "seed": draw, "precision": "bf16"}
    texts, learned, unlabeled = cell["texts"], labels, cell["unlabeled"]
    if method == "known":
        right = [one == other for one, other in zip(labels, cell["labels"], strict=True)]
        unlabeled = unlabeled + [text for text, each in zip(texts, right, strict=True) if not each]
        texts, learned = [*compress(texts, right)], [*compress(labels, right)]
    model = TextClassifier(**shared | METHODS[method]).fit(texts, learned, unlabeled, descriptions=False)
    predicted = model.predict(cell["test"])
    row: dict[str, Any] = {"data": name, "kind": kind, "rate": rate, "draw": draw, "method": method}
    row |= {"accuracy": accuracy_score(cell["truth"], predicted)}
    row |= {"macro_f1": f1_score(cell["truth"], predicted, average="macro", zero_division=0.0)}
    doubted = {each["text"] for each in model.fitted_.doubted}
    wrong = {text for text, one, other in zip(cell["texts"], labels, cell["labels"], strict=True) if one != other}
    row |= {"doubted": len(doubted), "doubted_wrong": len(doubted & wrong)}
    RESULTS.put(row | {"processor_seconds": round(time.process_time() - clock, 1)})
    print(*row.values(), flush=True)


def gate(name: str, kind: str, rate: float, draw: int) -> None:
    """Whether the labels of a cell are weighed, and by what it is decided."""
    cell = drawn(name, SHOTS, draw, "none")
    names, y = np.unique(given_labels(name, cell, kind, rate, draw), return_inverse=True)
    labels = torch.from_numpy(y)
    z = encode(load(resolve(None), max_length=TOKENS[name], device="cpu"), cell["texts"])
    found = suspicion(z, labels, len(names), sigma=SIGMA, seed=draw)
    row: dict[str, Any] = {"data": name, "kind": kind, "rate": rate, "draw": draw}
    row |= {"kappa": cohen_kappa_score(y, (found.probe + found.graph).argmax(dim=1).numpy())}
    row |= {"contradicted": float((found.score > SURE).float().mean()), "weighed": doubtful(found, labels)}
    GATE.put(row)
    print(*row.values(), flush=True)


def gate_page() -> None:
    """In how many of the draws the labels are weighed, a row per data set."""
    weighed: dict[str, dict[tuple[str, float], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in GATE.rows():
        weighed[row["data"]][row["kind"], row["rate"]].append(row)
    heads = [f"{rate:.0%}{f' {kind}' if rate else ''}" for kind, rate in NOISE]
    print("\n| weighed, of draws | " + " | ".join(heads) + " | kappa, clean |\n| --- |" + " ---: |" * (len(NOISE) + 1))
    for name, found in weighed.items():
        counts = [f"{sum(row['weighed'] for row in found[each])} of {len(found[each])}" for each in NOISE]
        kappa = fmean(row["kappa"] for row in found[NOISE[0]])
        print(f"| {name} | " + " | ".join(counts) + f" | {kappa:.2f} |")


def page() -> None:
    """Macro-F1 of every cell, and the mean of each method beside that of `off` over the cells that both have."""
    cells: dict[tuple[str, float, str, int], dict[str, float]] = defaultdict(dict)
    for row in RESULTS.rows():
        cells[row["kind"], row["rate"], row["data"], row["draw"]][row["method"]] = 100 * row["macro_f1"]
    there = [method for method in SHOWN if any(method in each for each in cells.values())]
    print("| wrong | data | draw | " + " | ".join(there) + " |\n| --- | --- | ---: |" + " ---: |" * len(there))
    for (kind, rate, name, draw), each in sorted(cells.items()):
        shown = [f"{each[method]:.1f}" if method in each else "–" for method in there]
        print(f"| {rate:.0%}{f' {kind}' if rate else ''} | {name} | {draw} | " + " | ".join(shown) + " |")
    means = []
    for method in there:
        both = [each for each in cells.values() if method in each and "off" in each]
        gains = [each[method] - each["off"] for each in both]
        means.append(f"{fmean(gains):+.1f} ({len(gains)})" if gains and method != "off" else "–")
    print("| minus off (cells) | | | " + " | ".join(means) + " |")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "gate", "page"))
    parser.add_argument("--data", nargs="+", help="all of the question when not given")
    parser.add_argument("--draws", nargs="+", type=int, default=range(DRAWS))
    parser.add_argument("--methods", nargs="+", default=[*METHODS])
    given = parser.parse_args()
    if given.stage == "page":
        page()
        gate_page()
        return
    if given.stage == "gate":
        for name, draw, (kind, rate) in product(given.data or TOKENS, given.draws, NOISE):
            if GATE.find(name, kind, rate, draw) is None:
                gate(name, kind, rate, draw)
        return
    for draw, (kind, rate), name, method in product(given.draws, NOISE, given.data or DATA, given.methods):
        with locked(WORK, f"wrong-{name}-{kind}-{rate}-{draw}-{method}") as mine:
            if mine and RESULTS.find(name, kind, rate, draw, method) is None:
                in_own_process(run, name, kind, rate, draw, method)


if __name__ == "__main__":
    main()
