"""Figures of a report, by plotly without a theme: the page sets fonts and colors for light and dark.

All user texts are escaped, since plotly interprets HTML in labels and hover texts.
"""

from __future__ import annotations

import colorsys
import html
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphloss.inference.metrics import Bin

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLUE, ORANGE, TEAL, ROSE, GRAY = "#6366f1", "#f59e0b", "#14b8a6", "#f43f5e", "#94a3b8"
GRID = "rgba(127,127,127,0.18)"
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # of a legend
DASHED = {"color": GRAY, "width": 1, "dash": "dash"}
PALETTE = ("#6366f1", "#f59e0b", "#14b8a6", "#f43f5e", "#84cc16", "#0ea5e9", "#d946ef", "#a16207", "#64748b", "#22c55e")
HOVER_CHARACTERS = 320
COUNTS_IN_CELLS = 20  # most classes for which cells of the confusion matrix show their count


def class_colors(count: int) -> list[str]:
    """One color per class: from a palette for few, by the golden angle for many, so that adjacent ones differ."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    steps = ((0.618034 * i % 1, (0.48, 0.62, 0.40)[i % 3]) for i in range(count))
    rgb = (colorsys.hls_to_rgb(hue, lightness, 0.62) for hue, lightness in steps)
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in color) for color in rgb]


def short_names(names: Sequence[str]) -> list[str]:
    """Names cut to 32 characters, escaped, and still unique."""
    cut = [name if len(name) <= 32 else name[:31].rstrip() + "…" for name in names]
    seen: Counter[str] = Counter()
    result = []
    for name in cut:
        seen[name] += 1
        result.append(html.escape(name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return result


def curves(history: Sequence[Mapping[str, Any]], best_epoch: float | None) -> dict[str, go.Figure]:
    """Losses and validation scores of `metrics.jsonl` by epoch, up to two figures by title.

    Curves without values are left out, and figures of coverage alone; a vertical line marks the best epoch.
    """
    panels = {
        "Training loss": {"loss": ("loss", BLUE), "ce": ("cross-entropy part", ORANGE), "graph": ("graph part", TEAL)},
        "Validation": {
            "macro_f1": ("macro-F1", BLUE),
            "accuracy": ("accuracy", ORANGE),
            "macro_silhouette": ("silhouette", TEAL),
            "coverage": ("coverage (training)", GRAY),
        },
    }
    result = {}
    for title, lines in panels.items():
        figure = new_figure(310, xaxis_title="epoch", hovermode="x unified", legend=ABOVE)
        for key, (name, color) in lines.items():
            points = [
                (row["epoch"], _curve_value(key, row.get(key))) for row in history if row.get("epoch") is not None
            ]
            if any(y is not None for _, y in points):
                figure.add_scatter(
                    x=[x for x, _ in points],
                    y=[y for _, y in points],
                    name=name,
                    mode="lines+markers",
                    line={"color": color, "width": 2, "dash": "dot" if key == "coverage" else "solid"},
                    marker={"size": 5},
                    hovertemplate="%{y:.4f}" if title == "Training loss" else "%{y:.3f}",
                )
        if any(trace.name != "coverage (training)" for trace in figure.data):
            figure.update_yaxes(rangemode="tozero")
            if best_epoch is not None:
                how = {"annotation_position": "bottom right", "annotation_font_color": ROSE}
                figure.add_vline(best_epoch, line=DASHED | {"color": ROSE}, annotation_text="best", **how)
            result[title] = figure
    return result


def confusion(
    labels: Sequence[str], truth: Sequence[str], predicted: Sequence[str], f1: Mapping[str, float]
) -> tuple[go.Figure, dict[str, list[str]]]:
    """The confusion matrix, ordered by size, and the available orders of its axes, of which one needs each class's F1.

    Correct predictions have one color and wrong ones another; classes that nowhere occur are left out.
    """
    counts = Counter(zip(truth, predicted, strict=True))
    sizes, occurring = Counter(truth), {*truth, *predicted}
    present = [name for name in labels if name in occurring]
    by_size = sorted(present, key=lambda name: (-sizes[name], name))
    shown = dict(zip(by_size, short_names(by_size), strict=True))
    axis = [shown[name] for name in by_size]
    side = len(by_size)
    figure = new_figure(max(360, min(1180, 190 + side * (44 if side <= COUNTS_IN_CELLS else 13))))
    for right, color in ((True, "20,184,166"), (False, "244,63,94")):
        cells = [[counts[row, column] if (row == column) == right else 0 for column in by_size] for row in by_size]
        shares = [[n / sizes[row] if n else None for n in line] for row, line in zip(by_size, cells, strict=True)]
        # The color grows with the square root of the share, so that a single error is visible.
        figure.add_heatmap(
            x=axis,
            y=axis,
            z=[[math.sqrt(share) if share is not None else None for share in line] for line in shares],
            customdata=[
                [[n, share] for n, share in zip(*pair, strict=True)] for pair in zip(cells, shares, strict=True)
            ],
            text=[[str(n) if n else "" for n in line] for line in cells] if side <= COUNTS_IN_CELLS else None,
            texttemplate="%{text}" if side <= COUNTS_IN_CELLS else None,
            colorscale=[[0, f"rgba({color},0.12)"], [1, f"rgba({color},0.8)"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            hovertemplate="true <b>%{y}</b><br>predicted <b>%{x}</b><br>"
            "%{customdata[0]} documents, %{customdata[1]:.1%} of the class<extra></extra>",
        )
    ticks = {"type": "category", "categoryarray": axis, "showgrid": False, "tickmode": "linear", "dtick": 1}
    font = {"size": 11 if side <= COUNTS_IN_CELLS else 9}
    figure.update_xaxes(**ticks, tickangle=-45 if side <= COUNTS_IN_CELLS else -90, tickfont=font)
    figure.update_yaxes(**ticks, autorange="reversed", tickfont=font)
    orders = {
        "by size": axis,
        "by name": [shown[name] for name in sorted(present)],
        "by F1, worst first": [shown[name] for name in sorted(present, key=lambda name: f1.get(name, 0.0))],
    }
    return figure, orders


def embedding_map(
    points: Sequence[Sequence[float]],
    hover: Sequence[str],
    colors: Sequence[str],
    right: Sequence[bool],
    *,
    small: bool = False,
) -> go.Figure:
    """Documents as dots of the colors of their classes: circles for correct predictions, crosses for wrong ones.

    Each has two coordinates and a text of `hover_text`; a page with several maps has them small.
    """
    height, size, margin = (330, 6, 6) if small else (460, 7, 8)
    figure = new_figure(height, hovermode="closest", margin=dict.fromkeys("lrtb", margin))
    figure.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="markers",
        text=list(hover),
        hovertemplate="%{text}<extra></extra>",
        marker={
            "color": list(colors),
            "size": [size if good else size + 2 for good in right],
            "symbol": ["circle" if good else "x" for good in right],
            "opacity": 0.85,
            "line": {"width": 0},
        },
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor=None if small else "x")
    return figure


def hover_text(text: str, label: str, predicted: str, probability: float | None = None) -> str:
    """Hover text of a dot: true and predicted class, and the beginning of the text, wrapped and escaped."""
    beginning = text if len(text) <= HOVER_CHARACTERS else text[: HOVER_CHARACTERS - 1] + "…"
    lines = "<br>".join(html.escape(line) for line in textwrap.wrap(beginning, 64))
    verdict = "predicted correctly" if label == predicted else f"predicted <b>{html.escape(predicted)}</b>"
    how = "" if probability is None else f" ({probability:.0%})"
    return f"<b>{html.escape(label)}</b>, {verdict}{how}<br><br>{lines}"


def reliability_diagram(bins: Sequence[Bin]) -> go.Figure:
    """Accuracy against confidence: bars on the dashed diagonal are calibrated."""
    full = [b for b in bins if b.documents]
    figure = new_figure(
        330, xaxis_title="probability of the prediction", yaxis_title="share that is correct", showlegend=False
    )
    figure.add_bar(
        x=[(b.low + b.high) / 2 for b in full],
        y=[b.accuracy for b in full],
        width=[(b.high - b.low) * 0.92 for b in full],
        customdata=[[b.confidence, b.documents] for b in full],
        marker={"color": BLUE, "opacity": [0.25 + 0.65 * min(1.0, b.documents / 30) for b in full]},
        hovertemplate="%{customdata[1]} documents<br>predicted %{customdata[0]:.1%}<br>correct %{y:.1%}<extra></extra>",
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GRAY, "dash": "dash", "width": 1.5}, hoverinfo="skip"
    )
    figure.update_xaxes(range=[0, 1], tickformat=".0%", dtick=0.2)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def confidence_histogram(confidence: Sequence[float], right: Sequence[bool]) -> go.Figure:
    """Histograms of the confidence of correct and of wrong predictions."""
    figure = new_figure(
        330,
        xaxis_title="probability of the prediction",
        yaxis_title="documents",
        barmode="stack",
        bargap=0.08,
        legend=ABOVE,
    )
    for wanted, name, color in ((True, "correct", TEAL), (False, "wrong", ROSE)):
        figure.add_histogram(
            x=[p for p, good in zip(confidence, right, strict=True) if good == wanted],
            xbins={"start": 0, "end": 1.0001, "size": 0.05},
            name=name,
            marker={"color": color, "opacity": 0.85},
            hovertemplate="%{y} documents<extra>" + name + "</extra>",
        )
    figure.update_xaxes(range=[0, 1], tickformat=".0%", dtick=0.2)
    return figure


def new_figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the style of the pages."""
    import plotly.graph_objects as go

    figure = go.Figure()
    clear = "rgba(0,0,0,0)"
    margin = {"l": 56, "r": 24, "t": 28, "b": 48}
    figure.update_layout(
        {"margin": margin, "height": height, "paper_bgcolor": clear, "plot_bgcolor": clear, **layout}, template="none"
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True, title_standoff=8)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True, title_standoff=8)
    return figure


def _curve_value(key: str, value: Any) -> float | None:
    """A point of a curve; a silhouette of exactly -1 means undefined, and leaves a gap."""
    if not isinstance(value, int | float) or not math.isfinite(value) or (key == "macro_silhouette" and value == -1.0):
        return None
    return float(value)
