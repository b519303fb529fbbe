"""What unlabelled documents add to a few labels: two opinions, pooled, become soft targets for all documents.

Letters: z (n, d), l labelled documents, U the unlabelled ones, C classes::

    P (n, C)   logistic regression on the labels alone, the linear probe
    F (n, C)   spreading over the corpus graph, rows to one
    kappa      Cohen's agreement of P and F on U beyond chance: does the graph see the classes at all?
    q (C,)     the classes' shares among U, by expectation maximisation (Saerens et al. 2002) on P^SHARP,
               with 1 - kappa of it held at equal shares: labels drawn evenly say nothing of the proportions
    G (n, C)   F with class mass q
    T          proportional to (G^a P^b)^2, a logarithmic pool with (a, b) = `POOL`

T are the targets, 1 - normalised entropy their weights; given labels are kept and carry `GIVEN` of all weight, more
where they are many. A head is then fitted on all documents, its own answers H take the regression's place (T is then
G^a H^b), and it is fitted anew, `PASSES` times, which move it by m² / (m² + MANY²) of their way. Two reservations::

    r        Newman's assortativity of its classes on the graph: are they clusters? As far as they are not (1 - r),
             its biases are shifted until it gives the classes the shares that P gives them in the mean
    trust    min(1, kappa / TRUSTED) m / (m + PILE), m = |U|: the rest is the head that it leans on

docs/corpus_graph.md and docs/few_labels.md have the figures behind each number.
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
from graphloss.losses.propagation import normalised, one_hot

SHARP = 3.0
"""A regression on few labels is far too modest: to this power its probabilities have about the right log-loss."""

POOL = (1.0, 2.0)
"""Powers of the graph and of the regression in the pool."""

GIVEN = 0.3
"""Least share of the given labels in the total weight."""

CLASSES_A_UNIT = 10
"""The head on soft targets has an inverse regularisation of a tenth of the number of classes, at least 1: they are many
and partly wrong, so it is held tighter than the probe on given labels, the less so the fewer documents a class has."""

TRUSTED = 0.5
"""Agreement from which on the head is that of the soft targets alone, if there are many."""

PASSES = 3
"""Times that the head's own answers, better than those of a regression on few labels, are pooled with the graph's."""

MANY = 1000
"""Unlabelled documents that give half of their weight to the passes, and to the neighbours that answer beside the head:
of fewer, a head that hears itself makes much of chance (docs/experiments.md)."""

PILE = 200
"""Unlabelled documents that make up half of the trust: a graph of few says little, and a head of few soft targets less
than one of few labels (docs/few_labels.md)."""


@dataclass(frozen=True)
class Lesson:
    """What the documents teach a head.

    Attributes:
        targets: (n, C) probabilities, one-hot where a label was given.
        weights: (n,).
        prior: (C,) estimated shares of the classes among the unlabelled documents.
        agreement: kappa, from 0 to 1; 0 where nothing is unlabelled.
        trust: the part of a head that these targets should have, from 0 to 1.
        regression: the head on the given labels alone.
        graph: of the documents.
        opinion: (n, C) what the labels say along the graph, G.
        labels: (n,) as they were given, -1 for unlabelled.
    """

    targets: Tensor
    weights: Tensor
    prior: Tensor
    agreement: float
    trust: float
    regression: Probe
    graph: CorpusGraph
    opinion: Tensor
    labels: Tensor


def learn(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    otherwise: Probe | None = None,
    shared: bool = False,
) -> tuple[Probe, Lesson]:
    """The head that the documents teach, moved by rounds of its own answers, and the last lesson.

    Arguments as in `lesson` and `head`, which see also for what is raised.
    """
    learnt = lesson(embeddings, labels, num_classes, shared=shared)
    first = last = head(embeddings, learnt, otherwise=otherwise)
    if learnt.trust == 0.0:
        return first, learnt
    for _ in range(PASSES):
        learnt = again(embeddings, learnt, last)
        last = head(embeddings, learnt, otherwise=otherwise)
    return between(first, last, many(int((labels < 0).sum()))), learnt


def many(documents: int) -> float:
    """The weight of passes and neighbours where so many are unlabelled, from 0 to 1."""
    return documents**2 / (documents**2 + MANY**2)


def lesson(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    graph: CorpusGraph | None = None,
    alpha: float = ALPHA,
    shared: bool = False,
) -> Lesson:
    """Soft targets and weights for every document from the labels of some.

    Args:
        embeddings: (n, d), scaled to unit length here.
        labels: (n,) class indices, -1 for unlabelled.
        num_classes: C.
        graph: of the embeddings; made when left out.
        alpha: of the spreading.
        shared: see `corpus_graph.corpus_graph`.

    Raises:
        ValueError: shapes disagree, a class is out of range, or nothing is labelled.
    """
    z = checked(embeddings, labels, num_classes)
    graph = corpus_graph(z, shared=shared) if graph is None else graph
    given, hidden = labels >= 0, labels < 0
    y = one_hot(labels, num_classes, z.dtype)  # (n, C)
    even = even_shares(y)
    regression = regression_on(z, y, given)
    p = regression.probabilities(z).to(z.device)  # (n, C)
    f = normalised(spread(graph, labels, num_classes, alpha=alpha), even)
    kappa = agreement(p[hidden], (f * class_mass(f, hidden, even))[hidden])
    prior = shares(normalised(p[hidden] ** SHARP, even), even, hold=1.0 - kappa)
    g = normalised(f * class_mass(f, hidden, prior), even)
    targets = torch.where(given[:, None], y, pool(g, p, (2 * POOL[0], 2 * POOL[1])))
    m = int(hidden.sum())
    trust = min(1.0, kappa / TRUSTED) * m / (m + PILE)
    return Lesson(targets, _weights(targets, labels), prior, kappa, trust, regression, graph, g, labels)


def again(embeddings: Tensor, learnt: Lesson, probe: Probe) -> Lesson:
    """The lesson with the answers of its head in place of the regression's: surer, so that the pool is not squared.

    Args:
        embeddings: (n, d) of the lesson's documents.
        learnt: the lesson.
        probe: the head that it taught.
    """
    h = probe.probabilities(unit(embeddings.detach().float())).to(learnt.targets.device)  # (n, C)
    given = learnt.labels >= 0
    targets = torch.where(given[:, None], learnt.targets, pool(learnt.opinion, h, POOL))
    return replace(learnt, targets=targets, weights=_weights(targets, learnt.labels))


def head(
    embeddings: Tensor,
    taught: Lesson,
    *,
    otherwise: Probe | None = None,
    inverse_regularization: float | None = None,
) -> Probe:
    """The linear head that a lesson teaches.

    Args:
        embeddings: (n, d) of the lesson's documents.
        taught: the lesson.
        otherwise: the head that has what the lesson's trust leaves; its regression, sharpened, when left out.
        inverse_regularization: see `soft_probe`; by the number of classes when left out (`CLASSES_A_UNIT`).
    """
    regression = taught.regression
    if taught.trust == 0.0:  # nothing unlabelled, or opinions that share nothing
        return otherwise or regression
    if inverse_regularization is None:
        inverse_regularization = max(1.0, taught.targets.shape[1] / CLASSES_A_UNIT)
    soft = soft_probe(embeddings, taught.targets, taught.weights, inverse_regularization=inverse_regularization)
    sharp = Probe(SHARP * regression.weight, SHARP * regression.bias)
    found = soft.probabilities(embeddings)  # (n, C)
    hidden = taught.labels.cpu() < 0
    clustered = clusters(taught, found)
    even = shift(found[hidden], sharp.probabilities(embeddings)[hidden].mean(dim=0))
    soft = Probe(soft.weight, soft.bias + (1.0 - clustered) * even)
    return between(otherwise or sharp, soft, taught.trust)


def between(one: Probe, other: Probe, share: float) -> Probe:
    """A mixture of two linear heads, which is one: `share` of the other."""
    return Probe(torch.lerp(one.weight, other.weight, share), torch.lerp(one.bias, other.bias, share))


def clusters(taught: Lesson, found: Tensor) -> float:
    """r: how far answers (n, C) of a head are clusters of the lesson's graph, given labels as they are."""
    labels = taught.labels.cpu()
    return assortativity(taught.graph, torch.where(labels >= 0, labels, found.argmax(dim=1).cpu()))


