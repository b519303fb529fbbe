"""Label errors: labels that cross-fitted and leave-one-out predictions contradict.

Letters: n labeled documents, C classes, y their labels; K (n, n) the kernel of label spreading on the graph of the 15
nearest neighbors, its diagonal zero and its rows summing to one; a = 0.5 the damping; e = 0.05.

    K    = (I - a S)^-1 without its diagonal, rows scaled       leave-one-out spreading (`propagation`)
    F    = K Y, then once more K diag(t) Y, rows scaled         the graph's leave-one-out probabilities
    t_i  = p_{i,y_i} / max_c p_ic  after the first round        weight of a document: how far its own label is confirmed
    p    = (F + cross-fitted logistic regression) / 2
    proposed_i = argmax of p_ic over c other than y_i
    score_i    = (p_{i,proposed} + e) / (p_{i,proposed} + e + p_{i,y_i} + e)

Before a training, the labels are doubted (`doubtful`) if more than `WRONG` of them have a score above `SURE` and the
left-out predictions agree with the labels by a kappa above `KNOWN`.

A score above one half contradicts the label. With e = 0 it would be the likelihood ratio of both labels, which finds
labels that are wrong by chance; with a large e their difference, which finds those confused with a similar class.
docs/research/audit.md measures both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.linear_probe import FOLDS, cross_fitted
from graphloss.losses.graph import log_affinity
from graphloss.losses.propagation import loo_log_kernel, normalized, one_hot

NEIGHBORS, ALPHA, EPSILON = 15, 0.5, 0.05
PART = 4096  # documents of one graph: its kernel and what computes it are then a quarter of a gigabyte
TOGETHER = 16  # documents of a class that stay in one part, so that a rare class is not scattered


SURE, WRONG, KNOWN = 0.8, 0.05, 0.15
"""With 16 labels per class, 2% of clean ones have a score above `SURE`, of ones a fifth of which is wrong 1 to 20%."""


@dataclass(frozen=True)
class Suspicion:
    """The evidence against the labels of n documents.

    Attributes:
        probe: (n, C) probabilities by the cross-fitted regression.
        graph: (n, C) those by the graph, after the second round; p is the mean of both.
        score: (n,) from 0 to 1, above one half where the label is contradicted; 0 for the only document of a class,
            which cannot be checked.
        proposed: (n,) the likeliest other class.
        documents: (n, k) supporting documents of the proposed class, in descending order of share; -1 beyond them.
        shares: (n, k) the share of the proposed class's probability that each contributes.
    """

    probe: Tensor
    graph: Tensor
    score: Tensor
    proposed: Tensor
    documents: Tensor
    shares: Tensor

    def ranked(self) -> list[int]:
        """Rows of the documents whose label is contradicted, in descending order of score."""
        order = self.score.argsort(descending=True, stable=True)
        return [int(place) for place in order if self.score[place] > 0.5]

    def rows(self, texts: Sequence[str], labels: Sequence[Any], names: Sequence[Any]) -> list[dict[str, Any]]:
        """The contradicted ones of n texts and labels: `text`, `label`, `proposed` (one of the names) and `score`."""
        found = ((place, int(self.proposed[place]), float(self.score[place])) for place in self.ranked())
        return [
            {"text": texts[place], "label": labels[place], "proposed": names[other], "score": round(score, 6)}
            for place, other, score in found
        ]


def doubtful(found: Suspicion, labels: Tensor) -> bool:
    """Whether so many of the labels (n,) are contradicted, by embeddings that know them, that all are to be weighed."""
    from sklearn.metrics import cohen_kappa_score

    kappa = cohen_kappa_score(labels.numpy(), (found.probe + found.graph).argmax(dim=1).numpy())
    return bool(kappa > KNOWN and (found.score > SURE).float().mean() > WRONG)


def steps(count: int) -> int:
    """How often `suspicion` reports its progress on so many documents."""
    return (FOLDS + 1) * _parts_for(count)


def suspicion(
    z: Tensor,
    labels: Tensor,
    classes: int,
    *,
    sigma: float,
    k: int = 5,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> Suspicion:
    """Check every label against the other documents.

    More than `PART` documents are divided, so that time and memory grow linearly.

    Args:
        z: (n, d) unit-length embeddings, float32.
        labels: (n,) classes from 0 to C - 1.
        classes: C.
        sigma: bandwidth of the graph.
        k: supporting documents of each proposal.
        seed: of the folds and of the division.
        on_step: called `steps(n)` times in all, for a progress bar.
    """
    n = len(labels)
    probe, graph = torch.zeros(n, classes), torch.zeros(n, classes)
    score, proposed = torch.zeros(n), torch.zeros(n, dtype=torch.long)
    documents, shares = torch.full((n, k), -1), torch.zeros(n, k)
    for rows in _parts(labels.numpy(), seed):
        y = labels[rows]  # (m,)
        probe[rows] = cross_fitted(z[rows], y, classes, seed=seed, on_fold=on_step)
        kernel = _kernel(z[rows], y, probe[rows], sigma)  # (m, m)
        graph[rows] = normalized(kernel @ one_hot(y, classes, z.dtype), torch.full((1,), 1 / classes))
        on_step()
        p = (probe[rows] + graph[rows]) / 2  # (m, C)
        own = p.gather(1, y[:, None])[:, 0]  # (m,)
        other = p.scatter(1, y[:, None], -1.0).max(1)
        checked = torch.bincount(y, minlength=classes)[y] > 1
        ratio = (other.values + EPSILON) / (other.values + own + 2 * EPSILON)
        score[rows], proposed[rows] = torch.where(checked, ratio, 0.0), other.indices
        top = torch.where(y[None, :] == other.indices[:, None], kernel, 0.0).topk(min(k, len(y)), dim=1)
        documents[rows, : top.indices.shape[1]] = torch.where(top.values > 0, rows[top.indices], -1)
        shares[rows, : top.indices.shape[1]] = top.values / 2 / other.values.clamp_min(1e-12)[:, None]
    return Suspicion(probe, graph, score, proposed, documents, shares)


def _kernel(z: Tensor, y: Tensor, probe: Tensor, sigma: float) -> Tensor:
    """The weight of every other document in the second round, (m, m), rows summing to one or zero."""
    if len(y) < 2:
        return z.new_zeros(len(y), len(y))
    kernel = torch.softmax(loo_log_kernel(log_affinity(z, sigma, NEIGHBORS), y, ALPHA), dim=1)  # (m, m)
    kernel.fill_diagonal_(0.0)
    p = (probe + kernel @ one_hot(y, probe.shape[1], z.dtype)) / 2  # (m, C)
    trust = (p.gather(1, y[:, None])[:, 0] / p.max(1).values).clamp_min(1e-3)  # (m,)
    kernel *= trust
    return kernel / kernel.sum(1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)


def _parts_for(count: int) -> int:
    return max(1, -(-count // PART))


def _parts(y: np.ndarray, seed: int) -> list[Tensor]:
    """Rows of the documents of each part: equal in size, classes divided in chunks of about `TOGETHER`."""
    rng, parts = np.random.default_rng([seed, 5]), _parts_for(len(y))
    if parts == 1:
        return [torch.arange(len(y))]
    chunks = []
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        chunks += np.array_split(rows, max(1, len(rows) // TOGETHER))
    shuffled = [chunks[place] for place in rng.permutation(len(chunks))]
    sizes, found = np.zeros(parts, dtype=np.int64), [[] for _ in range(parts)]  # type: ignore[var-annotated]
    for chunk in sorted(shuffled, key=len, reverse=True):
        smallest = int(sizes.argmin())
        found[smallest].append(chunk)
        sizes[smallest] += len(chunk)
    return [torch.from_numpy(np.sort(np.concatenate(part))) for part in found]
