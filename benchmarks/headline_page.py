"""The page of `headline.py`: what a few labels and a pile of unlabeled text give, by method.

Every figure comes from the result files. A difference is paired: the same labels, the same test documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

DOCS = Path(__file__).parent.parent / "docs" / "research"
PAGE, RESULTS_PAGE = DOCS / "few_labels.md", DOCS / "results.md"
README = Path(__file__).parent.parent / "README.md"
MARK, SHORT = "<!-- tables -->", "<!-- few labels -->"
NAMES = {
    "probe": "untouched encoder, regression",
    "setfit": "SetFit 1.2",
    "ce": "cross-entropy",
    "supcon": "SupCon",
    "gloss": "G-Loss",
    "gloss+unlabeled": "G-Loss, unlabeled text",
}
OURS = "gloss+unlabeled"
BEHIND_OTHERS = {"ce+unlabeled": "cross-entropy, unlabeled text", "supcon+unlabeled": "SupCon, unlabeled text"}
Key = tuple[str, int, int]  # task, shots, seed
Cells = dict[str, dict[Key, dict[str, Any]]]


def read(results: Sequence[dict[str, Any]]) -> Cells:
    """Results by method and cell."""
    found: Cells = {name: {} for name in (*NAMES, *BEHIND_OTHERS)}
    for cell in results:
        found[cell["method"]][cell["task"], cell["shots"], cell["seed"]] = cell
    return found


def compared(found: Cells) -> Cells:
    """The cells of the tables: of a draw that some method has not had, SetFit aside, none counts."""
    whole = set.intersection(*(set(found[method]) for method in NAMES if method != "setfit"))
    return {method: {key: cell for key, cell in found[method].items() if key in whole} for method in NAMES}


def interval(columns: list[list[float]]) -> str:
    """Mean of the columns' means, and half of its 95% interval: the columns are fixed, the draws within each by chance.

    The mean alone where a column has a single draw.
    """
    mean = float(np.mean([np.mean(draws) for draws in columns]))
    if min(map(len, columns)) < 2:
        return f"{mean:.1f}"
    error = np.sqrt(sum(np.var(draws, ddof=1) / len(draws) for draws in columns)) / len(columns)
    half = float(student_t.ppf(0.975, sum(len(draws) - 1 for draws in columns)) * error)
    return f"{mean:.1f} ± {half:.1f}"


def columns_of(cells: Cells) -> list[tuple[str, int]]:
    """Data sets and shots, in the order of the tables."""
    order = ("banking77", "r8", "ohsumed", "mr")
    return sorted(
        {(task, shots) for task, shots, _ in cells["probe"]}, key=lambda column: (order.index(column[0]), column[1])
    )


def row_of(cells: Cells, method: str, of: Callable[[dict[str, Any]], float]) -> list[list[float]]:
    """The values of a method, one list of seeds per column."""
    return [
        [of(cell) for (task, shots, _), cell in sorted(cells[method].items()) if (task, shots) == column]
        for column in columns_of(cells)
    ]


def table(cells: Cells, key: str) -> list[str]:
    """One row per method, one column per data set and number of labels per class."""
    columns = columns_of(cells)
    lines = ["| | " + " | ".join(f"{task} {shots}" for task, shots in columns) + " | mean | seeds |"]
    lines.append("| --- |" + " ---: |" * (len(columns) + 2))
    for method, name in NAMES.items():
        values = row_of(cells, method, lambda cell: 100 * cell[key])
        if not any(values):
            continue
        shown = [f"{np.mean(seeds):.1f}" if seeds else "–" for seeds in values]
        shown.append(f"{np.mean([np.mean(seeds) for seeds in values]):.1f}" if all(values) else "–")
        name = f"**{name}**" if method == OURS else name
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {seeds_of(values)} |")
    return lines


def differences(cells: Cells, key: str) -> list[str]:
    """Ours minus each baseline, averaged over the columns that both have, with an interval over the seeds."""
    lines = ["| baseline | mean difference (95% interval) | worst column | columns ahead | cells |"]
    lines.append("| --- | ---: | --- | ---: | ---: |")
    for baseline, name in NAMES.items():
        common = [cell for cell in cells[OURS] if cell in cells[baseline]]
        if baseline == OURS or not common:
            continue
        gap = {cell: 100 * (cells[OURS][cell][key] - cells[baseline][cell][key]) for cell in common}
        draws = {
            column: [gap[cell] for cell in common if cell[:2] == column] for column in {cell[:2] for cell in common}
        }
        means = {column: float(np.mean(values)) for column, values in draws.items()}
        worst = min(means, key=lambda column: means[column])
        ahead = sum(value > 0 for value in means.values())
        lines.append(
            f"| {name} | {interval(list(draws.values()))} | {worst[0]} {worst[1]}: {means[worst]:+.1f} "
            f"| {ahead} of {len(means)} | {len(common)} |"
        )
    return lines


def behind_others(found: Cells) -> list[str]:
    """What the same unlabeled text gives behind the other losses, on the draws that all three had."""
    common = set.intersection(*(set(found[method]) for method in (OURS, *BEHIND_OTHERS)))
    cells = {method: {key: found[method][key] for key in common} for method in (OURS, *BEHIND_OTHERS)}
    lines = ["| | accuracy | macro-F1 | G-Loss ahead by: accuracy | macro-F1 | columns ahead, macro-F1 | cells |"]
    lines.append("| --- |" + " ---: |" * 6)
    for method, name in ({OURS: NAMES[OURS]} | BEHIND_OTHERS).items():
        row, ahead = [], ""
        for key in ("accuracy", "macro_f1"):
            values = [[100 * cells[method][cell][key] for cell in column] for column in by_column(common)]
            row.append(f"{np.mean([np.mean(draws) for draws in values]):.1f}")
        if method != OURS:
            for key in ("accuracy", "macro_f1"):
                gaps = [
                    [100 * (cells[OURS][cell][key] - cells[method][cell][key]) for cell in column]
                    for column in by_column(common)
                ]
                row.append(interval(gaps))
                ahead = f"{sum(np.mean(draws) > 0 for draws in gaps)} of {len(gaps)}"
        lines.append(f"| {name} | " + " | ".join(row + ["", ""] * (method == OURS)) + f" | {ahead} | {len(common)} |")
    return lines


def more_draws(found: Cells, cells: Cells) -> list[str]:
    """Ours beside the regression in columns of which more draws were made than the tables have; nothing without any."""
    lines = []
    both = set(found["probe"]) & set(found[OURS])
    for column in by_column(both):
        if set(column) <= set(cells[OURS]):
            continue
        for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            theirs, ours = ([100 * found[method][cell][key] for cell in column] for method in ("probe", OURS))
            gap = [our - their for our, their in zip(ours, theirs, strict=True)]
            lines.append(
                f"| {column[0][0]} {column[0][1]}, {name} | {len(column)} | {np.mean(theirs):.1f} "
                f"| {np.mean(ours):.1f} | {interval([gap])} | {sum(each > 0 for each in gap)} |"
            )
    head = ["| | draws | regression | G-Loss, unlabeled text | difference (95% interval) | draws ahead |"]
    return [*head, "| --- | ---: | ---: | ---: | ---: | ---: |", *lines] if lines else []


def few_unlabeled(path: Path) -> list[str]:
    """What so many unlabeled texts add to G-Loss: means over the columns, and the worst of them."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    keys = {(row["task"], row["shots"], row["seed"]): row for row in rows}
    columns = by_column(set(keys))
    lines = ["| unlabeled texts | accuracy | macro-F1 | worst column, accuracy | worst column, macro-F1 | draws |"]
    lines.append("| ---: | ---: | ---: | --- | --- | ---: |")
    for pile in [name for name in rows[0] if name.isdigit() and name != "0"]:
        shown, worst = [], []
        for key in ("accuracy", "macro_f1"):
            gaps = [[100 * (keys[draw][pile][key] - keys[draw]["0"][key]) for draw in column] for column in columns]
            shown.append(interval(gaps))
            means = [float(np.mean(draws)) for draws in gaps]
            task, shots, _ = columns[means.index(min(means))][0]
            worst.append(f"{task} {shots}: {min(means):+.1f}")
        lines.append(f"| {int(pile):,} | " + " | ".join([*shown, *worst, str(len(rows))]) + " |")
    return lines


