"""The page of `headline.py`: what a few labels and a pile of unlabelled text give, by method.

Every figure comes from the result files. A difference is paired: the same labels, the same test documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

PAGE = Path(__file__).parent.parent / "docs" / "few_labels.md"
MARK = "<!-- tables -->"
NAMES = {
    "probe": "untouched encoder, regression",
    "setfit": "SetFit 1.2",
    "ce": "cross-entropy",
    "supcon": "SupCon",
    "gloss": "G-Loss",
    "gloss+unlabelled": "G-Loss, unlabelled text",
}
OURS = "gloss+unlabelled"
Key = tuple[str, int, int]  # task, shots, seed
Cells = dict[str, dict[Key, dict[str, Any]]]


def read(results: Path) -> Cells:
    """Result files by method and cell."""
    found: Cells = {name: {} for name in NAMES}
    for path in sorted(results.glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        found[cell["method"]][cell["task"], cell["shots"], cell["seed"]] = cell
    return found


def interval(values: list[float]) -> str:
    """Mean and half of the 95% interval of a t-test, in words; the mean alone of a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.1f}"
    half = float(student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.1f} ± {half:.1f}"


def columns_of(cells: Cells) -> list[tuple[str, int]]:
    """Data sets and shots, in the order of the tables."""
    order = ("banking77", "r8", "ohsumed", "mr")
    return sorted(
        {(task, shots) for task, shots, _ in cells["probe"]}, key=lambda column: (order.index(column[0]), column[1])
    )


def row_of(cells: Cells, method: str, of: Callable[[dict[str, Any]], float]) -> list[list[float]]:
    """The values of a method, one list of seeds a column."""
    return [
        [of(cell) for (task, shots, _), cell in sorted(cells[method].items()) if (task, shots) == column]
        for column in columns_of(cells)
    ]


def table(cells: Cells, key: str) -> list[str]:
    """A row a method, a column a data set and number of labels a class."""
    columns = columns_of(cells)
    lines = ["| | " + " | ".join(f"{task} {shots}" for task, shots in columns) + " | mean | seeds |"]
    lines.append("| --- |" + " ---: |" * (len(columns) + 2))
    for method, name in NAMES.items():
        values = row_of(cells, method, lambda cell: 100 * cell[key])
        if not any(values):
            continue
        shown = [f"{np.mean(seeds):.1f}" if seeds else "–" for seeds in values]
        shown.append(f"{np.mean([np.mean(seeds) for seeds in values]):.1f}" if all(values) else "–")
        most = {len(seeds) for seeds in values if seeds}
        count = str(min(most)) if len(most) == 1 else f"{min(most)} to {max(most)}"
        name = f"**{name}**" if method == OURS else name
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {count} |")
    return lines


def differences(cells: Cells, key: str) -> list[str]:
    """Ours minus each rival, averaged over the columns that both have, with an interval over the seeds."""
    lines = ["| rival | mean difference (95% interval) | worst column | columns ahead | cells |"]
    lines.append("| --- | ---: | --- | ---: | ---: |")
    for rival, name in NAMES.items():
        common = [cell for cell in cells[OURS] if cell in cells[rival]]
        if rival == OURS or not common:
            continue
        gap = {cell: 100 * (cells[OURS][cell][key] - cells[rival][cell][key]) for cell in common}
        means = {
            column: float(np.mean([gap[cell] for cell in common if cell[:2] == column]))
            for column in {cell[:2] for cell in common}
        }
        whole = [s for s in sorted({seed for _, _, seed in common}) if all((*column, s) in gap for column in means)]
        by_seed = [float(np.mean([gap[*column, seed] for column in means])) for seed in whole]
        worst = min(means, key=lambda column: means[column])
        ahead = sum(value > 0 for value in means.values())
        mean = interval(by_seed) if by_seed else f"{np.mean(list(means.values())):.1f}"
        lines.append(
            f"| {name} | {mean} | {worst[0]} {worst[1]}: {means[worst]:+.1f} "
            f"| {ahead} of {len(means)} | {len(common)} |"
        )
    return lines


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
            seconds = [float(cell.get("processor_seconds") or cell["seconds"]) for cell in mine]
            shares = [cell["steps_of_an_epoch"] / cell["steps"] for cell in mine if "steps" in cell]
            cut = f" (cut; whole ≈ {np.mean(seconds) * np.mean(shares):,.0f})" if any(x > 1 for x in shares) else ""
            shown.append(f"{np.mean(seconds):.0f}{cut}" if mine else "–")
        peak = max(cell["peak_mib"] for cell in cells[method].values())
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {peak:,} |")
    return lines


def write(results: Path) -> None:
    """Write the tables between the marks of the page."""
    cells = read(results)
    parts = ["### Accuracy", "", *table(cells, "accuracy"), "", "### Macro-F1", "", *table(cells, "macro_f1"), ""]
    parts += ["### G-Loss with unlabelled text against each rival, macro-F1", "", *differences(cells, "macro_f1"), ""]
    parts += ["### The same, accuracy", "", *differences(cells, "accuracy"), ""]
    parts += ["### Seconds of one processor, training and all that belongs to it", "", *costs(cells)]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    after = rest.partition(MARK)[2]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n".join(parts) + f"\n\n{MARK}{after}", encoding="utf-8")
