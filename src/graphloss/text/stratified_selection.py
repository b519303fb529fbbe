"""Stratified selection: which documents are set aside for validation, which keep their label, and folds.

All are functions of the labels and a seed alone, the same on every machine. They are not scikit-learn's stratified
splits because a few labels per class are the usual case here: `StratifiedKFold` refuses more parts than the largest
class has documents, and `StratifiedShuffleSplit` does not leave each class two training documents.
"""

from collections.abc import Sequence

import numpy as np


def by_class(labels: Sequence[str | None]) -> dict[str, list[int]]:
    """The places of each class's documents, classes in alphabetical order; unlabeled documents are left out."""
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        if label is not None:
            places.setdefault(label, []).append(place)
    return {label: places[label] for label in sorted(places)}


SHARE, FROM = 0.1, 500
"""Share that is set aside by default, from so many labels on: of fewer a tenth is worth about a point of accuracy
(docs/research/experiments.md)."""


def hold_out(labels: Sequence[str | None], share: float | None, seed: int) -> list[int]:
    """Choose labeled documents to set aside, the same share of every class.

    Each class gives at least one document as long as two of its own stay, because one document alone has no neighbor of
    its class. Where no class has three documents, classes of two give one; a single document always stays.

    Args:
        labels: of all documents; None is unlabeled and stays.
        share: 0 to 1, of each class; None is `SHARE` of at least `FROM` labels, else 0.
        seed: chooses the documents.

    Returns:
        The chosen places, in order.
    """
    if share is None:
        share = SHARE if sum(label is not None for label in labels) >= FROM else 0.0
    if not share:
        return []
    rng = np.random.default_rng([seed, 1])
    places = by_class(labels)
    keep = 2 if any(len(members) > 2 for members in places.values()) else 1
    chosen: list[int] = []
    for members in places.values():
        count = min(max(1, round(share * len(members))), max(0, len(members) - keep))
        chosen += [members[place] for place in rng.permutation(len(members))[:count]]
    return sorted(chosen)


def few_shots(labels: Sequence[str | None], shots: int, seed: int) -> list[int]:
    """The places, in order, of N labeled documents per class; all of a class that has fewer.

    With the same seed, the documents chosen for a smaller N are among those chosen for a larger one.
    """
    rng = np.random.default_rng([seed, 2])
    chosen: list[int] = []
    for members in by_class(labels).values():
        chosen += [members[place] for place in rng.permutation(len(members))[:shots]]
    return sorted(chosen)


def deal(labels: np.ndarray, parts: int, rng: np.random.Generator, *, least: int = 1) -> np.ndarray:
    """Deal documents to parts class by class, each starting at the part after the last one dealt to.

    Args:
        labels: (n,) classes; -1 is unlabeled.
        parts: how many.
        rng: shuffles each class.
        least: documents that a class needs to be dealt out.

    Returns:
        (n,) int64, the part of each document from 0; -1 for those that are in none.
    """
    part, dealt = np.full(len(labels), -1, dtype=np.int64), 0
    for label in np.unique(labels[labels >= 0]):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) >= least:
            part[rows] = (dealt + np.arange(len(rows))) % parts
            dealt += len(rows)
    return part
