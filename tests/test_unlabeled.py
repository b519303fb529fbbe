"""Soft probe and lesson: against scikit-learn and literal formulas, on clusters, and at the edges of the input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from graphloss.inference import pseudo_labels as un
from graphloss.inference.corpus_graph import from_edges
from graphloss.inference.linear_probe import ABSENT_BIAS, Probe, linear_probe, soft_probe
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

    def test_a_single_class_is_always_predicted(self) -> None:
        probe = soft_probe(torch.eye(3), one_hot(torch.ones(3, dtype=torch.int64), 2, torch.float32), torch.ones(3))
        assert (probe.probabilities(torch.randn(5, 3))[:, 1] == 1).all()

    def test_wrong_input_is_said_with_its_repair(self) -> None:
        z, t, w = torch.eye(3), torch.full((3, 2), 0.5), torch.ones(3)
        for args, message in [
            ((z, t[:2], w), r"targets \(3, classes\)"),
            ((z, t, w[:, None]), "one row an embedding"),
            ((z, t * torch.nan, w), "NaN"),
            ((z, t, -w), "negative"),
            ((z, t, 0 * w), "weight above 0"),
        ]:
            with pytest.raises(ValueError, match=message):
                soft_probe(*args)


class TestLesson:
    def test_unequal_clusters_are_learned_from_one_label_a_class(self) -> None:
        z, y, labels = corpus([300, 60, 20], 1, noise=0.22, seed=3)
        taught = un.pseudo_labels(z, labels, 3)
        hidden = labels < 0
        assert taught.agreement > 0.5
        true = torch.bincount(y[hidden], minlength=3) / hidden.sum()
        even = torch.full((3,), 1 / 3)
        assert (taught.prior - true).abs().sum() < 0.5 * (even - true).abs().sum()
        ours = (un.fit_head(z, taught).probabilities(z).argmax(1) == y)[hidden].float().mean()
        alone = (taught.regression.probabilities(z).argmax(1) == y)[hidden].float().mean()
        assert ours > 0.95 and ours >= alone

    def test_given_labels_are_kept_and_weigh_their_share(self) -> None:
        z, _, labels = corpus([40, 40, 40], 4)
        taught = un.pseudo_labels(z, labels, 3)
        known = labels >= 0
        assert torch.equal(taught.targets[known], one_hot(labels, 3, torch.float32)[known])
        assert torch.allclose(taught.targets.sum(1), torch.ones(120), atol=1e-5)
        assert (taught.weights[known].sum() / taught.weights.sum()).item() == pytest.approx(un.LABELED_WEIGHT, abs=1e-5)
        assert (taught.weights >= 0).all() and taught.weights[~known].std() > 0

    def test_documents_and_classes_may_be_permuted(self) -> None:
        z, _, labels = corpus([40, 30, 20], 3, noise=0.5)
        g = torch.Generator().manual_seed(0)
        order, names = torch.randperm(90, generator=g), torch.tensor([2, 0, 1])
        renamed = torch.where(labels >= 0, names[labels.clamp_min(0)], -1)
        one, two = un.pseudo_labels(z, labels, 3), un.pseudo_labels(z[order], renamed[order], 3)
        assert torch.allclose(one.targets[order], two.targets[:, names], atol=2e-3)
        assert torch.allclose(one.prior, two.prior[names], atol=1e-3)

    def test_nothing_unlabeled_is_the_regression(self) -> None:
        z, y, _ = corpus([10, 10], 1)
        taught = un.pseudo_labels(z, y, 2)
        assert taught.agreement == 0.0 and (taught.weights == 1).all()
        assert un.fit_head(z, taught) is taught.regression

    @pytest.mark.parametrize("labels", [[0, -1, -1, -1, -1, -1], [0, -1, 2, -1, -1, -1], [1, 1, 1, -1, 1, -1]])
    def test_classes_without_a_label_are_never_proposed(self, labels: list[int]) -> None:
        z = unit(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
        y = torch.tensor(labels)
        taught = un.pseudo_labels(z, y, 3)
        absent = [c for c in range(3) if c not in labels]
        assert torch.isfinite(taught.targets).all() and torch.isfinite(taught.weights).all()
        assert (taught.prior[absent] == 0).all()
        found = un.fit_head(z, taught).probabilities(z)
        assert torch.isfinite(found).all() and (found[:, absent] < 1e-6).all()

    def test_duplicates_and_zero_embeddings(self) -> None:
        z = torch.cat([torch.ones(15, 4), torch.zeros(3, 4), torch.eye(4)])
        labels = torch.full((22,), -1)
        labels[[0, 18, 19]] = torch.tensor([0, 1, 1])
        assert torch.isfinite(un.pseudo_labels(z, labels, 2).targets).all()

    def test_wrong_input_is_said_with_its_repair(self) -> None:
        z = torch.eye(3)
        with pytest.raises(ValueError, match="one label a row"):
            un.pseudo_labels(z, torch.tensor([0, 1]), 2)
        with pytest.raises(ValueError, match="from -1"):
            un.pseudo_labels(z, torch.tensor([0, 1, 2]), 2)
        with pytest.raises(ValueError, match="at least one labeled"):
            un.pseudo_labels(z, torch.full((3,), -1), 2)


class TestPasses:
    """The head's own answers in the regression's place."""

    def test_another_pass_pools_graph_and_head_by_the_formula(self) -> None:
        z, _, labels = corpus([40, 30, 20], 3, noise=0.5)
        first = un.pseudo_labels(z, labels, 3)
        probe = un.fit_head(z, first)
        second = un.refine(z, first, probe)
        for i in range(90):
            h = torch.softmax(probe.weight.double() @ z[i].double() + probe.bias.double(), 0)
            t = first.spread[i].double() * h**2
            t = t / t.sum()
            if labels[i] >= 0:
                t = torch.nn.functional.one_hot(labels[i], 3).double()
            else:
                certain = 1 + (t * t.clamp_min(1e-30).log()).sum() / np.log(3)
                assert second.weights[i].item() == pytest.approx(certain.item(), abs=1e-4)
            assert torch.allclose(second.targets[i].double(), t, atol=1e-4)
        known = labels >= 0
        assert (second.weights[known].sum() / second.weights.sum()).item() == pytest.approx(un.LABELED_WEIGHT, abs=1e-5)
        assert second.trust == first.trust and second.graph is first.graph

    def test_passes_are_taken_one_after_another_and_know_more(self) -> None:
        right = {"first": 0.0, "last": 0.0}
        for seed in range(5):
            z, y, labels = corpus([200, 200, 200], 1, noise=0.33, seed=seed)
            hidden = labels < 0
            probe, learned = un.self_train(z, labels, 3)
            expected = un.pseudo_labels(z, labels, 3)
            first = one = un.fit_head(z, expected)
            for _ in range(un.PASSES):
                expected = un.refine(z, expected, one)
                one = un.fit_head(z, expected)
            assert torch.equal(learned.targets, expected.targets)
            share = 597**2 / (597**2 + un.MANY_DOCUMENTS**2)
            assert torch.allclose(probe.weight, (1 - share) * first.weight + share * one.weight, atol=1e-5)
            assert torch.allclose(probe.bias, (1 - share) * first.bias + share * one.bias, atol=1e-5)
            for name, each in (("first", first), ("last", probe)):
                right[name] += (each.probabilities(z).argmax(1) == y)[hidden].float().mean().item() / 5
        assert right["last"] > right["first"] > 0.5

    def test_what_is_not_trusted_is_not_asked_again(self) -> None:
        z, y, _ = corpus([10, 10], 1)
        other = Probe(torch.zeros(2, 24), torch.zeros(2))
        probe, learned = un.self_train(z, y, 2, otherwise=other)
        assert probe is other and learned.trust == 0.0


class TestTrust:
    """How much of a head the unlabeled documents have, and which class shares it keeps."""

    def test_few_documents_teach_little_and_one_nothing(self) -> None:
        z, _, labels = corpus([400, 400, 400], 4, noise=0.2)
        given, rest = (labels >= 0).nonzero()[:, 0], (labels < 0).nonzero()[:, 0]
        rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
        trust = {}
        for m in (0, 1, 20, 200, 1000):
            rows = torch.cat([given, rest[:m]])
            taught = un.pseudo_labels(z[rows], labels[rows], 3)
            trust[m] = taught.trust
            assert trust[m] == pytest.approx(min(1, taught.agreement / un.FULL_TRUST) * m / (m + un.TRUST_DOCUMENTS))
        assert trust[0] == trust[1] == 0 < trust[20] < 0.1 < trust[200] < 0.51 < trust[1000]

    def test_the_rest_is_the_head_that_it_leans_on(self) -> None:
        z, _, labels = corpus([60, 60], 2)
        taught = un.pseudo_labels(z, labels, 2)
        other = Probe(torch.randn(2, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -1.0]))
        assert un.fit_head(z, replace(taught, trust=0.0), otherwise=other) is other
        whole = un.fit_head(z, replace(taught, trust=1.0))
        part = un.fit_head(z, taught, otherwise=other)
        assert torch.allclose(part.weight, other.weight.lerp(whole.weight, taught.trust), atol=1e-5)
        assert torch.allclose(part.bias, other.bias.lerp(whole.bias, taught.trust), atol=1e-5)

    def test_classes_that_are_no_clusters_keep_the_shares_of_the_regression(self) -> None:
        z, _, labels = corpus([250, 50], 1, noise=0.22, seed=3)
        hidden = labels < 0
        given = un.pseudo_labels(z, labels, 2)
        clusters = replace(given, trust=1.0)
        sharp = Probe(un.SHARPENING * given.regression.weight, un.SHARPENING * given.regression.bias)
        wanted = sharp.probabilities(z)[hidden].mean(0)

        # the same documents, whose neighbors are anybody's: no class is a cluster
        g = torch.Generator().manual_seed(0)
        ends = torch.randint(300, (2, 9000), generator=g)
        ends = ends[:, ends[0] != ends[1]]
        noise = replace(clusters, graph=from_edges(*ends, torch.ones(ends.shape[1]), 300))
        kept, evened = (un.fit_head(z, each).probabilities(z)[hidden].mean(0) for each in (clusters, noise))
        assert (evened - wanted).abs().max() < 0.05 < (kept - wanted).abs().max()
        assert kept[1] < 0.25  # as it is: 1 in 6


class TestParts:
    def test_shift_gives_the_wanted_shares(self) -> None:
        g = torch.Generator().manual_seed(0)
        p = (3 * torch.randn(500, 4, generator=g)).softmax(1)
        wanted = torch.tensor([0.6, 0.3, 0.08, 0.02])
        assert torch.allclose((p.log() + un.match_class_prior(p, wanted)).softmax(1).mean(0), wanted, atol=1e-3)
        absent = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
        moved = un.match_class_prior(absent, torch.tensor([0.5, 0.5, 0.0]))
        assert torch.isfinite(moved).all() and moved[2] == 0

    def test_agreement_is_cohens_kappa(self) -> None:
        g = torch.Generator().manual_seed(0)
        p = torch.rand(200, 4, generator=g)
        f = p + 0.5 * torch.rand(200, 4, generator=g)
        expected = cohen_kappa_score(p.argmax(1), f.argmax(1))
        assert un.cohen_kappa(p, f) == pytest.approx(expected, abs=1e-6) and 0.2 < expected < 0.9
        assert un.cohen_kappa(p[:0], f[:0]) == 0.0
        assert un.cohen_kappa(torch.eye(2)[[0, 0]], torch.eye(2)[[0, 0]]) == 0.0  # one class: all agreement is chance
        assert un.cohen_kappa(torch.eye(2), torch.eye(2)[[1, 0]]) == 0.0  # worse than chance

    def test_shares_of_certain_documents_are_their_counts(self) -> None:
        p, even = torch.eye(3)[[0] * 7 + [1] * 2 + [2]], torch.full((3,), 1 / 3)
        assert torch.allclose(un.estimate_class_prior(p, even, hold=0.0), torch.tensor([0.7, 0.2, 0.1]), atol=1e-6)
        half = (torch.tensor([0.7, 0.2, 0.1]) + even) / 2
        assert torch.allclose(un.estimate_class_prior(p, even, hold=0.5), half, atol=1e-6)
        assert torch.allclose(un.estimate_class_prior(p, even, hold=1.0), even)
        flat = un.estimate_class_prior(even.expand(10, 3), even, hold=0.3)
        assert torch.allclose(flat, even)  # documents that say nothing leave the shares equal

    def test_shares_find_the_maximum_of_the_likelihood(self) -> None:
        g = torch.Generator().manual_seed(1)
        true, even = torch.tensor([0.7, 0.3]), torch.tensor([0.5, 0.5])
        y = (torch.rand(4000, generator=g) < true[1]).float()
        x = 2 * y - 1 + torch.randn(4000, generator=g)
        p = torch.sigmoid(2 * x)  # the posterior under equal shares
        q = un.estimate_class_prior(torch.stack([1 - p, p], 1), even, hold=0.0, steps=300)
        grid = torch.linspace(0.05, 0.95, 91)
        likelihood = (grid[:, None] * (1 - p) + (1 - grid[:, None]) * p).log().sum(1)
        assert q[0].item() == pytest.approx(grid[likelihood.argmax()].item(), abs=0.011)
