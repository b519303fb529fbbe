"""Descriptions of the classes as a prior of the linear head, and a gate that tells whether they inform.

Letters: z (n, d) embeddings of labeled documents, y their classes, C classes; l a line about a class, embedded::

    m_c     mean of the class's unit-length lines, minus the mean of all described classes' means; 0 for the others
    p_i     softmax over the described classes of  STRENGTH (z_i - mean of z) · m_c
    L       sum over the labeled i of a described class of  log p_i(y_i) + log C'        (C' described classes)
    w       1 / (1 + exp(-L))

L is the log likelihood ratio of two models of the labels that see nothing but the descriptions: they inform (p), or
they do not (1 / C'). At even prior odds w is the posterior probability that they inform. The descriptions were not
fitted to the labels, so that nothing has to be held out. With no label at all there is no evidence, and w is 1.

The head is a logistic regression whose weights have the prior mean w · STRENGTH · m (instead of 0), with each class's
lines as documents of total weight w beside the labeled ones.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.linear_probe import FOLDS, Probe, soft_probe
from graphloss.losses.graph import unit
from graphloss.losses.propagation import one_hot
from graphloss.text.selection import deal

STRENGTH = 6.0
"""Length of the prior mean in units of a class's centered description (docs/research/descriptions.md has its
sensitivity)."""


def class_means(lines: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Centered mean description of each class, m (C, d); rows of zeros for classes without a line.

    Args:
        lines: (k, d) embeddings of k lines.
        classes: (k,) their classes, from 0 to C - 1.
        num_classes: C.
    """
    y = one_hot(classes, num_classes, torch.float32).to(lines.device)  # (k, C)
    count = y.sum(dim=0)  # (C,)
    described = count > 0
    means = (y.T @ unit(lines.float())) / count.clamp_min(1.0)[:, None]  # (C, d)
    means = means - means[described].mean(dim=0) if described.any() else means
    return torch.where(described[:, None], means, 0.0)


def gate(embeddings: Tensor, labels: Tensor, lines: Tensor, classes: Tensor, num_classes: int) -> float:
    """w, the posterior probability that the descriptions inform about the labels.

    Args:
        embeddings: (n, d) of documents, those without a label (-1) too: they center the embeddings.
        labels: (n,).
        lines: (k, d) embeddings of the lines.
        classes: (k,) their classes.
        num_classes: C.

    Returns:
        From 0 to 1; 1 where no described class has a labeled document.
    """
    if not len(lines):
        return 0.0
    described = torch.zeros(num_classes, dtype=torch.bool)
    described[classes.cpu().long()] = True
    y = labels.cpu().long()
    known = (y >= 0) & described[y.clamp_min(0)]
    if not known.any() or described.sum() < 2:
        return 1.0
    z = unit(embeddings.detach().float())
    m = class_means(lines, classes, num_classes)[described]  # (C', d)
    place = described.long().cumsum(0) - 1  # (C,) of a class among the described ones
    log_p = torch.log_softmax(STRENGTH * (z[known] - z.mean(dim=0)) @ m.T, dim=1).cpu()  # (n', C')
    evidence = (log_p.gather(1, place[y[known]][:, None]) + math.log(int(described.sum()))).sum()
    return float(torch.sigmoid(evidence))


def informed_probe(
    embeddings: Tensor,
    labels: Tensor,
    lines: Tensor,
    classes: Tensor,
    num_classes: int,
    *,
    weight: float | None = None,
) -> Probe:
    """The linear head from labeled documents and descriptions.

    Args:
        embeddings: (n, d), labeled or not; n may be 0.
        labels: (n,), -1 for unlabeled.
        lines: (k, d) embeddings of the lines.
        classes: (k,) their classes.
        num_classes: C.
        weight: w; by `gate` when left out.

    Returns:
        The logistic regression on the labels alone where w is 0 or there is no line.

    Raises:
        ValueError: neither labels nor descriptions are there, or shapes disagree.
    """
    if weight is None:
        weight = gate(embeddings, labels, lines, classes, num_classes)
    labeled = labels >= 0
    z = torch.cat([unit(embeddings[labeled].detach().float()), unit(lines.detach().float())])
    targets = one_hot(torch.cat([labels[labeled].long(), classes.long()]), num_classes, torch.float32)  # (n + k, C)
    per_class = torch.bincount(classes.long(), minlength=num_classes).clamp_min(1).to(z.dtype)
    weights = torch.cat([torch.ones(int(labeled.sum())), weight / per_class[classes.long()]])  # (n + k,)
    mean = weight * STRENGTH * class_means(lines, classes, num_classes)  # (C, d)
    return soft_probe(z, targets, weights, prior_mean=mean)


def cross_fitted(
    embeddings: Tensor, labels: Tensor, lines: Tensor, classes: Tensor, num_classes: int, *, seed: int = 0
) -> Tensor:
    """Probabilities (n, C) of labeled documents by heads that have not seen their labels.

    The documents are dealt into folds class by class; the gate is refitted with each head. A class whose only
    label is left out is predicted by its description alone, or not at all.

    Args:
        embeddings: (n, d) of labeled documents.
        labels: (n,) their classes.
        lines: (k, d) embeddings of the lines; k may be 0.
        classes: (k,) their classes.
        num_classes: C.
        seed: of the folds.
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
