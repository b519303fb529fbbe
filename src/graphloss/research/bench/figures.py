"""Figures of a comparison: learning curves, and differences with their intervals."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.report.figures import ABOVE, DASHED, GRAY, PALETTE, new_figure
from graphloss.research.bench.grid import UNTOUCHED
from graphloss.research.bench.summary import OVERALL
from graphloss.research.bench.tables import arm_name, group_name, p_value

if TYPE_CHECKING:
    import plotly.graph_objects as go

Arm = tuple[str, str]


def arm_colors(arms: Sequence[Arm]) -> dict[Arm, str]:
    """One color per loss, the same in both modes; gray for the untouched encoder."""
    losses = list(dict.fromkeys(loss for loss, _ in arms if loss != UNTOUCHED))
    colors = {loss: PALETTE[i % len(PALETTE)] for i, loss in enumerate(losses)}
    return {arm: GRAY if arm[0] == UNTOUCHED else colors[arm[0]] for arm in arms}


def curves(
    runs: Mapping[Arm, Sequence[Sequence[Mapping[str, Any]]]], colors: Mapping[Arm, str], *, by: str
) -> go.Figure | None:
    """Validation macro-F1 of each seed's curve by "epoch" or "seconds": mean and range; None without curves."""
    figure = new_figure(
        320 + 20 * (len(runs) // 2),  # two names per line
        xaxis_title="epoch" if by == "epoch" else "seconds of training",
        hovermode="closest",
        showlegend=True,
        legend=ABOVE,
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
        if arm[0] == UNTOUCHED:  # a horizontal line
            x, y = np.array([0.0, furthest]), y[:, :1].repeat(2, axis=1)
        group = f"{arm[0]} {arm[1]}"
        if len(scored) > 1 and arm[0] != UNTOUCHED:
            figure.add_scatter(
                x=[*x, *x[::-1]],
                y=[*y.max(0), *y.min(0)[::-1]],
                fill="toself",
                fillcolor=color,
                opacity=min(0.13, 0.4 / len(runs)),  # bands overlap
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
    """Paired differences against cross-entropy as dots with their 95% intervals; None without differences."""
    shown = [(row, found) for row in rows if row["against_ce"] and (found := row["against_ce"][score])]
    if not shown:
        return None
    names, scale = [], 1 if score == "macro_silhouette" else 100
    for row, _ in shown:
        where = "overall" if row["data"] == OVERALL else group_name(row["data"], row["shots"])
        names.append(html.escape(f"{arm_name(row['loss'], row['mode'])} · {where}"))
    figure = new_figure(
        90 + 30 * len(shown),
        xaxis_title="difference against cross-entropy" + (", points" if scale == 100 else ""),
        showlegend=False,
    )
    for name, (row, found) in zip(names, shown, strict=True):
        half = None if found["low"] is None else scale * (found["high"] - found["mean"])
        interval = "" if half is None else f" ± {half:.2f}, corrected p {html.escape(p_value(found['p_holm']))}"
        figure.add_scatter(
            x=[scale * found["mean"]],
            y=[name],
            mode="markers",
            marker={"size": 10, "color": colors[row["loss"], row["mode"]]},
            error_x={"type": "data", "array": [half], "thickness": 1.6, "width": 4} if half is not None else None,
            hovertemplate=f"{name}<br>%{{x:+.2f}}{interval}<extra></extra>",
        )
    figure.add_vline(0, line=DASHED)
    middle = [abs(scale * found["mean"]) for _, found in shown]
    ends = [abs(scale * x) for _, found in shown for x in (found["low"], found["high"]) if x is not None]
    if ends and max(ends) > 8 * max(middle):  # wide intervals of two seeds would hide the dots
        figure.update_xaxes(range=[-8 * max(middle) or -1, 8 * max(middle) or 1])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