def pool(g: Tensor, p: Tensor, powers: tuple[float, float]) -> Tensor:
    """The logarithmic pool g^a p^b of two opinions (n, C), rows to one."""
    a, b = powers
    tiny = torch.finfo(g.dtype).tiny
    return torch.softmax(a * g.clamp_min(1e-6).log() + b * p.clamp_min(tiny).log(), dim=1)


def agreement(p: Tensor, f: Tensor) -> float:
    """Cohen's kappa of the most probable classes of two opinions (n, C), not below 0; 0 where nobody is asked."""
    if not len(p):
        return 0.0
    one, two = (one_hot(x.argmax(dim=1), x.shape[1], x.dtype) for x in (p, f))
    same = (one * two).sum(dim=1).mean()
    chance = one.mean(dim=0) @ two.mean(dim=0)
    return max(0.0, ((same - chance) / (1.0 - chance)).item()) if chance < 1 else 0.0


def shares(p: Tensor, even: Tensor, *, hold: float, steps: int = 30) -> Tensor:
    """The classes' shares among documents whose posteriors under equal shares are p (n, C).

    Args:
        p: (n, C) rows that sum to one.
        even: (C,) the shares under which p was fitted.
        hold: part of the answer that is held at `even`, from 0 (plain expectation maximisation) to 1.
        steps: of the iteration.
    """
    q = even
    if not len(p):
        return q
    ratio = torch.where(even > 0, p / even.clamp_min(torch.finfo(p.dtype).tiny), 0.0)  # (n, C)
    for _ in range(steps):
        q = hold * even + (1.0 - hold) * normalised(ratio * q, even).mean(dim=0)
    return q


