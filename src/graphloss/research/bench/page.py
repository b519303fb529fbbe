"""A comparison as one self-contained HTML file: tables, differences, curves, maps; all user texts are escaped."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphloss.disk import write_text
from graphloss.report.figures import class_colors, embedding_map, hover_text
from graphloss.report.sections import Page, part
from graphloss.research.bench import figures, tables
from graphloss.research.bench.grid import BASELINE, UNTOUCHED
from graphloss.research.bench.notes import HOW, facts_of, groups_of
from graphloss.research.bench.storage import MARKDOWN, REPORT, ROWS, locked, write_json
from graphloss.research.bench.summary import summarize

Cell = Mapping[str, Any]


def write_page(out: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Write `results.md`, `results.json` and `report.html` of a folder, each whole, and return the rows."""
    rows = summarize(cells)
    with locked(out, "results", wait=True):
        write_json(out / ROWS, rows)
        write_text(out / MARKDOWN, results_markdown(rows, cells))
        write_text(out / REPORT, render(rows, cells))
    return rows


def results_markdown(rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> str:
    """All tables in Markdown, with the method."""
    shown = [*tables.score_tables(rows), *tables.comparison_tables(rows)]
    facts = "\n".join(f"- {tables.inline(name)}: {tables.inline(value)}" for name, value in facts_of(cells).items())
    return f"# Losses compared\n\n{HOW}\n\n{facts}\n\n{tables.markdown(shown)}"


def render(rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> str:
    """The page, a whole HTML document."""
    page = Page()
    arms = list(dict.fromkeys((row["loss"], row["mode"]) for row in rows))
    colors = figures.arm_colors(arms)
    page.section(
        "Scores",
        "Bold: the best of its column.",
        "".join(part("comparison", table) for table in tables.score_tables(rows)),
    )
    _differences(page, rows, colors)
    _curves(page, cells, colors)
    _maps(page, cells)
    page.section("Method", HOW, part("two_columns", facts_of(cells)))
    return page.render(
        title="Losses compared · graphloss", head=_head(rows, cells), footer="Written by graphloss bench."
    )


def _head(rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> str:
    """The page header: what was compared, and the sizes behind it."""
    data = dict.fromkeys(cell["data"] for cell in cells)
    losses = dict.fromkeys(tables.NAMES.get(cell["loss"], cell["loss"]) for cell in cells if cell["loss"] != UNTOUCHED)
    seeds = {cell["seed"] for cell in cells}
    trained = [cell for cell in cells if cell["loss"] != UNTOUCHED]
    hours = sum(cell["seconds"] for cell in cells) / 3600
    spent = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    facts = [
        ("", len(data), "data set" if len(data) == 1 else "data sets"),
        ("", len(losses), "loss" if len(losses) == 1 else "losses"),
        ("", len(seeds), "seed" if len(seeds) == 1 else "seeds"),
        ("", len(trained), "trainings"),
        ("", spent, "of computation"),
    ]
    return part("head", "graphloss bench", ", ".join(data), _verdict(rows), facts)


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparisons of head macro-F1 in one sentence, by their corrected p-values."""
    found = [(row, row["against_ce"]["head_macro_f1"]) for row in rows if row["against_ce"]]
    found = [(row, diff) for row, diff in found if diff and row["loss"] not in (UNTOUCHED, BASELINE)]
    if not found:
        return "No loss was compared with cross-entropy."
    significant = [diff for _, diff in found if diff["p_holm"] is not None and diff["p_holm"] < 0.05]
    better = sum(diff["mean"] > 0 for diff in significant)
    compared = f"Macro-F1 was compared with cross-entropy {'once' if len(found) == 1 else f'{len(found)} times'}"
    if not significant:
        return f"{compared}; with these seeds no difference is significant (corrected p below 0.05)."
    return (
        f"{compared}; significant (corrected p below 0.05) are {better} gains and {len(significant) - better} losses."
    )


def _differences(page: Page, rows: Sequence[Mapping[str, Any]], colors: Mapping[tuple[str, str], str]) -> None:
    shown = tables.comparison_tables(rows)
    if not shown:
        return
    figure = figures.differences(rows, "head_macro_f1", colors)
    drawn = f"<h3>Macro-F1 of the head</h3>{page.figure(figure)}" if figure is not None else ""
    first, *others = shown
    more = "".join(part("comparison", table) for table in others)
    body = drawn + part("comparison", first, title=False) + f"<details><summary>Other scores</summary>{more}</details>"
    page.section("Against cross-entropy", "Dots are mean differences over the seeds, bars their 95% intervals.", body)


def _curves(page: Page, cells: Sequence[Cell], colors: Mapping[tuple[str, str], str]) -> None:
    blocks = []
    for group, mine in groups_of(cells).items():
        runs: dict[tuple[str, str], list[Any]] = {}
        for cell in mine:
            runs.setdefault((cell["loss"], cell["mode"]), []).append(cell["curve"])
        pair = [figures.curves(runs, colors, by=by) for by in ("epoch", "seconds")]
        if panels := [f"<div>{page.figure(figure)}</div>" for figure in pair if figure is not None]:
            title = html.escape(tables.group_name(*group))
            blocks.append(f'<div class="block"><h3>{title}</h3><div class="pair">{"".join(panels)}</div></div>')
    if blocks:
        page.section(
            "Learning curves",
            "Validation macro-F1: lines are means over the seeds, bands show the range. Dashed: standalone. Dotted: a "
            "linear probe of the untouched encoder. Select a name to hide its line.",
            "".join(blocks),
        )


def _maps(page: Page, cells: Sequence[Cell]) -> None:
    blocks, offset = [], 0  # number of classes so far: buttons of one data set must not select classes of another
    for group, mine in groups_of(cells).items():
        placed = [cell for cell in mine if cell.get("map")]
        words = next((cell["map"] for cell in placed if "texts" in cell["map"]), None)
        if words is None or len(placed) < 2:
            continue
        classes, panels = words["classes"], []
        colors = class_colors(len(classes))
        for cell in placed:
            truth, predicted = cell["map"]["truth"], cell["map"]["predicted"]
            hover = [
                hover_text(text, classes[t], classes[p])
                for t, p, text in zip(truth, predicted, words["texts"], strict=True)
            ]
            right = [t == p for t, p in zip(truth, predicted, strict=True)]
            figure = embedding_map(cell["map"]["points"], hover, [colors[t] for t in truth], right, small=True)
            drawing = page.figure(figure, classes=[offset + label for label in truth])
            title = html.escape(tables.arm_name(cell["loss"], cell["mode"]))
            score = f"macro-F1 {cell['scores']['head']['macro_f1']:.1%}"
            panels.append(f'<div><h3>{title} <span class="soft">{score}</span></h3>{drawing}</div>')
        chips = part("class_buttons", [*zip(range(offset, offset + len(classes)), classes, colors, strict=True)])
        offset += len(classes)
        title = html.escape(tables.group_name(*group))
        blocks.append(f'<div class="block"><h3>{title}</h3><div class="maps">{"".join(panels)}</div>{chips}</div>')
    if blocks:
        page.section(
            "Embedding maps",
            "The same documents embedded by each encoder of seed 0, by t-SNE: near documents are similar, distances "
            "between clusters mean little. Crosses are wrong predictions of the head. Select classes to see only them.",
            "".join(blocks),
        )
