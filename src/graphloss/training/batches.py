"""Class-aware batches: documents share a batch with others of their class, and each is in one batch per epoch.

A loss on a graph of documents has no gradient from a batch of one class, nor from a document whose class has no other
member in the batch. In random batches such documents are frequent as soon as classes are many or unequal. Here the
documents of a class stay together in small groups:

1. each class is shuffled and divided into groups of about g documents, a small class left whole;
2. the groups of a class are spread evenly over the epoch, at random within their interval of it, and the sequence of
   all groups is cut into batches of near-equal size, at a group's edge where there is room.

Every process tokenizes its part of a batch.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from graphloss import distributed
from graphloss.text.encoder import tokenize
from graphloss.text.texts_and_labels import Documents


class ClassAwareBatchSampler:
    """Lists of document indices, one per batch, for the `batch_sampler` of a `torch.utils.data.DataLoader`.

    In every epoch:

    - every document is in exactly one batch;
    - there are `ceil(n / batch_size)` batches, none larger than `batch_size`, and their sizes differ by a few documents
      at most: there is no small remainder at the end;
    - of a class with two or more documents, a batch seldom has just one: in batches of 32, 0.2% of the documents of R52
      and Ohsumed (docs/research/experiments.md);
    - the batches are a function of the labels, the arguments, the seed and the epoch alone.

    Unlike samplers that draw classes first, this one neither drops nor repeats documents.

    Args:
        labels: (n,) class indices.
        batch_size: most documents in a batch.
        seed: of the shuffling.
        group_size: g; when None, a sixteenth of the documents in a batch, but 2 to 8.
        part: (i, W): of every batch only the i-th of W parts, for the i-th of W processes. The parts of a batch make it
            up in their order, share no document, and differ in size by one at most.

    Raises:
        ValueError: `batch_size` or `group_size` is below 1, a label below 0, or there is no such part.

    Examples:
        >>> sampler = ClassAwareBatchSampler([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], batch_size=5)
        >>> [len(batch) for batch in sampler]
        [5, 5]
    """

    drop_last = False  # read by accelerate, as is `batch_size`

    def __init__(
        self,
        labels: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        group_size: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.labels = np.asarray(labels, dtype=np.int64).reshape(-1)  # (n,)
        if batch_size < 1 or (group_size is not None and group_size < 1):
            raise ValueError(f"expected batch_size and group_size >= 1, got {batch_size} and {group_size}")
        if self.labels.size and self.labels.min() < 0:
            raise ValueError(f"expected class indices of labeled documents, got {self.labels.min()}; leave out others")
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"expected part (i, W) with 0 <= i < W, got {part}")
        self.batch_size = batch_size
        self.part = part
        self.seed = seed
        self.epoch = 0
        self.batches = -(-len(self.labels) // batch_size)
        order = np.argsort(self.labels, kind="stable")
        edges = np.flatnonzero(np.diff(self.labels[order])) + 1
        self._classes = np.split(order, edges) if len(order) else []
        a_batch = -(-len(order) // max(1, self.batches))
        self.group_size = group_size or min(8, max(2, a_batch // 16))

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch; each has its own shuffling."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the current epoch."""
        if not self.batches:
            return
        rng = np.random.default_rng([self.seed, self.epoch])
        for batch in self._cut(rng):
            yield rng.permutation(batch)[distributed.share(len(batch), *self.part)].tolist()

    def _cut(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Cut the sequence of groups into near-equal batches; few single documents of a class."""
        groups = self._groups(rng)
        line = np.concatenate(groups)
        ends = np.cumsum([len(group) for group in groups]).tolist()
        left = self.batches * self.batch_size  # room in this batch and those after it
        cuts = [0]
        for place in range(1, self.batches):
            left -= self.batch_size
            wanted = place * len(line) // self.batches
            least, most = max(cuts[-1], len(line) - left), min(len(line), cuts[-1] + self.batch_size)
            near = [wanted + shift for shift in (0, -1, 1, -2, 2) if least <= wanted + shift <= most]
            fallback = min(max(wanted, least), most)
            cuts.append(next((cut for cut in near if _is_clean(cut, ends)), fallback))
        cuts.append(len(line))
        return [line[start:end] for start, end in pairwise(cuts)]

    def _groups(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Groups of documents of one class, in the order in which they enter the batches."""
        groups: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for members in self._classes:
            # at least two documents per group, near-equal groups
            count = max(1, min(round(len(members) / self.group_size), len(members) // 2))
            groups += np.array_split(rng.permutation(members), count)
            places.append((np.arange(count) + rng.random(count)) / count)
        return [groups[place] for place in np.argsort(np.concatenate(places), kind="stable")]


def _is_clean(cut: int, ends: list[int]) -> bool:
    """Whether no group is cut here, or two documents of it at least are on each side."""
    group = bisect_right(ends, cut)
    if group == len(ends):
        return True
    into = cut - (ends[group - 1] if group else 0)
    return into == 0 or (into >= 2 and ends[group] - cut >= 2)


Row = tuple[str, int, int]
"""Text, label and number of a document, by which a memory or the trust in its label identifies it."""


def rows_of(documents: Documents) -> Any:
    """A list of `Row`, which torch takes as a data set; copies of a document share a number, a place in `distinct`."""
    numbers: dict[tuple[str, int], int] = {}
    rows = zip(documents.texts, documents.labels, strict=True)
    return [(*document, numbers.setdefault(document, len(numbers))) for document in rows]


def distinct(documents: Documents) -> Documents:
    """The documents without their copies."""
    pairs = dict.fromkeys(zip(documents.texts, documents.labels, strict=True))
    return Documents([text for text, _ in pairs], [label for _, label in pairs])


def collate(encoder: SentenceTransformer, rows: list[Row]) -> dict[str, Any]:
    """Arguments of `GraphModel.forward` for n documents; tokenized per batch, which saves memory."""
    texts, labels, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "features": tokenize(encoder, list(texts)) if texts else {},
        "labels": torch.tensor(labels, dtype=torch.long),
        "documents": torch.tensor(numbers, dtype=torch.long),
    }
