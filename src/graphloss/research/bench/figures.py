"""The pictures of a comparison: learning curves, differences with their intervals, and embedding maps.

Figures have no theme: the page sets fonts and colors for light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.research.bench.grid import UNTOUCHED
from graphloss.research.bench.summary import OVERALL
from graphloss.research.bench.tables import arm_name, group_name, p_value

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = ("#6366f1", "#f59e0b", "#14b8a6", "#f43f5e", "#84cc16", "#0ea5e9", "#d946ef", "#a16207", "#22c55e")
GRAY = "#94a3b8"
GRID = "rgba(127,127,127,0.18)"
Arm = tuple[str, str]


def arm_colors(arms: Sequence[Arm]) -> dict[Arm, str]:
    """A color a loss, the same in both modes; gray for the untouched encoder."""
    losses = list(dict.fromkeys(loss for loss, _ in arms if loss != UNTOUCHED))
    colors = {loss: PALETTE[place % len(PALETTE)] for place, loss in enumerate(losses)}
    return {arm: GRAY if arm[0] == UNTOUCHED else colors[arm[0]] for arm in arms}


def class_color(place: int, classes: int) -> str:
    """The color of a class by its place: hues all around the wheel, neighbors told apart by their lightness too."""
    return f"hsl({(238 + 360 * place / classes) % 360:.0f},65%,{(54, 40, 66)[place % 3]}%)"


def curves(
    runs: Mapping[Arm, Sequence[Sequence[Mapping[str, Any]]]], colors: Mapping[Arm, str], *, by: str, legend: bool
) -> go.Figure | None:
    """Validation macro-F1 as training goes on: the mean over the seeds, and the range from worst to best.

    Args:
        runs: (loss, mode) -> the curve of each seed.
        colors: of each (loss, mode).
        by: "epoch" or "seconds", along the axis.
        legend: whether to name the lines.

    Returns:
        A figure, or None without a single curve.
    """
    figure = _figure(
        320 + 20 * (len(runs) // 2 if legend else 0),  # two names a line
        xaxis_title="epoch" if by == "epoch" else "seconds of training",
        hovermode="closest",
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    furthest = max((float(curve[-1][by]) for each in runs.values() for curve in each if curve), default=0.0)
    for arm, seeds in runs.items():
        scored = [[row for row in curve if row["macro_f1"] is not None] for curve in seeds]
        scored = [curve for curve in scored if curve]
        if not scored:
            continue
        length = min(map(len, scored))
        y = np.array([[row["macro_f1"] for row in curve[:length]] for curve in scored])  # (seeds, length)
        x = np.array([[row[by] for row in curve[:length]] for curve in scored]).mean(0)  # (length,)
        name, color = html.escape(arm_name(*arm)), colors[arm]
        if arm[0] == UNTOUCHED:  # a level to start from, drawn across
            x, y = np.array([0.0, furthest]), y[:, :1].repeat(2, axis=1)
        group = f"{arm[0]} {arm[1]}"
        if len(scored) > 1 and arm[0] != UNTOUCHED:
            figure.add_scatter(
                x=[*x, *x[::-1]],
                y=[*y.max(0), *y.min(0)[::-1]],
                fill="toself",
                fillcolor=color,
                opacity=min(0.13, 0.4 / len(runs)),  # many bands lie upon one another
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=group,
            )
        figure.add_scatter(
            x=x.tolist(),
            y=y.mean(0).tolist(),
            name=name,
            mode="lines",
            legendgroup=group,
            line={"color": color, "width": 2, "dash": {"standalone": "dash", "none": "dot"}.get(arm[1], "solid")},
            hovertemplate=f"{name}<br>%{{x:.4g}} {by}: %{{y:.1%}}<extra></extra>",
        )
    if not figure.data:
        return None
    figure.update_yaxes(tickformat=".0%")
    return figure


def differences(rows: Sequence[Mapping[str, Any]], score: str, colors: Mapping[Arm, str]) -> go.Figure | None:
    """Paired differences against cross-entropy as dots with their 95% intervals; None where there are none."""
    shown = [(row, found) for row in rows if row["against_ce"] and (found := row["against_ce"][score])]
    if not shown:
        return None
    names, scale = [], 1 if score == "macro_silhouette" else 100
    for row, _ in shown:
        where = "overall" if row["data"] == OVERALL else group_name(row["data"], row["shots"])
        names.append(html.escape(f"{arm_name(row['loss'], row['mode'])} · {where}"))
    figure = _figure(
        90 + 30 * len(shown),
        xaxis_title="difference against cross-entropy" + (", points" if scale == 100 else ""),
        showlegend=False,
    )
    for name, (row, found) in zip(names, shown, strict=True):
        half = None if found["low"] is None else scale * (found["high"] - found["mean"])
        said = "" if half is None else f" ± {half:.2f}, corrected p {html.escape(p_value(found['p_holm']))}"
        figure.add_scatter(
            x=[scale * found["mean"]],
            y=[name],
            mode="markers",
            marker={"size": 10, "color": colors[row["loss"], row["mode"]]},
            error_x={"type": "data", "array": [half], "thickness": 1.6, "width": 4} if half is not None else None,
            hovertemplate=f"{name}<br>%{{x:+.2f}}{said}<extra></extra>",
        )
    figure.add_vline(0, line={"color": GRAY, "width": 1, "dash": "dash"})
    middle = [abs(scale * found["mean"]) for _, found in shown]
    ends = [abs(scale * x) for _, found in shown for x in (found["low"], found["high"]) if x is not None]
    if ends and max(ends) > 8 * max(middle):  # two seeds: intervals so wide that no dot could be told from another
        figure.update_xaxes(range=[-8 * max(middle) or -1, 8 * max(middle) or 1])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def embedding_map(
    points: Sequence[Sequence[float]],
    truth: Sequence[int],
    predicted: Sequence[int],
    hover: Sequence[str],
    *,
    classes: int,
) -> go.Figure:
    """Documents as dots in the color of their class: a circle where the prediction is right, a cross elsewhere.

    Args:
        points: two coordinates a document.
        truth: its class, for the color.
        predicted: the class it was given.
        hover: what is said of it, escaped.
        classes: how many there are.
    """
    right = [t == p for t, p in zip(truth, predicted, strict=True)]
    figure = _figure(330, hovermode="closest", margin={"l": 6, "r": 6, "t": 6, "b": 6})
    figure.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="markers",
        text=list(hover),
        hovertemplate="%{text}<extra></extra>",
        marker={
            "color": [class_color(place, classes) for place in truth],
            "size": [6 if good else 8 for good in right],
            "symbol": ["circle" if good else "x" for good in right],
            "opacity": 0.85,
            "line": {"width": 0},
        },
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _figure(height: int, **layout: Any) -> go.Figure:
    import plotly.graph_objects as go

    clear = "rgba(0,0,0,0)"
    figure = go.Figure()
    figure.update_layout(
        {"margin": {"l": 56, "r": 24, "t": 28, "b": 48}, "height": height, **layout},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        template="none",
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True, title_standoff=8)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True, title_standoff=8)
    return figure
