"""One sparse graph over all documents, and labels that flow over it.

Letters::

    n documents, C classes, l labeled         z (n, d)  embeddings of unit length
    W (n, n)   exp((cos_ij - 1) / sigma^2) on the edges to the k nearest neighbors, (A + A^T) / 2, sparse
    D = diag(W 1),  S = D^-1/2 W D^-1/2         K = (I - alpha S)^-1
    Y (n, C)   one-hot labels, each column divided by its sum of labels' weights: classes send out the same mass

    spreading   F = K Y                                              Zhou et al. 2003, equation 3
    class mass  F_ic q_c / sum_i F_ic, then rows to one              Zhu, Ghahramani, Lafferty 2003, equation 9
    weight      1 - H(F_i) / log C                                   Iscen et al. 2019, equation 11
    clusters    (sum_c e_cc - sum_c a_c^2) / (1 - sum_c a_c^2)        Newman 2003, equation 2
                e: parts of all edges' weight within a class, a: parts of all degrees

Every solve is one run of conjugate gradients for all columns at once: S is symmetric with eigenvalues in [-1, 1], so
I - alpha S has a condition number of at most (1 + alpha) / (1 - alpha), 19 at alpha = 0.9.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from graphloss.inference.graphs.nearest_neighbors import nearest
from graphloss.losses.propagation import normalized, one_hot

K, SIGMA, ALPHA = 10, 0.3, 0.9
"""Neighbors, bandwidth and share that flows on: chosen on frozen embeddings (docs/research/corpus_graph.md)."""

COLUMNS = 64  # solved together: 128 MB of vectors at 100,000 documents
MOST_STEPS = 1000  # of conjugate gradients


@dataclass(frozen=True)
class CorpusGraph:
    """A symmetric sparse graph.

    Attributes:
        s: (n, n) sparse CSR, S = D^-1/2 W D^-1/2; an isolated node has an empty row.
        degree: (n,) the sums of the rows of W, in the dtype of s.
    """

    s: Tensor
    degree: Tensor

    def __len__(self) -> int:
        return len(self.degree)


def corpus_graph(z: Tensor, *, k: int = K, sigma: float = SIGMA, shared: bool = False) -> CorpusGraph:
    """Join each document with its k nearest neighbors.

    Args:
        z: (n, d) rows of unit length; no gradient is taken.
        k: neighbors per document.
        sigma: bandwidth.
        shared: all processes call this, and each searches for the neighbors of a part of the documents.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be a positive number, got {sigma}; good values lie between 0.2 and 0.5")
    index, cosine = nearest(z, k, shared=shared)  # (n, k)
    n = len(index)
    i = torch.arange(n, device=index.device)[:, None].expand_as(index)[index >= 0]
    j = index[index >= 0]
    # in float64: at a small sigma the weights of an outlier leave the range of float32, and only their ratio counts
    w = ((cosine[index >= 0].double() - 1.0) / sigma**2).exp()
    return from_edges(i, j, w, n, dtype=cosine.dtype)


