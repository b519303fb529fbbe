"""A run folder -> one self-contained HTML file, which needs neither a network nor graphloss.

It is made from `graphloss.json`, `metrics.jsonl`, `audit.jsonl` and `predictions.parquet`. All user texts are escaped.
"""

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphloss.disk import write_text
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.checksums import REPAIR
from graphloss.inference.description_gate import Gate
from graphloss.inference.metrics import reliability
from graphloss.report import figures, tables
from graphloss.report.predictions import Document, read_documents
from graphloss.report.sections import Page, part
from graphloss.terminal import counted, pasted

MISTAKES, SUSPECTS = 25, 100


def write_report(run: Path) -> Path:
    """Write `report.html` of a run, whole or not at all, and return its path."""
    info = run_folder.read_info(run)
    if "metrics" not in info:
        todo = "a folder of `save_pretrained` has none, score it with `graphloss evaluate {run} DATA`"
        if info["status"] != "finished":
            todo = "finish it with `graphloss train --resume --out {run}`"
        raise InputError(f"{run}: no scores to report; {todo.format(run=pasted(run))}")
    history, audited = read_lines(run / run_folder.METRICS), read_lines(run / run_folder.AUDIT)
    documents, path = read_documents(run / run_folder.PREDICTIONS), run / run_folder.REPORT
    try:
        page = render(info, history, documents, audited)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        file, reason = run / run_folder.INFO, f"{type(error).__name__}: {error}"
        raise InputError(f"{file}: a value of the report makes no sense ({reason}); {REPAIR}") from error
    write_text(path, page)
    return path


