"""Descriptions of the classes as evidence: where they point, and how far the given labels bear them out.

Letters: l labeled texts x_i (l, d) with classes y_i, k lines of description (k, d), C classes, all embeddings of unit
length; mu (d,) the mean embedding of the texts; S described classes::

    e_c      mean of the lines of class c, minus the mean of that over the described classes, to unit length: what a
             description says that the others do not
    chance   A = sum_i log softmax_S(s e_c . (x_i - mu))_{y_i} + log |S|
             the descriptions' log-likelihood of the labels, over that of guessing
    labels   B = max_s sum_i log softmax_S(s m_c(1)) - max_s sum_i log softmax_S(s m_c(0)),
             m_c(v) = (x_i - mu) . (sum_{j in c, j != i} (x_j - mu) + v e_c) / (n_c - [y_i = c] + v)
             over the i whose class has another label: what they add, where class means without it predict a label
    gate     g = 1 / (1 + exp(-STEEP min(A, B))), at STEEP 1 the posterior probability that descriptions inform, at
             even odds before; A alone where no class has two labels

One label raises A by at most log |S|: two labels of two classes cannot tell good descriptions from swapped ones, ten
labels of ten classes can. Without any label nothing speaks against the descriptions, and g = 1.

Descriptions that pass enter a head twice: s g e_c is the prior mean of the weights of class c (a class that is
described and has no label still points somewhere), and each line is a labeled text of weight g. A is the Bayes factor
of Kass and Raftery 1995 for a model without free parameters; B its left-out counterpart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SCALE = 6.0
"""s: logits a unit of cosine by which a description speaks. From 3 to 10 the head changes little (REPORT.md)."""

SCALES = (3.0, 6.0, 12.0, 24.0)
"""Values of s from which B takes the best on either side: class means of few texts deserve less of it."""

STEEP = 2.0
"""Power of the evidence: a wrong description costs several times what a right one gains. Mean accuracy on mr, cr,
agnews and trec at 1 and 4 labels for 1, 2, 3: good ones 71.8, 71.8, 71.5, swapped ones 50.5, 53.7, 57.0."""

FIRM = 30.0
"""Log odds beyond which the gate is as good as open or closed; keeps it off 0 and 1 in float32."""


@dataclass(frozen=True)
class Gate:
    """How far descriptions are believed.

    Attributes:
        weight: g, from 0 to 1.
        over_chance: A, in nats; 0 where no described class has a label.
        over_labels: B, in nats; 0 where no described class has two labels.
        right: labeled texts of described classes whose nearest description is their own class's.
        asked: labeled texts of described classes.
    """

    weight: float
    over_chance: float
    over_labels: float
    right: int
    asked: int


def directions(lines: Tensor, line_classes: Tensor, num_classes: int) -> Tensor:
    """What each class's description says that the others' do not, as a unit vector.

    Args:
        lines: (k, d) float embeddings of unit length.
        line_classes: (k,) int64 classes, several lines a class allowed.
        num_classes: C.

    Returns:
        (C, d) float32; zeros for a class without a line, and where a single class is described.

    Raises:
        ValueError: shapes disagree, a class is out of range or an embedding is not finite.
    """
    check_rows("lines", lines, line_classes, num_classes)
    sums = lines.new_zeros(num_classes, lines.shape[1], dtype=torch.float32)
    sums.index_add_(0, line_classes, lines.float())
    count = torch.bincount(line_classes, minlength=num_classes)  # (C,)
    described = count > 0
    if int(described.sum()) < 2:
        return torch.zeros_like(sums)
    means = sums / count.clamp_min(1)[:, None]
    e = means - means[described].mean(dim=0)
    return torch.where(described[:, None], torch.nn.functional.normalize(e, dim=1), 0.0)


def gate(texts: Tensor, labels: Tensor, towards: Tensor, center: Tensor) -> Gate:
    """How far the given labels bear descriptions out.

    Args:
        texts: (l, d) embeddings of unit length; l may be 0.
        labels: (l,) int64 classes.
        towards: (C, d) of `directions`; classes of zeros count as not described.
        center: (d,) mean embedding of the texts at hand, labeled or not.

    Raises:
        ValueError: shapes disagree, a class is out of range or an embedding is not finite.
    """
    check_rows("texts", texts, labels, len(towards))
    described = towards.abs().sum(dim=1) > 0  # (C,)
    if not described.any():
        return Gate(0.0, 0.0, 0.0, 0, 0)
    place = described.cumsum(dim=0) - 1  # of each described class among them
    asked = described[labels]
    x, y, e = texts[asked].float() - center, place[labels[asked]], towards[described]
    if not len(x):
        return Gate(1.0, 0.0, 0.0, 0, 0)
    said = x @ e.T  # (m, c)
    chance = _likelihood(SCALE * said, y) + len(x) * float(torch.tensor(float(len(e))).log())
    again = torch.bincount(y, minlength=len(e))[y] > 1  # (m,) is there another label of its class?
    beside = max(_likelihood(s * _left_out_means(x, y, e, 1.0)[again], y[again]) for s in SCALES)
    alone = max(_likelihood(s * _left_out_means(x, y, e, 0.0)[again], y[again]) for s in SCALES)
    odds = min(chance, beside - alone) if again.any() else chance
    weight = float(torch.sigmoid(torch.tensor(STEEP * odds).clamp(-FIRM, FIRM)))
    return Gate(weight, chance, beside - alone, int((said.argmax(dim=1) == y).sum()), len(x))


def _left_out_means(x: Tensor, y: Tensor, e: Tensor, worth: float) -> Tensor:
    """How near each text is to the mean of each class without itself, (m, c), the description counting `worth`."""
    own = torch.nn.functional.one_hot(y, len(e)).to(x.dtype)  # (m, c)
    others = x @ (own.T @ x).T - own * x.square().sum(dim=1, keepdim=True) + worth * (x @ e.T)
    mass = own.sum(dim=0) - own + worth
    return torch.where(mass > 0, others / mass.clamp_min(torch.finfo(x.dtype).tiny), 0.0)


def _likelihood(logits: Tensor, y: Tensor) -> float:
    """Log-likelihood of classes y (m,) under logits (m, c)."""
    return float(torch.log_softmax(logits.double(), dim=1).gather(1, y[:, None]).sum())


def check_rows(what: str, rows: Tensor, classes: Tensor, num_classes: int) -> None:
    """See that embeddings (n, d) and their classes (n,) are in order.

    Raises:
        ValueError: they are not.
    """
    if rows.dim() != 2 or classes.shape != (len(rows),):
        raise ValueError(
            f"expected {what} (n, d) and a class for each, came {tuple(rows.shape)} and {tuple(classes.shape)}"
        )
    if len(rows) and not (classes.min() >= 0 and classes.max() < num_classes):
        raise ValueError(
            f"expected the classes of {what} from 0 to {num_classes - 1}, came {int(classes.min())} to "
            f"{int(classes.max())}"
        )
    if not torch.isfinite(rows).all():
        raise ValueError(f"expected finite {what}, came NaN or infinity")
