"""Texts and labels as a caller of `TextClassifier` passes them: checked, sorted, divided."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from typing import Any

import numpy as np

from graphloss.errors import InputError
from graphloss.text.columns import MISSING, whole
from graphloss.text.stratified_selection import hold_out
from graphloss.text.texts_and_labels import Documents

KEPT = (str, bool, int, float)
"""What a label in `graphloss.json` is, exactly; others are for this process alone."""


def texts_only(texts: Sequence[str], of: str = "") -> list[str]:
    """A list of texts, and not a single text, which would be read letter by letter; `of` names the argument."""
    of = f"{of}: " if of else ""
    texts = _listed(texts, f"{of}expected several texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{of}text {row}: expected a text, got {type(text).__name__}: {text!r}")
        whole(text, f"{of}text {row}")
    return texts


def checked(texts: Sequence[str], labels: Sequence[Any], of: str = "") -> tuple[list[str], list[Any]]:
    """Lists of the same length, of texts that are not empty; missing labels become None. `of` names the argument."""
    texts, where = texts_only(texts, of), f"{of}: " if of else ""
    listed = _listed(labels, f"{where}expected one label per text")
    labels = [_label(label, f"{where}label {row}") for row, label in enumerate(listed)]
    if len(texts) != len(labels):
        raise InputError(f"{where}expected one label per text, got {len(texts)} texts and {len(labels)} labels")
    _check_kinds(labels, where)
    for row, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{where}text {row}: expected a text that is not empty, got {text!r}")
    return texts, labels


def label_warnings(labels: Sequence[Any]) -> list[str]:
    """Warnings of labels that mark unlabeled documents elsewhere and are classes here."""
    marks = Counter(label for label in labels if isinstance(label, str) and label.strip().casefold() in MISSING)
    listed = ", ".join(f"{mark!r} ({count:,})" for mark, count in sorted(marks.items()))
    if not marks and {-1, 0} <= (numbers := {label for label in labels if isinstance(label, int | np.integer)}):
        listed = f"-1 ({sum(label == -1 for label in labels):,})" if min(numbers) == -1 else ""
    return [f"the labels {listed} are classes; if they mark unlabeled documents, give None for them"] if listed else []


def validation_pairs(given: Any) -> tuple[list[str], list[Any]]:
    """The texts of `validation_data` that have a label, and these."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        size = f" of {len(given)}" if hasattr(given, "__len__") else ""
        raise InputError(f"validation_data: expected a pair (texts, labels), got {type(given).__name__}{size}")
    texts, labels = checked(given[0], given[1], "validation_data")
    kept = [row for row, label in enumerate(labels) if label is not None]
    if not kept:
        raise InputError("validation_data: expected at least one text with a label, got none; leave it out")
    return [texts[row] for row in kept], [labels[row] for row in kept]


