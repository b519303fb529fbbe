"""Soft probe and the head of unlabeled text: against scikit-learn and literal formulas, and at the edges of input."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from graphloss.inference import informed_head as un
from graphloss.inference import linear_probe as lp
from graphloss.inference.linear_probe import ABSENT_BIAS, Probe, cross_entropy, linear_probe, soft_probe
from graphloss.losses.graph import unit
from graphloss.losses.propagation import one_hot


def corpus(
    sizes: list[int], shots: int, *, d: int = 24, noise: float = 0.28, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings in clusters, all classes, and the labels of the first `shots` of each."""
    g = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.full((size,), c) for c, size in enumerate(sizes)])
    centers = unit(torch.randn(len(sizes), d, generator=g))
    z = unit(centers[y] + noise * torch.randn(len(y), d, generator=g))
    labels = torch.full_like(y, -1)
    for c in range(len(sizes)):
        labels[(y == c).nonzero()[:shots, 0]] = c
    return z, y, labels


class TestSoftProbe:
    @pytest.mark.parametrize("classes", [2, 5])
    def test_hard_targets_give_scikit_learns_regression(self, classes: int) -> None:
        z, y, _ = corpus([20] * classes, 1)
        ours = soft_probe(z, one_hot(y, classes, z.dtype), torch.ones(len(z)), tolerance=1e-7)
        theirs = linear_probe(z, y, classes)
        assert torch.allclose(ours.probabilities(z), theirs.probabilities(z), atol=5e-3)

    def test_a_soft_target_is_several_weighted_documents(self) -> None:
        g = torch.Generator().manual_seed(0)
        z = unit(torch.randn(40, 8, generator=g))
        t = torch.rand(40, 3, generator=g).square()
        t, w = t / t.sum(1, keepdim=True), torch.rand(40, generator=g)
        ours = soft_probe(z, t, w, inverse_regularization=3.0, tolerance=1e-7)
        rows, classes = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
        model = LogisticRegression(C=3.0, tol=1e-8, max_iter=2000)
        model.fit(z.numpy()[rows], classes, sample_weight=(t * w[:, None]).numpy().ravel())
        assert np.allclose(ours.probabilities(z), model.predict_proba(z.numpy()), atol=2e-3)

    def test_weight_zero_is_no_document_and_an_absent_class_is_never_predicted(self) -> None:
        z, y, _ = corpus([15, 15, 15], 1)
        w = (y != 2).float()
        probe = soft_probe(z, one_hot(y, 4, z.dtype), w)
        alone = soft_probe(z[y != 2], one_hot(y[y != 2], 4, z.dtype), torch.ones(30))
        assert torch.equal(probe.weight, alone.weight)
        assert probe.bias[2:].tolist() == [ABSENT_BIAS] * 2 and (probe.weight[2:] == 0).all()
        assert (probe.weight[:2] != 0).all()

    def test_classes_stand_for_one_hot_targets(self) -> None:
        z, y, _ = corpus([10, 10, 10], 1)
        t = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
        w = torch.rand(30, generator=torch.Generator().manual_seed(1))
        w[4] = 0.0
        short = soft_probe(z, t, w, classes=y[:18], tolerance=1e-8)
        full = soft_probe(z, torch.cat([one_hot(y[:18], 3, t.dtype), t]), w, tolerance=1e-8)
        assert torch.allclose(short.probabilities(z), full.probabilities(z), atol=1e-4)

    @pytest.mark.parametrize("entries", [7, 2**24])
    def test_the_gradient_is_autograds(self, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lp, "ENTRIES", entries)
        g = torch.Generator().manual_seed(0)
        z, t = torch.randn(9, 5, generator=g).double(), torch.rand(6, 3, generator=g).double()
        y, share = torch.tensor([2, 0, 1]), torch.rand(9, generator=g).double()
        w = torch.randn(3, 5, generator=g).double().requires_grad_()
        b = torch.randn(3, generator=g).double().requires_grad_()
        value = -(share[:, None] * torch.cat([torch.eye(3)[y], t]) * torch.log_softmax(z @ w.T + b, 1)).sum()
        by_w, by_b = torch.autograd.grad(value, [w, b])
        found = cross_entropy(z, w, b, y, t, share)
        assert by_w.abs().min() > 1e-4
        for one, other in zip(found, (value.detach(), by_w, by_b), strict=True):
            assert torch.allclose(one, other, atol=1e-9)

    def test_a_single_class_is_always_predicted(self) -> None:
        probe = soft_probe(torch.eye(3), one_hot(torch.ones(3, dtype=torch.int64), 2, torch.float32), torch.ones(3))
        assert (probe.probabilities(torch.randn(5, 3))[:, 1] == 1).all()

    def test_wrong_input_is_said_with_its_repair(self) -> None:
        z, t, w = torch.eye(3), torch.full((3, 2), 0.5), torch.ones(3)
        for args, message in [
            ((z, t[:2], w), r"targets \(3, classes\)"),
            ((z, t, w[:, None]), "one row per embedding"),
            ((z, t * torch.nan, w), "NaN"),
            ((z, t, -w), "negative"),
            ((z, t, 0 * w), "weight above 0"),
        ]:
            with pytest.raises(ValueError, match=message):
                soft_probe(*args)


