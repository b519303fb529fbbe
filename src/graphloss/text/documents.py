"""Documents by class index, and how a batch of them becomes what the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Documents:
    """Texts with their class index; -1 is unlabeled."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def known(self) -> int:
        """How many have a label."""
        return sum(label >= 0 for label in self.labels)

    def labeled(self, most: int | None = None, *, seed: int = 0) -> Documents:
        """The labeled documents; with `most`, at most so many, as equal in number over the classes as they allow."""
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

    def __add__(self, other: Documents) -> Documents:
        """These documents, then the others."""
        return Documents([*self.texts, *other.texts], [*self.labels, *other.labels])

    def unlabeled(self) -> Documents:
        """The documents without a label."""
        rest = [text for text, label in zip(self.texts, self.labels, strict=True) if label < 0]
        return Documents(rest, [-1] * len(rest))