def labeled_pairs(texts: Sequence[str], labels: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """The checked texts that have a label, and these, of which there must be two kinds."""
    texts, labels = checked(texts, labels)
    kept = [row for row, label in enumerate(labels) if label is not None]
    if len(kinds := sorted_labels({labels[row] for row in kept})) < 2:
        raise InputError(f"expected labels of at least two classes, got {len(kinds)}: {kinds}")
    return [texts[row] for row in kept], [labels[row] for row in kept]


def _listed(values: Sequence[Any], expected: str) -> list[Any]:
    """A list of the values, and not of the letters of one text, or of the names of a table's columns."""
    if isinstance(values, str | bytes):
        raise InputError(f"{expected}, got one text: {values[:40]!r}; put it in a list")
    kind = type(values).__name__
    if isinstance(values, Mapping) or hasattr(type(values), "columns"):  # the type's: a Series may have a row so named
        raise InputError(f"{expected}, got a {kind}, which holds several columns; give one of them, as df['text']")
    if isinstance(values, Set):
        raise InputError(f"{expected}, got a {kind}, which has no order and nothing twice; give a list")
    if hasattr(values, "__next__"):
        raise InputError(f"{expected}, got a {kind}, which can be read once; give a list of what it yields")
    try:
        return list(values)
    except TypeError as error:
        raise InputError(f"{expected}, got {kind}; give a list") from error


def _label(label: Any, where: str) -> Any:
    """A label as it is; None for a missing one: blanks, None, NaN, NA, NaT."""
    if label is None or type(label).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return None
    label = label.tolist() if hasattr(label, "detach") else label  # of torch: equal tensors have other hashes
    try:
        hash(label)
    except TypeError as error:
        raise InputError(
            f"{where}: expected one label, a text or number or whatever can be the key of a dictionary, or None where "
            f"there is none, got {type(label).__name__}; give names, or numbers of classes (argmax(1) of one-hot rows)"
        ) from error
    if type(label) in (str, np.str_):
        return whole(str(label), where) if label.strip() else None
    if isinstance(label, float | np.floating) and label in (math.inf, -math.inf):
        raise InputError(f"{where}: expected a text or a finite number, got {label}; give None where there is none")
    return None if label != label else label


def _check_kinds(labels: list[Any], where: str) -> None:
    """Refuse labels that are equal in Python and not the same: True is 1."""
    first: dict[Any, bool] = {}
    for label in labels:
        truth = isinstance(label, bool | np.bool_)
        if first.setdefault(label, truth) != truth:
            raise InputError(f"{where}labels {bool(label)} and {int(label)} are equal; expected labels of one kind")


def sorted_labels(labels: set[Any]) -> list[Any]:
    """The distinct labels in order, those of one kind that has no order by how they are written."""
    kinds = {type(label) for label in labels}
    if kinds and all(issubclass(kind, Set) for kind in kinds):  # its < means "is part of"
        return sorted(labels, key=lambda label: sorted(map(repr, label)))
    try:
        return sorted(labels)
    except TypeError as error:
        if len(kinds) == 1:
            return sorted(labels, key=repr)
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"expected labels of one kind, got {listed}; make them all texts, for example") from error


def label_names(labels: Sequence[Any]) -> list[str]:
    """A name for each of the distinct labels, for people: the label itself, or the value of an enumeration's member."""
    found = [str(label.value if isinstance(label, Enum) else label) for label in labels]
    return found if len(set(found)) == len(found) else [f"{label!r} ({place})" for place, label in enumerate(labels)]


def label_array(labels: Sequence[Any]) -> np.ndarray:
    """The labels as an array (C,), of objects where numpy's own kinds would change one of them."""
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if all(type(label) in KEPT for label in plain):
        found, numbers = np.array(labels), (int, float)
        if all(
            a == b and (type(a) is type(b) or (type(a) in numbers and type(b) in numbers))
            for a, b in zip(found.tolist(), plain, strict=True)
        ):
            return found
    found = np.empty(len(labels), dtype=object)
    for place, label in enumerate(labels):
        found[place] = label
    return found


def kept_labels(labels: Sequence[Any]) -> list[Any]:
    """The labels as JSON keeps them; refuses one that would come back as something else."""
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    for label in plain:
        if type(label) not in KEPT:
            raise InputError(
                f"label {label!r}: a folder keeps labels that are texts or numbers, and {type(label).__name__} would "
                "come back as something else; fit on a text or number for each class"
            )
    return plain


def held_out(train: Documents, share: float | None, seed: int) -> tuple[Documents, Documents]:
    """Hold out a share of each class's labeled documents for validation, the same ones as `graphloss train` does."""
    held = hold_out(train.names, share, seed)
    return train.take(sorted(set(range(len(train))) - set(held))), train.take(held)


def evidence(
    texts: Sequence[str], labels: Sequence[Any], documents: Any, shares: Any, *, descriptions: int = 0
) -> list[list[dict[str, Any]]]:
    """Documents and their shares, both (m, k), as dictionaries `text`, `label` and `share`; places of -1 are left out.

    The first `descriptions` texts are lines about a class and get `description` too.
    """
    return [
        [
            {"text": texts[place], "label": labels[place], "share": round(share, 6)}
            | ({"description": True} if place < descriptions else {})
            for place, share in zip(*row, strict=True)
            if place >= 0
        ]
        for row in zip(documents.tolist(), shares.tolist(), strict=True)
    ]
