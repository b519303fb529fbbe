"""Descriptions of the classes as evidence: where they point, how far the labels confirm them, and a regression on both.

Letters: z (n, d) unit embeddings of documents, y their classes, x = z less the mean of z, C' described classes; a class
is described by lines, embedded::

    e_c      mean of the unit-length lines of class c, minus the mean of these means, to unit length: what
             distinguishes its description from the others
    chance   A = sum_i log softmax(STRENGTH e . x_i)_{y_i} + log C'
             the descriptions' log-likelihood of the labels over that of guessing
    labels   B = max_s sum_i log softmax(s m_i(1))_{y_i} - max_s sum_i log softmax(s m_i(0))_{y_i},
             m_ic(v) = x_i . (sum_{j in c, j != i} x_j + v e_c) / (n_c - [y_i = c] + v)
             over the labeled i whose class has another label and the classes c with a label: what descriptions add to
             the class means of the other documents
    hits     H = log integral over h in [1/C', 1] of h^r (1 - h)^(l - r) C' / (C' - 1)  -  log of the same at h = 1/C'
             the nearest description is right for r of the l labels; only with more than `FEW_CLASSES` classes
    gate     w_c = 1 / (1 + exp(-2 min(A, B, H))),  without B where no class has two labels, and for a class without any

A is the log Bayes factor (Kass and Raftery 1995) of a model without free parameters, B its left-out counterpart, H
that of hits by more than chance: descriptions off by a line, each beside a related class, are near the texts of their
class by A and hit hardly any. One
label raises A by at most log C': two labels of two classes cannot tell good descriptions from swapped ones. Without
any label nothing contradicts the descriptions, and w = 1.

The head is a logistic regression whose weights have the prior mean w_c STRENGTH e_c (instead of 0), with each class's
lines as documents of total weight w_c beside the labeled ones.
"""

import math

import numpy as np
import torch
from scipy.special import betaln
from scipy.stats import beta
from torch import Tensor

from graphloss.inference.description_gate import FEW_CLASSES, Gate
from graphloss.inference.linear_probe import FOLDS, Probe, soft_probe
from graphloss.losses.graph import unit
from graphloss.losses.propagation import one_hot
from graphloss.text.stratified_selection import deal

STRENGTH = 6.0
"""Logits per unit of cosine of a description (docs/research/descriptions.md has its sensitivity)."""

SCALES = (3.0, 6.0, 12.0, 24.0)
"""Values of s of which B takes the best on either side: means of few texts deserve less than those of many."""

CAUTION = 2.0
"""Power of the evidence: a wrong description costs several times what a right one gains."""

SURE = 30.0
"""Log odds beyond which the gate is as good as open or closed; keeps its weight above 0."""


