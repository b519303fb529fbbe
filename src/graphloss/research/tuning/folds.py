"""Held-out documents to score settings by: the validation documents if there are many, else cross-validation."""

from dataclasses import dataclass

import numpy as np

from graphloss.errors import InputError
from graphloss.text.stratified_selection import deal
from graphloss.text.texts_and_labels import Documents
from graphloss.training.size_defaults import FEW_LABELS

LOG_LOSS, MACRO_F1 = "log_loss", "macro_f1"
METRIC_NAMES = {LOG_LOSS: "log-loss", MACRO_F1: "macro-F1"}

ENOUGH = 200
"""Held-out documents that suffice to compare settings; with fewer, differences are mostly noise."""

FOLDS = 4
"""Folds of a cross-validation: three quarters of the labels are trained on."""


@dataclass(frozen=True)
class Fold:
    """Documents to train on, labeled or not, and labeled ones to score."""

    train: Documents
    held_out: Documents


def folds_of(train: Documents, validation: Documents, *, seed: int) -> list[Fold]:
    """Divide documents into folds; deterministic.

    At least `ENOUGH` validation documents are the only held-out documents. Otherwise validation and labeled training
    documents together are divided by class into `FOLDS` parts. Each part is held out once, until `ENOUGH` documents
    have been. The only document of a class is always trained on, as are all unlabeled documents.
    """
    if len(validation) >= ENOUGH:
        return [Fold(train, validation)]
    both = train + validation
    # (n,) the part of each document, -1 for those always trained on
    part = deal(np.asarray(both.labels, dtype=np.int64), FOLDS, np.random.default_rng([seed, 3]), least=2)
    sizes = [int((part == number).sum()) for number in range(FOLDS)]
    used = [number for number in range(FOLDS) if sizes[number] and sum(sizes[:number]) < ENOUGH]
    if not used:
        raise InputError(
            "no class has two labeled documents, so no document can be held out to score settings on; label some more"
        )
    return [
        Fold(both.take(np.flatnonzero(part != number)), both.take(np.flatnonzero(part == number))) for number in used
    ]


def objective_for(labeled: int) -> str:
    """The metric to compare settings by, for a total number of labels.

    Up to `size_defaults.FEW_LABELS` it is "log_loss", the mean negative log-likelihood of the true class: macro-F1 of a
    few dozen documents moves in steps of several percent, mostly noise. Beyond it is "macro_f1".
    """
    return LOG_LOSS if labeled <= FEW_LABELS else MACRO_F1


def as_metric(objective: str, score: float) -> float:
    """Convert a score, for which higher is better, to the metric, and back: a log-loss changes its sign."""
    return -score if objective == LOG_LOSS else score
