"""Self-training after fine-tuning: unlabeled documents improve the head, and answer as neighbors beside it.

The labels shape the encoder. Its embeddings of all documents, joined with their nearest neighbors in the corpus graph,
carry the labels to the unlabeled documents as pseudo-labels, and the head is refitted on them (`pseudo_labels`). In
prediction, up to half of the probability comes from a new document's nearest neighbors: their labels, and for unlabeled
ones the head's predictions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphloss.inference.linear_probe import Probe
from graphloss.inference.predictor import Predictor
from graphloss.inference.pseudo_labels import class_assortativity, self_train, self_training_weight
from graphloss.losses.graph import unit

LARGEST_NEIGHBOR_WEIGHT = 0.5
"""Largest weight of the neighbors in a prediction."""

KEPT_DOCUMENTS = 20_000
"""Unlabeled documents that a predictor keeps, drawn at random from more: 15 MB of a run folder, and a neighbor search
of some twelfth of the encoder's work on short texts (docs/research/performance.md)."""


@dataclass(frozen=True)
class SelfTrainingSummary:
    """What self-training used and estimated.

    Attributes:
        documents: how many were unlabeled.
        agreement: Cohen's kappa of graph and regression on them, from 0 to 1.
        shares: estimated class prior (C,) among them.
        trust: weight of the refitted head, from 0 to 1: less with fewer documents or less agreement.
    """

    documents: int
    agreement: float
    shares: list[float]
    trust: float


def self_train_head(
    predictor: Predictor, unlabeled: Tensor, regression: Probe | None = None
) -> tuple[Predictor, SelfTrainingSummary]:
    """Refit the head of a predictor with unlabeled documents; several processes share the search for neighbors.

    The refitted head has the weight `trust`, at the cost of the old head and of the graph's share alike. The neighbors
    have the weight ``LARGEST_NEIGHBOR_WEIGHT · trust · r² · self_training_weight(m)``: r, Newman's assortativity, is
    the correlation of the classes at the two ends of an edge, r² the part of one that the other explains.

    Args:
        predictor: of n labeled documents.
        unlabeled: (m, d) unit-length embeddings.
        regression: what predicts from labels and descriptions alone; by default a regression on the support.

    Returns:
        The predictor with its new head and at most `KEPT_DOCUMENTS` of the documents beside it, and a summary.
    """
    unlabeled = unlabeled.to(predictor.support)
    z = torch.cat([predictor.support, unlabeled])  # (n + m, d)
    labels = torch.cat([predictor.support_labels.long(), torch.full((len(unlabeled),), -1)])  # (n + m,)
    own = Probe(predictor.weight, predictor.bias)
    probe, learned = self_train(z, labels, len(predictor.weight), otherwise=own, regression=regression, shared=True)
    what = SelfTrainingSummary(len(unlabeled), learned.agreement, learned.prior.tolist(), learned.trust)
    if learned.trust == 0.0:
        return predictor, what
    r = class_assortativity(learned, probe.probabilities(unit(z)))
    neighbor_weight = LARGEST_NEIGHBOR_WEIGHT * learned.trust * r**2 * self_training_weight(len(unlabeled))
    taught = replace(
        predictor,
        weight=probe.weight,
        bias=probe.bias,
        graph_share=(1.0 - learned.trust) * predictor.graph_share,
        unlabeled_support=_some(unlabeled).half().float() if neighbor_weight else None,  # as a run folder keeps it
        neighbor_weight=neighbor_weight,
    )
    return taught, what


def _some(rows: Tensor) -> Tensor:
    """At most `KEPT_DOCUMENTS` rows, drawn at random, in their order."""
    if len(rows) <= KEPT_DOCUMENTS:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:KEPT_DOCUMENTS].sort().values]
