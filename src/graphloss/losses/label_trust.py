"""Trust in labels: a label that the others contradict weighs less, in the graph loss and in the cross-entropy.

Letters as in `graph`; N labeled documents of a training, z_j their last embeddings, constants::

    p_i = sum_{j != i, y_j = y_i} W_ij / sum_{j != i} W_ij      as leave-one-out G-Loss has it
    t_i = p_i^q / mean of p_j^q over the documents of i's class

p_i is how probable the others make i's label. Without the division small classes would be trusted less, for they have
fewer documents to vouch for each other; with it the classes keep their shares of the loss. For q = 1, p_i (-log p_i)
has the gradient of a bounded loss (generalized cross-entropy; Zhang and Sabuncu 2018); here p_i comes from the
embeddings of all labeled documents, so it can weigh the cross-entropy of a head as well, which by itself learns wrong
labels by heart. docs/research/loss_trust.md measures it.
"""

import torch
from torch import Tensor, nn

from graphloss.losses.graph import MASKED, log_share, no_autocast, unit
from graphloss.losses.sigma import AUTO_SIGMA

POWER = 2.0
"""q: of 0.7, 1 and 2 the best at a fifth of wrong labels (docs/research/loss_trust.md)."""


TILE = 2**24
"""Similarities that are computed at once: of float32, 64 MiB."""


class LabelTrust(nn.Module):
    """The last embedding of every labeled document of a training, and the trust in the labels of a batch by them.

    All of it is in the `state_dict`, so a resumed training goes on with the same trust.

    Args:
        embeddings: (N, d) before the training, any floating dtype, any length of rows; a row per distinct document,
            in the order of `training.batches.distinct`.
        labels: (N,) class indices.
        sigma: bandwidth of the graph.
        power: q; 0 trusts all alike.

    Examples:
        >>> z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> trust = LabelTrust(z, torch.tensor([0, 0, 1, 1, 1]))
        >>> [round(float(each), 1) for each in trust(z[2:], torch.tensor([1, 1, 1]), torch.tensor([2, 3, 4]))]
        [0.0, 1.5, 1.5]
    """

    embeddings: Tensor
    labels: Tensor
    log_p: Tensor

    def __init__(self, embeddings: Tensor, labels: Tensor, *, sigma: float = AUTO_SIGMA, power: float = POWER) -> None:
        super().__init__()
        self.sigma, self.power = sigma, power
        self.register_buffer("embeddings", unit(embeddings.detach()).float())  # (N, d)
        self.register_buffer("labels", labels.clone())  # (N,)
        log_p = self._log_p(torch.arange(len(labels), device=labels.device))
        self.register_buffer("log_p", log_p)  # (N,), of when a document was last seen

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor, documents: Tensor) -> Tensor:
        """Remember the embeddings of a batch, and weigh its labels.

        Args:
            embeddings: (n, d), any floating dtype, any length of rows; a row that is not finite is not remembered.
            labels: (n,) class indices, those of the documents, or -1 for unlabeled.
            documents: (n,) numbers from 0 to N - 1; copies of a document share one.

        Returns:
            (n,) weights, of mean 1 in a class; 1 for the only document of its class, and for unlabeled ones.
        """
        weights = torch.ones(len(labels), dtype=self.log_p.dtype, device=self.log_p.device)
        rows = (labels >= 0).nonzero()[:, 0]
        seen = rows[embeddings[rows].isfinite().all(dim=1)]
        with no_autocast(embeddings):
            z, numbers = unit(embeddings[seen]).to(self.embeddings), documents[seen]
            last = ~(numbers[:, None] == numbers[None, :]).triu(1).any(dim=1)  # of the copies of a document, the last
            z, numbers = z[last], numbers[last]
            self.embeddings[numbers] = z
            self.log_p[numbers] = self._log_p(numbers)
            weights[rows] = self._trust()[documents[rows]]
        return weights

    def _trust(self) -> Tensor:
        """Weights t_i of all documents, (N,)."""
        count = torch.bincount(self.labels)  # (C,)
        powers = self.power * self.log_p  # (N,), their logarithms
        highest = powers.new_full((len(count),), -torch.inf).scatter_reduce_(0, self.labels, powers, "amax")  # (C,)
        powers = (powers - highest[self.labels]).exp()  # within a class, so that they do not all underflow
        mean = powers.new_zeros(len(count)).index_add_(0, self.labels, powers) / count.clamp_min(1)  # (C,)
        return powers / mean[self.labels]

    def _log_p(self, numbers: Tensor) -> Tensor:
        """Log-probability p_i of m documents, (m,)."""
        parts = numbers.split(max(1, TILE // max(1, len(self.labels))))
        return torch.cat([self._log_p_of_tile(rows) for rows in parts])

    def _log_p_of_tile(self, rows: Tensor) -> Tensor:
        logw = (self.embeddings[rows] @ self.embeddings.T - 1.0) / self.sigma**2  # (m, N)
        logw[torch.arange(len(rows), device=logw.device), rows] = MASKED
        return log_share(logw, self.labels[rows][:, None] == self.labels[None, :])
