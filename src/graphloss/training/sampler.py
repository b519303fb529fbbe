"""Batches in which the graph has something to say: every class in company, every document once an epoch.

A loss on a graph of documents learns nothing from a batch of one class, and cannot ask for a document whose class has
no other member in the batch. Batches drawn blindly are full of such documents as soon as classes are many or unequal.
Here the documents of a class travel in small groups:

1. each class is shuffled and divided into groups of about g documents, a small class left whole;
2. the groups of a class are spread evenly over the epoch, at random within their stretch of it, and the whole line is
   cut into batches of near-equal size, beside a group's edge where there is room;
3. batches of a single class, and documents left alone by a cut, are mended by exchanging documents between two batches;
4. unlabeled documents are dealt out evenly.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np

from graphloss import distributed

Batch = dict[int, list[int]]
"""The labeled documents of a batch, by class."""

ASKED = 32  # batches asked for an exchange on behalf of one lonely document
TURNS = 12  # rounds over all lonely documents
SLACK = 3  # documents by which a batch may differ from its even share after an exchange


class ClassAwareBatchSampler:
    """Lists of document indices, one a batch, for the `batch_sampler` of a `torch.utils.data.DataLoader`.

    What holds for every epoch:

    - every document stands in exactly one batch;
    - there are `ceil(n / batch_size)` batches, none larger than `batch_size`, and their sizes differ by a few documents
      at most: there is no small remainder at the end;
    - no batch holds documents of a single class as long as there is a document of another class to put into each;
    - apart from that, a class with two or more documents is left with one of them in a batch only where a bounded
      search by exchanges between two batches found nothing better. Full batches of a small odd size (9) hold some,
      because pairs fill them badly, and must hold some if all classes are pairs; with batches of 16 or more and classes
      of ten or more documents, none was seen in thousands of random corpora;
    - the numbers of unlabeled documents in two batches differ by one at most, and the groups of a class are spread
      over the epoch. Where labels are so few that not every batch could hold two pairs, the labeled documents meet in
      some of the batches, about four in each, and the other batches are unlabeled;
    - the batches are a function of the labels, the arguments, the seed and the epoch alone.

    Unlike samplers that draw classes first, this one neither drops nor repeats documents, so an epoch is an epoch.

    Args:
        labels: (n,) class indices; -1 is unlabeled.
        batch_size: most documents in a batch.
        seed: of the shuffling.
        group_size: g; when None, a sixteenth of the labeled documents in a batch, but 2 to 8.
        part: (i, W): of every batch only the i-th of W parts, for the i-th of W processes. The parts of a batch make it
            up in their order, share no document, and differ in size by one at most.

    Raises:
        ValueError: `batch_size` or `group_size` is below 1, a label below -1, or there is no such part.

    Example:
        >>> sampler = ClassAwareBatchSampler([0, 1, 0, 1, 0, 1, 0, 1, -1, -1], batch_size=5)
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
            raise ValueError(f"expected batch_size and group_size >= 1, not {batch_size} and {group_size}")
        if self.labels.size and self.labels.min() < -1:
            raise ValueError(f"expected class indices, or -1 for an unlabeled document, not {self.labels.min()}")
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"expected part (i, W) with 0 <= i < W, not {part}")
        self.batch_size = batch_size
        self.part = part
        self.seed = seed
        self.epoch = 0
        self._unlabeled = np.flatnonzero(self.labels < 0)
        self.batches = -(-len(self.labels) // batch_size)
        order = np.argsort(self.labels, kind="stable")[len(self._unlabeled) :]
        edges = np.flatnonzero(np.diff(self.labels[order])) + 1
        self._classes = np.split(order, edges) if len(order) else []
        a_batch = -(-len(order) // max(1, self.batches))
        self.group_size = group_size or min(8, max(2, a_batch // 16))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; each has its own shuffling."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the epoch that was set."""
        if not self.batches:
            return
        rng = np.random.default_rng([self.seed, self.epoch])
        labeled, counts = self._labeled_batches(rng)
        parts = np.split(rng.permutation(self._unlabeled), np.cumsum(counts)[:-1])
        for batch, unlabeled in zip(labeled, parts, strict=True):
            documents = np.array([*chain.from_iterable(batch.values()), *unlabeled], dtype=np.int64)
            yield rng.permutation(documents)[distributed.share(len(documents), *self.part)].tolist()

    def _labeled_batches(self, rng: np.random.Generator) -> tuple[list[Batch], np.ndarray]:
        """The labeled documents of each batch, and how many unlabeled ones it takes."""
        total = len(self.labels)
        known = total - len(self._unlabeled)
        few = max(1, known // 4)  # two classes with two documents each
        if known and few < self.batches and (total // self.batches) * few >= known:
            # So few labels that a batch could not hold two pairs: some batches get enough of them, the others none.
            room = _even(total, self.batches)
            chosen = np.sort(rng.choice(self.batches, few, replace=False))
            batches: list[Batch] = [{} for _ in room]
            for place, batch in zip(chosen, self._arranged(room[chosen], rng), strict=True):
                batches[place] = batch
            return batches, room - [sum(map(len, batch.values())) for batch in batches]
        unlabeled = _even(len(self._unlabeled), self.batches)
        return self._arranged(self.batch_size - unlabeled, rng), unlabeled

    def _arranged(self, room: np.ndarray, rng: np.random.Generator) -> list[Batch]:
        """The labeled documents in as many batches as `room` has entries, none above its room."""
        sizes = {int(self.labels[members[0]]): len(members) for members in self._classes}
        mender = BatchRepair(_cut(self._groups(rng), self.labels, room.tolist()), sizes, room.tolist(), rng)
        mender.mix()
        mender.keep_company()
        return mender.batches

    def _groups(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Groups of documents of one class, in the order in which they enter the batches."""
        groups: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for members in self._classes:
            # at least two documents a group, near-equal groups
            count = max(1, min(round(len(members) / self.group_size), len(members) // 2))
            groups += np.array_split(rng.permutation(members), count)
            places.append((np.arange(count) + rng.random(count)) / count)
        if not groups:
            return []
        return [groups[place] for place in np.argsort(np.concatenate(places), kind="stable")]


def _even(count: int, shares: int) -> np.ndarray:
    """`count` things in as many near-equal shares."""
    return np.diff(np.arange(shares + 1) * count // shares)


def _cut(groups: list[np.ndarray], labels: np.ndarray, room: list[int]) -> list[Batch]:
    """Cut the line of groups into near-equal batches, if there is room for it where no document is left alone."""
    line = np.concatenate(groups) if groups else np.empty(0, dtype=np.int64)
    ends = np.cumsum([len(group) for group in groups]).tolist()
    left = sum(room)  # in this batch and those after it
    cuts = [0]
    for place, space in enumerate(room[:-1], 1):
        left -= space
        wanted = place * len(line) // len(room)
        least, most = max(cuts[-1], len(line) - left), min(len(line), cuts[-1] + space)
        near = [wanted + shift for shift in (0, -1, 1, -2, 2) if least <= wanted + shift <= most]
        fallback = min(max(wanted, least), most)
        cuts.append(next((cut for cut in near if _is_clean(cut, ends)), fallback))
    cuts.append(len(line))
    batches: list[Batch] = []
    for start, end in pairwise(cuts):
        batch: Batch = {}
        for document, label in zip(line[start:end].tolist(), labels[line[start:end]].tolist(), strict=True):
            batch.setdefault(label, []).append(document)
        batches.append(batch)
    return batches


def _is_clean(cut: int, ends: list[int]) -> bool:
    """Whether no group is cut here, or two documents of it at least are on each side."""
    group = bisect_right(ends, cut)
    if group == len(ends):
        return True
    into = cut - (ends[group - 1] if group else 0)
    return into == 0 or (into >= 2 and ends[group] - cut >= 2)


class BatchRepair:
    """Exchanges documents between batches until no exchange makes them better.

    Args:
        batches: changed in place.
        sizes: documents of each class in the epoch.
        room: most labeled documents in each batch.
        rng: chooses which batches are asked.
    """

    def __init__(self, batches: list[Batch], sizes: dict[int, int], room: list[int], rng: np.random.Generator) -> None:
        self.batches = batches
        self.sizes = sizes
        self.filled = [sum(map(len, batch.values())) for batch in batches]
        even = sum(self.filled) // max(1, len(batches))
        self.most = [max(min(space, even + SLACK), filled) for space, filled in zip(room, self.filled, strict=True)]
        self.least = [min(max(1, even - SLACK), filled) for filled in self.filled]
        self.rng = rng
        self.lonely: list[int] = []  # batches with a document that is alone

    def mix(self) -> None:
        """Bring a second class into every batch of a single one, by pairs of documents if that is possible."""
        found = True
        while found:
            found = False
            order = self.rng.permutation(len(self.batches)).tolist()
            for amount in (2, 1):
                asked: dict[int, Iterator[int]] = {}  # by class; who had nothing to give is not asked again
                for place, batch in enumerate(self.batches):
                    if len(batch) != 1 or self.filled[place] < 2 or len(self.sizes) < 2:
                        continue
                    label = next(iter(batch))
                    for other in asked.setdefault(label, iter(order)):
                        if other != place and self._improve(place, other, label, [(amount, amount)]):
                            asked[label] = chain([other], asked[label])
                            found = True
                            break

    def keep_company(self) -> None:
        """Bring documents that are alone of their class in a batch to others of it, or others to them.

        Who cannot be helped at once may change places with somebody who then is alone instead, and can be helped.
        """
        budget = 2 * len(self.batches) + 2000
        for turn in range(TURNS):
            asked = ASKED
            self.lonely = [
                place for place, batch in enumerate(self.batches) if any(self._alone(batch, label) for label in batch)
            ]
            for place in self.lonely:
                batch = self.batches[place]
                for label in [label for label in batch if self._alone(batch, label)]:
                    if budget < 0:
                        return
                    if self._alone(batch, label):
                        near = [max(0, place - 1), (place + 1) % len(self.batches)]
                        alike = [self.lonely[i] for i in self.rng.integers(len(self.lonely), size=asked // 2)]
                        anybody = self.rng.integers(len(self.batches), size=asked).tolist()
                        helped = self._helped(place, label, [*near, *alike, *anybody])
                        if not helped and turn:
                            self._helped(place, label, anybody, enough=0)
                        budget -= asked + 2
                        # Where nobody could help the last ones, few are asked for the next: it may be impossible.
                        asked = min(ASKED, 2 * asked) if helped else max(2, asked // 2)

    def _helped(self, place: int, label: int, others: list[int], enough: int = 1) -> bool:
        """Whether one of these batches could help, by giving company or by taking the lonely document in."""
        return any(
            self._improve(place, other, label, [(1, 1), (1, 0), (1, 2)], enough)
            or self._improve(other, place, label, [(1, 1), (1, 0), (2, 1), (2, 2)], enough)
            for other in dict.fromkeys(others)
            if other != place
        )

    def _improve(self, place: int, other: int, label: int, amounts: list[tuple[int, int]], enough: int = 1) -> bool:
        """Do the first exchange that helps: `give` of this class from here for `take` of another class from there."""
        mine, theirs = self.batches[place], self.batches[other]
        have = len(mine.get(label, ()))
        for give, take in amounts:
            grown = take - give
            if not (
                have >= give
                and self.least[place] <= self.filled[place] + grown <= self.most[place]
                and self.least[other] <= self.filled[other] - grown <= self.most[other]
            ):
                continue
            for kind in list(theirs) if take else [label]:  # to take none of a class is to take none at all
                if (kind == label) == (take == 0) and len(theirs.get(kind, ())) >= take:
                    before = self._harm(mine, label, kind) + self._harm(theirs, label, kind)
                    self._move(place, other, label, give)
                    self._move(other, place, kind, take)
                    if before - self._harm(mine, label, kind) - self._harm(theirs, label, kind) >= enough:
                        return True
                    self._move(place, other, kind, take)
                    self._move(other, place, label, give)
        return False

    def _move(self, source: int, target: int, label: int, count: int) -> None:
        if not count:
            return
        moved = self.batches[source][label][-count:]
        del self.batches[source][label][-count:]
        if not self.batches[source][label]:
            del self.batches[source][label]
        self.batches[target].setdefault(label, []).extend(moved)
        self.filled[source] -= count
        self.filled[target] += count

    def _alone(self, batch: Batch, label: int) -> bool:
        return len(batch.get(label, ())) == 1 and self.sizes[label] > 1

    def _harm(self, batch: Batch, *labels: int) -> int:
        """What is wrong with a batch, as far as these classes go; a single class is worse than any number alone."""
        return 10 * (len(batch) == 1) + sum(self._alone(batch, label) for label in set(labels))
