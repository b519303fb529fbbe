"""Pseudo-labels: soft targets for unlabeled documents from a few labels, and the linear head that is fitted on them.

Letters: z (n, d) embeddings, U the unlabeled documents, m = |U|, C classes::

    P (n, C)   a logistic regression on the labels alone, the linear probe
    F (n, C)   label spreading over the corpus graph, rows scaled to sum to one
    kappa      Cohen's kappa of P and F on U
    q (C,)     class prior among U, by expectation maximization (Saerens et al. 2002) on P^SHARPENING; the part
               1 - kappa of it stays uniform
    G (n, C)   F rescaled to the class prior q
    T          proportional to (G^a P^b)^2, a logarithmic opinion pool with (a, b) = `POOL`

T are the targets, one minus their normalized entropy the weights; labels stay as they are and carry at least
`LABELED_WEIGHT` of all weight. The head is fitted on these targets. Repeat `PASSES` times: recompute the targets with
the head's predictions H in place of P (T is then G^a H^b) and refit. The result interpolates from the first fit to the
last with weight m² / (m² + MANY_DOCUMENTS²). Two precautions::

    r        Newman's assortativity of the predicted classes on the graph. The biases move by the part 1 - r of the way
             to the class prior that P predicts in the mean
    trust    min(1, kappa / FULL_TRUST) m / (m + TRUST_DOCUMENTS): weight of this head beside the fallback

docs/research/corpus_graph.md and docs/research/few_labels.md have the figures behind each number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphloss.inference.corpus_graph import (
    ALPHA,
    CorpusGraph,
    assortativity,
    certainty,
    class_mass,
    corpus_graph,
    spread,
)
from graphloss.inference.linear_probe import Probe, regression_on, soft_probe
from graphloss.losses.graph import unit
from graphloss.losses.propagation import normalized, one_hot

SHARPENING = 3.0
"""Power of the regression's probabilities: those of a regression on few labels are underconfident."""

POOL = (1.0, 2.0)
"""Powers of the graph and of the regression in the pool."""

LABELED_WEIGHT = 0.3
"""Least share of the labels in the total weight."""

CLASSES_PER_UNIT = 10
"""The head on soft targets has an inverse regularization of C / CLASSES_PER_UNIT, at least 1. Soft targets are many and
partly wrong, so this is stronger than the probe's."""

FULL_TRUST = 0.5
"""Kappa from which on the fallback has no part, if there are many unlabeled documents."""

PASSES = 3
"""Times that the head's predictions replace the regression's."""

MANY_DOCUMENTS = 1000
"""Unlabeled documents that give the passes, and the neighbors in prediction, half of their weight. With fewer texts,
self-training amplifies noise (docs/research/experiments.md)."""

TRUST_DOCUMENTS = 200
"""Unlabeled documents that give half of the trust (docs/research/few_labels.md)."""


@dataclass(frozen=True)
class PseudoLabels:
    """Soft targets of n documents, and what they were computed from.

    Attributes:
        targets: (n, C) probabilities, one-hot for labeled documents.
        weights: (n,).
        prior: (C,) estimated class prior among the unlabeled documents.
        agreement: kappa, from 0 to 1; 0 where nothing is unlabeled.
        trust: weight of the head fitted on them, from 0 to 1.
        regression: the head on the labels alone.
        graph: of the documents.
        spread: (n, C) G, label spreading rescaled to the class prior.
        labels: (n,) -1 for unlabeled.
    """

    targets: Tensor
    weights: Tensor
    prior: Tensor
    agreement: float
    trust: float
    regression: Probe
    graph: CorpusGraph
    spread: Tensor
    labels: Tensor


def self_train(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    otherwise: Probe | None = None,
    regression: Probe | None = None,
    shared: bool = False,
) -> tuple[Probe, PseudoLabels]:
    """Fit a head on pseudo-labels and refine it; returns it with the last pseudo-labels.

    Arguments and errors as in `pseudo_labels` and `fit_head`.
    """
    learned = pseudo_labels(embeddings, labels, num_classes, regression=regression, shared=shared)
    first = last = fit_head(embeddings, learned, otherwise=otherwise)
    if learned.trust == 0.0:
        return first, learned
    for _ in range(PASSES):
        learned = refine(embeddings, learned, last)
        last = fit_head(embeddings, learned, otherwise=otherwise)
    return interpolate(first, last, self_training_weight(int((labels < 0).sum()))), learned