def directions(lines: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Where each class's description points, e (C, d); zeros for a class without a line, and for a single one.

    Args:
        lines: (k, d) embeddings of k lines.
        classes: (k,) their classes, from 0 to C - 1.
        num_classes: C.
    """
    z, y = unit(lines.detach().float()), classes.to(lines.device).long()
    count = torch.bincount(y, minlength=num_classes)  # (C,)
    described = count > 0
    means = z.new_zeros(num_classes, z.shape[1]).index_add(0, y, z) / count.clamp_min(1)[:, None]  # (C, d)
    if described.sum() < 2:
        return torch.zeros_like(means)
    return torch.where(described[:, None], unit(means - means[described].mean(dim=0)), 0.0)


def gate(embeddings: Tensor, labels: Tensor, lines: Tensor, classes: Tensor, num_classes: int) -> Gate:
    """How far the labels of documents confirm the descriptions.

    Args:
        embeddings: (n, d) of documents, those without a label (-1) too: they center the embeddings.
        labels: (n,).
        lines: (k, d) embeddings of the lines; k may be 0.
        classes: (k,) their classes.
        num_classes: C.
    """
    if not len(lines):
        return Gate(0.0, 0.0)
    e = directions(lines, classes, num_classes)
    described = torch.bincount(classes.cpu().long(), minlength=num_classes) > 0  # (C,)
    y, c = labels.cpu().long(), int(described.sum())
    checked = (y >= 0) & described[y.clamp_min(0)]
    if not checked.any() or c < 2:
        return Gate(1.0, 1.0, classes=c)
    z = unit(embeddings.detach().float())
    x = (z[checked] - z.mean(dim=0)).cpu()  # (l, d)
    e, y = e[described].cpu(), (described.long().cumsum(0) - 1)[y[checked]]  # (C', d), (l,) among the described classes
    cosine = x @ e.T  # (l, C')
    chance = _log_likelihood(STRENGTH * cosine, y) + len(y) * math.log(c)
    count = torch.bincount(y, minlength=c)  # (C',)
    again, odds, labels_alone = count[y] > 1, chance, None  # (l,) has its class another label?
    if again.any():
        with_lines, without = (
            max(_log_likelihood(s * near[again], y[again]) for s in SCALES)
            for near in (_left_out_means(x, y, e, 1.0), _left_out_means(x, y, e, 0.0))
        )
        labels_alone = with_lines - without
        odds = min(chance, labels_alone)
    right = int((cosine.argmax(dim=1) == y).sum())
    hits = hits_over_chance(right, len(y), c) if c > FEW_CLASSES else math.inf
    alone = _sigmoid(CAUTION * min(chance, hits))
    return Gate(_sigmoid(CAUTION * min(odds, hits)), alone, chance, labels_alone, right, len(y), c)


def hits_over_chance(right: int, checked: int, classes: int) -> float:
    """H, in nats, where the nearest description is right for so many of the labels checked."""
    a, b, chance = right + 1, checked - right + 1, 1 / classes
    mean = betaln(a, b) + beta.logsf(chance, a, b) - math.log1p(-chance)  # over rates of hits from chance to 1
    return float(mean - right * math.log(chance) - (checked - right) * math.log1p(-chance))


def class_weights(found: Gate, labels: Tensor, num_classes: int) -> Tensor:
    """W (C,) of each class, where documents have the labels (n,), -1 for none."""
    labeled = torch.bincount(labels[labels >= 0].cpu().long(), minlength=num_classes) > 0
    return torch.where(labeled, found.weight, found.unlabeled_weight)


def _sigmoid(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-SURE, min(SURE, odds))))


def _left_out_means(x: Tensor, y: Tensor, e: Tensor, lines: float) -> Tensor:
    """m_ic (l, C'): each text's product with the mean of each class without itself, a description counting `lines`."""
    own = one_hot(y, len(e), x.dtype)  # (l, C')
    sums = x @ (own.T @ x).T - own * x.square().sum(dim=1, keepdim=True) + lines * (x @ e.T)
    count = own.sum(dim=0) - own + lines
    near = torch.where(count > 0, sums / count.clamp_min(1.0), 0.0)
    return near.masked_fill(own.sum(dim=0) == 0, -torch.inf)  # a class without any label takes no part


def _log_likelihood(logits: Tensor, y: Tensor) -> float:
    """Of the classes y (l,) under logits (l, C')."""
    return float(torch.log_softmax(logits, dim=1).gather(1, y[:, None]).double().sum())


def informed_probe(
    embeddings: Tensor,
    labels: Tensor,
    lines: Tensor,
    classes: Tensor,
    num_classes: int,
    *,
    weight: Tensor | None = None,
) -> Probe:
    """The linear head from labeled documents and descriptions; on the labels alone where w is 0 or there is no line.

    Arguments as of `gate`, by which `weight`, w (C,), is computed when left out; n may be 0. A ValueError where neither
    labels nor descriptions are there, or shapes disagree.
    """
    if weight is None:
        weight = class_weights(gate(embeddings, labels, lines, classes, num_classes), labels, num_classes)
    z, y, weights = labeled_and_lines(embeddings, labels, lines, classes, weight)
    mean = STRENGTH * weight[:, None] * directions(lines, classes, num_classes).cpu()  # (C, d)
    return soft_probe(z, torch.zeros(0, num_classes), weights, classes=y, prior_mean=mean)


def labeled_and_lines(
    embeddings: Tensor, labels: Tensor, lines: Tensor, classes: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Labeled documents, then lines: unit embeddings (l + k, d), classes (l + k,) and weights (l + k,).

    The lines of a class have its weight together. Arguments as in `informed_probe`.
    """
    labeled, classes = labels >= 0, classes.long()
    z = torch.cat([unit(embeddings[labeled].detach().float()), unit(lines.detach().float())])
    each = weight[classes] / torch.bincount(classes)[classes] if len(classes) else torch.zeros(0)
    return z, torch.cat([labels[labeled].long(), classes]), torch.cat([torch.ones(int(labeled.sum())), each])


def cross_fitted(
    embeddings: Tensor, labels: Tensor, lines: Tensor, classes: Tensor, num_classes: int, *, seed: int = 0
) -> Tensor:
    """Probabilities (n, C) of labeled documents by heads that have not seen their labels.

    The documents are dealt into folds class by class; the gate is refitted with each head. A class whose only
    label is left out is predicted by its description alone, or not at all. Arguments as of `gate`.
    """
    fold = deal(labels.numpy(), FOLDS, np.random.default_rng([seed, 4]))
    found = torch.zeros(len(labels), num_classes)
    for number in np.unique(fold):
        outside, inside = torch.from_numpy(fold != number), torch.from_numpy(fold == number)
        if not outside.any() and not len(lines):
            found[inside] = 1.0 / num_classes
            continue
        head = informed_probe(embeddings[outside], labels[outside], lines, classes, num_classes)
        found[inside] = head.probabilities(embeddings[inside])
    return found
