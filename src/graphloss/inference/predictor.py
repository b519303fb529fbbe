"""From embeddings to class probabilities: the linear head, a graph of training documents, or both.

Letters: z (m, d) new documents and s (n, d) labeled training documents, all of unit length; Y (n, C) one-hot labels;
σ the bandwidth; γ the graph's share of the mix, ν that of the neighbors where unlabeled documents taught the head.

    head     p = softmax(z Wᵀ + b)
    graph    p_i = Σ_j K_ij Y_j,  K = softmax over j of (z_i · s_j) / σ²
    knn      the same over the k training documents nearest to i alone
    near     knn at the corpus graph's σ, 0.3, over labeled and kept unlabeled documents: where j has no label, Y_j is
             the head's answer to it
    mix      p = (1 - ν) ((1 - γ) head + γ graph) + ν near

The graph is the harmonic function of one new node beside training nodes whose labels are all shown (Zhu, Ghahramani,
Lafferty 2003, equation 5, with a single unlabeled node): a new document never changes another's answer. It also says
why: labeled document j has given (1 - ν) γ K_ij + ν K'_ij of the probability p_ic of its class c, K and K' the weights
of graph and neighbors, and the head all the rest: it answers for the new document and for its unlabeled neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.predictor_names import PREDICTORS

ROWS = 1024  # new documents at once: 1,024 by 100,000 similarities are 0.4 GB
NEIGHBORS = 10  # of knn, and of the mix with unlabeled documents


class Evidence(NamedTuple):
    """Training documents that carried the answers to m documents, the heaviest first.

    Attributes:
        documents: (m, k) places among the training documents; -1 beyond the last that had a part in the answer.
        shares: (m, k) share of each in its answer's probability; 0 where there is none.
        head: (m,) the head's share, what it says of unlabeled neighbors included; the rest belongs to documents that
            are not listed.
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
        kind: which of them answers: "head", "graph", "knn" or "mix".
        unlabeled_support: (m, d) embeddings of unlabeled training documents; None where none is asked.
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

    def by(self, kind: str | None) -> Predictor:
        """The same, answering by `kind`; None leaves it as it is.

        Raises:
            ValueError: there is no such kind.
        """
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

    def near(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the nearest training documents, labeled or not, of (m, d)."""
        return torch.cat([self._said_beside(cosine) for cosine in _cosines(z, self._everyone)])

    def probabilities(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) of embeddings (m, d), float32."""
        found = self.head(z)
        if not (self.share or self._neighbor_weight):
            return found
        parts = []
        for p, cosine in zip(found.split(ROWS), _cosines(z, self._asked), strict=True):
            if self.share:
                p = torch.lerp(p, self._votes(cosine[:, : len(self.support)], self._k) @ self._labels, self.share)
            parts.append(
                torch.lerp(p, self._said_beside(cosine), self._neighbor_weight) if self._neighbor_weight else p
            )
        return torch.cat(parts)

    def evidence(self, z: Tensor, k: int = 5) -> Evidence:
        """The k training documents that did most for the answer to each of m embeddings (m, d).

        They all have the label of the answer. The head alone asks no document, so that it has no evidence but itself.
        """
        p = self.probabilities(z)  # (m, C)
        answer = p.argmax(1)  # (m,)
        p = p.gather(1, answer[:, None])  # (m, 1)
        n = len(self.support)
        k = min(k, n)
        places, shares, heads = [], [], []
        for start, cosine in enumerate(_cosines(z, self._asked)):
            rows = slice(start * ROWS, start * ROWS + len(cosine))
            votes = self._votes(cosine[:, :n], self._k)
            given = (1.0 - self._neighbor_weight) * self.share * votes  # (rows, n)
            if self._neighbor_weight:
                beside, weights = _nearest(cosine)
                labeled = beside < n  # (rows, k)
                weights = torch.where(labeled, self._neighbor_weight * weights, 0.0)
                given.scatter_add_(1, torch.where(labeled, beside, 0), weights)
            own = self.support_labels[None, :] == answer[rows, None]  # (rows, n)
            given = torch.where(own, given, 0.0) / p[rows]
            top = given.topk(k, dim=1)
            places.append(torch.where(top.values > 0, top.indices, -1))
            shares.append(top.values)
            asks_head = self.share < 1 or self._neighbor_weight > 0
            heads.append((1.0 - given.sum(1)).clamp_min(0.0) if asks_head else torch.zeros(len(votes)))
        return Evidence(torch.cat(places), torch.cat(shares), torch.cat(heads))

    def left_out(self) -> Tensor:
        """What the graph says of each training document, (n, C), by the others alone; uniform where there are none."""
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
    def _everyone(self) -> Tensor:
        """Embeddings of labeled and unlabeled documents, (n + m, d)."""
        return self.support if self.unlabeled_support is None else torch.cat([self.support, self.unlabeled_support])

    @cached_property
    def _answers(self) -> Tensor:
        """What each of them says, (n + m, C): its label, or the head's answer to it."""
        return (
            self._labels
            if self.unlabeled_support is None
            else torch.cat([self._labels, self.head(self.unlabeled_support)])
        )

    @property
    def _neighbor_weight(self) -> float:
        """ν of the mix; nothing else asks the neighbors."""
        return self.neighbor_weight if self.kind == "mix" else 0.0

    @property
    def _k(self) -> int | None:
        """Of the graph: all documents, but for knn."""
        return NEIGHBORS if self.kind == "knn" else None

    @property
    def _asked(self) -> Tensor:
        """Embeddings of the documents whose similarity to a new one is asked for, the labeled ones first."""
        return self._everyone if self._neighbor_weight else self.support

    def _votes(self, cosine: Tensor, k: int | None) -> Tensor:
        """K (rows, n) of similarities (rows, n): of the k largest alone, or of all."""
        x = cosine / self.sigma**2
        if k is not None and k < x.shape[1]:
            x = x.masked_fill(x < x.topk(k, dim=1).values[:, -1:], -torch.inf)
        return x.softmax(1)

    def _said_beside(self, cosine: Tensor) -> Tensor:
        """What the nearest of all documents say, (rows, C), of similarities (rows, n + m)."""
        places, weights = _nearest(cosine)
        return (weights[:, :, None] * self._answers[places]).sum(1)


def _cosines(z: Tensor, documents: Tensor) -> Iterator[Tensor]:
    """Similarities of `ROWS` of (m, d) after another to documents (n, d), (rows, n)."""
    for rows in z.float().split(ROWS):
        yield rows @ documents.T


def _nearest(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the `NEIGHBORS` largest similarities (rows, n) and their weights, both (rows, k)."""
    largest, places = cosine.topk(min(NEIGHBORS, cosine.shape[1]), dim=1)
    return places, (largest / SIGMA**2).softmax(1)
