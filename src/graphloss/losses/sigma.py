"""The bandwidth σ: the values it may have, and the rules that choose it from the data.

torch is loaded by the rules alone: the settings import the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RULES = ("root", "mst")
"""Rules by which `bandwidth` chooses σ from the data."""

SIGMAS = ("auto", *RULES, "learned")
"""Names allowed in place of a number."""

AUTO_SIGMA = 0.3
"""The value of `sigma="auto"`."""

LEAST_SIGMA = 1e-3
"""Below it, 1 / sigma² leaves the range of float32 and `graph.MASKED`; the nearest neighbor has all weight anyway."""

MIN_SIGMA, MAX_SIGMA = 1e-2, 10.0
"""Bounds of every rule: duplicates would send sigma to 0, too few neighbors to infinity."""

SAMPLE = 2048
"""Documents that a rule uses, evenly spaced: 2 million pairs are enough for a median."""


def bandwidth(z: Tensor, labels: Tensor, rule: str) -> Tensor:
    """Choose sigma from the data, without gradient.

    `root`: square root of a third of the median pairwise distance. `mst`: a third of the smallest distance between two
    labeled documents of different classes (both rules: arXiv 2604.25853, section 4); with fewer than two classes it is
    `root`. Both use at most `SAMPLE` documents.

    Args:
        z: (n, d) rows of unit length.
        labels: (n,) class indices, -1 for unlabeled.
        rule: one of `RULES`.

    Returns:
        0-d tensor, between `MIN_SIGMA` and `MAX_SIGMA`.
    """
    import torch

    from graphloss.losses.graph import no_autocast

    if rule not in RULES:
        raise ValueError(f"unknown bandwidth rule {rule!r}; choose one of {', '.join(RULES)}, or give a number")
    if z.shape[0] < 2:
        return z.new_tensor(1.0)
    step = -(-z.shape[0] // SAMPLE)
    z, labels = z.detach()[::step], labels[::step]
    with no_autocast(z):
        distance = (2.0 - 2.0 * (z @ z.T)).clamp_min(0.0).sqrt()  # (n, n), Euclidean
    if rule == "mst":
        labeled = labels >= 0
        different = labeled[:, None] & labeled[None, :] & (labels[:, None] != labels[None, :])  # (n, n)
        if different.any():
            return (distance[different].min() / 3.0).clamp(MIN_SIGMA, MAX_SIGMA)
    i, j = torch.triu_indices(z.shape[0], z.shape[0], offset=1, device=z.device)
    return (distance[i, j].median() / 3.0).sqrt().clamp(MIN_SIGMA, MAX_SIGMA)
