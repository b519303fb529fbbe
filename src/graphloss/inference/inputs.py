"""Texts and labels as a caller of `TextClassifier` gives them: checked, sorted, divided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphloss.errors import InputError
from graphloss.text.columns import whole
from graphloss.text.documents import Documents
from graphloss.text.selection import hold_out

LABELS = (str, bool, int, float, np.bool_, np.integer, np.floating)
"""What a label may be: `graphloss.json` keeps the classes."""


def texts_only(texts: Sequence[str], of: str = "") -> list[str]:
    """A list of texts, and not one text, whose letters would be taken for texts; `of` names the argument."""
    of = f"{of}: " if of else ""
    texts = _listed(texts, f"{of}expected several texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{of}text {row}: expected a text, got {type(text).__name__}: {text!r}")
        whole(text, f"{of}text {row}")
    return texts


def checked(texts: Sequence[str], labels: Sequence[Any], of: str = "") -> tuple[list[str], list[Any]]:
    """Lists of the same length, of texts that are not empty; NaN labels become None. `of` names the argument."""
    texts, where = texts_only(texts, of), f"{of}: " if of else ""
    listed = _listed(labels, f"{where}expected one label a text")
    labels = [_label(label, f"{where}label {row}") for row, label in enumerate(listed)]
    if len(texts) != len(labels):
        raise InputError(f"{where}expected one label a text, got {len(texts)} texts and {len(labels)} labels")
    for row, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{where}text {row}: expected a text that is not empty, got {text!r}")
    return texts, labels


def labeled_pairs(texts: Sequence[str], labels: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """The checked texts that have a label, and these, of which there must be two kinds."""
    texts, labels = checked(texts, labels)
    kept = [row for row, label in enumerate(labels) if label is not None]
    if len(kinds := sorted_labels({labels[row] for row in kept})) < 2:
        raise InputError(f"expected labels of at least two classes, got {len(kinds)}: {kinds}")
    return [texts[row] for row in kept], [labels[row] for row in kept]


def _listed(values: Sequence[Any], expected: str) -> list[Any]:
    """A list of the values, and not of the letters of one text, or of the names of a table's columns."""
    if isinstance(values, str):
        raise InputError(f"{expected}, got one text: {values[:40]!r}; put it in a list")
    if isinstance(values, Mapping) or hasattr(type(values), "columns"):  # the type's: a Series may have a row so named
        kind = type(values).__name__
        raise InputError(f"{expected}, got a {kind}, which holds several columns; give one of them, as df['text']")
    return list(values)


def _label(label: Any, where: str) -> Any:
    """A label that is a text or a number; None for None, NaN, and pandas' NA, whose comparison is not true or false."""
    if label is None or type(label).__name__ == "NAType":
        return None
    if not isinstance(label, LABELS):
        raise InputError(
            f"{where}: expected one text or number, or None where there is none, got {type(label).__name__}; "
            "give names, or numbers of classes (argmax(1) of one-hot rows)"
        )
    if isinstance(label, str):
        return whole(label, where)
    if label in (math.inf, -math.inf):
        raise InputError(f"{where}: expected a text or a finite number, got {label}; give None where there is none")
    return None if label != label else label


def sorted_labels(labels: set[Any]) -> list[Any]:
    """The distinct labels in order; they must be of one kind."""
    try:
        return sorted(labels)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise InputError(f"expected labels of one kind, got {kinds}; make them all texts, for example") from error


def held_out(train: Documents, share: float, seed: int) -> tuple[Documents, Documents]:
    """Hold out a share of each class's labeled documents for validation, the same ones as `graphloss train` does."""
    held = hold_out(train.names, share, seed)
    return train.take(sorted(set(range(len(train))) - set(held))), train.take(held)


def evidence(
    texts: Sequence[str], labels: Sequence[Any], documents: Any, shares: Any, *, descriptions: int = 0
) -> list[list[dict[str, Any]]]:
    """Documents and their shares, both (m, k), in words: `text`, `label` and `share` of those that there are.

    The first `descriptions` texts are lines about a class, which say so.
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