def from_edges(i: Tensor, j: Tensor, w: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> CorpusGraph:
    """The graph of W = (A + A^T) / 2, where A has the weights w at (i, j).

    Args:
        i: (e,) int64.
        j: (e,) int64, other than i.
        w: (e,) not negative.
        n: nodes.
        dtype: of the result.
    """
    w = w.double()
    ends = torch.stack([torch.cat([i, j]), torch.cat([j, i])])  # (2, 2 e)
    both = torch.sparse_coo_tensor(ends, torch.cat([w, w]) / 2, (n, n), check_invariants=False).coalesce()
    (i, j), w = both.indices(), both.values()
    degree = w.new_zeros(n).index_add_(0, i, w)
    root = torch.where(degree > 0, degree, 1.0).rsqrt()
    starts = torch.searchsorted(i, torch.arange(n + 1, device=i.device))  # (n + 1,), i is sorted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors a beta; their product is all we use
        s = torch.sparse_csr_tensor(starts, j, (w * root[i] * root[j]).to(dtype), (n, n), check_invariants=False)
    return CorpusGraph(s, degree.to(dtype))


def solve(graph: CorpusGraph, b: Tensor, alpha: float, *, tolerance: float = 1e-5) -> Tensor:
    """(I - alpha S)^-1 B by conjugate gradients, (n, m).

    Args:
        graph: n nodes.
        b: (n, m) right-hand sides.
        alpha: between 0 and 1, exclusive.
        tolerance: of each column's residual, relative to the column.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"spreading needs 0 < alpha < 1, got {alpha}")
    parts = [_conjugate_gradients(graph.s, part, alpha, tolerance) for part in b.split(COLUMNS, dim=1)]
    return torch.cat(parts, dim=1) if parts else b.clone()


def _conjugate_gradients(s: Tensor, b: Tensor, alpha: float, tolerance: float) -> Tensor:
    x, r = torch.zeros_like(b), b.clone()  # (n, m)
    p, rho = r.clone(), r.square().sum(dim=0)  # (n, m), (m,)
    goal = tolerance**2 * rho
    tiny = torch.finfo(b.dtype).tiny
    for _ in range(MOST_STEPS):
        if not (rho > goal).any():
            break
        q = p - alpha * (s @ p)
        step = rho / (p * q).sum(dim=0).clamp_min(tiny)
        x += step * p
        r -= step * q
        rho, before = r.square().sum(dim=0), rho
        p = r + rho / before.clamp_min(tiny) * p
    return x


def spread(
    graph: CorpusGraph, labels: Tensor, num_classes: int, *, weights: Tensor | None = None, alpha: float = ALPHA
) -> Tensor:
    """F = (I - alpha S)^-1 Y with classes of equal mass.

    Args:
        graph: n nodes.
        labels: (n,) class indices, -1 for unlabeled.
        num_classes: C.
        weights: (n,) of the labels, of which each class's are scaled to sum to one; ones when left out.
        alpha: share that flows on at each step.

    Returns:
        F (n, C), not negative, rows not scaled; a row of zeros is a document that no label reaches.
    """
    labeled, weights = labels >= 0, graph.degree.new_ones(len(graph)) if weights is None else weights.to(graph.degree)
    total = weights.new_zeros(num_classes).index_add(0, labels[labeled], weights[labeled])
    each = torch.where(labeled, weights / total[labels.clamp_min(0)].clamp_min(torch.finfo(weights.dtype).tiny), 0.0)
    parts = []
    for columns in torch.arange(num_classes).split(COLUMNS):  # Y is never held whole
        y = each[:, None] * one_hot(labels - int(columns[0]), len(columns), each.dtype)  # (n, columns)
        parts.append(solve(graph, y, alpha).clamp_min(0.0))
    return torch.cat(parts, dim=1)


def class_mass(f: Tensor, rows: Tensor, prior: Tensor) -> Tensor:
    """The factor (C,) that brings the mass of each class over `rows` to the prior, rows being scaled to one first.

    Args:
        f: (n, C) as `spread` returns it.
        rows: (n,) boolean, the unlabeled documents; where there is none, all factors are 1.
        prior: (C,) share that each class should have.
    """
    reached = rows & (f.sum(dim=1) > 0)
    mass = normalized(f[reached], prior).sum(dim=0)  # (C,)
    factor = torch.where(mass > 0, prior / torch.where(mass > 0, mass, 1.0), 0.0) * reached.sum()
    return factor if reached.any() else torch.ones_like(factor)


def assortativity(graph: CorpusGraph, classes: Tensor) -> float:
    """How far classes are clusters of the graph: 1 where no edge leaves one, 0 where they are drawn by chance.

    Args:
        graph: n nodes.
        classes: (n,) from 0.

    Returns:
        From 0 to 1; 0 for a single class, and below chance too.
    """
    s, degree = graph.s, graph.degree.double()
    classes = classes.to(degree.device)
    i = torch.repeat_interleave(torch.arange(len(degree), device=degree.device), s.crow_indices().diff())  # (e,)
    j = s.col_indices()
    w = s.values().double() * (degree[i] * degree[j]).sqrt()
    share = torch.zeros(int(classes.max()) + 1, dtype=w.dtype, device=w.device).index_add_(0, classes, degree)
    chance = (share / share.sum()).square().sum()
    if not chance < 1:  # also without any edge
        return 0.0
    return max(0.0, ((w[classes[i] == classes[j]].sum() / w.sum() - chance) / (1.0 - chance)).item())


def certainty(f: Tensor) -> Tensor:
    """1 - H(F_i) / log C of probabilities (n, C), in [0, 1]; 1 where there is a single class."""
    if f.shape[1] < 2:
        return f.new_ones(len(f))
    entropy = -torch.special.xlogy(f, f).sum(dim=1)
    return (1.0 - entropy / torch.tensor(f.shape[1]).log()).clamp(0.0, 1.0)
