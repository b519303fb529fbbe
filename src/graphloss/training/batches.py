"""From documents to batches of tokens."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from graphloss.text.encoder import tokenize
from graphloss.text.texts_and_labels import Documents

Row = tuple[str, int, int]
"""Text, label and row of a document; a memory identifies documents by their row."""


def rows_of(documents: Documents) -> Any:
    """A list of `Row`, which torch takes as a data set."""
    return [*zip(documents.texts, documents.labels, range(len(documents)), strict=True)]


def collate(encoder: SentenceTransformer, rows: list[Row]) -> dict[str, Any]:
    """Arguments of `GraphModel.forward` for n documents; tokenized per batch, which saves memory."""
    texts, labels, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "features": tokenize(encoder, list(texts)) if texts else {},
        "labels": torch.tensor(labels, dtype=torch.long),
        "documents": torch.tensor(numbers, dtype=torch.long),
    }
