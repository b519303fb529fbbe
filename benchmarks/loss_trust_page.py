"""The page of `loss_trust.py`: means, what the noise costs, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from graphloss.research.bench.statistics import Difference, holm, paired

Rows = Mapping[tuple[str, float, int, str], Mapping[str, Any]]
NAMES = {
    "ce": "cross-entropy",
    "gce": "generalized cross-entropy",
    "supcon": "SupCon + CE",
    "paper": "published G-Loss + CE",
    "gloss": "G-Loss + CE",
    "gloss q": "G-Loss, q = 0.7, + CE",
    "trust": "G-Loss with trust + CE",
    "ce trust": "CE with the same trust",
}
MEASURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "ece": "ECE"}


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |\n"


def head(cells: Sequence[str]) -> str:
    """The first two rows of a table of numbers."""
    return line(cells) + line(["---", *["---:"] * (len(cells) - 1)])


def whole(rows: Rows, arms: Sequence[str], rates: Sequence[float]) -> list[tuple[str, int]]:
    """Data sets and draws that have every arm at all these rates."""
    return [
        (name, draw)
        for name, draw in dict.fromkeys((name, draw) for name, _, draw, _ in rows)
        if all((name, rate, draw, arm) in rows for rate in rates for arm in arms)
    ]


def counted(pairs: Sequence[tuple[str, int]]) -> str:
    """The draws of each data set, in words."""
    names = [name for name, _ in pairs]
    return ", ".join(f"{names.count(name)} draws of {name}" for name in dict.fromkeys(names))


def trials(best: Mapping[str, int], tried: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """The table of the trials of every loss: settings and macro-F1, the best in bold."""
    parts = [line(["", "first", "second", "third"]) + line(["---"] * 4)]
    for arm, each in tried.items():
        shown = [f"{what}: {100 * value:.1f}" for what, value in each]
        shown[best[arm]] = f"**{shown[best[arm]]}**"
        parts.append(line([NAMES[arm], *shown]))
    return "".join(parts)


def means(rows: Rows, arms: Sequence[str], rate: float, pairs: Sequence[tuple[str, int]]) -> str:
    """The table of a rate: means of every measure, what the noise costs, and the wrong labels that are repeated."""
    more = ["macro-F1 that the noise costs", "wrong labels predicted for their own texts"] if rate else []
    parts = [head(["", *MEASURES.values(), *more])]
    for arm in arms:
        own = [rows[name, rate, draw, arm] for name, draw in pairs]
        shown = [f"{100 * fmean(row[key] for row in own):.1f}" for key in MEASURES]
        if rate:
            lost = [
                100 * (rows[name, rate, draw, arm]["macro_f1"] - _clean(rows, name, draw, arm)) for name, draw in pairs
            ]
            shown += [f"{fmean(lost):+.1f}", f"{fmean(row['memorized'] for row in own):.0%}"]
        parts.append(line([NAMES[arm], *shown]))
    return "".join(parts)


def by_data(rows: Rows, arms: Sequence[str], rates: Sequence[float], pairs: Sequence[tuple[str, int]]) -> str:
    """The table of macro-F1 by data set and rate."""
    columns = [(name, rate) for name in dict(pairs) for rate in rates]
    parts = [head(["", *[f"{name} {rate:.0%}" for name, rate in columns]])]
    for arm in arms:
        shown = [
            fmean(100 * rows[name, rate, draw, arm]["macro_f1"] for each, draw in pairs if each == name)
            for name, rate in columns
        ]
        parts.append(line([NAMES[arm], *[f"{value:.1f}" for value in shown]]))
    return "".join(parts)


def differences(
    rows: Rows, arms: Sequence[str], rates: Sequence[float], pairs: Sequence[tuple[str, int]], ours: str = "trust"
) -> dict[tuple[str, str, str], tuple[Difference, float | None]]:
    """Our loss minus every other, by measure and rates, with p corrected over all of them."""
    noisy = [rate for rate in rates if rate]
    columns: dict[str, Sequence[float]] = {f"{rate:.0%}": [rate] for rate in rates}
    columns |= {"both": noisy}
    found: dict[tuple[str, str, str], Difference] = {}
    for key in MEASURES:
        for other in arms:
            if other == ours:
                continue
            for column, some in columns.items():
                values = [
                    [fmean(100 * rows[name, rate, draw, arm][key] for rate in some) for name, draw in pairs]
                    for arm in (ours, other)
                ]
                found[key, other, column] = paired(*values)
    corrected = holm([each.p for each in found.values()])
    return {key: (each, p) for (key, each), p in zip(found.items(), corrected, strict=True)}


def shown_differences(found: Mapping[tuple[str, str, str], tuple[Difference, float | None]], key: str) -> str:
    """The table of a measure."""
    columns = list(dict.fromkeys(column for *_, column in found))
    parts = [
        head(
            [
                f"{MEASURES[key]}, points",
                *[f"{column} wrong" if column != "both" else "20 and 40% wrong" for column in columns],
            ]
        )
    ]
    for other in dict.fromkeys(other for _, other, _ in found):
        parts.append(line([f"to {NAMES[other]}", *[shown(*found[key, other, column]) for column in columns]]))
    return "".join(parts)


def shown(each: Difference, p: float | None) -> str:
    """A difference in words."""
    if each.low is None or each.high is None or p is None:
        return f"{each.mean:+.1f}"
    return f"{each.mean:+.1f} ({each.low:+.1f} to {each.high:+.1f}), p {p:.3f}"


def verdict(each: Difference, p: float | None) -> str:
    """Ahead or behind after correction, else level."""
    if p is None or p >= 0.05:
        return "level"
    return "ahead" if each.mean > 0 else "behind"


def _clean(rows: Rows, name: str, draw: int, arm: str) -> float:
    return float(rows[name, 0.0, draw, arm]["macro_f1"])
