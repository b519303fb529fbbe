"""From embeddings to class probabilities: the linear head, a graph of training documents, or both.

Letters: z (m, d) new documents and s (n, d) labeled training documents, all of unit length; Y (n, C) one-hot labels;
σ the bandwidth; γ the graph's share of the mix, ν that of the neighbors after self-training on unlabeled documents.

    head     p = softmax(z Wᵀ + b)
    graph    p_i = Σ_j K_ij Y_j,  K = softmax over j of (z_i · s_j) / σ²
    knn      the same over the k training documents nearest to i alone
    near     knn at the corpus graph's σ, 0.3, over labeled and kept unlabeled documents: where j has no label, Y_j is
             the head's prediction
    mix      p = (1 - ν) ((1 - γ) head + γ graph) + ν near

The graph is the harmonic function of one new node among labeled training nodes (Zhu, Ghahramani, Lafferty 2003,
equation 5, with a single unlabeled node): a new document never changes another's prediction. It also explains it:
labeled document j contributes (1 - ν) γ K_ij + ν K'_ij to the probability p_ic of its class c, K and K' the weights of
graph and neighbors, and the head all the rest, by its predictions for the new document and its unlabeled neighbors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.predictor_names import PREDICTORS

ROWS = 1024  # new documents at once: 1,024 by 100,000 similarities are 0.4 GB
NEIGHBORS = 10  # of knn, and of the mix with unlabeled documents


class Evidence(NamedTuple):
    """Training documents that support the predictions for m documents, in descending order of their share.

    Attributes:
        documents: (m, k) rows of the support; -1 beyond the last document that contributes.
        shares: (m, k) share of each in the predicted class's probability; 0 where there is none.
        head: (m,) the head's share, its predictions for unlabeled neighbors included; the rest belongs to documents
            that are not listed.
    """

    documents: Tensor
    shares: Tensor
    head: Tensor


@dataclass(frozen=True)
class Predictor:
    """A linear head and a graph of training documents over the same unit-length embeddings.

    Attributes:
        weight: (C, d) of the head.
        bias: (C,) of the head.
        support: (n, d) embeddings of the labeled training documents.
        support_labels: (n,) their classes.
        sigma: bandwidth of the graph.
        graph_share: γ, share of the graph in its mix with the head.
        kind: what predicts: "head", "graph", "knn" or "mix".
        unlabeled_support: (m, d) embeddings of unlabeled training documents; None without any.
        neighbor_weight: ν, share of the neighbors in the mix; 0 without unlabeled support.
    """

    weight: Tensor
    bias: Tensor
    support: Tensor
    support_labels: Tensor
    sigma: float
    graph_share: float
    kind: str = "mix"
    unlabeled_support: Tensor | None = None
    neighbor_weight: float = 0.0

    def by(self, kind: str | None) -> Self:
        """The same with another `kind`; None leaves it as it is."""
        if kind is None:
            return self
        if kind not in PREDICTORS:
            raise ValueError(f"unknown predictor {kind!r}; choose one of {', '.join(PREDICTORS)}")
        return replace(self, kind=kind)

    @property
    def share(self) -> float:
        """Share of the graph in its mix with the head, from 0 to 1: γ of the mix, all or nothing otherwise."""
        return {"head": 0.0, "mix": self.graph_share}.get(self.kind, 1.0)

    def head(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the head, of embeddings (m, d)."""
        return (z.float() @ self.weight.T + self.bias).softmax(1)

    def graph(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the labels of similar labeled documents, of (m, d)."""
        return torch.cat([self._votes(cosine, None) @ self._labels for cosine in _cosines(z, self.support)])

    def probabilities(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) of embeddings (m, d), float32."""
        found = self.head(z)
        if not (self.share or self._neighbor_weight):
            return found
        parts = []
        for p, cosine in zip(found.split(ROWS), _cosines(z, self._searched), strict=True):
            if self.share:
                p = torch.lerp(p, self._votes(cosine[:, : len(self.support)], self._k) @ self._labels, self.share)
            parts.append(
                torch.lerp(p, self._neighbor_mean(cosine), self._neighbor_weight) if self._neighbor_weight else p
            )
        return torch.cat(parts)

    def evidence(self, z: Tensor, k: int = 5) -> Evidence:
        """The k labeled training documents that contribute most to the prediction for each of m embeddings (m, d).

        They all have the predicted label. With the kind "head" there are no supporting documents.
        """
        p = self.probabilities(z)  # (m, C)
        predicted = p.argmax(1)  # (m,)
        p = p.gather(1, predicted[:, None])  # (m, 1)
        n = len(self.support)
        k = min(k, n)
        places, shares, heads = [], [], []
        for start, cosine in enumerate(_cosines(z, self._searched)):
            rows = slice(start * ROWS, start * ROWS + len(cosine))
            votes = self._votes(cosine[:, :n], self._k)
            parts = (1.0 - self._neighbor_weight) * self.share * votes  # (rows, n)
            if self._neighbor_weight:
                near, weights = _nearest(cosine)
                labeled = near < n  # (rows, k)
                weights = torch.where(labeled, self._neighbor_weight * weights, 0.0)
                parts.scatter_add_(1, torch.where(labeled, near, 0), weights)
            own = self.support_labels[None, :] == predicted[rows, None]  # (rows, n)
            parts = torch.where(own, parts, 0.0) / p[rows]
            top = parts.topk(k, dim=1)
            places.append(torch.where(top.values > 0, top.indices, -1))
            shares.append(top.values)
            uses_head = self.share < 1 or self._neighbor_weight > 0
            heads.append((1.0 - parts.sum(1)).clamp_min(0.0) if uses_head else torch.zeros(len(votes)))
        return Evidence(torch.cat(places), torch.cat(shares), torch.cat(heads))

    def left_out(self) -> Tensor:
        """Leave-one-out probabilities (n, C) of the graph for its labeled documents; uniform for a single one."""
        if len(self.support) < 2:
            return torch.full_like(self._labels, 1 / len(self.weight))
        parts = []
        for start, cosine in enumerate(_cosines(self.support, self.support)):
            cosine.diagonal(start * ROWS).fill_(-torch.inf)
            parts.append(self._votes(cosine, None) @ self._labels)
        return torch.cat(parts)

    @cached_property
    def _labels(self) -> Tensor:
        """Y (n, C)."""
        return torch.nn.functional.one_hot(self.support_labels.long(), len(self.weight)).float()

    @cached_property
    def _all_support(self) -> Tensor:
        """Embeddings of labeled and unlabeled documents, (n + m, d)."""
        return self.support if self.unlabeled_support is None else torch.cat([self.support, self.unlabeled_support])

    @cached_property
    def _targets(self) -> Tensor:
        """One-hot labels, or the head's predictions for unlabeled documents, (n + m, C)."""
        return (
            self._labels
            if self.unlabeled_support is None
            else torch.cat([self._labels, self.head(self.unlabeled_support)])
        )

    @property
    def _neighbor_weight(self) -> float:
        """ν of the mix; the other kinds do not use the neighbors."""
        return self.neighbor_weight if self.kind == "mix" else 0.0

    @property
    def _k(self) -> int | None:
        """Documents of the graph: None for all of them, as every kind but knn uses."""
        return NEIGHBORS if self.kind == "knn" else None

    @property
    def _searched(self) -> Tensor:
        """Embeddings of the documents that a new one is compared with, the labeled ones first."""
        return self._all_support if self._neighbor_weight else self.support

    def _votes(self, cosine: Tensor, k: int | None) -> Tensor:
        """K (rows, n) of similarities (rows, n): of the k largest alone, or of all."""
        x = cosine / self.sigma**2
        if k is not None and k < x.shape[1]:
            x = x.masked_fill(x < x.topk(k, dim=1).values[:, -1:], -torch.inf)
        return x.softmax(1)

    def _neighbor_mean(self, cosine: Tensor) -> Tensor:
        """Probabilities (rows, C) by the nearest of all documents, of similarities (rows, n + m)."""
        places, weights = _nearest(cosine)
        return (weights[:, :, None] * self._targets[places]).sum(1)


def _cosines(z: Tensor, documents: Tensor) -> Iterator[Tensor]:
    """Similarities of `ROWS` of (m, d) after another to documents (n, d), (rows, n)."""
    for rows in z.float().split(ROWS):
        yield rows @ documents.T


def _nearest(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the `NEIGHBORS` largest similarities (rows, n) and their weights, both (rows, k)."""
    largest, places = cosine.topk(min(NEIGHBORS, cosine.shape[1]), dim=1)
    return places, (largest / SIGMA**2).softmax(1)
