"""What settings are worth: train with them on every fold, and judge each model by the documents it has not seen.

Letters: curve_f(e) is the score of fold f after evaluation e, w_f the number of documents that judge in it::

    e*    = argmax_e  sum_f w_f judge_f(e) / sum_f w_f       one evaluation for all folds
    worth = sum_f w_f value_f(e*) / sum_f w_f

`judge` is what training itself chooses its epoch by (`trainer`). The folds share one e*, since the best epoch of each
would be a maximum over noise, and the luckiest settings would win.

`value` is the objective of `folds.objective_for`, the log-loss with a minus, so that higher is always better.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from graphloss.research.tuning.folds import Fold, natural
from graphloss.text.encoder import load
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings


@dataclass(frozen=True)
class Curve:
    """One fold's training: after each evaluation what judges the epoch and what it is worth; higher is better."""

    weight: int
    judge: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)


def worth(curves: Sequence[Curve]) -> float:
    """The worth of settings by the curves of all folds, higher is better; see the module's docstring.

    Evaluations that some fold did not reach, because it stopped early, are left out.
    """
    length = min(len(curve.judge) for curve in curves)
    weights = [curve.weight for curve in curves]
    judge = np.average([curve.judge[:length] for curve in curves], axis=0, weights=weights)  # (length,)
    best = int(judge.argmax())
    return float(np.average([curve.value[best] for curve in curves], weights=weights))


def standing(curves: Sequence[Curve]) -> float:
    """What a training that is under way has reached: each fold by its own best evaluation so far."""
    reached = [curve.value[int(np.argmax(curve.judge))] for curve in curves]
    return float(np.average(reached, weights=[curve.weight for curve in curves]))


def try_settings(
    settings: TrainSettings,
    folds: Sequence[Fold],
    label_names: list[str],
    *,
    encoder_source: str,
    objective: str,
    report: Callable[[int, int, float], bool] = lambda fold, evaluation, reached: False,
) -> float | None:
    """Train on each fold, one model in memory at a time, and say what the settings are worth.

    Args:
        settings: how to train.
        folds: what to train on and to judge by.
        label_names: names of the C classes.
        encoder_source: what `encoder.resolve` returned; loaded afresh for every fold.
        objective: what `folds.objective_for` returned.
        report: told of every evaluation: the fold and the evaluation, from 0, and what has been reached; true ends all.

    Returns:
        The worth, higher is better: macro-F1, or the log-loss with a minus; None when `report` has ended it.
    """
    curves: list[Curve] = []
    for number, fold in enumerate(folds):
        gc.collect()  # the library's trainer and its callbacks know one another: they go with the collector alone
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        curves.append(Curve(len(fold.judged)))
        watch = _Watch(curves, objective, partial(report, number))
        with TemporaryDirectory(prefix="graphloss-") as place, suppress(_Over):
            checked = check_settings(settings, fold.train, fold.judged, label_names)
            encoder = load(encoder_source, max_length=settings.max_length)
            fit(encoder, preflight(checked, encoder), folder=Path(place), callbacks=[watch])
        del encoder
        if watch.ended:
            break
    else:
        return worth(curves)
    gc.collect()
    return None


class _Over(Exception):
    """The curve is known, so that neither the best epoch's weights nor their predictor are wanted."""


class _Watch(TrainerCallback):
    """Keeps the curve of one training; nothing is written on the way, for nothing will be read."""

    def __init__(self, curves: list[Curve], objective: str, report: Callable[[int, float], bool]) -> None:
        self.curves, self.objective, self.report = curves, objective, report
        self.ended = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics: dict[str, float] = kwargs["metrics"]
        curve, value = self.curves[-1], metrics[f"eval_{self.objective}"]
        curve.judge.append(metrics["eval_score"])
        curve.value.append(natural(self.objective, value))
        control.should_save = False
        if self.report(len(curve.value) - 1, standing(self.curves)):
            self.ended = True
            raise _Over

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise _Over
