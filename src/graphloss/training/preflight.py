"""All checks before a training: `check_settings` without the encoder, `preflight` with it.

`fit` takes the result of `preflight`, so nothing is checked twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.text.texts_and_labels import Documents
from graphloss.training.settings import TrainSettings
from graphloss.training.size_defaults import Sizes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from graphloss.training.memory_estimate import Trial


@dataclass(frozen=True, kw_only=True)
class CheckedSettings:
    """A training whose settings fit its documents.

    Attributes:
        settings: how to train.
        documents: training documents, labeled or not.
        validation: labeled documents to choose the best epoch by; may be empty, then the last epoch is kept.
        label_names: names of the C classes.
        descriptions: lines about classes, which may have no labeled documents; `inference.description_prior` sets their
            weight, and informative ones become labeled documents of the training and of the predictor's graph.
        sizes: of batch, graph and training.
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
    """A training that can begin: its encoder was tried on a few texts, see `memory_estimate.try_texts`."""

    trial: Trial


def check_settings(
    settings: TrainSettings,
    documents: Documents,
    validation: Documents,
    label_names: list[str],
    descriptions: Documents | None = None,
) -> CheckedSettings:
    """Check everything that needs no encoder; all of several processes call this; arguments as of `CheckedSettings`."""
    distributed.join()
    descriptions = descriptions or Documents([], [])
    labeled = documents.labeled_count or len(descriptions)
    unlabeled = len(documents) - documents.labeled_count
    sizes = Sizes.of(labeled, settings, unlabeled)
    if documents.labeled_count and sizes.labels_alone:
        _check_processes(sizes.labels_alone.documents, sizes.labels_alone.graph)
    _check_processes(sizes.documents, sizes.graph)
    return CheckedSettings(
        settings=settings,
        documents=documents,
        validation=validation,
        label_names=label_names,
        descriptions=descriptions,
        sizes=sizes,
        warnings=_unused_warning(unlabeled, settings),
    )


def preflight(checked: CheckedSettings, encoder: SentenceTransformer, *, trial: Trial | None = None) -> Preflight:
    """Check the rest; all of several processes call this, and the first one decides, since free memory differs.

    A trial of this encoder on similar texts spares another one.

    Raises:
        InputError: the encoder has too few layers to freeze, half precision is requested on a CPU, or the training
            would not fit into memory.
    """
    return Preflight(**vars(checked), trial=distributed.on_first(lambda: _try(checked, encoder, trial)))


def _try(checked: CheckedSettings, encoder: SentenceTransformer, trial: Trial | None) -> Trial:
    from graphloss.text.encoder import check_precision
    from graphloss.training import memory_estimate
    from graphloss.training.frozen_layers import check_freeze

    settings, documents = checked.settings, checked.documents
    check_freeze(encoder, settings.freeze)
    check_precision(encoder, settings.precision)
    learned = checked.sizes.documents
    counts = {"labeled": learned, "unlabeled": len(documents.unlabeled()), "classes": len(checked.label_names)}
    memory_estimate.check_loss(settings, encoder, **counts)
    trial = trial or memory_estimate.try_texts(encoder, documents.texts, settings.freeze)
    twice = documents.labeled_count > 0 and checked.sizes.labels_alone is not None
    memory_estimate.check_batch(settings, encoder, trial, learned, twice=twice)
    return trial


def _check_processes(labeled: int, graph_size: int) -> None:
    """Refuse more processes than a graph has labeled documents."""
    world = distributed.world()
    graph = math.ceil(labeled / max(1, math.ceil(labeled / graph_size)))  # graphs of an epoch are of even size
    if world > graph:
        remedy = f"give --graph-size {world} or more" if world <= labeled else "label more documents"
        raise InputError(
            f"{world} processes cannot share graphs of {graph:,} labeled documents: each must embed at least one; "
            f"start at most {graph} (torchrun --nproc-per-node), or {remedy}"
        )


def _unused_warning(unlabeled: int, settings: TrainSettings) -> list[str]:
    """A warning if predictions make no use of the unlabeled documents."""
    if unlabeled and settings.corpus_graph == "off":
        return [f"{unlabeled:,} unlabeled documents are not used: corpus_graph is off"]
    if unlabeled and settings.predictor in ("graph", "knn"):
        return [
            f"{unlabeled:,} unlabeled documents are used for the self-training of the head, which predictor "
            f"'{settings.predictor}' does not use; leave it at mix, or choose head"
        ]
    return []
