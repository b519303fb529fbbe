"""Sizes of batch and graph, and numbers of steps and epochs, as specified or chosen by default."""

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
        steps: optimizer steps per epoch.
        blend: weight of the fine-tuned parameters in the blend.
    """

    batch: int
    graph: int
    epochs: int
    steps: int
    blend: float

    @classmethod
    def of(cls, labeled: int, settings: TrainSettings) -> Sizes:
        """The sizes for a number of labeled documents."""
        return cls(
            batch=batch_size_for(labeled, settings),
            graph=graph_size_for(labeled, settings),
            epochs=epochs_for(labeled, settings),
            steps=steps_of_epoch(labeled, settings),
            blend=blend_for(labeled, settings),
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


def epochs_for(count: int, settings: TrainSettings) -> int:
    """Passes over `count` documents: as specified, or enough for about 60 steps, within 3 and 20."""
    if settings.epochs is not None:
        return settings.epochs
    return min(max(math.ceil(LEAST_STEPS / steps_of_epoch(count, settings)), FEWEST_EPOCHS), MOST_EPOCHS)


def blend_for(labeled: int, settings: TrainSettings) -> float:
    """Weight of the fine-tuned parameters in the blend: as specified, or a half with few labels."""
    if settings.blend is not None:
        return settings.blend
    return BLEND if labeled <= FEW_LABELS else 1.0
