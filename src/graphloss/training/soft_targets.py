"""Targets of the corpus graph for the unlabeled documents of a batch."""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from graphloss.inference.corpus_graph import certainty
from graphloss.inference.pseudo_labels import pseudo_labels
from graphloss.text.documents import Documents
from graphloss.text.encoder import encode


class SoftTargets(nn.Module):
    """What the corpus graph says of the unlabeled documents at the moment, as targets for those in a batch.

    They are part of a checkpoint: a training that is resumed within an epoch goes on with those that it began with.

    Args:
        documents: all n training documents.
        classes: C.
        weight: s, of their cross-entropy in the last epoch.
    """

    targets: Tensor
    """(n, C), zeros in the first epoch."""
    share: Tensor
    """Of the weight, in this epoch; 0-d."""

    def __init__(self, documents: Documents, classes: int, weight: float) -> None:
        super().__init__()
        self.documents, self.classes, self.weight = documents, classes, weight
        self.register_buffer("targets", torch.zeros(len(documents), classes))
        self.register_buffer("share", torch.zeros(()))

    def rebuild(self, encoder: SentenceTransformer, share: float) -> None:
        """Ask the graph of the encoder's embeddings; from now on the targets have `share` of the weight."""
        self.share.fill_(share)
        if share > 0:
            z, labels = encode(encoder, self.documents.texts, shared=True), torch.tensor(self.documents.labels)
            self.targets.copy_(pseudo_labels(z, labels, self.classes, shared=True).targets)

    def loss(self, logits: Tensor, labels: Tensor, documents: Tensor) -> Tensor:
        """The weighted cross-entropy of the unlabeled documents of a batch; 0 where there are none.

        Args:
            logits: (b, C).
            labels: (b,), -1 for unlabeled.
            documents: (b,) their places among all documents.
        """
        hidden = labels < 0
        if self.share == 0 or not bool(hidden.any()):
            return logits.sum() * 0.0
        t = self.targets[documents[hidden]].to(logits)  # (h, C)
        each = -(t * functional.log_softmax(logits[hidden], dim=1)).sum(dim=1)  # (h,)
        return self.weight * self.share * (certainty(t) * each).mean()
