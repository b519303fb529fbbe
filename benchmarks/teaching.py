"""How unlabeled text teaches the head: passes over its own answers, and neighbors beside it, on kept embeddings.

    GRAPHLOSS_DATA=FOLDER python benchmarks/teaching.py    after `headline.py run`, whose embeddings it asks

The unlabeled texts of each cell of `headline.py` are cut in two: three fifths teach, the others are classified. So no
test document of the headline is looked at, though the labels are the same. Written to benchmarks/results/teaching.json;
the table is printed as Markdown: accuracy / macro-F1, differences from the first line.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

import numpy as np
import torch
from headline import SEEDS, SHOTS, TOKENS, WORK, drawn, scores

from graphloss.inference import pseudo_labels, self_training
from graphloss.inference.predictor import Predictor
from graphloss.inference.self_training import self_train_head
from graphloss.losses.graph import unit
from graphloss.research.bench.storage import write_json
from graphloss.text.corpus import load_corpus

RESULTS = Path(__file__).parent / "results" / "teaching.json"
TAUGHT = 0.6
WAYS = {
    "taught once, head alone": (0, "none"),
    "taught once, with neighbors": (0, "r²"),
    "1 pass more, with neighbors": (1, "r²"),
    "3 passes more, head alone": (3, "none"),
    "3 passes more, neighbors by half": (3, "all"),
    "3 passes more, neighbors by half, r": (3, "r"),
    "3 passes more, neighbors by half, r²": (3, "r²"),
    "**the same, as far as there are many**": (3, "many"),
}
"""Passes, and what the neighbors' half is multiplied by beside the trust; all but the last as if there were many."""


def truth(task: str) -> dict[str, int]:
    """The class of every training text."""
    corpus = load_corpus(task, validation=0.0)
    return dict(zip(corpus.train.texts, corpus.train.labels, strict=True))


def taught(predictor: Predictor, z: torch.Tensor) -> dict[str, Predictor]:
    """The predictors that unlabeled embeddings z teach, by the names of the ways."""
    found: dict[str, Predictor] = {}
    for name in [name for name, (_, near) in WAYS.items() if near == "many"]:
        found[name], _ = self_train_head(predictor, z)
    for passes in {passes for passes, _ in WAYS.values()}:
        with mock.patch.multiple(pseudo_labels, PASSES=passes, MANY=0):
            each, what = self_train_head(predictor, z)
        most = self_training.LARGEST_NEIGHBOR_WEIGHT * what.trust
        r = (each.neighbor_weight / most) ** 0.5 if most else 0.0
        share = {"none": 0.0, "all": most, "r": most * r, "r²": most * r * r}
        for name, (n, near) in WAYS.items():
            if n == passes and near in share:
                found[name] = replace(each, neighbor_weight=share[near])
    return found


def main() -> None:
    """Teach in every way on every cell, write the scores and print the means of the columns."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for task in TOKENS:
        classes = truth(task)
        for shots, seed in ((shots, seed) for shots in SHOTS for seed in range(SEEDS)):
            kept = torch.load(WORK / "embeddings" / f"{task}-{shots}-{seed}.pt", weights_only=True)
            cell, predictor, z = drawn(task, shots, seed), Predictor(**kept["predictor"]), kept["unlabeled"].float()
            cut = int(TAUGHT * len(z))
            cell |= {"truth": [classes[text] for text in cell["unlabeled"][cut:]]}
            row: dict[str, Any] = {"task": task, "shots": shots, "seed": seed}
            row["alone"] = scores(cell, predictor.probabilities(z[cut:]))
            for name, each in taught(predictor, z[:cut]).items():
                row[name] = scores(cell, each.probabilities(unit(z[cut:])))
            rows.append(row)
        print(task, flush=True)
    write_json(RESULTS, {"rows": rows})
    columns = [(task, shots) for task in TOKENS for shots in SHOTS]
    first = next(iter(WAYS))
    print("| | " + " | ".join(f"{task} {shots}" for task, shots in columns) + " | mean |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for name in ("alone", *WAYS):
        found = []
        for task, shots in columns:
            cells = [row for row in rows if (row["task"], row["shots"]) == (task, shots)]
            base = 0.0 if name == first else 1.0
            found.append(
                [100 * fmean(row[name][k] - base * row[first][k] for row in cells) for k in ("accuracy", "macro_f1")]
            )
        sign = "" if name == first else "+"
        said = [f"{a:{sign}.1f} / {b:{sign}.1f}" for a, b in found]
        a, b = np.mean(found, axis=0)
        print(f"| {name} | " + " | ".join(said) + f" | {a:{sign}.2f} / {b:{sign}.2f} |")


if __name__ == "__main__":
    main()
