"""Unlabelled documents put to use: a graph of all documents teaches the head after training, and the encoder in it.

The encoder is shaped by the given labels; its embeddings of all documents, joined with their nearest neighbours, carry
these labels to the unlabelled documents, and a head is fitted on what arrives (`teach`). Up to half of the answer to a
new document is then what its neighbours say: their labels, and where they have none what this head says of them.

During training the same can be asked of the documents hidden in a batch (`SoftTargets`), letters as in `unlabelled`::

    loss + s e / E  mean over the batch's hidden i of  w_i H(T_i, softmax(logits_i)),   w = certainty of T

in epoch e of E, T rebuilt before each epoch on the encoder of the moment (Iscen et al. 2019, section 3.4). It is off
unless asked for: beside the taught head it gained nothing, at several times the price (docs/experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphloss.inference.linear_probe import Probe
from graphloss.inference.predictor import Predictor
from graphloss.inference.pseudo_labels import clusters, learn, many
from graphloss.losses.graph import unit

if TYPE_CHECKING:
    pass

NEAR = 0.5
"""Most that the neighbours have of an answer."""

KEPT = 20_000
"""Unlabelled documents that a predictor keeps, drawn at random from more: 15 MB of a run folder, and a neighbour search
of some twelfth of the encoder's work on short texts (docs/performance.md)."""


@dataclass(frozen=True)
class Taught:
    """What a predictor's head was taught by.

    Attributes:
        documents: how many were unlabelled.
        agreement: of graph and regression on them beyond chance, from 0 to 1.
        shares: of the C classes among them, as estimated.
        trust: the part that they have in the head, from 0 to 1: the less, the fewer they are and the less graph and
            regression agree.
    """

    documents: int
    agreement: float
    shares: list[float]
    trust: float


def teach(predictor: Predictor, unlabelled: Tensor) -> tuple[Predictor, Taught]:
    """Let unlabelled documents teach the head of a predictor; several processes share the search for neighbours.

    The lesson gets as much of the answer as it is trusted, at the cost of the head and of the graph's share alike: it
    comes from a graph of all documents, to which that of the labelled ones has nothing to add (docs/experiments.md).
    The neighbours get `NEAR` trust r² of the answer, as far as the documents are `many`: r, Newman's assortativity, is
    the correlation of the classes at the two ends of an edge, r² the part of one that the other explains.

    Args:
        predictor: of n labelled documents.
        unlabelled: (m, d) unit-length embeddings.

    Returns:
        The predictor with its new head and at most `KEPT` of the documents beside it, and what it was taught by.
    """
    unlabelled = unlabelled.to(predictor.support)
    z = torch.cat([predictor.support, unlabelled])  # (n + m, d)
    labels = torch.cat([predictor.support_labels.long(), torch.full((len(unlabelled),), -1)])  # (n + m,)
    own = Probe(predictor.weight, predictor.bias)
    probe, learnt = learn(z, labels, len(predictor.weight), otherwise=own, shared=True)
    what = Taught(len(unlabelled), learnt.agreement, learnt.prior.tolist(), learnt.trust)
    if learnt.trust == 0.0:
        return predictor, what
    r = clusters(learnt, probe.probabilities(unit(z)))
    near_share = NEAR * learnt.trust * r**2 * many(len(unlabelled))
    taught = replace(
        predictor,
        weight=probe.weight,
        bias=probe.bias,
        graph_share=(1.0 - learnt.trust) * predictor.graph_share,
        pile=_some(unlabelled).half().float() if near_share else None,  # as a run folder keeps it
        near_share=near_share,
    )
    return taught, what


def _some(rows: Tensor) -> Tensor:
    """At most `KEPT` rows, drawn at random, in their order."""
    if len(rows) <= KEPT:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:KEPT].sort().values]