def self_training_weight(documents: int) -> float:
    """Weight of the passes and of the neighbors with so many unlabeled documents, from 0 to 1."""
    return documents**2 / (documents**2 + MANY_DOCUMENTS**2)


def pseudo_labels(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    graph: CorpusGraph | None = None,
    alpha: float = ALPHA,
    regression: Probe | None = None,
    shared: bool = False,
) -> PseudoLabels:
    """Soft targets and weights for every document from the labels of some.

    Args:
        embeddings: (n, d), scaled to unit length here.
        labels: (n,) class indices, -1 for unlabeled.
        num_classes: C.
        graph: of the embeddings; made when left out.
        alpha: of the spreading.
        regression: P; a logistic regression on the labels when left out.
        shared: see `corpus_graph.corpus_graph`.

    Raises:
        ValueError: shapes disagree, a class is out of range, or nothing is labeled.
    """
    z = check_embeddings(embeddings, labels, num_classes)
    graph = corpus_graph(z, shared=shared) if graph is None else graph
    given, hidden = labels >= 0, labels < 0
    y = one_hot(labels, num_classes, z.dtype)  # (n, C)
    even = uniform_prior(y)
    regression = regression_on(z, y, given) if regression is None else regression
    p = regression.probabilities(z).to(z.device)  # (n, C)
    f = normalized(spread(graph, labels, num_classes, alpha=alpha), even)
    kappa = cohen_kappa(p[hidden], (f * class_mass(f, hidden, even))[hidden])
    prior = estimate_class_prior(normalized(p[hidden] ** SHARPENING, even), even, hold=1.0 - kappa)
    g = normalized(f * class_mass(f, hidden, prior), even)
    targets = torch.where(given[:, None], y, pool(g, p, (2 * POOL[0], 2 * POOL[1])))
    m = int(hidden.sum())
    trust = min(1.0, kappa / FULL_TRUST) * m / (m + TRUST_DOCUMENTS)
    return PseudoLabels(targets, _weights(targets, labels), prior, kappa, trust, regression, graph, g, labels)


def refine(embeddings: Tensor, learned: PseudoLabels, probe: Probe) -> PseudoLabels:
    """The pseudo-labels with a head's predictions in place of the regression's.

    Args:
        embeddings: (n, d) of the same documents.
        learned: the pseudo-labels.
        probe: the head that was fitted on them.
    """
    h = probe.probabilities(unit(embeddings.detach().float())).to(learned.targets.device)  # (n, C)
    given = learned.labels >= 0
    targets = torch.where(given[:, None], learned.targets, pool(learned.spread, h, POOL))
    return replace(learned, targets=targets, weights=_weights(targets, learned.labels))


def fit_head(
    embeddings: Tensor,
    learned: PseudoLabels,
    *,
    otherwise: Probe | None = None,
    inverse_regularization: float | None = None,
) -> Probe:
    """Fit the linear head on pseudo-labels.

    Args:
        embeddings: (n, d) of the same documents.
        learned: the pseudo-labels.
        otherwise: the fallback; the sharpened regression when left out.
        inverse_regularization: see `soft_probe`; by the number of classes when left out (`CLASSES_PER_UNIT`).
    """
    regression = learned.regression
    if learned.trust == 0.0:  # nothing unlabeled, or no agreement beyond chance
        return otherwise or regression
    if inverse_regularization is None:
        inverse_regularization = max(1.0, learned.targets.shape[1] / CLASSES_PER_UNIT)
    soft = soft_probe(embeddings, learned.targets, learned.weights, inverse_regularization=inverse_regularization)
    sharp = Probe(SHARPENING * regression.weight, SHARPENING * regression.bias)
    found = soft.probabilities(embeddings)  # (n, C)
    hidden = learned.labels.cpu() < 0
    clustered = class_assortativity(learned, found)
    even = match_class_prior(found[hidden], sharp.probabilities(embeddings)[hidden].mean(dim=0))
    soft = Probe(soft.weight, soft.bias + (1.0 - clustered) * even)
    return interpolate(otherwise or sharp, soft, learned.trust)


def interpolate(one: Probe, other: Probe, share: float) -> Probe:
    """A mixture of two linear heads, which is one: `share` of the other."""
    return Probe(torch.lerp(one.weight, other.weight, share), torch.lerp(one.bias, other.bias, share))