def render(
    info: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    documents: Sequence[Document],
    suspects: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page, a whole HTML document.

    Args:
        info: contents of `graphloss.json`, with labels, name and metrics.
        history: lines of `metrics.jsonl`, one per evaluation.
        documents: the labeled documents of the scored split.
        suspects: lines of `audit.jsonl`, the suspected label errors; none before an audit.
    """
    labels = [str(label) for label in info["labels"]]
    metrics, split = info["metrics"], str(info["metrics"]["split"])
    page = Page()
    head = tables.head(info, metrics, split, len(documents), len(labels))
    if metrics["model"]["macro_f1"] is not None:
        page.section("Result", tables.headline_note(metrics, split), tables.headline(metrics))
    if drawn := figures.curves(history, info.get("best_epoch")):
        panels = [f"<div><h3>{html.escape(title)}</h3>{page.figure(figure)}</div>" for title, figure in drawn.items()]
        page.section(
            "Learning curves", "One point per epoch; the dashed line marks the epoch that was kept.", _pair(panels)
        )
    if documents:
        _documents_sections(page, labels, metrics, documents)
    if suspects:
        page.section(
            "Suspected label errors",
            f"{min(len(suspects), SUSPECTS)} of {len(suspects):,} training labels that similar documents contradict, "
            "by descending score, as `graphloss audit` lists them. Each was scored without its own label. Open one to "
            "see the documents behind the proposed label, and each one's share of its probability.",
            part("suspects", suspects[:SUSPECTS]),
        )
    if doubted := info.get("doubted_labels"):
        page.section(
            "Labels in doubt",
            f"{min(len(doubted), SUSPECTS)} of {counted(len(doubted), 'label')} that other documents contradicted "
            "before the training: with `--clean auto` each label weighs as much as the others confirm it. All of them: "
            "`doubted_labels` in graphloss.json.",
            part("suspects", doubted[:SUSPECTS]),
        )
    if described := info.get("described"):
        lines = described["lines"]
        used = f"{counted(lines, 'line')} {'was' if lines == 1 else 'were'}" if lines else "None were"
        page.section(
            "Descriptions",
            f"The descriptions of each class. {used} used as labeled documents: {Gate.of(described)}.",
            part("descriptions", described["texts"]),
        )
    page.section("Settings and environment", "", tables.details(info))
    return page.render(
        title=f"{info['name']} · graphloss", head=head, footer=f"Written by graphloss {info.get('graphloss', '')}."
    )


def _documents_sections(
    page: Page, labels: list[str], metrics: Mapping[str, Any], documents: Sequence[Document]
) -> None:
    truth, predicted = [d.label for d in documents], [d.predicted for d in documents]
    right, confidence = [d.right for d in documents], [d.probability for d in documents]
    after, before = ({row["label"]: row for row in metrics[which].get("per_class", [])} for which in ("model", "probe"))

    page.section(
        "Classes",
        "Bars show F1. Select a column header to sort by it. “Taken for” is the most frequent wrong prediction.",
        tables.class_table(after, before, Counter((d.label, d.predicted) for d in documents if not d.right)),
    )
    matrix, orders = figures.confusion(labels, truth, predicted, {name: row["f1"] for name, row in after.items()})
    choices = "".join(
        f'<button data-order="{html.escape(json.dumps(order))}" aria-pressed="{str(i == 0).lower()}">{name}</button>'
        for i, (name, order) in enumerate(orders.items())
    )
    width = 300 + 85 * len(after)  # limits the cell width with few classes
    drawing = f'<div class="scroll"><div class="matrix" style="max-width:{width}px">{page.figure(matrix)}</div></div>'
    page.section(
        "Confusion matrix",
        "Rows are true classes, columns predicted classes; green is correct, red is wrong. "
        "Color intensity grows with the square root of the share, so that single mistakes are visible.",
        f'<div class="orders">{choices}</div>{drawing}',
    )
    _maps_section(page, labels, documents)
    bins = reliability(confidence, right)
    panels = [
        f"<div><h3>Reliability</h3>{page.figure(figures.reliability_diagram(bins))}</div>",
        f"<div><h3>Confidence</h3>{page.figure(figures.confidence_histogram(confidence, right))}</div>",
    ]
    page.section(
        "Calibration",
        "Bars below the dashed diagonal: overconfident. Above: underconfident. Pale bars: few documents.",
        _pair(panels),
    )
    mistakes = sorted((d for d in documents if not d.right), key=lambda d: -d.probability)
    if mistakes:
        shown = mistakes[:MISTAKES]
        page.section(
            "Most confident mistakes",
            f"{len(shown)} of {len(mistakes):,}, by descending probability. Some of these labels may be wrong.",
            part("mistakes", shown),
        )


def _maps_section(page: Page, labels: list[str], documents: Sequence[Document]) -> None:
    colors = dict(zip(labels, figures.class_colors(len(labels)), strict=True))
    index = {name: i for i, name in enumerate(labels)}
    panels, drawn = [], 0
    for title, places in (
        ("Before: the untouched encoder", [d.before for d in documents]),
        ("After: fine-tuned", [d.after for d in documents]),
    ):
        placed = [
            (d, place) for d, place in zip(documents, places, strict=True) if place is not None and d.label in colors
        ]
        if not placed:
            continue
        drawn = max(drawn, len(placed))
        hover = [figures.hover_text(d.text, d.label, d.predicted, d.probability) for d, _ in placed]
        figure = figures.embedding_map(
            [p for _, p in placed], hover, [colors[d.label] for d, _ in placed], [d.right for d, _ in placed]
        )
        drawing = page.figure(figure, classes=[index[d.label] for d, _ in placed])
        panels.append(f"<div><h3>{title}</h3>{drawing}</div>")
    if not panels:
        return
    occurring = {d.label for d in documents}
    chips = part("class_buttons", [(i, name, colors[name]) for i, name in enumerate(labels) if name in occurring])
    sample = f" A sample of {drawn:,}." if drawn < len(documents) else ""
    page.section(
        "Embedding maps",
        "Each dot is a document, by t-SNE: near documents are similar, distances between clusters mean little. "
        f"Crosses are wrong predictions of the fine-tuned model. Select classes below to see only them.{sample}",
        _pair(panels) + chips,
    )


def _pair(panels: Sequence[str]) -> str:
    return f'<div class="pair">{"".join(panels)}</div>' if len(panels) > 1 else "".join(panels)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` or `audit.jsonl`; empty without the file."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); copy the run folder again or train again") from error
