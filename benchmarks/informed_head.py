"""A linear head from a few labels, descriptions of the classes and unlabeled texts, all as embeddings.

Letters: x (n, d) unit embeddings less the mean mu of the texts at hand, m of them unlabeled (the pile U); y, one-hot,
for labeled texts (weight 1) and lines of description (weight g, `descriptions.gate`); e_c `descriptions.directions`::

    1. regression    W, b = argmin  sum_i v_i H(y_i, softmax(W x_i + b)) + |W - W0|^2 / (2 R) + |b|^2 / (2 FLAT),
                     over labels and lines with weights v;  W0_c = s g e_c, a prior mean
                     A = SHARP (W, b);  q = mean over U of softmax(A x), the shares of the classes
    2. information   from A, `STEPS` steps of Adam on   CE(labels and lines, weighted mean)
                     + mean over U of H(p) + KL(mean over U of p || q):  sure answers in the estimated proportions
    3. neighbors     F spread from labels and lines over the corpus graph, class mass brought to q on U, rows to one
    4. pseudo-labels T_i proportional to F_i P_i, P = softmax of the mean of the heads of 1 and 2; labels stay
                     head = argmin of 1 on T, lines and pile with weights 1, g, 1 - H(T_i) / log C,  R = max(1, C / 10)
    5. few texts     head = (1 - t) A + t head,  t = m / (m + PILE)

Step 2 is information maximization (Krause, Perona, Gomes 2010; Boudiaf et al. 2020) with a prior on the classes; 3 is
Zhou et al. 2003, 4 Iscen et al. 2019 on a product of experts (Hinton 2002). Regression and information know the
direction that labels and descriptions point to, the graph knows clusters: a text is worth as much as they agree on it.
The mean mu is folded into the bias, so that the head takes embeddings as they come. REPORT.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from informed_gate import SCALE, Gate, check_rows, directions, gate
from torch import Tensor
from torch.nn import functional

from graphloss.inference.corpus_graph import ALPHA, certainty, class_mass, corpus_graph, solve
from graphloss.losses.propagation import normalized

REGULARIZATION = 10.0
"""R of the regression on labels and lines: scikit-learn's C, as `evaluation.linear_probe` has it."""

FLAT = 1000.0
"""Variance of the prior on biases: none to speak of, but for a class that only a description of weight 0 knows."""

SHARP = 3.0
"""A regression on few labels is far too modest: times this its logits have about the right log-loss."""

STEPS, RATE = 150, 0.05
"""Of Adam in step 2; it stays near the regression by stopping, 75 to 300 steps are as good."""

CLASSES_A_UNIT = 10
"""Inverse regularization on pseudo-labels is a tenth of the classes, at least 1: tight where each class has many."""

PILE = 200
"""Unlabeled texts from which on the pile has half of the head; 0 costs 5 to 10 points at 30 texts, 100 to 400 none."""

FLOOR = 1e-6
"""Least probability by the graph: a text that no label reaches is left to the other expert."""

ABSENT_BIAS = -1e4
"""Bias of a class with neither label nor line: never predicted, and finite in float16."""