def class_assortativity(learned: PseudoLabels, found: Tensor) -> float:
    """r: assortativity on the graph of the classes that probabilities (n, C) predict; labels stay as they are."""
    labels = learned.labels.cpu()
    return assortativity(learned.graph, torch.where(labels >= 0, labels, found.argmax(dim=1).cpu()))


def pool(g: Tensor, p: Tensor, powers: tuple[float, float]) -> Tensor:
    """The logarithmic opinion pool g^a p^b of two distributions (n, C), rows scaled to sum to one."""
    a, b = powers
    tiny = torch.finfo(g.dtype).tiny
    return torch.softmax(a * g.clamp_min(1e-6).log() + b * p.clamp_min(tiny).log(), dim=1)


def cohen_kappa(p: Tensor, f: Tensor) -> float:
    """Cohen's kappa of the most probable classes of p and f, both (n, C); not below 0, and 0 where n is 0."""
    if not len(p):
        return 0.0
    one, two = (one_hot(x.argmax(dim=1), x.shape[1], x.dtype) for x in (p, f))
    same = (one * two).sum(dim=1).mean()
    chance = one.mean(dim=0) @ two.mean(dim=0)
    return max(0.0, ((same - chance) / (1.0 - chance)).item()) if chance < 1 else 0.0


def estimate_class_prior(p: Tensor, even: Tensor, *, hold: float, steps: int = 30) -> Tensor:
    """Class prior of documents whose posteriors under the prior `even` are p (n, C), by expectation maximization.

    Args:
        p: (n, C) rows that sum to one.
        even: (C,) the prior under which p was fitted.
        hold: part of the answer that is held at `even`, from 0 (plain expectation maximization) to 1.
        steps: of the iteration.
    """
    q = even
    if not len(p):
        return q
    ratio = torch.where(even > 0, p / even.clamp_min(torch.finfo(p.dtype).tiny), 0.0)  # (n, C)
    for _ in range(steps):
        q = hold * even + (1.0 - hold) * normalized(ratio * q, even).mean(dim=0)
    return q


def match_class_prior(p: Tensor, wanted: Tensor, *, steps: int = 30) -> Tensor:
    """Shift (C,) of the logits of p after which the mean prediction equals a class prior.

    By the contraction of Berry, Levinsohn and Pakes 1995 (equation 6.8).

    Args:
        p: (m, C) rows that sum to one.
        wanted: (C,) the prior, summing to one; a class that has none is not moved.
        steps: of the iteration.

    Returns:
        (C,).
    """
    tiny = 1e-6
    x, found = p.clamp_min(torch.finfo(p.dtype).tiny).log(), torch.zeros_like(wanted)
    for _ in range(steps):
        found = found + wanted.clamp_min(tiny).log() - torch.softmax(x + found, dim=1).mean(dim=0).clamp_min(tiny).log()
    return found


def _weights(targets: Tensor, labels: Tensor) -> Tensor:
    """Weights (n,): certainties of targets (n, C); labels carry `LABELED_WEIGHT` of the total, or one each if more."""
    given = labels >= 0
    present = torch.bincount(labels[given], minlength=targets.shape[1]) > 0  # (C,)
    weights = torch.where(given, 0.0, certainty(targets[:, present]))  # (n,)
    each = (weights.sum() * LABELED_WEIGHT / (1 - LABELED_WEIGHT) / given.sum()).clamp_min(
        1.0
    )  # at least as much as a certain pseudo-label
    return torch.where(given, each, weights)


def uniform_prior(y: Tensor) -> Tensor:
    """Uniform prior (C,) over the classes that have a label."""
    present = (y.sum(dim=0) > 0).to(y.dtype)
    return present / present.sum()


def check_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unit-length embeddings in float32, after the checks that `pseudo_labels` documents."""
    if embeddings.dim() != 2 or labels.shape != (len(embeddings),):
        raise ValueError(
            f"expected embeddings (n, d) and one label a row, came {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) and not (labels.min() >= -1 and labels.max() < num_classes):
        raise ValueError(
            f"expected classes from -1 (unlabeled) to {num_classes - 1}, came {labels.min()} to {labels.max()}"
        )
    if not (labels >= 0).any():
        raise ValueError("expected at least one labeled document to teach from, came none (every label is -1)")
    return unit(embeddings.detach().float())
