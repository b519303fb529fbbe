"""From embeddings to class probabilities: the linear head, the graph of the training documents, or both.

Letters: z (m, d) new documents and s (n, d) training documents, all of unit length; Y (n, C) one-hot labels;
σ the bandwidth; γ the graph's share of the mix.

    head     p = softmax(z Wᵀ + b)
    graph    p_i = Σ_j K_ij Y_j,  K = softmax over j of (z_i · s_j) / σ²
    knn      the same over the k training documents nearest to i alone
    mix      p = (1 - γ) head + γ graph

The graph is the harmonic function of one new node beside training nodes whose labels are all shown (Zhu, Ghahramani,
Lafferty 2003, equation 5, with a single unlabelled node): a new document never changes another's answer. It also says
why: document j has given γ K_ij of the probability p_ic of its class c, and the head (1 - γ) head_ic of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 1024  # new documents at once: 1,024 by 100,000 similarities are 0.4 GB
NEIGHBOURS = 10  # of knn


class Evidence(NamedTuple):
    """Training documents that carried the answers to m documents, the heaviest first.

    Attributes:
        documents: (m, k) places among the training documents; -1 beyond the last that had a part in the answer.
        shares: (m, k) share of each in its answer's probability; 0 where there is none.
        head: (m,) the head's share; the rest belongs to documents that are not listed.
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
        graph_share: share of the graph in the mix; the rest is the head's.
        kind: which of them answers: "head", "graph", "knn" or "mix".
    """

    weight: Tensor
    bias: Tensor
    support: Tensor
    support_labels: Tensor
    sigma: float
    graph_share: float
    kind: str = "mix"

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
        """Share of the training documents in the answer, from 0 to 1: γ of the mix, all or nothing otherwise."""
        return {"head": 0.0, "mix": self.graph_share}.get(self.kind, 1.0)

    def head(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) by the head, of embeddings (m, d)."""
        return (z.float() @ self.weight.T + self.bias).softmax(1)

    def graph(self, z: Tensor, k: int | None = None) -> Tensor:
        """Probabilities (m, C) by the labels of similar training documents, the k nearest or all, of (m, d)."""
        labels = torch.nn.functional.one_hot(self.support_labels.long(), len(self.weight)).float()  # (n, C)
        parts = [votes @ labels for votes in self._votes(z, k)]
        return torch.cat(parts) if parts else z.new_empty(0, len(self.weight))

    def probabilities(self, z: Tensor) -> Tensor:
        """Probabilities (m, C) of embeddings (m, d), float32."""
        if self.share == 1:
            return self.graph(z, self._k)
        found = self.head(z)
        return torch.lerp(found, self.graph(z), self.share) if self.share else found

    def evidence(self, z: Tensor, k: int = 5) -> Evidence:
        """The k training documents that did most for the answer to each of m embeddings (m, d).

        They all have the label of the answer. The head alone asks no document, so that it has no evidence but itself.
        """
        p = self.probabilities(z)  # (m, C)
        answer = p.argmax(1)  # (m,)
        p = p.gather(1, answer[:, None])  # (m, 1)
        k = min(k, len(self.support))
        places, shares = [], []
        for start, votes in enumerate(self._votes(z, self._k)):
            rows = slice(start * ROWS, start * ROWS + len(votes))
            own = self.support_labels[None, :] == answer[rows, None]  # (rows, n)
            top = torch.where(own, votes, 0.0).topk(k, dim=1)
            part = self.share * top.values / p[rows]  # (rows, k)
            places.append(torch.where(part > 0, top.indices, -1))
            shares.append(part)
        if not places:
            return Evidence(torch.empty(0, k, dtype=torch.long), torch.empty(0, k), torch.empty(0))
        head = (1 - self.share) * self.head(z).gather(1, answer[:, None]) / p
        return Evidence(torch.cat(places), torch.cat(shares), head[:, 0])

    def left_out(self) -> Tensor:
        """What the graph says of each training document, (n, C), by the others alone; uniform where there are none."""
        labels = torch.nn.functional.one_hot(self.support_labels.long(), len(self.weight)).float()  # (n, C)
        if len(self.support) < 2:
            return torch.full_like(labels, 1 / len(self.weight))
        parts = []
        for start, rows in enumerate(self.support.split(ROWS)):
            x = rows @ self.support.T / self.sigma**2  # (rows, n)
            x.diagonal(start * ROWS).fill_(-torch.inf)
            parts.append(x.softmax(1) @ labels)
        return torch.cat(parts)

    @property
    def _k(self) -> int | None:
        return NEIGHBOURS if self.kind == "knn" else None

    def _votes(self, z: Tensor, k: int | None) -> Iterator[Tensor]:
        """K of `ROWS` documents after another, (rows, n)."""
        for rows in z.float().split(ROWS) if len(z) else ():
            x = rows @ self.support.T / self.sigma**2  # (rows, n)
            if k is not None and k < len(self.support):
                x = x.masked_fill(x < x.topk(k, dim=1).values[:, -1:], -torch.inf)
            yield x.softmax(1)
