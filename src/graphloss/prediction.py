"""From embeddings to class probabilities: the linear head, a graph of training documents, or both.

Letters: z (m, d) new documents and s (n, d) labelled training documents, all of unit length; Y (n, C) one-hot labels;
σ the bandwidth; γ the graph's share of the mix, ν that of the neighbours where unlabelled documents taught the head.

    head     p = softmax(z Wᵀ + b)
    graph    p_i = Σ_j K_ij Y_j,  K = softmax over j of (z_i · s_j) / σ²
    knn      the same over the k training documents nearest to i alone
    near     knn at the corpus graph's σ, 0.3, over labelled and kept unlabelled documents: where j has no label, Y_j is
             the head's answer to it
    mix      p = (1 - ν) ((1 - γ) head + γ graph) + ν near

The graph is the harmonic function of one new node beside training nodes whose labels are all shown (Zhu, Ghahramani,
Lafferty 2003, equation 5, with a single unlabelled node): a new document never changes another's answer. It also says
why: labelled document j has given (1 - ν) γ K_ij + ν K'_ij of the probability p_ic of its class c, K and K' the weights
of graph and neighbours, and the head all the rest: it answers for the new document and for its unlabelled neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from graphloss.corpus_graph import SIGMA

ROWS = 1024  # new documents at once: 1,024 by 100,000 similarities are 0.4 GB
NEIGHBOURS = 10  # of knn, and of the mix with unlabelled documents


class Evidence(NamedTuple):
    """Training documents that carried the answers to m documents, the heaviest first.

    Attributes:
        documents: (m, k) places among the training documents; -1 beyond the last that had a part in the answer.
        shares: (m, k) share of each in its answer's probability; 0 where there is none.
        head: (m,) the head's share, what it says of unlabelled neighbours included; the rest belongs to documents that
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
        support: (n, d) embeddings of the labelled training documents.
        support_labels: (n,) their classes.
        sigma: bandwidth of the graph.
        graph_share: γ, share of the graph in its mix with the head.
        kind: which of them answers: "head", "graph", "knn" or "mix".
        pile: (m, d) embeddings of unlabelled training documents; None where none is asked.
        near_share: ν, share of the neighbours in the mix; 0 without a pile.
    """

    weight: Tensor
    bias: Tensor
    support: Tensor
    support_labels: Tensor
    sigma: float
    graph_share: float
    kind: str = "mix"
    pile: Tensor | None = None
    near_share: float = 0.0

    def by(self, kind: str | None) -> Predictor:
        """The same, answering by `kind`; None leaves it as it is.

        Raises:
            ValueError: there is no such kind.
        """
        if kind is None:
            return self
        if kind not in ("head", "graph", "knn", "mix"):
            raise ValueError(f"unknown predictor {kind!r}; choose one of head, graph, knn, mix")
        return replace(self, kind=kind)

    @property
    def share(self) -> float:
        """Share of the graph in its mix with the head, from 0 to 1: γ of the mix, all or nothing otherwise."""
        return {"head": 0.0, "mix": self.graph_share}.get(self.kind, 1.0)

    def head(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the head, of embeddings (m, d)."""
        return (z.float() @ self.weight.T + self.bias).softmax(1)

    def graph(self, z: Tensor, k: int | None = None) -> Tensor:
        """Probabilities (m, C) by the labels of similar labelled documents, the k nearest or all, of (m, d)."""
        parts = [votes @ self._labels for votes in self._votes(z, k)]
        return torch.cat(parts) if parts else z.new_empty(0, len(self.weight))

    def near(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the nearest training documents, labelled or not, of (m, d)."""
        parts = [(weights[:, :, None] * self._answers[places]).sum(1) for places, weights in self._nearest(z)]
        return torch.cat(parts) if parts else z.new_empty(0, len(self.weight))

    def probabilities(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) of embeddings (m, d), float32."""
        if self.share == 1:
            found = self.graph(z, self._k)
        else:
            found = self.head(z)
            found = torch.lerp(found, self.graph(z), self.share) if self.share else found
        return torch.lerp(found, self.near(z), self._near_share) if self._near_share else found

    def evidence(self, z: Tensor, k: int = 5) -> Evidence:
        """The k training documents that did most for the answer to each of m embeddings (m, d).

        They all have the label of the answer. The head alone asks no document, so that it has no evidence but itself.
        """
        p = self.probabilities(z)  # (m, C)
        answer = p.argmax(1)  # (m,)
        p = p.gather(1, answer[:, None])  # (m, 1)
        n = len(self.support)
        k = min(k, n)
        near = self._nearest(z) if self._near_share else None
        places, shares, heads = [], [], []
        for start, votes in enumerate(self._votes(z, self._k)):
            rows = slice(start * ROWS, start * ROWS + len(votes))
            given = (1.0 - self._near_share) * self.share * votes  # (rows, n)
            if near is not None:
                beside, weights = next(near)
                labelled = beside < n  # (rows, k)
                weights = torch.where(labelled, self._near_share * weights, 0.0)
                given.scatter_add_(1, torch.where(labelled, beside, 0), weights)
            own = self.support_labels[None, :] == answer[rows, None]  # (rows, n)
            given = torch.where(own, given, 0.0) / p[rows]
            top = given.topk(k, dim=1)
            places.append(torch.where(top.values > 0, top.indices, -1))
            shares.append(top.values)
            asks_head = self.share < 1 or self._near_share > 0
            heads.append((1.0 - given.sum(1)).clamp_min(0.0) if asks_head else torch.zeros(len(votes)))
        if not places:
            return Evidence(torch.empty(0, k, dtype=torch.long), torch.empty(0, k), torch.empty(0))
        return Evidence(torch.cat(places), torch.cat(shares), torch.cat(heads))

    def left_out(self) -> Tensor:
        """What the graph says of each training document, (n, C), by the others alone; uniform where there are none."""
        if len(self.support) < 2:
            return torch.full_like(self._labels, 1 / len(self.weight))
        parts = []
        for start, rows in enumerate(self.support.split(ROWS)):
            x = rows @ self.support.T / self.sigma**2  # (rows, n)
            x.diagonal(start * ROWS).fill_(-torch.inf)
            parts.append(x.softmax(1) @ self._labels)
        return torch.cat(parts)

    @cached_property
    def _labels(self) -> Tensor:
        """Y (n, C)."""
        return torch.nn.functional.one_hot(self.support_labels.long(), len(self.weight)).float()

    @cached_property
    def _everyone(self) -> Tensor:
        """Embeddings of labelled and unlabelled documents, (n + m, d)."""
        return self.support if self.pile is None else torch.cat([self.support, self.pile])

    @cached_property
    def _answers(self) -> Tensor:
        """What each of them says, (n + m, C): its label, or the head's answer to it."""
        return self._labels if self.pile is None else torch.cat([self._labels, self.head(self.pile)])

    @property
    def _near_share(self) -> float:
        """ν of the mix; nothing else asks the neighbours."""
        return self.near_share if self.kind == "mix" else 0.0

    @property
    def _k(self) -> int | None:
        """Of the graph: all documents, but for knn."""
        return NEIGHBOURS if self.kind == "knn" else None

    def _votes(self, z: Tensor, k: int | None) -> Iterator[Tensor]:
        """K of `ROWS` documents after another, (rows, n)."""
        for rows in z.float().split(ROWS) if len(z) else ():
            x = rows @ self.support.T / self.sigma**2  # (rows, n)
            if k is not None and k < len(self.support):
                x = x.masked_fill(x < x.topk(k, dim=1).values[:, -1:], -torch.inf)
            yield x.softmax(1)

    def _nearest(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Places among labelled and unlabelled documents and weights, (rows, k), of `ROWS` documents after another."""
        everyone = self._everyone
        k = min(NEIGHBOURS, len(everyone))
        for rows in z.float().split(ROWS) if len(z) else ():
            cosine, places = (rows @ everyone.T).topk(k, dim=1)
            yield places, (cosine / SIGMA**2).softmax(1)
