"""A linear classifier on soft targets with weights: fitted on pseudo-labels of unlabeled documents, it is their head.

Letters: z (n, d) of unit length, T (n, C) target probabilities, w (n,) weights::

    min over W, b of   sum_i w_i H(T_i, softmax(W z_i + b)) + |W|^2 / (2 C_reg)

With one-hot targets and weights of one this is scikit-learn's logistic regression, which takes no soft targets; as
there, the penalty of two classes counts twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.arrays import as_classes, as_matrix, unit_rows
from graphloss.losses.graph import unit
from graphloss.losses.propagation import one_hot
from graphloss.text.stratified_selection import deal

if TYPE_CHECKING:
    from graphloss.inference.arrays import Array

ITERATIONS = 200
"""Of L-BFGS; a fit takes 30 to 150."""

HISTORY = 2**26
"""Weights that L-BFGS remembers of its last steps, at most those of 100: 512 MB, as it keeps two of each."""

ENTRIES = 2**24
"""Probabilities computed at once: 64 MB."""

ABSENT_BIAS = -1e4
"""Bias of a class without training documents: probability zero in any float format, and still finite in float16."""

FOLDS = 5


def soft_probe(
    embeddings: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    classes: Tensor | None = None,
    inverse_regularization: float = 10.0,
    tolerance: float = 1e-5,
    prior_mean: Tensor | None = None,
) -> Probe:
    """Fit a softmax on soft targets by L-BFGS.

    A class without any target mass gets weight 0 and bias `ABSENT_BIAS`, so it is never predicted.

    Args:
        embeddings: (n, d), scaled to unit length here.
        targets: (n, C) probabilities; with `classes` the (n - l, C) of the rows after the first l.
        weights: (n,), not negative; documents of weight 0 are left out.
        classes: (l,) classes of the first l rows, where a target of one number saves memory.
        inverse_regularization: scikit-learn's C, for weights that count documents.
        tolerance: of the largest entry of the mean loss's gradient.
        prior_mean: (C, d) that the penalty pulls the weights to; zeros when left out.

    Raises:
        ValueError: if shapes disagree, something is not finite or negative, or all weights are 0.
    """
    n, y = len(embeddings), torch.zeros(0, dtype=torch.long) if classes is None else classes.long()
    if targets.dim() != 2 or len(y) + len(targets) != n or weights.shape != (n,):
        raise ValueError(
            f"expected targets ({n}, classes) and weights ({n},), one row per embedding, got {tuple(targets.shape)} "
            f"and {tuple(weights.shape)}"
        )
    if not all(torch.isfinite(values).all() for values in (embeddings, targets, weights)):
        raise ValueError("expected finite embeddings, targets and weights, got NaN or infinity")
    if (weights < 0).any() or (targets < 0).any():
        raise ValueError("expected targets and weights of at least 0, got a negative one")
    used = weights > 0
    if not used.any():
        raise ValueError("expected at least one document with a weight above 0 to fit the probe on, got none")
    z, share = unit(embeddings[used].detach().float()), weights[used].float()
    total = share.sum()
    share = share / total  # (m,)
    y, t = y[used[: len(y)]].to(z.device), targets[used[len(y) :]].float()
    mass = (share[len(y) :] @ t).index_add(0, y, share[: len(y)])  # (C,)
    present = (mass > 0).nonzero()[:, 0]
    y, t = torch.searchsorted(present, y), t if len(present) == t.shape[1] else t[:, present]  # (l,), (m - l, c)

    mean = torch.zeros(len(present), z.shape[1]) if prior_mean is None else prior_mean[present.to(prior_mean.device)]
    mean = mean.to(z)  # (c, d)
    w = torch.zeros_like(mean)  # away from the mean
    b = torch.zeros(len(present), device=z.device)
    # scikit-learn holds two classes by one vector v; ours are v / 2 and -v / 2, whose squares sum to half of its own
    decay = float((2.0 if len(present) == 2 else 1.0) / (2.0 * inverse_regularization * total))
    search = torch.optim.LBFGS(
        [w, b],
        max_iter=ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,
        history_size=max(5, min(100, HISTORY // w.numel())),
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        value, grad_w, grad_b = cross_entropy(z, mean + w, b, y, t, share)
        w.grad, b.grad = grad_w + 2.0 * decay * w, grad_b
        return value + decay * w.square().sum()

    if len(present) > 1:
        search.step(loss)
    weight = torch.zeros(targets.shape[1], z.shape[1])
    bias = torch.full((targets.shape[1],), ABSENT_BIAS)
    weight[present.cpu()], bias[present.cpu()] = (mean + w).cpu(), b.cpu()
    return Probe(weight, bias)


@torch.no_grad()
def cross_entropy(
    z: Tensor, weight: Tensor, bias: Tensor, classes: Tensor, targets: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_i share_i H(T_i, softmax(W z_i + b)) and its gradients by W and b, `ENTRIES` probabilities at a time.

    Args:
        z: (n, d).
        weight: (C, d).
        bias: (C,).
        classes: (l,) of the first l rows.
        targets: (n - l, C) of the others.
        share: (n,).
    """
    value, grad_w, grad_b = share.new_zeros(()), torch.zeros_like(weight), torch.zeros_like(bias)
    hard = len(classes)
    for rows in torch.arange(len(z), device=z.device).split(max(1, ENTRIES // len(bias))):
        first, last = int(rows[0]), int(rows[-1]) + 1
        soft = targets[max(0, first - hard) : max(0, last - hard)]
        t = torch.cat([one_hot(classes[first:last], len(bias), z.dtype), soft])  # (r, C)
        log_p = torch.log_softmax(z[first:last] @ weight.T + bias, dim=1)  # (r, C)
        s = share[first:last, None]
        value -= (s * t * log_p).sum()
        by_logits = s * (log_p.exp() * t.sum(dim=1, keepdim=True) - t)  # (r, C)
        grad_w += by_logits.T @ z[first:last]
        grad_b += by_logits.sum(dim=0)
    return value, grad_w, grad_b


@dataclass(frozen=True)
class Probe:
    """A linear classifier on unit-length embeddings: softmax(W z + b).

    Attributes:
        weight: (C, d) float32.
        bias: (C,) float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def probabilities(self, embeddings: Array) -> torch.Tensor:
        """Class probabilities (n, C), float32 on the CPU, for embeddings (n, d) of any length and float type."""
        return torch.softmax(self.logits(embeddings), dim=1)

    def logits(self, embeddings: Array) -> torch.Tensor:
        """Logarithms of the probabilities, up to a number per row."""
        z = torch.from_numpy(unit_rows(embeddings))  # (n, d)
        return z @ self.weight.T + self.bias  # (n, C)


def linear_probe(
    train_embeddings: Array, train_labels: Array, num_classes: int, *, inverse_regularization: float = 10.0
) -> Probe:
    """Fit scikit-learn's logistic regression on unit-length embeddings: the baseline without fine-tuning.

    Its softmax gives the probabilities of scikit-learn's `predict_proba`, for two classes too. A class without a
    training document gets weight 0 and bias `ABSENT_BIAS`, so it is never predicted; a lone class is predicted always.

    Args:
        train_embeddings: (n, d), scaled to unit length here.
        train_labels: (n,) integer classes; documents of -1 are left out.
        num_classes: C.
        inverse_regularization: scikit-learn's C; 10 suits unit-length embeddings of a sentence encoder.

    Raises:
        ValueError: if shapes disagree, a class is out of range, an embedding is not finite or no document is labeled.
    """
    from sklearn.linear_model import LogisticRegression

    y = as_classes(train_labels, num_classes)  # (n,)
    x = as_matrix(train_embeddings, "train_embeddings", len(y))  # (n, d)
    x, y = x[y >= 0], y[y >= 0]
    present = np.unique(y)
    if not len(present):
        raise ValueError("expected at least one labeled document to fit the probe on, got none (every label is -1)")
    if not np.isfinite(x).all():
        raise ValueError("expected finite train_embeddings, got NaN or infinity; look for a training that diverged")

    weight = np.zeros((num_classes, x.shape[1]), dtype=np.float32)
    bias = np.full(num_classes, ABSENT_BIAS, dtype=np.float32)
    if len(present) == 1:
        bias[present] = 0.0
    else:
        # At the default tolerance of 1e-4, probabilities of 77 classes are still 0.07 from the optimum; here 0.002.
        model = LogisticRegression(C=inverse_regularization, tol=1e-5, max_iter=1_000)
        with warnings.catch_warnings():  # with one label per class scikit-learn suspects a regression problem
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            model.fit(unit_rows(x), y)
        w, b = model.coef_, model.intercept_
        if len(present) == 2:  # scikit-learn keeps one row: a sigmoid of w z + b is the softmax of plus and minus half
            w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
        weight[present], bias[present] = w, b
    return Probe(torch.from_numpy(weight), torch.from_numpy(bias))


def cross_fitted(
    z: Tensor, labels: Tensor, classes: int, *, seed: int = 0, on_fold: Callable[[], None] = lambda: None
) -> Tensor:
    """Five-fold cross-fitted probabilities of a logistic regression.

    Folds are stratified. A class that a fold's training documents lack has probability zero there.

    Args:
        z: (n, d) unit-length embeddings.
        labels: (n,) classes, each from 0 to C - 1.
        classes: C.
        seed: of the folds.
        on_fold: called after each fold.

    Returns:
        (n, C), float32; the label frequencies where there is nothing to fit on.
    """
    part = deal(labels.numpy(), FOLDS, np.random.default_rng([seed, 4]))  # (n,) the fold of each document
    found = torch.empty(len(z), classes)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        if len(inside) and len(outside):
            found[inside] = linear_probe(z[outside], labels[outside], classes).probabilities(z[inside])
        elif len(inside):
            found[inside] = torch.bincount(labels, minlength=classes).float() / len(labels)
        on_fold()
    return found