def by_column(keys: set[Key]) -> list[list[Key]]:
    """Cells by data set and shots, the seeds of each in order."""
    return [[key for key in sorted(keys) if key[:2] == column] for column in sorted({key[:2] for key in keys})]


def costs(cells: Cells) -> list[str]:
    """Seconds of the processor, those of a whole epoch by its steps where one was cut, and peak memory."""
    columns = columns_of(cells)
    lines = ["| | " + " | ".join(f"{task} {shots}" for task, shots in columns) + " | peak MiB, most |"]
    lines.append("| --- |" + " ---: |" * (len(columns) + 1))
    for method, name in NAMES.items():
        if not cells[method]:
            continue
        shown = []
        for task, shots in columns:
            mine = [cell for (t, s, _), cell in cells[method].items() if (t, s) == (task, shots)]
            seconds = [seconds_of(cell) for cell in mine]
            shares = [cell["steps_of_an_epoch"] / cell["steps"] for cell in mine if "steps" in cell]
            cut = f" (cut; whole ≈ {np.mean(seconds) * np.mean(shares):,.0f})" if any(x > 1 for x in shares) else ""
            shown.append(f"{np.mean(seconds):.0f}{cut}" if mine else "–")
        peak = max(cell["peak_mib"] for cell in cells[method].values())
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {peak:,} |")
    return lines


