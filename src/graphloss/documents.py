"""Documents by class index, and how a batch of them becomes what the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from graphloss.encoder import tokenise

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Documents:
    """Texts with their class index; -1 is unlabelled."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def known(self) -> int:
        """How many have a label."""
        return sum(label >= 0 for label in self.labels)

    def labelled(self, most: int | None = None, *, seed: int = 0) -> Documents:
        """The labelled documents; with `most`, at most so many, as equal in number over the classes as they allow."""
        known = [row for row, label in enumerate(self.labels) if label >= 0]
        if most is not None and len(known) > most:
            order = np.random.default_rng(seed).permutation(known)
            turn: dict[int, int] = {}
            ranked = []  # (how many of its class came before it, place): the first of each class, then the second, ...
            for place, row in enumerate(order):
                label = self.labels[row]
                turn[label] = turn.get(label, -1) + 1
                ranked.append((turn[label], place))
            known = sorted(int(order[place]) for _, place in sorted(ranked)[:most])
        return Documents([self.texts[row] for row in known], [self.labels[row] for row in known])

    def unlabelled(self) -> Documents:
        """The documents without a label."""
        rest = [text for text, label in zip(self.texts, self.labels, strict=True) if label < 0]
        return Documents(rest, [-1] * len(rest))


class Rows(Dataset[tuple[str, int, int]]):
    """Documents as a torch data set of (text, label, row): a memory must know a document when it comes again."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, row: int) -> tuple[str, int, int]:
        return self.documents.texts[row], self.documents.labels[row], row


class Collator:
    """Rows of a batch -> what `GraphModel.forward` takes.

    Texts are tokenised here, so that nothing as large as the corpus is kept twice.
    """

    def __init__(self, encoder: SentenceTransformer) -> None:
        self.encoder = encoder

    def __call__(self, rows: list[tuple[str, int, int]]) -> dict[str, Any]:
        """Tokens, labels and numbers of n documents."""
        texts, labels, numbers = zip(*rows, strict=True) if rows else ((), (), ())
        return {
            "features": tokenise(self.encoder, list(texts)) if texts else {},
            "labels": torch.tensor(labels, dtype=torch.long),
            "documents": torch.tensor(numbers, dtype=torch.long),
        }
