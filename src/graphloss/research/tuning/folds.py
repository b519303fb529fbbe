"""The documents that judge settings: those of validation where they are many, cross-validation where they are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphloss.errors import InputError
from graphloss.text.documents import Documents
from graphloss.text.selection import deal
from graphloss.training.sizes import FEW_LABELS

LOG_LOSS, MACRO_F1 = "log_loss", "macro_f1"
FIGURES = {LOG_LOSS: "log-loss", MACRO_F1: "macro-F1"}

ENOUGH = 200
"""Labeled documents that judge settings well enough; with fewer, chance would choose."""

FOLDS = 4
"""Parts of a cross-validation: three quarters of the labels stay to learn from."""


@dataclass(frozen=True)
class Fold:
    """Documents to train on, labeled or not, and labeled ones to judge by."""

    train: Documents
    judged: Documents


def folds_of(train: Documents, validation: Documents, *, seed: int) -> list[Fold]:
    """Divide documents for judging settings; the same call gives the same folds.

    With at least `ENOUGH` validation documents these judge, as they are. Otherwise they are put together with the
    labeled training documents, and these are dealt out by class to `FOLDS` parts, of which each judges what was
    learned from the others; only as many parts judge as hold `ENOUGH` documents. A document that is alone of its class
    always stays to learn from, and so do all unlabeled documents.

    Args:
        train: the training documents; -1 is unlabeled.
        validation: labeled documents; may be empty.
        seed: deals the documents out.

    Raises:
        InputError: no class has two labeled documents, so that nothing can be judged.
    """
    if len(validation) >= ENOUGH:
        return [Fold(train, validation)]
    both = train + validation
    # (n,) the part of each document, -1 for those that always stay
    part = deal(np.asarray(both.labels, dtype=np.int64), FOLDS, np.random.default_rng([seed, 3]), least=2)
    sizes = [int((part == number).sum()) for number in range(FOLDS)]
    used = [number for number in range(FOLDS) if sizes[number] and sum(sizes[:number]) < ENOUGH]
    if not used:
        raise InputError(
            "no class has two labeled documents, so that there is nothing to judge settings by; label some more"
        )

    return [
        Fold(both.take(np.flatnonzero(part != number)), both.take(np.flatnonzero(part == number))) for number in used
    ]


def objective_for(labeled: int) -> str:
    """By what settings are compared, given the number of labels in all.

    Up to `schedule.FEW_LABELS` it is "log_loss", the mean negative log-likelihood of the true class: macro-F1 of some
    dozens of documents moves in steps of several percent, so that chance would choose. Beyond it is "macro_f1", which
    is what people want.
    """
    return LOG_LOSS if labeled <= FEW_LABELS else MACRO_F1


def natural(objective: str, score: float) -> float:
    """A score, higher is better, as the figure that people know, and back: a log-loss has its sign turned."""
    return -score if objective == LOG_LOSS else score