def summary(cells: Cells) -> list[str]:
    """Means over all columns, one row per method: scores, seconds of the processor and the most memory."""
    lines = ["| | accuracy | macro-F1 | processor's seconds | peak MiB | seeds |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for method, name in NAMES.items():
        values = {
            key: row_of(cells, method, of)
            for key, of in (
                ("accuracy", lambda cell: 100 * cell["accuracy"]),
                ("macro_f1", lambda cell: 100 * cell["macro_f1"]),
                ("seconds", seconds_of),
            )
        }
        if not all(values["accuracy"]):
            continue
        means = {key: float(np.mean([np.mean(seeds) for seeds in rows])) for key, rows in values.items()}
        peak = max(cell["peak_mib"] for cell in cells[method].values())
        shown = [f"{means['accuracy']:.1f}", f"{means['macro_f1']:.1f}", f"{means['seconds']:.0f}", f"{peak:,}"]
        lines.append(f"| {name} | " + " | ".join([*shown, seeds_of(values["accuracy"])]) + " |")
    return lines


def with_others(found: Cells, cells: Cells) -> list[str]:
    """`summary`, and under it one draw of each column by every loss with the same unlabeled text."""
    common = set.intersection(*(set(found[method]) for method in (OURS, *BEHIND_OTHERS)))
    lines = summary(cells)
    for method, name in ({OURS: NAMES[OURS]} | BEHIND_OTHERS).items():
        mine = [found[method][key] for key in sorted(common)]
        means = [100 * float(np.mean([cell[key] for cell in mine])) for key in ("accuracy", "macro_f1")]
        shown = [f"{mean:.1f}" for mean in means] + [f"{np.mean([seconds_of(cell) for cell in mine]):.0f}"]
        shown.append(f"{max(cell['peak_mib'] for cell in mine):,}")
        lines.append(f"| the same draw: {name} | " + " | ".join([*shown, "1"]) + " |")
    return lines


def seeds_of(values: list[list[float]]) -> str:
    """How many seeds the columns have."""
    counts = {len(seeds) for seeds in values if seeds}
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def seconds_of(cell: dict[str, Any]) -> float:
    """Seconds of the processor, or of the wall where one thread was all there was."""
    return float(cell.get("processor_seconds") or cell["seconds"])


def write_between(page: Path, mark: str, lines: list[str]) -> None:
    """Put lines between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(mark)
    after = rest.partition(mark)[2]
    page.write_text(f"{before}{mark}\n\n" + "\n".join(lines) + f"\n\n{mark}{after}", encoding="utf-8")


def write(results: Sequence[dict[str, Any]], piles: Path) -> None:
    """Write the tables between the marks of the page, the means in the README, those with differences in results.md."""
    found = read(results)
    cells = compared(found)
    parts = ["### Means over all columns", "", *with_others(found, cells), ""]
    parts += ["### Accuracy", "", *table(cells, "accuracy"), "", "### Macro-F1", "", *table(cells, "macro_f1"), ""]
    ahead = ["### G-Loss with unlabeled text against each baseline, macro-F1", "", *differences(cells, "macro_f1"), ""]
    ahead += ["### The same, accuracy", "", *differences(cells, "accuracy")]
    parts += [*ahead, ""]
    if all(found[method] for method in BEHIND_OTHERS):
        parts += ["### The same unlabeled text behind the other losses", "", *behind_others(found), ""]
    if piles.exists():
        parts += ["### A few unlabeled texts: what they add to G-Loss", "", *few_unlabeled(piles), ""]
    if more := more_draws(found, cells):
        parts += ["### More draws of single columns", "", *more, ""]
    parts += ["### Seconds of one processor, training and all that belongs to it", "", *costs(cells)]
    write_between(PAGE, MARK, parts)
    write_between(README, SHORT, with_others(found, cells))
    write_between(RESULTS_PAGE, SHORT, [*with_others(found, cells), "", *ahead])
