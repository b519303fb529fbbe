"""Everything that is checked before a training, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.text.encoder import check_precision
from graphloss.training import memory_estimate
from graphloss.training.frozen_layers import check_freeze
from graphloss.training.settings import TrainSettings
from graphloss.training.sizes import graph_size_for

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def check_processes(count: int, settings: TrainSettings) -> None:
    """Refuse more processes than a graph of labeled documents, `count` of them in an epoch, can keep busy.

    Raises:
        InputError: with the number of processes that fits.
    """
    world, size = distributed.world(), graph_size_for(count, settings)
    graph = math.ceil(count / max(1, math.ceil(count / size)))  # of even batches
    if world > graph:
        remedy = f"give --graph-size {world} or more" if world <= count else "label more documents"
        raise InputError(
            f"{world} processes cannot share graphs of {graph:,} labeled documents: each embeds one at least; "
            f"start at most {graph} (torchrun --nproc-per-node), or {remedy}"
        )


def unused_warning(unlabeled: int, settings: TrainSettings) -> str | None:
    """What is said where unlabeled documents are there that the settings leave out of the answers; else None."""
    if not unlabeled:
        return None
    if settings.corpus_graph == "off":
        return f"{unlabeled:,} unlabeled documents are not used: corpus_graph is off"
    if settings.predictor in ("graph", "knn"):
        return (
            f"{unlabeled:,} unlabeled documents teach the head, which predictor '{settings.predictor}' does not ask; "
            "leave it at mix, or choose head"
        )
    return None


def check(
    settings: TrainSettings,
    encoder: SentenceTransformer,
    texts: Sequence[str],
    *,
    labeled: int,
    unlabeled: int,
    classes: int,
) -> None:
    """Refuse what `fit` would refuse, for those who have something to do before it.

    Args:
        settings: how to train.
        encoder: what is to be trained.
        texts: of the training documents, see `room.check`.
        labeled: training documents with a label.
        unlabeled: and those without.
        classes: C.

    Raises:
        InputError: there are more processes than a graph has documents, the encoder has no such layers to freeze, half
            precision is asked of a CPU, or what the settings ask for would not fit into memory.
    """
    check_processes(labeled, settings)
    check_freeze(encoder, settings.freeze)
    check_precision(encoder, settings.precision)
    memory_estimate.check(settings, encoder, texts, labeled=labeled, unlabeled=unlabeled, classes=classes)