def nothing(d: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """No description."""
    return torch.zeros(0, d), torch.zeros(0, dtype=torch.long)


def described(classes: int, d: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """A line near the center of each class of `corpus` with seed 0."""
    g = torch.Generator().manual_seed(0)
    centers = unit(torch.randn(classes, d, generator=g))
    return unit(centers + 0.15 * torch.randn(classes, d, generator=torch.Generator().manual_seed(9))), torch.arange(
        classes
    )


def right(head: Probe, z: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> float:
    """Share of the rows that a head predicts right."""
    return (head.probabilities(z).argmax(1) == y)[rows].float().mean().item()


class TestInformedHead:
    @pytest.mark.parametrize(
        ("shots", "weight", "lines"),
        [(1, 0.0, False), (1, 0.2, True), (1, 0.6, True), (2, 0.0, False), (0, 1.0, True), (2, 0.3, True)],
    )
    @pytest.mark.parametrize("sizes", [[40, 30, 20], [40, 25]])
    def test_the_literal_steps(self, shots: int, weight: float, lines: bool, sizes: list[int]) -> None:
        z, _, labels = corpus(sizes, shots, noise=0.4)
        known = described(len(sizes)) if lines else nothing()
        head, prior, _ = un.informed_head(z, labels, *known, len(sizes), weight=torch.full((len(sizes),), weight))
        expected = torch.softmax(oracles.informed_head(z, labels, *known, len(sizes), weight), 1)
        assert prior.sum().item() == pytest.approx(1, abs=1e-5) and expected.amax(1).mean() < 0.9999
        torch.testing.assert_close(head.probabilities(z).double(), expected, atol=0.02, rtol=0)

    def test_the_objective_of_information_and_its_gradient(self) -> None:
        g = torch.Generator().manual_seed(0)
        x, pile = torch.randn(4, 3, generator=g).double(), torch.randn(7, 3, generator=g).double()
        y, v, q = torch.tensor([0, 1, 1, 0]), torch.rand(4, generator=g).double(), torch.tensor([0.7, 0.3]).double()
        w, b = torch.randn(2, 3, generator=g).double(), torch.randn(2, generator=g).double()
        heard = [float((w @ row + b).softmax(0)[c].log()) for row, c in zip(x, y, strict=True)]
        p = [(w @ row + b).softmax(0) for row in pile]
        mean = torch.stack(p).mean(0)
        expected = -sum(float(a) * c for a, c in zip(v, heard, strict=True)) / float(v.sum())
        expected -= sum(float((row * row.log()).sum()) for row in p) / 7
        expected += sum(float(mean[c] * (mean[c] / q[c]).log()) for c in range(2))
        assert float(un.information(x, w, b, y, v, pile, q)) == pytest.approx(expected, abs=1e-9)
        w, b = w.requires_grad_(), b.requires_grad_()
        assert torch.autograd.gradcheck(lambda w, b: un.information(x, w, b, y, v, pile, q), (w, b))

    def test_unequal_clusters_are_learned_from_one_label_a_class(self) -> None:
        z, y, labels = corpus([300, 60, 20], 1, noise=0.22, seed=3)
        head, prior, r = un.informed_head(z, labels, *nothing(), 3, weight=torch.zeros(3))
        hidden = labels < 0
        true = torch.bincount(y[hidden], minlength=3) / hidden.sum()
        assert (prior - true).abs().sum() < 0.5 * (torch.full((3,), 1 / 3) - true).abs().sum()
        alone = linear_probe(z[~hidden], y[~hidden], 3)
        assert right(head, z, y, hidden) > 0.95 and right(head, z, y, hidden) >= right(alone, z, y, hidden)
        assert 0.5 < r <= 1

    def test_descriptions_make_up_for_labels(self) -> None:
        z, y, labels = corpus([60, 60, 60], 1, noise=0.4)
        rest = labels < 0
        without, _, _ = un.informed_head(z, labels, *nothing(), 3, weight=torch.zeros(3))
        lines, _, _ = un.informed_head(z, labels, *described(3), 3, weight=torch.ones(3))
        alone, _, _ = un.informed_head(z, torch.full_like(labels, -1), *described(3), 3, weight=torch.ones(3))
        assert right(lines, z, y, rest) > right(without, z, y, rest) > 0.4
        assert right(alone, z, y, rest) > right(without, z, y, rest)

    def test_documents_and_classes_may_be_permuted(self) -> None:
        z, _, labels = corpus([40, 30, 20], 3, noise=0.5)
        g = torch.Generator().manual_seed(0)
        order, names = torch.randperm(90, generator=g), torch.tensor([2, 0, 1])
        renamed = torch.where(labels >= 0, names[labels.clamp_min(0)], -1)
        lines, classes = described(3)
        one = un.informed_head(z, labels, lines, classes, 3, weight=torch.full((3,), 0.7))
        two = un.informed_head(z[order], renamed[order], lines, names[classes], 3, weight=torch.full((3,), 0.7))
        assert torch.allclose(one[0].probabilities(z), two[0].probabilities(z)[:, names], atol=5e-3)
        assert torch.allclose(one[1], two[1][names], atol=1e-3) and one[2] == pytest.approx(two[2], abs=1e-2)

    @pytest.mark.parametrize(
        ("labels", "lines"),
        [([0, -1, -1, -1, -1, -1], []), ([0, -1, 2, -1, -1, -1], []), ([1, 1, 1, -1, 1, -1], []),
         ([0, -1, -1, -1, -1, -1], [2]), ([-1] * 6, [0, 1]), ([0, 0, -1, -1, -1, -1], [1])],
    )  # fmt: skip
    @pytest.mark.parametrize("weight", [0.0, 1e-13, 1.0])
    def test_classes_without_label_or_line_are_never_predicted(
        self, labels: list[int], lines: list[int], weight: float
    ) -> None:
        z = unit(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
        if weight == 0.0 and (lines or max(labels) < 0):
            return
        known = (z[[3, 4][: len(lines)]], torch.tensor(lines, dtype=torch.long))
        head, prior, _ = un.informed_head(z, torch.tensor(labels), *known, 3, weight=torch.full((3,), weight))
        absent = [c for c in range(3) if c not in labels and c not in lines]
        found = head.probabilities(z)
        assert torch.isfinite(found).all() and torch.isfinite(prior).all()
        assert (prior[absent] == 0).all() and (found[:, absent] < 1e-6).all()

    def test_duplicates_and_zero_embeddings(self) -> None:
        z = torch.cat([torch.ones(15, 4), torch.zeros(3, 4), torch.eye(4)])
        labels = torch.full((22,), -1)
        labels[[0, 18, 19]] = torch.tensor([0, 1, 1])
        assert torch.isfinite(
            un.informed_head(z, labels, *nothing(4), 2, weight=torch.zeros(2))[0].probabilities(z)
        ).all()

    def test_few_documents_leave_the_fallback(self) -> None:
        z, _, labels = corpus([60, 60], 2)
        rest = (labels < 0).nonzero()[:, 0]
        other = Probe(torch.randn(2, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -1.0]))
        for m in (1, 20, 116):
            rows = torch.cat([(labels >= 0).nonzero()[:, 0], rest[:m]])
            given = (z[rows], labels[rows], *nothing(), 2)
            one, two = (
                un.informed_head(*given, weight=torch.zeros(2), fallback=each)[0]
                for each in (other, Probe(2 * other.weight, other.bias))
            )
            share = 1 - m / (m + un.TRUST_DOCUMENTS)
            torch.testing.assert_close(two.weight - one.weight, share * other.weight, atol=1e-4, rtol=0)

    def test_of_too_many_classes_times_documents_a_part_takes_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        z, y, labels = corpus([60, 60], 2)
        monkeypatch.setattr(un, "PROBABILITIES", 2 * 50)
        seen: list[int] = []
        pool = un.pool
        monkeypatch.setattr(un, "pool", lambda f, logits: seen.append(len(f)) or pool(f, logits))
        head, _, _ = un.informed_head(z, labels, *nothing(), 2, weight=torch.zeros(2))
        assert seen == [50] and right(head, z, y, labels < 0) > 0.9

    def test_wrong_input_is_said_with_its_repair(self) -> None:
        z = torch.eye(3)
        for labels, message in [
            ([0, -1], "labels \\(n,\\)"),
            ([0, -1, 2], "from -1 to 1"),
            ([-1, -1, -1], "labels or lines, and unlabeled"),
            ([0, 1, 1], "labels or lines, and unlabeled"),
        ]:
            with pytest.raises(ValueError, match=message):
                un.informed_head(z, torch.tensor(labels), *nothing(3), 2, weight=torch.zeros(2))
        with pytest.raises(ValueError, match="from 0 to 1"):
            un.informed_head(z, torch.tensor([0, -1, -1]), z[:1], torch.tensor([-1]), 2, weight=torch.ones(2))


def test_how_far_a_direction_is_confirmed() -> None:
    none, w = torch.zeros(0, dtype=torch.long), torch.tensor([0.4, 0.2, 0.0, 0.0])
    assert un.confirmation(torch.tensor([0, 1]), none, w) == 0.0
    assert un.confirmation(torch.tensor([0, 1]), torch.tensor([0, 1]), w) == pytest.approx((0.8 + 0.4) / 2)
    assert un.confirmation(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), w) == pytest.approx((1 + 0.4 + 0) / 3)
    assert un.confirmation(none, torch.tensor([0, 1]), torch.ones(2)) == 1.0


def test_agreement_is_cohens_kappa() -> None:
    g = torch.Generator().manual_seed(0)
    one = torch.randint(4, (200,), generator=g)
    other = torch.where(torch.rand(200, generator=g) < 0.6, one, torch.randint(4, (200,), generator=g))
    expected = cohen_kappa_score(one, other)
    assert un.agreement(one, other) == pytest.approx(expected, abs=1e-6) and 0.2 < expected < 0.9
    same = torch.zeros(5, dtype=torch.long)
    assert un.agreement(same, same) == 0.0  # one class: all agreement is chance
    assert un.agreement(torch.tensor([0, 1]), torch.tensor([1, 0])) == 0.0  # worse than chance
