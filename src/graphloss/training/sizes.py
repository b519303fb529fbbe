"""How large a batch and a graph, how many steps and epochs: what `graphloss train` chooses where the user does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphloss.training.settings import TrainSettings

LEAST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 60, 3, 20
FEW_LABELS, BLEND = 2048, 0.5
SMALLEST_BATCH, LARGEST_BATCH, STEPS_OF_EPOCH = 32, 128, 8


@dataclass(frozen=True)
class Sizes:
    """The sizes of one training.

    Attributes:
        batch: documents embedded at once.
        graph: documents of one graph and one gradient.
        epochs: passes over the labeled documents.
        steps: optimizer steps an epoch.
        blend: share of the fine-tuned weights that is kept.
    """

    batch: int
    graph: int
    epochs: int
    steps: int
    blend: float

    @classmethod
    def of(cls, labeled: int, settings: TrainSettings) -> Sizes:
        """The sizes for so many labeled documents."""
        return cls(
            batch=batch_size_for(labeled, settings),
            graph=graph_size_for(labeled, settings),
            epochs=epochs_for(labeled, settings),
            steps=steps_of_epoch(labeled, settings),
            blend=blend_for(labeled, settings),
        )


def batch_size_for(count: int, settings: TrainSettings) -> int:
    """Documents embedded at once: as asked, or a power of two from 32 to 128, for some 8 steps an epoch if it can be.

    With a graph size, which decides about the steps, up to 128.
    """
    if settings.batch_size is not None:
        return settings.batch_size
    if settings.graph_size is not None:
        return min(settings.graph_size, LARGEST_BATCH)
    return min(max(2 ** round(math.log2(max(count / STEPS_OF_EPOCH, 1))), SMALLEST_BATCH), LARGEST_BATCH)


def graph_size_for(count: int, settings: TrainSettings) -> int:
    """Documents of one graph: as asked, or those of a batch."""
    return settings.graph_size or batch_size_for(count, settings)


def format_graphs(graph_size: int, batch_size: int) -> str:
    """The size of a graph, and of its batches where it is made of several, in words."""
    return f"graphs of {graph_size:,}" + (f" in batches of {batch_size:,}" if batch_size < graph_size else "")


def steps_of_epoch(count: int, settings: TrainSettings) -> int:
    """Optimizer steps of one pass over `count` documents."""
    return max(1, math.ceil(math.ceil(count / graph_size_for(count, settings)) / settings.accumulate))


def epochs_for(count: int, settings: TrainSettings) -> int:
    """Passes over `count` documents: as asked, or enough for some 60 steps, 20 at the most and 3 at the least."""
    if settings.epochs is not None:
        return settings.epochs
    return min(max(math.ceil(LEAST_STEPS / steps_of_epoch(count, settings)), FEWEST_EPOCHS), MOST_EPOCHS)


def blend_for(labeled: int, settings: TrainSettings) -> float:
    """Share of the fine-tuned weights that is kept: as asked, or half of them where labels are few."""
    if settings.blend is not None:
        return settings.blend
    return BLEND if labeled <= FEW_LABELS else 1.0