def shift(p: Tensor, wanted: Tensor, *, steps: int = 30) -> Tensor:
    """What to add to the logits of p so that the classes have the wanted shares in the mean.

    By the contraction of Berry, Levinsohn and Pakes 1995 (equation 6.8).

    Args:
        p: (m, C) rows that sum to one.
        wanted: (C,) shares that sum to one; a class that has none is not moved.
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
    """Certainties (n,) of targets (n, C); given labels carry `GIVEN` of the total, or one each if that is more."""
    given = labels >= 0
    present = torch.bincount(labels[given], minlength=targets.shape[1]) > 0  # (C,)
    weights = torch.where(given, 0.0, certainty(targets[:, present]))  # (n,)
    each = (weights.sum() * GIVEN / (1 - GIVEN) / given.sum()).clamp_min(1.0)  # worth a certain guess at least
    return torch.where(given, each, weights)


def even_shares(y: Tensor) -> Tensor:
    """Equal shares (C,) of the classes that have a label."""
    present = (y.sum(dim=0) > 0).to(y.dtype)
    return present / present.sum()


def checked(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unit-length embeddings in float32, once everything is in order."""
    if embeddings.dim() != 2 or labels.shape != (len(embeddings),):
        raise ValueError(
            f"expected embeddings (n, d) and one label a row, came {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) and not (labels.min() >= -1 and labels.max() < num_classes):
        raise ValueError(
            f"expected classes from -1 (unlabelled) to {num_classes - 1}, came {labels.min()} to {labels.max()}"
        )
    if not (labels >= 0).any():
        raise ValueError("expected at least one labelled document to teach from, came none (every label is -1)")
    return unit(embeddings.detach().float())
