"""Self-training after fine-tuning: unlabeled documents improve the head, and predict as neighbors beside it.

The labels shape the encoder; its embeddings of all documents and of the descriptions give the head (`informed_head`).
In prediction, up to half of the probability comes from a new document's nearest neighbors: their labels, and for
unlabeled ones the head's predictions.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphloss.inference.graphs.facility_location import sample_rows
from graphloss.inference.informed_head import informed_head, trust
from graphloss.inference.linear_probe import Probe
from graphloss.inference.predictor import Predictor

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
        shares: estimated class prior (C,) among them.
        trust: weight of the refitted head, from 0 to 1: less with fewer documents.
    """

    documents: int
    shares: list[float]
    trust: float


def self_train_head(
    predictor: Predictor,
    unlabeled: Tensor,
    lines: Tensor | None = None,
    classes: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    support_lines: int = 0,
    fallback: Probe | None = None,
) -> tuple[Predictor, SelfTrainingSummary]:
    """Refit the head of a predictor with unlabeled documents; several processes share the search for neighbors.

    The refitted head has the weight t = `trust`, at the cost of the old head and of the graph's share alike. The
    neighbors have the weight ``LARGEST_NEIGHBOR_WEIGHT · t · r²``: r, Newman's assortativity, is the correlation of the
    classes at the two ends of an edge, r² the part of one that the other explains.

    Args:
        predictor: of labeled documents.
        unlabeled: (m, d) unit-length embeddings; m at least 1.
        lines: (k, d) embeddings of description lines; none where left out.
        classes: (k,) their classes.
        weight: w (C,) of the lines, see `description_prior.gate`; zeros where left out.
        support_lines: how many of the predictor's documents are lines; they come first and are left out.
        fallback: the old head; the regression on labels and lines when left out.

    Returns:
        The predictor with its new head and at most `KEPT_DOCUMENTS` of the documents beside it, and a summary.
    """
    unlabeled = unlabeled.to(predictor.support)
    z = torch.cat([predictor.support[support_lines:], unlabeled])  # (n + m, d)
    labels = predictor.support_labels[support_lines:].long()
    labels = torch.cat([labels, torch.full((len(unlabeled),), -1)])  # (n + m,)
    if lines is None or classes is None or weight is None:
        lines, classes, weight = z[:0], labels[:0], torch.zeros(len(predictor.weight))
    probe, prior, r = informed_head(
        z, labels, lines, classes, len(weight), weight=weight, fallback=fallback, shared=True
    )
    t = trust(len(unlabeled))
    neighbor_weight = LARGEST_NEIGHBOR_WEIGHT * t * r**2
    kept = unlabeled[sample_rows(len(unlabeled), KEPT_DOCUMENTS)]
    refitted = replace(
        predictor,
        weight=probe.weight,
        bias=probe.bias,
        graph_share=(1.0 - t) * predictor.graph_share,
        unlabeled_support=kept.half().float() if neighbor_weight else None,  # as a run folder keeps it
        neighbor_weight=neighbor_weight,
    )
    return refitted, SelfTrainingSummary(len(unlabeled), prior.tolist(), t)
