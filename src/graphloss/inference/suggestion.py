"""Which texts of a pile to label, in an order in which one may stop anywhere, each with its reason.

Texts are chosen by what they stand for (`facility_location`). Once some are labeled, a text weighs more where a model
is uncertain. Letters: n texts, p_1 and p_2 the largest two probabilities of a text, w its weight::

    w = (1 + u) / 2,   u = 1 - (p_1 - p_2)

docs/research/suggestions.md measures other rules beside this one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphloss.errors import InputError
from graphloss.inference import python_inputs
from graphloss.inference.description_prior import informed_probe
from graphloss.inference.graphs.facility_location import directions, greedy_cover, nearest_labeled
from graphloss.text.read_descriptions import check_descriptions

BORDER = 2 / 3
"""A text is near the border of two classes where the second has this part of the first one's probability."""

UNLIKE = 0.25
"""Part of the pile, the least similar to all labeled texts, whose reason is that nothing like it is labeled."""


class Labeled(NamedTuple):
    """Labeled texts beside the pile, as those that a model learned from: embeddings (m, d) and m labels."""

    z: Tensor
    labels: Sequence[Any]


class Predictions(NamedTuple):
    """A model's predictions for the n texts of a pile: probabilities (n, C) of C classes."""

    probabilities: Tensor
    classes: Sequence[Any]


def suggest(
    texts: Sequence[str],
    count: int,
    *,
    labels: Sequence[Any] | None = None,
    descriptions: Mapping[Any, str | Sequence[str]] | None = None,
    model: str | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Which texts of a pile to label, before there is a model.

    Args:
        texts: the pile, n texts.
        count: texts wanted.
        labels: n labels, None for unlabeled; all are unlabeled when left out.
        descriptions: class -> one or several lines about it. A head of labels and descriptions predicts.
        model: the encoder; the packaged one by default.
        progress: draw a bar where embedding takes a while.

    Returns:
        See `rows_to_label`; each with its `text`.

    Raises:
        InputError: arguments do not fit together, the encoder cannot be loaded, or fewer texts than wanted are
            unlabeled.
    """
    from graphloss.text.encoder import encode, load
    from graphloss.text.encoder_source import resolve

    texts, labels = check_pile(texts, labels, count)
    lines = [(name, line) for name, own in check_descriptions(descriptions or {}).items() for line in own]
    encoder = load(resolve(model))
    z = encode(encoder, texts, progress=progress)
    described = Labeled(encode(encoder, [line for _, line in lines]), [name for name, _ in lines])
    found = rows_to_label(z, labels, count, predictions=predict_pile(z, labels, described))
    return [{"text": texts[each["row"]], **each} for each in found]


def rows_to_label(
    z: Tensor,
    labels: Sequence[Any],
    count: int,
    *,
    beside: Labeled | None = None,
    predictions: Predictions | None = None,
) -> list[dict[str, Any]]:
    """The texts of a pile to label next, by their embeddings.

    Args:
        z: (n, d) of the pile.
        labels: n labels, None for unlabeled.
        count: texts wanted.
        beside: further labeled texts; a text of the pile that is among them is not suggested.
        predictions: of a model.

    Returns:
        At most `count` dictionaries `row` (the place in the pile, from 0), `reason`, `stands_for` (texts of the pile
        that are more similar to it than to all that is labeled or stands above it) and, with a model, `guess` and
        `probability`. There are fewer where all others are near-duplicates of labeled or suggested texts.
    """
    x = directions(z, z[:0] if beside is None else beside.z)  # (n + m, d)
    all_labels = [*labels, *(() if beside is None else beside.labels)]  # n + m
    labeled = x[torch.tensor([label is not None for label in all_labels])]  # (l, d)
    x = x[: len(z)]
    cover = greedy_cover(x, labeled, count, weights=_weights(x, labeled, predictions))
    nearest = nearest_labeled(x, labeled)
    unlike = nearest.kthvalue(max(1, round(UNLIKE * len(z)))).values
    counts = Counter(label for label in all_labels if label is not None)
    found = []
    for row, stands_for in zip(cover.chosen, cover.stands_for, strict=True):
        reasons, guess = [f"stands for {stands_for:,} text{'s' if stands_for > 1 else ''} of the pile"], {}
        if counts and nearest[row] <= unlike:
            reasons.append("nothing like it is labeled")
        if predictions is not None:
            (p, q), (first, second) = (part.tolist() for part in predictions.probabilities[row].topk(2))
            one, other = predictions.classes[first], predictions.classes[second]
            guess = {"guess": one, "probability": round(p, 4)}
            if q > BORDER * p and p + q > 0.5:
                reasons.append(f"near the border of {one} and {other}")
            elif p > 0.5 and 2 * counts[one] * len(predictions.classes) <= counts.total():
                reasons.append(f"probably {one}, of which there are few")
        found.append({"row": row, "reason": "; ".join(reasons), "stands_for": stands_for, **guess})
    return found


def _weights(x: Tensor, labeled: Tensor, predictions: Predictions | None) -> Tensor | None:
    """Weights w (n,) of texts x (n, d); None where nothing is labeled yet."""
    if not len(labeled):
        return None
    if predictions is None:
        return torch.ones(len(x))
    best = predictions.probabilities.topk(2, dim=1).values  # (n, 2)
    return 1.0 - (best[:, 0] - best[:, 1]) / 2


def predict_pile(z: Tensor, labels: Sequence[Any], lines: Labeled, beside: Labeled | None = None) -> Predictions | None:
    """Predictions for a pile by a head of labels and descriptions; None where these have fewer than two classes.

    Args:
        z: (n, d) embeddings of the pile.
        labels: n labels, None for unlabeled.
        lines: embeddings of descriptions and their classes.
        beside: further labeled texts.
    """
    all_labels = [*labels, *(() if beside is None else beside.labels)]
    classes = python_inputs.sorted_labels({label for label in (*all_labels, *lines.labels) if label is not None})
    if len(classes) < 2:
        return None
    index = {name: place for place, name in enumerate(classes)} | {None: -1}
    y, of_lines = (torch.tensor([index[c] for c in names], dtype=torch.long) for names in (all_labels, lines.labels))
    probe = informed_probe(z if beside is None else torch.cat([z, beside.z]), y, lines.z, of_lines, len(classes))
    return Predictions(probe.probabilities(z), classes)


def check_pile(texts: Sequence[str], labels: Sequence[Any] | None, count: int) -> tuple[list[str], list[Any]]:
    """Texts and labels (None: unlabeled) as lists, before any is embedded.

    Raises:
        InputError: they do not fit together, or fewer than `count` texts are unlabeled.
    """
    texts = python_inputs.texts_only(texts)
    if not texts:
        raise InputError("expected a pile of texts, got none")
    texts, labels = python_inputs.checked(texts, [None] * len(texts) if labels is None else labels)
    if not (unlabeled := labels.count(None)):
        raise InputError("the pile: every text has a label already, so that there is nothing to suggest")
    if not 1 <= count <= unlabeled:
        raise InputError(f"expected 1 to {unlabeled:,} texts, for so many of the pile have no label, got {count:,}")
    return texts, labels