@dataclass(frozen=True)
class Head:
    """A linear classifier of embeddings: softmax(W z + b).

    Attributes:
        weight: (C, d) float32.
        bias: (C,) float32.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, z: Tensor) -> Tensor:
        """(n, C) of embeddings (n, d)."""
        return z.float() @ self.weight.T + self.bias

    def probabilities(self, z: Tensor) -> Tensor:
        """(n, C) of embeddings (n, d), rows that sum to one."""
        return torch.softmax(self.logits(z), dim=1)


@dataclass(frozen=True)
class Learned:
    """What labels, descriptions and unlabeled texts teach.

    Attributes:
        head: the classifier.
        start: the sharpened regression on labels and descriptions alone: where a training starts from.
        gate: how far the descriptions are believed.
        shares: (C,) estimated shares of the classes among the unlabeled texts; zeros where there are none.
        targets: (m, C) pseudo-labels of the unlabeled texts.
        certainty: (m,) their weights, from 0 to 1.
    """

    head: Head
    start: Head
    gate: Gate
    shares: Tensor
    targets: Tensor
    certainty: Tensor


def learn(
    texts: Tensor,
    labels: Tensor,
    unlabeled: Tensor,
    num_classes: int,
    *,
    lines: Tensor | None = None,
    line_classes: Tensor | None = None,
) -> Learned:
    """The head of the module's five steps.

    Args:
        texts: (l, d) float embeddings of unit length; l may be 0 where lines are given.
        labels: (l,) int64 classes.
        unlabeled: (m, d) float embeddings of unit length; m may be 0.
        num_classes: C.
        lines: (k, d) embeddings of description lines, several a class allowed; None for no description.
        line_classes: (k,) int64 their classes.

    Raises:
        ValueError: shapes disagree, a class is out of range, an embedding is not finite, or no class has a label or a
            line.
    """
    if lines is None or line_classes is None:
        lines, line_classes = texts.new_zeros(0, texts.shape[-1]), labels.new_zeros(0)
    check_rows("texts", texts, labels, num_classes)
    check_rows("lines", lines, line_classes, num_classes)
    check_rows("unlabeled texts", unlabeled, labels.new_zeros(len(unlabeled)), num_classes)
    texts, lines, unlabeled = texts.float(), lines.float(), unlabeled.float()
    known = torch.cat([labels, line_classes])  # (l + k,)
    if not len(known):
        raise ValueError("expected at least one label or description to learn from, came none")
    center = torch.cat([texts, unlabeled]).mean(dim=0) if len(texts) + len(unlabeled) else lines.mean(dim=0)
    present = torch.bincount(known).nonzero()[:, 0]  # (c,) classes with a label or a line: the others are left out
    known = torch.searchsorted(present, known)
    towards = directions(lines, known[len(labels) :], len(present))
    believed = gate(texts, known[: len(labels)], towards, center)  # shut without lines
    x = torch.cat([texts, lines, unlabeled]) - center  # (n, d)
    y = functional.one_hot(known, len(present)).float()  # (l + k, c)
    v = torch.cat([x.new_ones(len(texts)), x.new_full((len(lines),), believed.weight)])  # (l + k,)
    start = _scaled(fit(x[: len(v)], y, v, prior_mean=SCALE * believed.weight * towards), SHARP)
    if not len(unlabeled):
        last, q, targets, sure = start, x.new_zeros(len(present)), x.new_zeros(0, len(present)), x.new_zeros(0)
    else:
        pile = x[len(v) :]
        q = start.probabilities(pile).mean(dim=0)
        informed = maximize_information(start, x[: len(v)], y, v, pile, q)
        said = spread(x + center, y, v, q)[len(v) :]
        targets = pseudo_labels(said, between(start, informed, 0.5).logits(pile))
        sure = certainty(targets)
        last = fit(x, torch.cat([y, targets]), torch.cat([v, sure]), max(1.0, len(present) / CLASSES_A_UNIT))
        last = between(start, last, len(pile) / (len(pile) + PILE))
    return Learned(
        _uncentered(last, center, present, num_classes),
        _uncentered(start, center, present, num_classes),
        believed,
        x.new_zeros(num_classes).index_copy_(0, present, q),
        x.new_zeros(len(targets), num_classes).index_copy_(1, present, targets),
        sure,
    )


def fit(
    x: Tensor,
    targets: Tensor,
    weights: Tensor,
    regularization: float | None = None,
    *,
    prior_mean: Tensor | None = None,
) -> Head:
    """The weighted regression of step 1, by L-BFGS.

    Args:
        x: (n, d) embeddings.
        targets: (n, c) probabilities.
        weights: (n,), not negative.
        regularization: R; `REGULARIZATION` when left out. Of two classes the penalty counts twice, as scikit-learn's.
        prior_mean: (c, d) W0; zeros when left out.
    """
    r = REGULARIZATION if regularization is None else regularization
    c, total = targets.shape[1], weights.sum().clamp_min(1.0)
    mean = x.new_zeros(c, x.shape[1]) if prior_mean is None else prior_mean
    base = x @ mean.T  # (n, c)
    moved = torch.zeros_like(mean).requires_grad_(True)  # W - W0
    bias = x.new_zeros(c).requires_grad_(True)
    decay = (2.0 if c == 2 else 1.0) / (2.0 * r)
    search = torch.optim.LBFGS(
        [moved, bias], max_iter=200, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        log_p = torch.log_softmax(base + x @ moved.T + bias, dim=1)  # (n, c)
        penalty = decay * moved.square().sum() + bias.square().sum() / (2.0 * FLAT)
        value = (penalty - (weights * (targets * log_p).sum(dim=1)).sum()) / total
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    return Head(mean + moved.detach(), bias.detach())


def information(head: Head, x: Tensor, y: Tensor, weights: Tensor, pile: Tensor, shares: Tensor) -> Tensor:
    """The objective of step 2, a scalar.

    Args:
        head: W and b.
        x: (l, d) labeled texts and lines.
        y: (l, c) their classes, one-hot.
        weights: (l,) of them, not all 0; else they are not heard.
        pile: (m, d) unlabeled texts.
        shares: (c,) q, positive.
    """
    heard = -(weights * (y * torch.log_softmax(head.logits(x), dim=1)).sum(dim=1)).sum() / weights.sum().clamp_min(1e-9)
    log_p = torch.log_softmax(head.logits(pile), dim=1)  # (m, c)
    p = log_p.exp()
    unsure = -(p * log_p).sum(dim=1).mean()
    mean = p.mean(dim=0).clamp_min(1e-9)
    return heard + unsure + (mean * (mean.log() - shares.clamp_min(1e-9).log())).sum()


def maximize_information(head: Head, x: Tensor, y: Tensor, weights: Tensor, pile: Tensor, shares: Tensor) -> Head:
    """The head after `STEPS` steps on `information`, whose arguments see."""
    weight, bias = head.weight.clone().requires_grad_(True), head.bias.clone().requires_grad_(True)
    step = torch.optim.Adam([weight, bias], lr=RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            step.zero_grad()
            information(Head(weight, bias), x, y, weights, pile, shares).backward()
            step.step()
    return Head(weight.detach(), bias.detach())


def spread(z: Tensor, y: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """What labels and lines say along the corpus graph, class mass as the shares: step 3.

    Args:
        z: (n, d) unit embeddings; the first l are the labeled texts and lines, the others unlabeled.
        y: (l, c) one-hot.
        weights: (l,) with which each speaks; each class's are scaled to sum to one.
        shares: (c,) q.

    Returns:
        (n, c) rows that sum to one.
    """
    spoken = weights[:, None] * y
    spoken = spoken / spoken.sum(dim=0).clamp_min(1e-9)
    source = torch.cat([spoken, spoken.new_zeros(len(z) - len(y), y.shape[1])])
    f = solve(corpus_graph(functional.normalize(z, dim=1)), source, ALPHA).clamp_min(0.0)
    f = normalized(f, shares)
    unlabeled = torch.arange(len(z), device=z.device) >= len(y)
    return normalized(f * class_mass(f, unlabeled, shares), shares)


def pseudo_labels(said: Tensor, logits: Tensor) -> Tensor:
    """The product of two experts, rows to one: what the graph says (m, c) and a head's logits (m, c)."""
    return torch.softmax(said.clamp_min(FLOOR).log() + logits, dim=1)


def between(one: Head, other: Head, share: float) -> Head:
    """The head with `share` of the other's logits and the rest of one's."""
    return Head(torch.lerp(one.weight, other.weight, share), torch.lerp(one.bias, other.bias, share))


def _scaled(head: Head, by: float) -> Head:
    return Head(by * head.weight, by * head.bias)


def _uncentered(head: Head, center: Tensor, present: Tensor, num_classes: int) -> Head:
    """The head for embeddings as they come, of all classes."""
    weight = head.weight.new_zeros(num_classes, head.weight.shape[1]).index_copy_(0, present, head.weight)
    bias = head.bias.new_full((num_classes,), ABSENT_BIAS)
    return Head(weight, bias.index_copy_(0, present, head.bias - head.weight @ center))
