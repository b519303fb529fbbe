"""Cross-validation of settings: train on every fold, and score each model on its held-out documents.

Letters: f a fold, e an evaluation during its training, w_f the number of held-out documents::

    e*    = argmax_e  sum_f w_f selection_f(e) / sum_f w_f       one evaluation for all folds
    score = sum_f w_f value_f(e*) / sum_f w_f

`selection` is the score by which a training chooses its epoch (`trainer`). All folds share one e*: the best epoch of
each fold would be a maximum over noise, and noisy settings would win.

`value` is the objective of `folds.objective_for`, the negative log-loss or macro-F1, so higher is always better.
"""

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from graphloss.research.tuning.folds import Fold, as_metric
from graphloss.text.encoder import load
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings


@dataclass(frozen=True)
class Curve:
    """The training of one fold: selection score and value after each evaluation; higher is better."""

    weight: int
    selection: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)


def final_score(curves: Sequence[Curve]) -> float:
    """The score of settings from the curves of all folds, see the module's docstring.

    Evaluations that some fold did not reach, because it stopped early, are left out.
    """
    length = min(len(curve.selection) for curve in curves)
    weights = [curve.weight for curve in curves]
    selection = np.average([curve.selection[:length] for curve in curves], axis=0, weights=weights)  # (length,)
    best = int(selection.argmax())
    return float(np.average([curve.value[best] for curve in curves], weights=weights))


def score_so_far(curves: Sequence[Curve]) -> float:
    """The score of unfinished trainings: each fold at its own best evaluation."""
    reached = [curve.value[int(np.argmax(curve.selection))] for curve in curves]
    return float(np.average(reached, weights=[curve.weight for curve in curves]))


def try_settings(
    settings: TrainSettings,
    folds: Sequence[Fold],
    label_names: list[str],
    *,
    encoder_source: str,
    objective: str,
    descriptions: Documents | None = None,
    report: Callable[[int, int, float], bool] = lambda fold, evaluation, reached: False,
) -> float | None:
    """Train on each fold, one model in memory at a time, and score the settings by the `objective`.

    After every evaluation `report` gets fold and evaluation, from 0, and the score so far; its true ends all trainings,
    and there is no score.
    """
    curves: list[Curve] = []
    for number, fold in enumerate(folds):
        gc.collect()  # the trainer and its callbacks reference each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        curves.append(Curve(len(fold.held_out)))
        watch = _Watch(curves, objective, partial(report, number))
        with suppress(_Stop):
            checked = check_settings(settings, fold.train, fold.held_out, label_names, descriptions)
            encoder = load(encoder_source, max_length=settings.max_length)
            fit(encoder, preflight(checked, encoder), callbacks=[watch])
        del encoder
        if watch.ended:
            break
    else:
        return final_score(curves)
    gc.collect()
    return None


class _Stop(Exception):
    """Ends a training whose curve is complete: its best weights and predictor are not needed."""


class _Watch(TrainerCallback):
    """Records the curve of one training, and prevents checkpoints, which nothing would read."""

    def __init__(self, curves: list[Curve], objective: str, report: Callable[[int, float], bool]) -> None:
        self.curves, self.objective, self.report = curves, objective, report
        self.ended = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics: dict[str, float] = kwargs["metrics"]
        curve, value = self.curves[-1], metrics[f"eval_{self.objective}"]
        curve.selection.append(metrics["eval_score"])
        curve.value.append(as_metric(self.objective, value))
        control.should_save = False
        if self.report(len(curve.value) - 1, score_so_far(self.curves)):
            self.ended = True
            raise _Stop

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise _Stop
