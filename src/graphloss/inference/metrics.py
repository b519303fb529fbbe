"""How good is a model: accuracy, macro-F1, silhouette, calibration error, and the linear probe to compare with.

Letters: n documents, C classes, d dimensions of an embedding, B bins of confidence.

    F1_c     = 2 TP_c / (2 TP_c + FP_c + FN_c);  macro-F1 = mean of F1_c over the classes that occur
    s_i      = (b_i - a_i) / max(a_i, b_i)  with a_i the mean distance to the own class and b_i to the nearest other
               (Rousseeuw 1987, equation 3);  micro = mean of s_i, macro = mean over classes of the class's mean
    ECE      = sum over B bins of (n_b / n) |accuracy_b - confidence_b|   (Guo et al. 2017, equation 3)

Every figure is a fraction of one, never a percentage. The metrics themselves are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.inference.arrays import as_classes, as_matrix, as_numpy, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from graphloss.inference.arrays import Array

BINS = 15
"""Equal-width bins of the top probability, the number of Guo et al. (2017)."""

SILHOUETTE_DOCUMENTS = 5_000
"""A silhouette looks at all pairs; beyond this many documents a seeded sample stands for them."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; `support` counts the documents that really belong to it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """All scores of one model on one split, fractions of one. A silhouette is None where it is not defined."""

    accuracy: float
    macro_f1: float
    macro_silhouette: float | None
    micro_silhouette: float | None
    ece: float
    per_class: list[ClassScores]


@dataclass(frozen=True)
class Bin:
    """Documents whose top probability lies in (`low`, `high`]; the means are None in an empty bin."""

    low: float
    high: float
    documents: int
    confidence: float | None
    accuracy: float | None


def intervals(truth: Array, probabilities: Array) -> dict[str, tuple[float, float]]:
    """95% intervals over documents: of accuracy Wilson's (1927), of macro-F1 the percentile bootstrap's.

    Where all predictions are right, or all wrong, every resample has the same macro-F1; it has Wilson's interval then.

    Args:
        truth: (n,) integer class of each document.
        probabilities: (n, C).
    """
    from scipy.stats import binomtest, bootstrap
    from sklearn.metrics import f1_score

    pairs = (as_numpy(truth), as_numpy(probabilities).argmax(axis=1))
    right = int((pairs[0] == pairs[1]).sum())
    wilson = binomtest(right, len(pairs[0])).proportion_ci(method="wilson")
    found = {name: (float(wilson.low), float(wilson.high)) for name in ("accuracy", "macro_f1")}
    if right in (0, len(pairs[0])):
        return found

    def macro_f1(y: NDArray[Any], found: NDArray[Any]) -> float:
        return float(f1_score(y, found, average="macro", zero_division=0))

    rng = np.random.default_rng(0)
    drawn = bootstrap(pairs, macro_f1, paired=True, vectorized=False, n_resamples=999, method="percentile", rng=rng)
    found["macro_f1"] = (float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
    return found


def format_intervals(found: Mapping[str, Sequence[float]]) -> str:
    """Intervals in words."""
    parts = (f"{name.replace('macro_f1', 'macro-F1')} {low:.1%} to {high:.1%}" for name, (low, high) in found.items())
    return f"95% intervals over documents, cross-fitted: {', '.join(parts)}"


def score(truth: Array, probabilities: Array, embeddings: Array | None, label_names: Sequence[str]) -> Scores:
    """Score predicted probabilities, and the embeddings they came from, against the truth.

    A class that occurs neither in the truth nor among the predictions has no F1: it is left out of `macro_f1` and
    `per_class`. A class that is predicted but never true, or true but never predicted, counts with an F1 of 0.

    Args:
        truth: (n,) integer class of each document; documents of -1 (unlabeled) are left out.
        probabilities: (n, C) class probabilities; the prediction is the most probable class.
        embeddings: (n, d) embeddings for the silhouettes, or None to leave those out.
        label_names: the C names.

    Raises:
        ValueError: if shapes disagree, a class is out of range, a probability is outside [0, 1] or no document is
            labeled.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    y = as_classes(truth, len(label_names))  # (n,)
    p = as_matrix(probabilities, "probabilities", len(y))  # (n, C)
    if p.shape[1] != len(label_names):
        raise ValueError(
            f"expected one column of probabilities per label, got {p.shape[1]} for {len(label_names)} label names"
        )
    if p.size and not (p.min() >= -1e-6 and p.max() <= 1 + 1e-6):  # false for NaN too
        raise ValueError(
            "expected probabilities from 0 to 1; if these are logits, apply a softmax over the classes first"
        )
    labeled = y >= 0
    if not labeled.any():
        raise ValueError("expected at least one labeled document to score against, got none (every class is -1)")
    y, p = y[labeled], p[labeled]
    predicted = p.argmax(axis=1)  # (n,)

    present = np.union1d(y, predicted)
    precision, recall, f1, support = precision_recall_fscore_support(y, predicted, labels=present, zero_division=0.0)
    per_class = [
        ClassScores(label_names[c], float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, c in enumerate(present)
    ]
    bins = reliability(p.max(axis=1), predicted == y)
    macro, micro = (
        (None, None)
        if embeddings is None
        else silhouettes(as_matrix(embeddings, "embeddings", len(labeled))[labeled], y)
    )
    return Scores(
        accuracy=float(accuracy_score(y, predicted)),
        macro_f1=float(np.mean(f1)),
        macro_silhouette=macro,
        micro_silhouette=micro,
        ece=expected_calibration_error(bins),
        per_class=per_class,
    )


def silhouettes(embeddings: Array, labels: Array, *, seed: int = 0) -> tuple[float | None, float | None]:
    """Macro and micro silhouette of unit-length embeddings, Euclidean; both None where they are not defined.

    Not defined: fewer than two classes, one class per document, or an embedding that is not finite. Beyond
    `SILHOUETTE_DOCUMENTS` documents a seeded sample is taken, in proportion to the classes and with at least two
    documents of each that has two: a rare class keeps its place in the macro mean. Documents of -1 are left out.

    Args:
        embeddings: (n, d), scaled to unit length here.
        labels: (n,) integer classes.
        seed: of the sample.
    """
    from sklearn.metrics import silhouette_samples

    y = np.asarray(as_numpy(labels), dtype=np.int64)  # (n,)
    x = as_matrix(embeddings, "embeddings", len(y))  # (n, d)
    x, y = x[y >= 0], y[y >= 0]
    if len(y) > SILHOUETTE_DOCUMENTS:
        chosen = _proportional_sample(y, SILHOUETTE_DOCUMENTS, np.random.default_rng(seed))
        x, y = x[chosen], y[chosen]
    classes = np.unique(y)
    if not 2 <= len(classes) < len(y) or not np.isfinite(x).all():
        return None, None
    s = silhouette_samples(unit_rows(x), y)  # (n,)
    return float(np.mean([s[y == c].mean() for c in classes])), float(s.mean())


def reliability(confidence: Array, correct: Array, *, bins: int = BINS) -> list[Bin]:
    """How often predictions of each confidence are right: the points of a reliability diagram.

    Args:
        confidence: (n,) probability of the predicted class.
        correct: (n,) whether the prediction was right.
        bins: number of bins of equal width over (0, 1].
    """
    p = np.asarray(as_numpy(confidence), dtype=np.float64)  # (n,)
    right = np.asarray(as_numpy(correct), dtype=bool)  # (n,)
    index = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)  # (n,)
    result = []
    for b in range(bins):
        inside = index == b
        n = int(inside.sum())
        means = (float(p[inside].mean()), float(right[inside].mean())) if n else (None, None)
        result.append(Bin(b / bins, (b + 1) / bins, n, *means))
    return result


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean gap between accuracy and confidence, weighted by the documents of each bin; 0 without a document."""
    n = sum(b.documents for b in bins)
    gaps = (
        b.documents * abs(b.accuracy - b.confidence)
        for b in bins
        if b.accuracy is not None and b.confidence is not None
    )
    return sum(gaps) / n if n else 0.0


def _proportional_sample(y: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` documents: classes are drawn from at one pace, after the first two of each."""
    order = rng.permutation(len(y))
    pace = np.empty(len(y))
    for c in np.unique(y):
        own = order[y[order] == c]
        pace[own] = np.maximum(np.arange(len(own)) - 1, 0) / len(own)
    return np.sort(order[np.argsort(pace[order], kind="stable")[:size]])
