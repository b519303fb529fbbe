"""Unlabelled documents to good use after training: the graph of all documents teaches the head of a predictor.

The encoder was shaped by the given labels; its embeddings of all documents, joined with their nearest neighbours, carry
these labels to the unlabelled documents, and a head is fitted on what arrives (`unlabelled`). Training the encoder on
such guesses only confirmed the guesses (docs/experiments.md), so that nothing of this is sent back into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphloss.prediction import Predictor
from graphloss.unlabelled import head, lesson


@dataclass(frozen=True)
class Taught:
    """What a predictor's head was taught by.

    Attributes:
        documents: how many were unlabelled.
        agreement: of graph and regression on them beyond chance, from 0 to 1; the less, the more of the regression
            is in the head.
        shares: of the C classes among them, as estimated.
    """

    documents: int
    agreement: float
    shares: list[float]


def teach(predictor: Predictor, unlabelled: Tensor) -> tuple[Predictor, Taught]:
    """Let unlabelled documents teach the head of a predictor.

    Args:
        predictor: of n labelled documents.
        unlabelled: (m, d) unit-length embeddings.

    Returns:
        The predictor with its new head, and what it was taught by.
    """
    z = torch.cat([predictor.support, unlabelled.to(predictor.support)])  # (n + m, d)
    labels = torch.cat([predictor.support_labels.long(), torch.full((len(unlabelled),), -1)])  # (n + m,)
    learnt = lesson(z, labels, len(predictor.weight))
    probe = head(z, learnt)
    taught = replace(predictor, weight=probe.weight, bias=probe.bias)
    return taught, Taught(len(unlabelled), learnt.agreement, learnt.prior.tolist())
