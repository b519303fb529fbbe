"""Metrics against literal formulas, the probe against scikit-learn, and the answers to inputs at the edge."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from graphloss.inference import metrics
from graphloss.inference.arrays import unit_rows
from graphloss.inference.linear_probe import ABSENT_BIAS, linear_probe
from graphloss.inference.metrics import expected_calibration_error, intervals, reliability, score, silhouettes


def clusters(n: int, classes: int, *, d: int = 8, noise: float = 0.6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return rng.normal(size=(classes, d))[y] + noise * rng.normal(size=(n, d)), y


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(torch.softmax(torch.from_numpy(logits), 1))


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(8, 40))
def test_scores_equal_literal_formulas(seed: int, classes: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, classes, n), softmax(2 * rng.normal(size=(n, classes)))
    result = score(y, p, None, [f"c{i}" for i in range(classes)])

    predicted = p.argmax(1)
    f1, names = [], []
    for c in range(classes):
        hit, said, real = (int(np.sum(m)) for m in ((y == c) & (predicted == c), predicted == c, y == c))
        if said or real:
            f1.append(2 * hit / (said + real))
            names.append(f"c{c}")
    assert result.accuracy == pytest.approx(np.mean(y == predicted))
    assert result.macro_f1 == pytest.approx(np.mean(f1))
    assert [row.label for row in result.per_class] == names
    assert [row.f1 for row in result.per_class] == pytest.approx(f1)
    assert sum(row.support for row in result.per_class) == n

    ece = 0.0
    for b in range(metrics.BINS):
        inside = (p.max(1) > b / metrics.BINS) & (p.max(1) <= (b + 1) / metrics.BINS)
        if inside.any():
            ece += inside.mean() * abs((y == predicted)[inside].mean() - p.max(1)[inside].mean())
    assert result.ece == pytest.approx(ece, abs=1e-6)


def test_silhouettes_equal_the_definition() -> None:
    x, y = clusters(30, 3)
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    s = np.zeros(len(y))
    for i in range(len(y)):
        own = [j for j in range(len(y)) if y[j] == y[i] and j != i]
        if own:
            a = distances[i, own].mean()
            b = min(distances[i, y == c].mean() for c in set(y) - {y[i]})
            s[i] = (b - a) / max(a, b)
    macro, micro = silhouettes(5 * x, y)  # of any length: it is scaled to unit length
    assert micro == pytest.approx(s.mean(), abs=1e-5)
    assert macro == pytest.approx(np.mean([s[y == c].mean() for c in range(3)]), abs=1e-5)
    assert abs(macro - micro) > 1e-4  # or the two could have been swapped


def test_a_class_that_never_occurs_leaves_macro_f1_alone() -> None:
    y, p = np.array([0, 0, 1, 1]), np.eye(4)[[0, 0, 1, 2]]
    result = score(y, p, None, ["a", "b", "predicted only", "nowhere"])
    assert [row.label for row in result.per_class] == ["a", "b", "predicted only"]
    assert result.per_class[2].f1 == 0 and result.per_class[2].support == 0
    assert result.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_tensors_and_arrays_give_the_same_scores_and_plain_json() -> None:
    x, y = clusters(40, 3)
    p = softmax(np.random.default_rng(1).normal(size=(40, 3)))
    names = ["a", "b", "c"]
    arrays = score(y, p, x, names)
    tensors = score(torch.from_numpy(y), torch.from_numpy(p).float(), torch.from_numpy(x).float(), names)
    assert tensors.per_class == arrays.per_class
    assert tensors.ece == pytest.approx(arrays.ece, abs=1e-5)
    assert tensors.macro_silhouette == pytest.approx(arrays.macro_silhouette, abs=1e-5)
    parsed = json.loads(json.dumps(dataclasses.asdict(arrays), allow_nan=False))
    assert set(parsed) == {"accuracy", "macro_f1", "macro_silhouette", "micro_silhouette", "ece", "per_class"}
    assert set(parsed["per_class"][0]) == {"label", "precision", "recall", "f1", "support"}
    score(y, torch.from_numpy(p).bfloat16(), torch.from_numpy(x).bfloat16(), names)


def test_unlabeled_documents_are_left_out_of_every_score() -> None:
    x, y = clusters(40, 3)
    p = softmax(np.random.default_rng(1).normal(size=(40, 3)))
    hidden = y.copy()
    hidden[5:20] = -1
    keep = hidden >= 0
    assert score(hidden, p, x, list("abc")) == score(y[keep], p[keep], x[keep], list("abc"))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.ones((5, 3)), np.zeros(5, int)),  # one class
        (np.eye(4), np.arange(4)),  # one class per document
        (np.full((4, 2), np.nan), np.array([0, 0, 1, 1])),  # diverged
        (np.zeros((0, 2)), np.zeros(0, int)),  # nothing
    ],
)
def test_an_undefined_silhouette_is_none(x: np.ndarray, y: np.ndarray) -> None:
    assert silhouettes(x, y) == (None, None)


def test_large_silhouettes_are_sampled_repeatably_and_keep_rare_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(3000, 3)
    y[y == 2] = 1
    y[:4] = 2  # 4 of 3,000
    exact = silhouettes(x, y)
    monkeypatch.setattr(metrics, "SILHOUETTE_DOCUMENTS", 400)
    chosen = metrics._proportional_sample(y, 400, np.random.default_rng(0))
    assert len(set(chosen)) == 400
    assert (y[chosen] == 2).sum() >= 2
    assert (y[chosen] == 1).mean() == pytest.approx((y == 1).mean(), abs=0.02)
    assert silhouettes(x, y, seed=3) == silhouettes(x, y, seed=3) != silhouettes(x, y, seed=4)
    assert silhouettes(x, y)[1] == pytest.approx(exact[1], abs=0.05)


def test_reliability_puts_each_confidence_into_its_bin() -> None:
    bins = reliability([0.0, 0.1, 0.1001, 0.95, 1.0], [False, False, True, True, True], bins=10)
    assert [b.documents for b in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[9].accuracy == 1.0 and bins[9].confidence == pytest.approx(0.975)
    assert bins[4].accuracy is None and bins[4].confidence is None
    assert expected_calibration_error([]) == 0.0
    assert expected_calibration_error(reliability([0.75] * 4, [True, True, True, False])) == pytest.approx(0.0)


@pytest.mark.filterwarnings("error")
def test_the_probe_takes_one_label_a_class_without_a_warning() -> None:
    z = np.eye(30, 32, dtype=np.float32)
    assert linear_probe(z, np.arange(30), 30).probabilities(z).argmax(1).tolist() == list(range(30))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_probe_is_scikit_learns_regression_on_unit_length(classes: int) -> None:
    x, y = clusters(90, classes)
    probe = linear_probe(x, y, classes)
    theirs = LogisticRegression(C=10.0, tol=1e-5, max_iter=1000).fit(unit_rows(x), y)
    p = probe.probabilities(torch.from_numpy(x))
    assert probe.weight.shape == (classes, 8) and probe.bias.shape == (classes,)
    assert probe.weight.dtype == probe.bias.dtype == p.dtype == torch.float32
    np.testing.assert_allclose(p.numpy(), theirs.predict_proba(unit_rows(x)), atol=1e-5)
    np.testing.assert_allclose(probe.probabilities(7 * x).numpy(), p.numpy(), atol=1e-5)
    assert (p.argmax(1).numpy() == y).mean() > 0.6


@pytest.mark.parametrize("present", [[1, 3], [0, 2, 4]])
def test_classes_without_a_training_document_are_never_predicted(present: list[int]) -> None:
    x, y = clusters(60, len(present))
    probe = linear_probe(x, np.array(present)[y], 5)
    absent = [c for c in range(5) if c not in present]
    assert torch.equal(probe.weight[absent], torch.zeros(len(absent), 8))
    assert torch.equal(probe.bias[absent], torch.full((len(absent),), ABSENT_BIAS))
    p = probe.probabilities(x)
    assert p[:, absent].max() == 0
    np.testing.assert_allclose(p[:, present].numpy(), linear_probe(x, y, len(present)).probabilities(x), atol=1e-5)


def test_a_single_class_is_always_predicted_and_unlabeled_documents_do_not_count() -> None:
    x, y = clusters(30, 3)
    alone = linear_probe(x, np.full(30, 2), 3).probabilities(x)
    assert torch.equal(alone, torch.eye(3)[[2] * 30])
    y[10:] = -1
    assert torch.equal(linear_probe(x, y, 3).weight, linear_probe(x[:10], y[:10], 3).weight)


def test_wrong_input_is_said_with_its_repair() -> None:
    p, x = np.full((3, 2), 0.5), np.ones((3, 4))
    names = ["a", "b"]
    with pytest.raises(ValueError, match="3 rows"):
        score([0, 1, 0], p[:2], None, names)
    with pytest.raises(ValueError, match="2 for 3 label names"):
        score([0, 1, 0], p, None, ["a", "b", "c"])
    with pytest.raises(ValueError, match="softmax"):
        score([0, 1, 0], 9 * p, None, names)
    with pytest.raises(ValueError, match="softmax"):
        score([0, 1, 0], p * np.nan, None, names)
    with pytest.raises(ValueError, match="at least one labeled"):
        score([-1, -1, -1], p, None, names)
    with pytest.raises(ValueError, match="from -1"):
        score([0, 1, 2], p, None, names)
    with pytest.raises(ValueError, match="integer class"):
        score([0.0, 1.0, 1.0], p, None, names)
    with pytest.raises(ValueError, match="at least one labeled"):
        linear_probe(x, [-1, -1, -1], 2)
    with pytest.raises(ValueError, match="finite"):
        linear_probe(x * np.inf, [0, 1, 0], 2)


@pytest.mark.parametrize("right", [True, False])
def test_ten_of_ten_right_or_wrong_is_no_certainty(right: bool) -> None:
    """Wilson's interval of k = n is from n / (n + z²) to 1."""
    truth = np.arange(10) % 2
    found = intervals(truth, np.eye(2)[truth if right else 1 - truth])
    bound = 10 / (10 + 1.959964**2)
    expected = (bound, 1.0) if right else (0.0, 1 - bound)
    assert found["accuracy"] == pytest.approx(expected, abs=1e-5) and found["macro_f1"] == found["accuracy"]


def test_the_intervals_are_about_the_quantiles_of_resampled_scores() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=60)
    guess = np.where(rng.random(60) < 0.7, truth, rng.integers(3, size=60))
    found = intervals(truth, np.eye(3)[guess])
    drawn = [rng.integers(60, size=60) for _ in range(2000)]
    literal = [float((truth[rows] == guess[rows]).mean()) for rows in drawn]
    assert found["accuracy"] == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=0.03)
    assert 0.1 < found["accuracy"][1] - found["accuracy"][0] < 0.4
    assert found["macro_f1"][0] < score(truth, np.eye(3)[guess], None, ["a", "b", "c"]).macro_f1 < found["macro_f1"][1]
