"""Summary of cells in rows: for each loss its scores over the seeds, and its paired differences against cross-entropy.

A row is (data, shots, loss, mode). With several (data, shots), each loss that was run on all of them has one more row,
`overall`: the mean over the (data, shots) within each seed, then over the seeds. Holm's method corrects p-values over
all rows of one score, including the overall rows.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphloss.research.bench.grid import BASELINE, UNTOUCHED
from graphloss.research.bench.statistics import Difference, estimate, holm, paired

OVERALL = "overall"
CLASSIFIERS = ("head", "default", "probe", "knn")
Group = tuple[str, str]  # data, shots
Arm = tuple[str, str]  # loss, mode


def _of(who: str, what: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda cell: cell["scores"].get(who, {}).get(what)


SCORES: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    **{f"{who}_{what}": _of(who, what) for who in CLASSIFIERS for what in ("accuracy", "macro_f1")},
    "macro_silhouette": lambda cell: cell["macro_silhouette"],
    "ece": _of("head", "ece"),
    "epochs_to_99": lambda cell: cell["to_99"] and cell["to_99"]["epochs"],
    "seconds_to_99": lambda cell: cell["to_99"] and cell["to_99"]["seconds"],
    "training_seconds": lambda cell: cell["training_seconds"],
}
"""Scores of each row; a seed whose cell lacks a score is left out."""

TIMES = ("epochs_to_99", "seconds_to_99", "training_seconds")
COMPARED = tuple(name for name in SCORES if name not in TIMES)


def summarize(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `storage.read_cells`, ready for JSON, in their order; cross-entropy first, the overall rows last.

    Returns:
        Dictionaries with data, shots, loss, mode, seeds; `scores`: name -> mean, low, high, seeds; `against_ce`: name
        -> mean, low, high, p, p_holm, comparisons, seeds, or None without cross-entropy.
    """
    table: dict[Group, dict[Arm, dict[int, Mapping[str, Any]]]] = {}
    split = {}
    for cell in cells:
        group, arm = (cell["data"], cell["shots"]), (cell["loss"], cell["mode"])
        table.setdefault(group, {}).setdefault(arm, {})[cell["seed"]] = cell
        split[group] = cell["split"]
    found: list[dict[str, Any]] = []
    values: list[dict[str, dict[int, float]]] = []  # of each row: score -> seed -> value
    for group, arms in table.items():
        for arm in sorted(arms, key=place):
            found.append({"data": group[0], "shots": group[1], "loss": arm[0], "mode": arm[1], "split": split[group]})
            values.append({name: _by_seed(arms[arm], read) for name, read in SCORES.items()})
    if len(table) > 1:
        everywhere = [arm for arm in next(iter(table.values())) if all(arm in arms for arms in table.values())]
        for arm in sorted(everywhere, key=place):
            found.append({"data": OVERALL, "shots": OVERALL, "loss": arm[0], "mode": arm[1], "split": OVERALL})
            parts = [{name: _by_seed(arms[arm], read) for name, read in SCORES.items()} for arms in table.values()]
            values.append({name: _mean([part[name] for part in parts]) for name in SCORES})
    base = {
        (row["data"], row["shots"]): mine for row, mine in zip(found, values, strict=True) if row["loss"] == BASELINE
    }
    for row, mine in zip(found, values, strict=True):
        row["seeds"] = sorted(mine["head_macro_f1"])
        row["scores"] = {name: estimate(list(x.values()))._asdict() if x else None for name, x in mine.items()}
        theirs = base.get((row["data"], row["shots"]))
        compared = row["loss"] != BASELINE and theirs is not None
        row["against_ce"] = (
            {name: _against(mine[name], theirs[name]) for name in COMPARED} if compared and theirs else None
        )
    _correct([row["against_ce"] for row in found if row["against_ce"]])
    return [row for row in found if row["seeds"]]


def place(arm: Arm) -> tuple[int, str]:
    """For sorting: the untouched encoder and cross-entropy first, then mode by mode."""
    return {UNTOUCHED: 0, BASELINE: 1}.get(arm[0], 2), arm[1]


def _by_seed(
    cells: Mapping[int, Mapping[str, Any]], read: Callable[[Mapping[str, Any]], float | None]
) -> dict[int, float]:
    found = {seed: read(cells[seed]) for seed in sorted(cells)}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def _mean(parts: list[dict[int, float]]) -> dict[int, float]:
    """Seed -> mean over the (data, shots), for the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in seeds}


def _against(mine: Mapping[int, float], theirs: Mapping[int, float]) -> dict[str, Any] | None:
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        return None
    found: Difference = paired([mine[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    return found._asdict()


def _correct(rows: list[dict[str, dict[str, Any] | None]]) -> None:
    """Add `p_holm`, and the number of p-values corrected for as `comparisons`, to every difference."""
    for name in COMPARED:
        present = [found for row in rows if (found := row[name]) is not None]
        corrected = holm([found["p"] for found in present])
        count = sum(value is not None for value in corrected)
        for found, value in zip(present, corrected, strict=True):
            found["p_holm"], found["comparisons"] = value, count
