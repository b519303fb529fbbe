"""From embeddings to class probabilities: the linear head, the graph of the training documents, or the mean of both.

Letters: z (m, d) new documents and s (n, d) training documents, all of unit length; Y (n, C) one-hot labels;
σ the bandwidth.

    head     p = softmax(z Wᵀ + b)
    graph    p_i = Σ_j K_ij Y_j,  K = softmax over j of (z_i · s_j) / σ²

The graph is the harmonic function of one new node beside training nodes whose labels are all shown (Zhu, Ghahramani,
Lafferty 2003, equation 5, with a single unlabelled node): a new document never changes another's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

ROWS = 1024  # new documents at once: 1,024 by 100,000 similarities are 0.4 GB


@dataclass(frozen=True)
class Predictor:
    """A linear head and a graph of training documents over the same unit-length embeddings.

    Attributes:
        weight: (C, d) of the head.
        bias: (C,) of the head.
        support: (n, d) embeddings of the labelled training documents.
        support_labels: (n,) their classes.
        sigma: bandwidth of the graph.
        graph_share: share of the graph in the probabilities; the rest is the head's.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    support: torch.Tensor
    support_labels: torch.Tensor
    sigma: float
    graph_share: float

    def head(self, z: torch.Tensor) -> torch.Tensor:
        """Probabilities (m, C) by the head, of embeddings (m, d)."""
        return (z.float() @ self.weight.T + self.bias).softmax(1)

    def graph(self, z: torch.Tensor) -> torch.Tensor:
        """Probabilities (m, C) by the labels of similar training documents, of embeddings (m, d)."""
        labels = torch.nn.functional.one_hot(self.support_labels.long(), len(self.weight)).float()  # (n, C)
        parts = [(rows @ self.support.T / self.sigma**2).softmax(1) @ labels for rows in z.float().split(ROWS)]
        return torch.cat(parts) if parts else z.new_empty(0, len(self.weight))

    def probabilities(self, z: torch.Tensor) -> torch.Tensor:
        """Probabilities (m, C) of embeddings (m, d), float32."""
        found = self.head(z)
        return torch.lerp(found, self.graph(z), self.graph_share) if self.graph_share else found
