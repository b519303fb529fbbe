"""What is a tenth of the labels worth, which a validation split would take from training?

    suggestions.py embed             frozen embeddings of the data sets
    validation_split.py              the table of docs/research/experiments.md, and its figures

Accuracy of a regression on frozen embeddings with all of n labels, drawn at random, minus that with nine tenths.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np
from result_table import FOLDER, ResultTable
from scipy.stats import sem
from sklearn.linear_model import LogisticRegression
from suggestions import DATA, EMBEDDINGS

RESULTS = ResultTable(FOLDER / "validation_split.jsonl", ("data", "labels", "draw"))
LABELS, DRAWS, KEPT = (50, 100, 200, 500, 1_000, 2_000), 3, 0.9


def gains(data: str) -> None:
    """The cells of a data set that are missing."""
    found = np.load(EMBEDDINGS / f"{data}.npz")
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(found["train_y"]))
        for count in LABELS:
            if count > len(order) or RESULTS.find(data, count, draw):
                continue
            accuracy = []
            for rows in (order[:count], order[: int(KEPT * count)]):
                head = LogisticRegression(C=10, max_iter=300).fit(found["train_x"][rows], found["train_y"][rows])
                accuracy.append(100 * float(head.score(found["test_x"], found["test_y"])))
            RESULTS.put({"data": data, "labels": count, "draw": draw, "gain": round(accuracy[0] - accuracy[1], 3)})


def main() -> None:
    """Fill in what is missing, and print the table."""
    for data in DATA:
        gains(data)
    cells: dict[int, dict[str, list[float]]] = {count: {} for count in LABELS}
    for row in RESULTS.rows():
        cells[row["labels"]].setdefault(row["data"], []).append(row["gain"])
    means = [[fmean(own) for own in cells[count].values()] for count in LABELS]
    for name, values in (
        ("labels", [f"{count:,}" for count in LABELS]),
        ("---", ["---:" for _ in LABELS]),
        ("mean of the data sets", [f"{fmean(own):.1f}" for own in means]),
        ("standard error", [f"{sem(own):.1f}" for own in means]),
        ("data sets", [f"{len(own)}" for own in means]),
    ):
        print(f"| {' | '.join([name, *values])} |")


if __name__ == "__main__":
    main()
