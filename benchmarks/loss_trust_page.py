"""The page of `loss_trust.py`: means, what the noise costs, and paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from graphloss.research.bench.statistics import Difference, holm, paired

Rows = Mapping[tuple[str, float, int, str], Mapping[str, Any]]
Found = Mapping[tuple[str, str, str], tuple[Difference, float | None]]
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
F1 = "macro_f1"
MEASURES = {"accuracy": "accuracy", F1: "macro-F1", "ece": "ECE"}


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
    count = Counter(name for name, _ in pairs)
    return ", ".join(f"{many} draw{'s'[: many > 1]} of {name}" for name, many in count.items())


def trials(best: Mapping[str, int], tried: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """The table of the trials of every loss: settings and macro-F1, the best in bold."""
    parts = [line(["", "first", "second", "third"]) + line(["---"] * 4)]
    for arm, each in tried.items():
        shown = [f"{what}: {100 * value:.1f}" for what, value in each]
        shown[best[arm]] = f"**{shown[best[arm]]}**"
        parts.append(line([NAMES[arm], *shown]))
    return "".join(parts)


def means(rows: Rows, arms: Sequence[str], rate: float) -> str:
    """The table of a rate: means of every measure, what the noise costs, and the wrong labels that are repeated."""
    pairs, clean = whole(rows, arms, [rate]), whole(rows, arms, [0.0, rate])
    more = ["macro-F1 that the noise costs", "wrong labels predicted for their own texts"] if rate else []
    parts = [head(["", *MEASURES.values(), *more])]
    for arm in arms:
        own = [rows[name, rate, draw, arm] for name, draw in pairs]
        shown = [f"{100 * fmean(row[key] for row in own):.1f}" for key in MEASURES]
        if rate:
            lost = [rows[name, rate, draw, arm][F1] - rows[name, 0.0, draw, arm][F1] for name, draw in clean]
            shown += [f"{100 * fmean(lost):+.1f}" if lost else "–", f"{fmean(row['memorized'] for row in own):.0%}"]
        parts.append(line([NAMES[arm], *shown]))
    return "".join(parts)


def by_data(rows: Rows, arms: Sequence[str], rates: Sequence[float]) -> str:
    """The table of macro-F1 by data set and rate, with the number of draws."""
    draws: dict[tuple[str, float], list[int]] = {}
    for rate in rates:
        for name, draw in whole(rows, arms, [rate]):
            draws.setdefault((name, rate), []).append(draw)
    columns = sorted(draws)
    parts = [head(["", *[f"{name} {rate:.0%} ({len(draws[name, rate])})" for name, rate in columns]])]
    for arm in arms:
        own = [fmean(rows[name, rate, draw, arm][F1] for draw in draws[name, rate]) for name, rate in columns]
        parts.append(line([NAMES[arm], *[f"{100 * value:.1f}" for value in own]]))
    return "".join(parts)


def differences(
    rows: Rows,
    arms: Sequence[str],
    keys: Sequence[str],
    columns: Mapping[str, Sequence[float]],
    ours: str = "trust",
) -> Found:
    """Our loss minus every other: measures, means over the rates of each column; p corrected over all of them."""
    found: dict[tuple[str, str, str], Difference] = {}
    pairs = {column: whole(rows, arms, rates) for column, rates in columns.items()}
    for key, other, column in product(keys, [arm for arm in arms if arm != ours], columns):
        values = [
            [fmean(100 * rows[name, rate, draw, arm][key] for rate in columns[column]) for name, draw in pairs[column]]
            for arm in (ours, other)
        ]
        found[key, other, column] = paired(*values)
    corrected = holm([each.p for each in found.values()])
    return {key: (each, p) for (key, each), p in zip(found.items(), corrected, strict=True)}


def shown_differences(found: Found) -> str:
    """Their tables, one per measure."""
    tables = []
    for key in dict.fromkeys(key for key, *_ in found):
        columns = list(dict.fromkeys(column for *_, column in found))
        parts = [head([f"{MEASURES[key]}, points", *[f"{column} wrong" for column in columns]])]
        for other in dict.fromkeys(other for _, other, _ in found):
            parts.append(line([f"to {NAMES[other]}", *[shown(*found[key, other, column]) for column in columns]]))
        tables.append("".join(parts))
    return "\n".join(tables)


def shown(each: Difference, p: float | None) -> str:
    """A difference in words."""
    if each.low is None or each.high is None or p is None:
        return f"{each.mean:+.1f}"
    return f"{each.mean:+.1f} ({each.low:+.1f} to {each.high:+.1f}), p {p:.3f}"


def verdict(found: Found) -> str:
    """What the table of one column says, in a sentence."""
    heard: dict[str, list[str]] = {"ahead of": [], "level with": [], "behind": []}
    for (_, other, _), (each, p) in found.items():
        known = p is not None and p < 0.05
        heard[("ahead of" if each.mean > 0 else "behind") if known else "level with"].append(NAMES[other])
    return "; ".join(f"{where} {', '.join(names)}" for where, names in heard.items() if names)
