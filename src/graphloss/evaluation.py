"""How good is a model: accuracy, macro-F1, silhouette, calibration error, and the linear probe to compare with.

Letters: n documents, C classes, d dimensions of an embedding, B bins of confidence.

    F1_c     = 2 TP_c / (2 TP_c + FP_c + FN_c);  macro-F1 = mean of F1_c over the classes that occur
    s_i      = (b_i - a_i) / max(a_i, b_i)  with a_i the mean distance to the own class and b_i to the nearest other
               (Rousseeuw 1987, equation 3);  micro = mean of s_i, macro = mean over classes of the class's mean
    ECE      = sum over B bins of (n_b / n) |accuracy_b - confidence_b|   (Guo et al. 2017, equation 3)

Every figure is a fraction of one, never a percentage. The metrics themselves are scikit-learn's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = torch.Tensor | NDArray[Any] | Sequence[Any]

BINS = 15
"""Equal-width bins of the top probability, the number of Guo et al. (2017)."""

SILHOUETTE_DOCUMENTS = 5_000
"""A silhouette looks at all pairs; beyond this many documents a seeded sample stands for them."""

ABSENT_BIAS = -1e4
"""Bias of a class that the probe never saw: probability zero in any float format, and still finite in float16."""


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

    def to_json(self) -> dict[str, Any]:
        """The same as plain dictionaries, lists, numbers and None, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class Bin:
    """Documents whose top probability lies in (`low`, `high`]; the means are None in an empty bin."""

    low: float
    high: float
    documents: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Probe:
    """A linear classifier on unit-length embeddings: softmax(W z + b).

    Attributes:
        weight: (C, d) float32.
        bias: (C,) float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def probabilities(self, embeddings: Array) -> torch.Tensor:
        """Class probabilities (n, C), float32 on the CPU, for embeddings (n, d) of any length and float type."""
        import torch

        z = torch.from_numpy(unit_rows(embeddings))  # (n, d)
        return torch.softmax(z @ self.weight.T + self.bias, dim=1)  # (n, C)


def score(
    truth: Array,
    probabilities: Array,
    embeddings: Array | None,
    label_names: Sequence[str],
    *,
    seed: int = 0,
) -> Scores:
    """Score predicted probabilities, and the embeddings they came from, against the truth.

    A class that occurs neither in the truth nor among the predictions has no F1: it is left out of `macro_f1` and
    `per_class`. A class that is predicted but never true, or true but never predicted, counts with an F1 of 0.

    Args:
        truth: (n,) integer class of each document; documents of -1 (unlabelled) are left out.
        probabilities: (n, C) class probabilities; the prediction is the most probable class.
        embeddings: (n, d) embeddings for the silhouettes, or None to leave those out.
        label_names: the C names.
        seed: of the sample that stands for the documents beyond `SILHOUETTE_DOCUMENTS` in the silhouette.

    Raises:
        ValueError: if shapes disagree, a class is out of range, a probability is outside [0, 1] or no document is
            labelled.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    y = _classes(truth, len(label_names))  # (n,)
    p = _matrix(probabilities, "probabilities", len(y))  # (n, C)
    if p.shape[1] != len(label_names):
        raise ValueError(
            f"expected a column of probabilities a label, came {p.shape[1]} for {len(label_names)} label names"
        )
    if p.size and not (p.min() >= -1e-6 and p.max() <= 1 + 1e-6):  # false for NaN too
        raise ValueError(
            "expected probabilities from 0 to 1; if these are logits, apply a softmax over the classes first"
        )
    known = y >= 0
    if not known.any():
        raise ValueError("expected at least one labelled document to score against, came none (every class is -1)")
    y, p = y[known], p[known]
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
        else silhouettes(_matrix(embeddings, "embeddings", len(known))[known], y, seed=seed)
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

    Not defined: fewer than two classes, one class a document, or an embedding that is not finite. Beyond
    `SILHOUETTE_DOCUMENTS` documents a seeded sample is taken, in proportion to the classes and with at least two
    documents of each that has two: a rare class keeps its place in the macro mean. Documents of -1 are left out.

    Args:
        embeddings: (n, d), scaled to unit length here.
        labels: (n,) integer classes.
        seed: of the sample.
    """
    from sklearn.metrics import silhouette_samples

    y = np.asarray(_numpy(labels), dtype=np.int64)  # (n,)
    x = _matrix(embeddings, "embeddings", len(y))  # (n, d)
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
    p = np.asarray(_numpy(confidence), dtype=np.float64)  # (n,)
    right = np.asarray(_numpy(correct), dtype=bool)  # (n,)
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


def linear_probe(
    train_embeddings: Array,
    train_labels: Array,
    num_classes: int,
    *,
    seed: int = 0,
    inverse_regularization: float = 10.0,
) -> Probe:
    """Fit scikit-learn's logistic regression on unit-length embeddings: what the encoder is worth without fine-tuning.

    Its softmax gives the probabilities of scikit-learn's `predict_proba`, for two classes too. A class without a
    training document gets weight 0 and bias `ABSENT_BIAS`, so it is never predicted; a lone class is predicted always.

    Args:
        train_embeddings: (n, d), scaled to unit length here.
        train_labels: (n,) integer classes; documents of -1 are left out.
        num_classes: C.
        seed: passed on to scikit-learn; the solver used (L-BFGS) does not draw.
        inverse_regularization: scikit-learn's C; 10 suits unit-length embeddings of a sentence encoder.

    Raises:
        ValueError: if shapes disagree, a class is out of range, an embedding is not finite or no document is labelled.
    """
    import torch
    from sklearn.linear_model import LogisticRegression

    y = _classes(train_labels, num_classes)  # (n,)
    x = _matrix(train_embeddings, "train_embeddings", len(y))  # (n, d)
    x, y = x[y >= 0], y[y >= 0]
    present = np.unique(y)
    if not len(present):
        raise ValueError("expected at least one labelled document to fit the probe on, came none (every label is -1)")
    if not np.isfinite(x).all():
        raise ValueError("expected finite train_embeddings, came NaN or infinity; look for a training that diverged")

    weight = np.zeros((num_classes, x.shape[1]), dtype=np.float32)
    bias = np.full(num_classes, ABSENT_BIAS, dtype=np.float32)
    if len(present) == 1:
        bias[present] = 0.0
    else:
        # At the default tolerance of 1e-4, probabilities of 77 classes are still 0.07 from the optimum; here 0.002.
        model = LogisticRegression(C=inverse_regularization, tol=1e-5, max_iter=1_000, random_state=seed)
        with warnings.catch_warnings():  # one label a class is no regression problem, as scikit-learn suspects
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            model.fit(unit_rows(x), y)
        w, b = model.coef_, model.intercept_
        if (
            len(present) == 2
        ):  # scikit-learn keeps one row: a sigmoid of w z + b is the softmax of half of it, up and down
            w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
        weight[present], bias[present] = w, b
    return Probe(torch.from_numpy(weight), torch.from_numpy(bias))


def unit_rows(embeddings: Array) -> NDArray[np.float32]:
    """Rows scaled to unit length, (n, d) float32; a row of zeros stays zero."""
    x = _matrix(embeddings, "embeddings")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12).astype(np.float32)


def _proportional_sample(y: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` documents: classes are drawn from at one pace, after the first two of each."""
    order = rng.permutation(len(y))
    pace = np.empty(len(y))
    for c in np.unique(y):
        own = order[y[order] == c]
        pace[own] = np.maximum(np.arange(len(own)) - 1, 0) / len(own)
    return np.sort(order[np.argsort(pace[order], kind="stable")[:size]])


def _numpy(values: Array) -> NDArray[Any]:
    """An array of any kind as numpy; bfloat16, which numpy lacks, becomes float32."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        return np.asarray(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy())
    return np.asarray(values)


def _matrix(values: Array, name: str, rows: int | None = None) -> NDArray[np.float32]:
    x = np.asarray(_numpy(values), dtype=np.float32)
    if x.ndim != 2 or (rows is not None and len(x) != rows):
        expected = "two dimensions" if rows is None else f"{rows} rows, one a document"
        raise ValueError(f"expected {name} with {expected}, came shape {x.shape}; pass both for the same documents")
    return x


def _classes(values: Array, num_classes: int) -> NDArray[np.int64]:
    y = _numpy(values)
    if y.ndim != 1 or (y.size and y.dtype.kind not in "iu"):
        raise ValueError(
            f"expected one integer class a document, came {y.dtype} of shape {y.shape}; map names to indices first"
        )
    if y.size and not (y.min() >= -1 and y.max() < num_classes):
        raise ValueError(f"expected classes from -1 (unlabelled) to {num_classes - 1}, came {y.min()} to {y.max()}")
    return y.astype(np.int64)
