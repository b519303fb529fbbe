"""From documents to batches of tokens."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch.utils.data import Dataset

from graphloss.text.documents import Documents
from graphloss.text.encoder import tokenize


class Rows(Dataset[tuple[str, int, int]]):
    """Documents as a torch data set of (text, label, row); a memory identifies documents by their row."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, row: int) -> tuple[str, int, int]:
        return self.documents.texts[row], self.documents.labels[row], row


class Collator:
    """Rows of a batch -> arguments of `GraphModel.forward`; tokenized per batch, which saves memory."""

    def __init__(self, encoder: SentenceTransformer) -> None:
        self.encoder = encoder

    def __call__(self, rows: list[tuple[str, int, int]]) -> dict[str, Any]:
        """Tokens, labels and numbers of n documents."""
        texts, labels, numbers = zip(*rows, strict=True) if rows else ((), (), ())
        return {
            "features": tokenize(self.encoder, list(texts)) if texts else {},
            "labels": torch.tensor(labels, dtype=torch.long),
            "documents": torch.tensor(numbers, dtype=torch.long),
        }
