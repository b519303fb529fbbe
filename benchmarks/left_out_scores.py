"""Do graph and regression know the classes? Scores of labels that they have not seen, of a few labels among many texts.

Training does not ask: a veto by these scores lost (docs/research/experiments.md). They are what that was measured with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphloss.inference.corpus_graph import ALPHA, CorpusGraph, class_mass, corpus_graph, left_out, spread
from graphloss.inference.linear_probe import regression_on
from graphloss.inference.pseudo_labels import check_embeddings, uniform_prior
from graphloss.losses.propagation import normalized, one_hot

FOLDS = 5


@dataclass(frozen=True)
class LeftOut:
    """Scores of predictions that have not seen the document's own label, of the documents that could be asked.

    Accuracies are fractions of one; a loss is the mean of -log p. The graph has equal class mass, as the labels have.
    """

    documents: int
    regression_accuracy: float
    regression_loss: float
    graph_accuracy: float
    graph_loss: float


def left_out_scores(
    embeddings: Tensor, labels: Tensor, num_classes: int, *, graph: CorpusGraph | None = None, alpha: float = ALPHA
) -> LeftOut | None:
    """How well regression and graph each predict given labels that they have not seen, in `FOLDS` folds.

    Arguments as in `unlabeled.lesson`. A label without another one of its class is not asked.

    Returns:
        None where nobody can be asked: one label a class.
    """
    z = check_embeddings(embeddings, labels, num_classes)
    graph = corpus_graph(z) if graph is None else graph
    known = labels[labels >= 0]  # (l,)
    asked = torch.bincount(known, minlength=num_classes)[known] > 1  # (l,)
    if not asked.any():
        return None
    even = uniform_prior(one_hot(labels, num_classes, z.dtype))
    folds = stratified(labels)
    p = left_out_regression(z, labels, num_classes, folds)[asked]
    factor = class_mass(spread(graph, labels, num_classes, alpha=alpha), labels < 0, even)
    f = normalized(left_out(graph, labels, num_classes, folds, alpha=alpha)[asked], even)
    return LeftOut(len(p), *_scores(p, known[asked]), *_scores(normalized(f * factor, even), known[asked]))


def stratified(labels: Tensor, folds: int = FOLDS) -> Tensor:
    """The fold (n,) of each document: the labeled ones of a class are dealt out in their order."""
    fold = torch.zeros_like(labels)
    for c in labels[labels >= 0].unique():
        own = (labels == c).nonzero()[:, 0]
        fold[own] = torch.arange(len(own), device=labels.device) % folds
    return fold


def left_out_regression(z: Tensor, labels: Tensor, num_classes: int, folds: Tensor) -> Tensor:
    """Probabilities (l, C) of each labeled document by a regression that has not seen its fold."""
    given = labels >= 0
    y = one_hot(labels, num_classes, z.dtype)
    found = z.new_zeros(len(labels), num_classes)
    for fold in folds[given].unique():
        inside = given & (folds == fold)
        if (given & ~inside).any():
            found[inside] = regression_on(z, y, given & ~inside).probabilities(z[inside]).to(z.device)
    return found[given]


def _scores(p: Tensor, y: Tensor) -> tuple[float, float]:
    right = (p.argmax(dim=1) == y).float().mean().item()
    loss = -p[torch.arange(len(y)), y].clamp_min(1e-6).log().mean().item()
    return right, loss
