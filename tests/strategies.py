"""Random batches for property tests: shapes and seeds are drawn, tensors come from seeded generators."""

from typing import NamedTuple

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

quick = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
"""Few, repeatable examples: the suite runs on one thread in under a minute."""


class Batch(NamedTuple):
    """A random batch with at least two classes and two documents of class 0."""

    embeddings: Tensor
    labels: Tensor
    sigma: float
    num_classes: int
    generator: torch.Generator


def batch(
    n: int,
    num_classes: int,
    *,
    d: int = 16,
    sigma: float = 0.3,
    seed: int = 0,
    unlabeled: float = 0.0,
    spread: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """Clustered Gaussian embeddings; `spread` is the noise around a class center, a share `unlabeled` has label -1."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % num_classes
    centers = torch.randn(num_classes, d, generator=g, dtype=torch.float64)
    x = centers[labels] + spread * torch.randn(n, d, generator=g, dtype=torch.float64)
    order = torch.randperm(n, generator=g)
    x, labels = x[order], labels[order]
    first = (labels == 0).nonzero()[:2, 0]  # class 0 is always askable
    if unlabeled:
        labels = torch.where(torch.rand(n, generator=g) < unlabeled, -1, labels)
        labels[first] = 0
    return Batch(x.to(dtype), labels, sigma, num_classes, g)


@st.composite
def batches(draw: st.DrawFn, unlabeled: bool = True) -> Batch:
    """Batches of 6 to 40 documents in float64."""
    return batch(
        draw(st.integers(6, 40)),
        draw(st.integers(2, 5)),
        d=draw(st.integers(3, 24)),
        sigma=draw(st.sampled_from([0.2, 0.3, 0.5, 1.0, 5.0])),
        seed=draw(st.integers(0, 2**16)),
        unlabeled=draw(st.sampled_from([0.0, 0.3, 0.6])) if unlabeled else 0.0,
    )


def split(labels: Tensor, generator: torch.Generator, share: float = 0.6) -> Tensor:
    """Random mask of shown labels, with one shown and one hidden at least."""
    shown = (torch.rand(len(labels), generator=generator) < share) & (labels >= 0)
    given = (labels >= 0).nonzero()[:, 0]
    shown[given[0]] = True
    shown[given[1]] = False
    return shown
