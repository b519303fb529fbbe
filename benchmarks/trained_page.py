"""The page of `trained.py`: every method on the cells that all of a table have, and what graphloss is ahead by.

A difference is paired: the same labels, lines and test texts. Its interval is over the means of the data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import sem, t

ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "research" / "trained.md", ROOT / "README.md"
MARK = "<!-- trained -->"
OURS = "graphloss"
NAMES = {
    "regression": "untouched encoder, regression",
    "setfit": "SetFit 1.2",
    "ce": "graphloss with cross-entropy alone",
    "supcon": "graphloss with SupCon",
    OURS: "**graphloss**",
}
WORDS = {"lines": "a line per class", "none": "no lines", "alone": "neither lines nor text"}
DATA = ("banking77", "hwu64", "trec", "cr", "mr", "agnews", "r8", "r52", "ohsumed", "20ng")
Key = tuple[str, int, int]  # data, shots, draw
Cells = dict[str, dict[Key, dict[str, Any]]]


def read(rows: Sequence[dict[str, Any]], words: str) -> Cells:
    """Rows by method and cell."""
    found: Cells = {method: {} for method in NAMES}
    for row in rows:
        if row["words"] == words:
            found[row["method"]][row["data"], row["shots"], row["draw"]] = row
    return found


def by_data(cells: dict[Key, float]) -> dict[str, float]:
    """Mean of each data set over its columns, a column being the mean of its draws."""
    columns: dict[tuple[str, int], list[float]] = {}
    for (data, shots, _), value in cells.items():
        columns.setdefault((data, shots), []).append(value)
    means: dict[str, list[float]] = {}
    for (data, _), values in columns.items():
        means.setdefault(data, []).append(fmean(values))
    return {data: fmean(values) for data, values in means.items()}


def difference(cells: Cells, method: str, key: str) -> str:
    """Ours minus a method on the cells of both, with the 95% interval over the data sets."""
    both = cells[OURS].keys() & cells[method].keys()
    gaps = by_data({cell: 100 * (cells[OURS][cell][key] - cells[method][cell][key]) for cell in both})
    values = [*gaps.values()]
    if len(values) < 2:
        return f"{fmean(values):+.1f}"
    return f"{fmean(values):+.1f} ± {t.ppf(0.975, len(values) - 1) * sem(values):.1f}"


def summary(cells: Cells, words: str) -> list[str]:
    """A row per method: means over the cells that ours shares with it, and how far ours is ahead there."""
    lines = [
        f"| {WORDS[words]} | accuracy | macro-F1 | processor seconds | graphloss ahead: accuracy | macro-F1 "
        "| columns ahead | cells |"
    ]
    lines.append("| --- |" + " ---: |" * 7)
    for method, name in NAMES.items():
        both = cells[OURS].keys() & cells[method].keys()
        if not both:
            continue
        mine = cells[method]
        means = [
            fmean(by_data({cell: factor * mine[cell][key] for cell in both}).values())
            for key, factor in (("accuracy", 100), ("macro_f1", 100), ("processor_seconds", 1))
        ]
        shown = [f"{means[0]:.1f}", f"{means[1]:.1f}", f"{means[2]:.0f}"]
        if method == OURS:
            shown += ["", "", ""]
        else:
            shown += [difference(cells, method, key) for key in ("accuracy", "macro_f1")]
            columns = {cell[:2] for cell in both}
            ahead = sum(
                fmean(cells[OURS][cell]["accuracy"] - mine[cell]["accuracy"] for cell in both if cell[:2] == column) > 0
                for column in columns
            )
            shown.append(f"{ahead} of {len(columns)}")
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {len(both)} |")
    return lines


def draws_of_all(cells: Cells, data: str, shots: int) -> set[int]:
    """The draws that every method has which has the column at all: other labels would not compare methods."""
    found = [{draw for its, number, draw in own if (its, number) == (data, shots)} for own in cells.values()]
    return set.intersection(*filter(None, found)) if any(found) else set()


def table(cells: Cells, key: str) -> list[str]:
    """A row per method, a column per data set: means of the draws of all, by number of labels."""
    shots = sorted({cell[1] for cell in cells[OURS]})
    lines = ["| | " + " | ".join(DATA) + " |", "| --- |" + " ---: |" * len(DATA)]
    for method, name in NAMES.items():
        shown = []
        for data in DATA:
            columns = [
                [
                    100 * cells[method][data, each, draw][key]
                    for draw in draws_of_all(cells, data, each)
                    if (data, each, draw) in cells[method]
                ]
                for each in shots
            ]
            shown.append(" / ".join(f"{fmean(draws):.1f}" if draws else "–" for draws in columns))
        if cells[method]:
            lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines


def write_between(page: Path, lines: list[str]) -> None:
    """Put lines between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARK)
    after = rest.partition(MARK)[2]
    page.write_text(f"{before}{MARK}\n\n" + "\n".join(lines) + f"\n\n{MARK}{after}", encoding="utf-8")


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Write the tables between the marks of the page, and the first of them in the README."""
    parts: list[str] = []
    for words in WORDS:
        cells = read(rows, words)
        if not cells[OURS]:
            continue
        shots = " / ".join(map(str, sorted({cell[1] for cell in cells[OURS]})))
        parts += ["", *summary(cells, words)]
        for key, title in (("accuracy", "Accuracy"), ("macro_f1", "Macro-F1")):
            parts += ["", f"### {title}, {WORDS[words]}, {shots} labels per class", "", *table(cells, key)]
    write_between(PAGE, parts[1:])
    write_between(README, summary(read(rows, "lines"), "lines"))
