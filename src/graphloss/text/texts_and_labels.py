"""Texts with their classes: one type from the reader to the trainer."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Self

import numpy as np

from graphloss.text.columns import Columns


@dataclass(frozen=True)
class Documents:
    """Texts with their class index; -1 is unlabeled.

    Attributes:
        texts: n texts.
        labels: n class indices, places in `label_names`; -1 is unlabeled.
        label_names: names of the classes; may be left out where they are not needed.
        warnings: for the user, from reading them.
        columns: of the file that they were read from.
    """

    texts: list[str]
    labels: list[int]
    label_names: list[str] = field(default_factory=list, compare=False)
    warnings: list[str] = field(default_factory=list, compare=False)
    columns: Columns = field(default=Columns(), compare=False)

    @classmethod
    def named(
        cls,
        texts: list[str],
        names: Sequence[str | None],
        label_names: Sequence[str] | None = None,
        *,
        warnings: Sequence[str] = (),
        columns: Columns = Columns(),  # noqa: B008 (frozen)
    ) -> Self:
        """Documents by the names of their classes, None for an unlabeled one.

        Without all classes, in order, as `label_names`, they are the sorted names that are there.
        """
        classes = sorted({name for name in names if name is not None}) if label_names is None else list(label_names)
        index: dict[str | None, int] = {name: place for place, name in enumerate(classes)} | {None: -1}
        return cls(texts, [index[name] for name in names], classes, list(warnings), columns)

    def __len__(self) -> int:
        """How many documents."""
        return len(self.texts)

    @property
    def labeled_count(self) -> int:
        """Number of labeled documents."""
        return sum(label >= 0 for label in self.labels)

    @property
    def names(self) -> list[str | None]:
        """The name of each document's class; None for an unlabeled one."""
        return [self.label_names[label] if label >= 0 else None for label in self.labels]

    def with_classes(self, label_names: Sequence[str]) -> Self:
        """The same documents, their labels places in other `label_names`, among which theirs all are."""
        other = Documents.named(self.texts, self.names, label_names)
        return replace(self, labels=other.labels, label_names=other.label_names)

    def take(self, rows: Iterable[int]) -> Self:
        """The documents of these rows."""
        rows = list(rows)
        return replace(self, texts=[self.texts[row] for row in rows], labels=[self.labels[row] for row in rows])

    def without_labels(self, rows: Iterable[int]) -> Self:
        """All documents, those of these rows unlabeled."""
        gone = set(rows)
        return replace(self, labels=[-1 if row in gone else label for row, label in enumerate(self.labels)])

    def labeled(self, most: int | None = None, *, seed: int = 0) -> Self:
        """The labeled documents; with `most`, a sample of at most so many, as balanced over the classes as possible."""
        rows = [row for row, label in enumerate(self.labels) if label >= 0]
        if most is not None and len(rows) > most:
            order = np.random.default_rng(seed).permutation(rows)
            turn: defaultdict[int, count[int]] = defaultdict(count)
            # how many of its class came before it, place: the first of each class, then the second, ...
            ranked = [(next(turn[self.labels[row]]), place) for place, row in enumerate(order)]
            rows = sorted(int(order[place]) for _, place in sorted(ranked)[:most])
        return self.take(rows)

    def unlabeled(self) -> Self:
        """The documents without a label."""
        return self.take(row for row, label in enumerate(self.labels) if label < 0)

    def __add__(self, other: Self) -> Self:
        """These documents, then the others, whose labels are places in the same `label_names`."""
        return replace(self, texts=[*self.texts, *other.texts], labels=[*self.labels, *other.labels])
