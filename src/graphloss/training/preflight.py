"""Everything that is checked before a training, once: by `check_settings` without the encoder, by `preflight` with it.

`fit` takes what `preflight` returns as its proof, and checks nothing again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.text.documents import Documents
from graphloss.training.settings import TrainSettings
from graphloss.training.sizes import Sizes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from graphloss.training.memory_estimate import Trial


@dataclass(frozen=True, kw_only=True)
class CheckedSettings:
    """A training whose settings fit its documents.

    Attributes:
        settings: how to train.
        documents: what to train on, labeled or not.
        validation: labeled documents that choose the best epoch; may be empty, then the last epoch is kept.
        label_names: names of the C classes.
        descriptions: lines about classes, which may be all that is known of them.
        sizes: of batch, graph and training, as the settings and the number of labels have it.
        warnings: sentences for the user.
    """

    settings: TrainSettings
    documents: Documents
    validation: Documents
    label_names: list[str]
    descriptions: Documents
    sizes: Sizes
    warnings: list[str]


@dataclass(frozen=True, kw_only=True)
class Preflight(CheckedSettings):
    """A training that may begin: its encoder has been tried on a few of its texts, see `memory_estimate.try_texts`."""

    trial: Trial


def check_settings(
    settings: TrainSettings,
    documents: Documents,
    validation: Documents,
    label_names: list[str],
    descriptions: Documents | None = None,
) -> CheckedSettings:
    """Check everything that needs no encoder; in several processes all call this.

    Args:
        settings: how to train.
        documents: the training documents.
        validation: those that choose the best epoch; may be empty.
        label_names: names of the C classes.
        descriptions: lines about classes; the gate of `inference.descriptions` sets their weight, and those that inform
            more likely than not are labeled documents of the training and of the predictor's graph.

    Raises:
        InputError: there are more processes than a graph has documents.
    """
    distributed.join()
    descriptions = descriptions or Documents([], [])
    labeled = documents.known or len(descriptions)
    unlabeled = len(documents) - documents.known
    sizes = Sizes.of(labeled, settings)
    _check_processes(labeled, sizes.graph)
    unused = _unused_warning(unlabeled, settings)
    return CheckedSettings(
        settings=settings,
        documents=documents,
        validation=validation,
        label_names=label_names,
        descriptions=descriptions,
        sizes=sizes,
        warnings=[unused] if unused else [],
    )


def preflight(checked: CheckedSettings, encoder: SentenceTransformer, *, trial: Trial | None = None) -> Preflight:
    """Check the rest, by the first of several processes, all of which call this: each finds other memory free.

    Args:
        checked: what `check_settings` returned.
        encoder: what is to be trained.
        trial: of this encoder on such texts; None makes one.

    Raises:
        InputError: the encoder has no such layers to freeze, half precision is asked of a CPU, or what the settings
            ask for would not fit into memory.
    """
    return Preflight(**vars(checked), trial=distributed.on_first(lambda: _try(checked, encoder, trial)))


def _try(checked: CheckedSettings, encoder: SentenceTransformer, trial: Trial | None) -> Trial:
    from graphloss.text.encoder import check_precision
    from graphloss.training import memory_estimate
    from graphloss.training.frozen_layers import check_freeze

    settings, documents = checked.settings, checked.documents
    check_freeze(encoder, settings.freeze)
    check_precision(encoder, settings.precision)
    labeled = documents.known or len(checked.descriptions)
    counts = {"labeled": labeled, "unlabeled": len(documents) - documents.known, "classes": len(checked.label_names)}
    memory_estimate.check_loss(settings, encoder, **counts)
    trial = trial or memory_estimate.try_texts(encoder, documents.texts, settings.freeze)
    memory_estimate.check_batch(settings, encoder, trial, labeled)
    return trial


def _check_processes(labeled: int, graph_size: int) -> None:
    """Refuse more processes than a graph of labeled documents, so many in an epoch, can keep busy."""
    world = distributed.world()
    graph = math.ceil(labeled / max(1, math.ceil(labeled / graph_size)))  # of even batches
    if world > graph:
        remedy = f"give --graph-size {world} or more" if world <= labeled else "label more documents"
        raise InputError(
            f"{world} processes cannot share graphs of {graph:,} labeled documents: each embeds one at least; "
            f"start at most {graph} (torchrun --nproc-per-node), or {remedy}"
        )


def _unused_warning(unlabeled: int, settings: TrainSettings) -> str | None:
    """What to warn of where unlabeled documents are there that the settings leave out of the answers; else None."""
    if not unlabeled:
        return None
    if settings.corpus_graph == "off":
        return f"{unlabeled:,} unlabeled documents are not used: corpus_graph is off"
    if settings.predictor in ("graph", "knn"):
        return (
            f"{unlabeled:,} unlabeled documents refine the head, which predictor '{settings.predictor}' does not use; "
            "leave it at mix, or choose head"
        )
    return None
