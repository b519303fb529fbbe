"""The rows of a comparison as tables of text, for the screen, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphloss.research.bench.grid import BASELINE, NO_MODE, UNTOUCHED
from graphloss.research.bench.summary import OVERALL

if TYPE_CHECKING:
    pass

Row = Mapping[str, Any]

SCORE_COLUMNS = (  # score, head of its column, unit
    ("head_macro_f1", "macro-F1, head", "percent"),
    ("default_macro_f1", "default", "percent"),
    ("probe_macro_f1", "probe", "percent"),
    ("knn_macro_f1", "kNN", "percent"),
    ("head_accuracy", "accuracy, head", "percent"),
    ("default_accuracy", "default", "percent"),
    ("probe_accuracy", "probe", "percent"),
    ("knn_accuracy", "kNN", "percent"),
    ("macro_silhouette", "silhouette", "plain"),
    ("epochs_to_99", "epochs to 99%", "time"),
    ("seconds_to_99", "seconds to 99%", "time"),
)
COMPARED_COLUMNS = (
    ("head_macro_f1", "Macro-F1 of the head", "percent"),
    ("head_accuracy", "Accuracy of the head", "percent"),
    ("default_macro_f1", "Macro-F1 of the default predictor", "percent"),
    ("default_accuracy", "Accuracy of the default predictor", "percent"),
    ("probe_macro_f1", "Macro-F1 of the probe", "percent"),
    ("knn_macro_f1", "Macro-F1 of the nearest neighbors", "percent"),
    ("macro_silhouette", "Macro silhouette", "plain"),
)
WIDE = 180
SHOWN = 3  # digits of a fraction: equal ones are ties
NAMES = {"gloss": "G-Loss", "gloss-paper": "G-Loss (paper)", BASELINE: "cross-entropy", UNTOUCHED: "untouched encoder"}


@dataclass(frozen=True)
class Table:
    """A table of formatted cells; the first column is text, the others are numbers. `strong` are bold (row, column)."""

    title: str
    note: str
    heads: list[str]
    rows: list[list[str]]
    strong: frozenset[tuple[int, int]] = frozenset()


def arm_name(loss: str, mode: str) -> str:
    """Name of a loss in tables, with its mode if it has two."""
    name = NAMES.get(loss, loss)
    return name if mode == NO_MODE or loss == BASELINE else f"{name}, {mode}"


def group_name(data: str, shots: str) -> str:
    """A data set and its shots in words."""
    if data == OVERALL:
        return "Mean over all of these"
    return f"{data}, all labels" if shots == "all" else f"{data}, {shots} labels per class"


def score_tables(rows: Sequence[Row]) -> list[Table]:
    """A table per (data, shots) with a row per loss: means ± half of their 95% interval."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["shots"]), []).append(row)
    return [_score_table(group, mine) for group, mine in groups.items()]


def comparison_tables(rows: Sequence[Row]) -> list[Table]:
    """A table per compared score: paired differences against cross-entropy, if that was run."""
    compared = [row for row in rows if row["against_ce"]]
    tables = []
    for name, title, unit in COMPARED_COLUMNS:
        lines, count = [], 0
        for row in compared:
            if found := row["against_ce"][name]:
                count = found["comparisons"]
                lines.append(
                    [
                        f"{group_name(row['data'], row['shots'])}: {arm_name(row['loss'], row['mode'])}",
                        _signed(found["mean"], unit),
                        "–"
                        if found["low"] is None
                        else f"{_signed(found['low'], unit)} to {_signed(found['high'], unit)}",
                        p_value(found["p"]),
                        p_value(found["p_holm"]),
                        str(found["seeds"]),
                    ]
                )
        if lines:
            note = f"In {'points' if unit == 'percent' else 'units'}; above zero is better than cross-entropy. "
            note += (
                f"The corrected p is Holm's, over the {count} comparisons of this table."
                if count
                else "One seed has no interval and no p-value."
            )
            heads = ["", "difference", "95% interval", "p", "p corrected", "seeds"]
            tables.append(Table(f"{title}, against cross-entropy", note, heads, lines))
    return tables


def markdown(tables: Sequence[Table]) -> str:
    """The tables in Markdown, with titles."""
    parts = []
    for table in tables:
        lines = [f"## {inline(table.title)}", ""]
        if table.note:
            lines += [inline(table.note), ""]
        lines.append("| " + " | ".join(map(inline, table.heads)) + " |")
        lines.append("| --- |" + " ---: |" * (len(table.heads) - 1))
        for number, row in enumerate(table.rows):
            cells = [f"**{inline(x)}**" if (number, i) in table.strong else inline(x) for i, x in enumerate(row)]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def show(rows: Sequence[Row]) -> None:
    """Print the scores and the differences of macro-F1 on standard output."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)  # for a file or a program: no wrapped lines
    console.print(Markdown(markdown([*score_tables(rows), *comparison_tables(rows)[:1]])))


def p_value(p: float | None) -> str:
    """A p-value in three decimals; a dash for None."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def inline(text: str) -> str:
    """A text that cannot break out of its line or cell in Markdown."""
    return " ".join(text.replace("|", "/").replace("<", "&lt;").replace("*", "\\*").split())


def _score_table(group: tuple[str, str], rows: Sequence[Row]) -> Table:
    lines, strong = [], set()
    columns = [  # older comparisons have no score of the default predictor
        column
        for column in SCORE_COLUMNS
        if "default" not in column[0] or any(row["scores"][column[0]] for row in rows)
    ]
    for row in rows:
        line = [arm_name(row["loss"], row["mode"])]
        line += [_estimate(row["scores"][name], unit) for name, _, unit in columns]
        lines.append([*line, str(len(row["seeds"]))])
    for column, (name, _, unit) in enumerate(columns, 1):
        means = {i: round(found["mean"], SHOWN) for i, row in enumerate(rows) if (found := row["scores"][name])}
        if unit != "time" and len(means) > 1:
            strong |= {(i, column) for i, mean in means.items() if mean == max(means.values())}
    note = (
        "There is no test split: these are the validation documents, which also chose the epochs."
        if any(row["split"] == "validation" for row in rows)
        else ""
    )
    heads = ["", *(head for _, head, _ in columns), "seeds"]
    return Table(group_name(*group), note, heads, lines, frozenset(strong))


def _estimate(found: Mapping[str, Any] | None, unit: str) -> str:
    if found is None:
        return "–"
    half = None if found["low"] is None else found["high"] - found["mean"]
    scale, form = {"percent": (100, ".1f"), "plain": (1, ".3f"), "time": (1, ".1f")}[unit]
    mean = format(scale * found["mean"], form)
    return mean if half is None else f"{mean} ± {format(scale * half, form)}"


def _signed(value: float, unit: str) -> str:
    text = f"{100 * value:+.2f}" if unit == "percent" else f"{value:+.3f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")
