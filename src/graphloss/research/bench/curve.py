"""Learning curves: validation scores over epochs and seconds, and when they reach 99% of their best.

On a CPU they use processor time, which other work on the machine does not change, and which adds up over threads;
elsewhere wall-clock time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.inference.metrics import score
from graphloss.text.texts_and_labels import Documents

if TYPE_CHECKING:
    import torch

WALL, PROCESSOR = "seconds", "processor_seconds"
CLOCKS = {WALL: time.perf_counter, PROCESSOR: time.process_time}
"""Clocks by their name in a training's history."""

NEAR_BEST = 0.99
"""Share of the best validation macro-F1 for `near_best`."""


def curve_of(
    history: Sequence[Mapping[str, Any]], clock: str = WALL, early: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The learning curve: one row per evaluation, with its seconds of training since the start by a clock.

    The seconds include those of an `early` training, which pseudo-labels begin with.
    """
    rows, total = [], float(sum(row[clock] for row in early))
    for row in history:
        total += row[clock]
        kept = {name: row.get(name) for name in ("epoch", "step", "loss", "macro_f1", "accuracy", "log_loss")}
        rows.append(kept | {"seconds": total})
    return rows


def near_best(curve: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Epochs and seconds of training until validation macro-F1 reached 99% of its best; None without scores."""
    reached = [row for row in curve if row["macro_f1"] is not None]
    if not reached or not reached[-1]["epoch"]:
        return None
    goal = NEAR_BEST * max(row["macro_f1"] for row in reached)
    first = next(row for row in reached if row["macro_f1"] >= goal)
    return {"epochs": float(first["epoch"]), "seconds": float(first["seconds"])}


def start_of_curve(
    encoder: Any, support: torch.Tensor, labeled: Documents, validation: Documents, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The start of all curves: the linear probe of the untouched encoder on the validation documents."""
    from graphloss.inference.linear_probe import linear_probe
    from graphloss.text.encoder import encode

    if not len(validation):
        return []
    z = encode(encoder, validation.texts)
    probabilities = linear_probe(support, labeled.labels, len(classes)).probabilities(z)
    scores = score(np.array(validation.labels), probabilities, None, classes)
    row = {"epoch": 0.0, "step": 0, "loss": None, "macro_f1": scores.macro_f1, "accuracy": scores.accuracy}
    return [row | {"log_loss": None, "seconds": 0.0}]
