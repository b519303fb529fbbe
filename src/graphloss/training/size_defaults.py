"""Sizes of batch and graph, and numbers of steps and epochs, as specified or chosen by default."""

import math
from dataclasses import dataclass
from typing import Self

from graphloss.training.settings import TrainSettings

LEAST_STEPS, FEWEST_EPOCHS = 60, 3
FEW_LABELS = 2048
SMALLEST_BATCH, LARGEST_BATCH, STEPS_OF_EPOCH = 32, 128, 8

LABELS, SUREST, FEWEST_PSEUDO_LABELS = 500, 0.25, 25
"""Pseudo-labels make fewer labels up to so many, with no more than this part of the unlabeled documents; of fewer than
100 documents there are none, where nothing was measured."""

COPIES = 8
"""With pseudo-labels a labeled document is there so many times at most, until labels are as many as they."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of one training.

    Attributes:
        few: whether labels are few.
        pseudo_labels: unlabeled documents that are trained on with a predicted label.
        copies: of each labeled document in an epoch.
        documents: of an epoch, copies and pseudo-labeled ones.
        batch: documents embedded at once.
        graph: documents of one graph and one gradient.
        epochs: passes over the documents.
        steps: optimizer steps per epoch.
        labels_alone: the sizes of the training on the labels alone that comes before pseudo-labels; None without any.
    """

    few: bool
    pseudo_labels: int
    copies: int
    documents: int
    batch: int
    graph: int
    epochs: int
    steps: int
    labels_alone: Self | None = None

    @classmethod
    def of(cls, labeled: int, settings: TrainSettings, unlabeled: int = 0) -> Self:
        """The sizes for numbers of documents."""
        missing = max(0, LABELS - labeled) if settings.corpus_graph == "auto" else 0
        pseudo = min(missing, int(SUREST * unlabeled))
        pseudo = pseudo if pseudo >= FEWEST_PSEUDO_LABELS else 0
        copies = min(COPIES, max(1, pseudo // max(1, labeled)))
        count = copies * labeled + pseudo
        return cls(
            few=labeled <= FEW_LABELS,
            pseudo_labels=pseudo,
            copies=copies,
            documents=count,
            batch=batch_size_for(count, settings),
            graph=graph_size_for(count, settings),
            epochs=epochs_for(count, settings, least=0 if pseudo else LEAST_STEPS),
            steps=steps_of_epoch(count, settings),
            labels_alone=cls.of(labeled, settings) if pseudo else None,
        )


def batch_size_for(count: int, settings: TrainSettings) -> int:
    """Documents embedded at once: as specified, or a power of two from 32 to 128 for about 8 steps per epoch.

    A specified graph size determines the steps; the batch size is then up to 128.
    """
    if settings.batch_size is not None:
        return settings.batch_size
    if settings.graph_size is not None:
        return min(settings.graph_size, LARGEST_BATCH)
    return min(max(2 ** round(math.log2(max(count / STEPS_OF_EPOCH, 1))), SMALLEST_BATCH), LARGEST_BATCH)


def graph_size_for(count: int, settings: TrainSettings) -> int:
    """Documents of one graph: as specified, or the batch size."""
    return settings.graph_size or batch_size_for(count, settings)


def format_graphs(graph_size: int, batch_size: int) -> str:
    """The size of a graph, and of its batches if there are several, in words."""
    return f"graphs of {graph_size:,}" + (f" in batches of {batch_size:,}" if batch_size < graph_size else "")


def steps_of_epoch(count: int, settings: TrainSettings) -> int:
    """Optimizer steps of one pass over `count` documents."""
    return max(1, math.ceil(math.ceil(count / graph_size_for(count, settings)) / settings.accumulate))


def epochs_for(count: int, settings: TrainSettings, least: int = LEAST_STEPS) -> int:
    """Passes over `count` documents: as specified, or enough for the least number of steps, and at least 3."""
    if settings.epochs is not None:
        return settings.epochs
    return max(math.ceil(least / steps_of_epoch(count, settings)), FEWEST_EPOCHS)
