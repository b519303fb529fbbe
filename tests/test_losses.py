"""G-Loss leave-one-out, the module around it, and the combined loss."""

import math
from pathlib import Path

import oracles
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file
from strategies import Batch, batch, batches, quick
from torch import Tensor
from torch.nn import functional

from graphloss.losses import graph
from graphloss.losses.functional import gloss, paper_loss
from graphloss.losses.modules import Combined, GLoss, balanced_class_weights
from graphloss.losses.sigma import AUTO_SIGMA, LEAST_SIGMA

MODES = [{"alpha": 1.0}, {"alpha": 0.9}, {"alpha": 1.0, "k": 3}, {"alpha": 0.9, "k": 3}, {"alpha": 1.0, "q": 0.7}]


def backward(b: Batch, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    x = b.embeddings.clone().requires_grad_()
    result = gloss(x, b.labels, sigma=b.sigma, **options)
    result.loss.backward()
    return result.loss.detach(), x.grad, result.coverage


class TestOracles:
    @pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("alpha", [1.0, 0.8])
    @pytest.mark.parametrize("unlabeled", [0.0, 0.5])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
    def test_leaving_each_out_in_a_loop(
        self, q: float, alpha: float, unlabeled: float, dtype: torch.dtype, tolerance: float
    ) -> None:
        b = batch(20, 3, unlabeled=unlabeled, seed=2, dtype=dtype)
        x = b.embeddings.double().clone().requires_grad_()
        weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        expected = oracles.loo_loss(oracles.similarity(x, 0.3), b.labels, 3, alpha, q, weights)
        (h,) = torch.autograd.grad(expected, x)
        loss, g, _ = backward(b, alpha=alpha, q=q, class_weights=weights.to(dtype))
        assert loss.dtype == dtype
        assert h.norm() > 0
        assert float(loss) == pytest.approx(float(expected.detach()), rel=tolerance)
        assert (g.double() - h).norm() / h.norm() < tolerance

    @quick
    @given(batches(unlabeled=False))
    def test_without_unlabeled_documents_it_is_nca(self, b: Batch) -> None:
        x = b.embeddings.clone().requires_grad_()
        expected = oracles.nca(x, b.labels, b.sigma)
        (h,) = torch.autograd.grad(expected, x)
        loss, g, _ = backward(b)
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-9)
        assert torch.allclose(g, h, rtol=1e-7, atol=1e-12)

    @pytest.mark.parametrize("alpha", [1.0, 0.8])
    def test_nearest_neighbors(self, alpha: float) -> None:
        b = batch(30, 2, d=4, sigma=0.5, seed=1)
        w = oracles.nearest(oracles.similarity(b.embeddings, b.sigma), 4)
        f = oracles.loo(w, b.labels, 2, alpha)
        result = gloss(b.embeddings, b.labels, sigma=b.sigma, k=4, alpha=alpha)
        p = f.gather(1, b.labels[:, None])[:, 0]
        assert torch.equal(result.anchors, p > 0)
        assert torch.allclose(result.log_p[p > 0].exp(), p[p > 0], rtol=1e-7)
        assert float(result.loss) == pytest.approx(float(-p[p > 0].log().mean()))

    @pytest.mark.parametrize("options", MODES)
    def test_gradient(self, options: dict[str, float]) -> None:
        b = batch(12, 2, d=4, sigma=0.5, unlabeled=0.3)
        assert 0 < int((b.labels < 0).sum()) < 9
        assert torch.autograd.gradcheck(
            lambda x: gloss(x, b.labels, sigma=0.5, **options).loss, (b.embeddings.requires_grad_(),)
        )

    def test_q_near_zero_is_the_likelihood(self) -> None:
        b = batch(20, 3)
        assert float(backward(b, q=1e-7)[0]) == pytest.approx(float(backward(b)[0]), rel=1e-5)

    def test_q_one_is_the_error_probability(self) -> None:
        b = batch(20, 3)
        result = gloss(b.embeddings, b.labels, sigma=0.3, q=1.0)
        assert float(result.loss) == pytest.approx(float((1 - result.log_p.exp()).mean()))


class TestReachability:
    def test_coverage_counts_the_documents_whose_class_has_another(self) -> None:
        labels = torch.tensor([0, 0, 1, 2, 2, 2, -1, 3])
        result = gloss(torch.randn(8, 5), labels, sigma=0.3)
        assert result.anchors.tolist() == [True, True, False, True, True, True, False, False]
        assert float(result.coverage) == pytest.approx(5 / 7)
        assert not result.log_p[~result.anchors].any()

    @pytest.mark.parametrize("alpha", [1.0, 0.9])
    @pytest.mark.parametrize("seed", range(8))
    def test_in_sparse_graphs_it_is_a_path(self, alpha: float, seed: int) -> None:
        b = batch(40, 4, d=3, seed=seed, unlabeled=0.6)
        edges = graph.log_affinity(graph.unit(b.embeddings), 0.3, k=1) > graph.MASKED / 2
        expected = []
        for i in range(40):
            reached, front = {i}, [i]
            while front:
                at = front.pop()
                for j in edges[at].nonzero()[:, 0].tolist():
                    if j not in reached:
                        reached.add(j)
                        if alpha < 1 or b.labels[j] < 0:  # the harmonic walk ends at a labeled document
                            front.append(j)
            same = [j for j in reached - {i} if b.labels[j] == b.labels[i]]
            expected.append(bool(b.labels[i] >= 0 and same))
        anchors = gloss(b.embeddings, b.labels, sigma=0.3, k=1, alpha=alpha).anchors
        assert anchors.tolist() == expected
        assert 0 < sum(expected) < int((b.labels >= 0).sum())


class TestDegenerate:
    @pytest.mark.parametrize("options", MODES)
    @pytest.mark.parametrize(
        "labels",
        [[0, 1, 2, 3, 4, 5], [-1] * 6, [0], [-1], [], [0, -1, -1, -1, -1, -1], [0, 1, -1, -1, -1, -1]],
        ids=[
            "one document per class",
            "all unlabeled",
            "n = 1",
            "n = 1, unlabeled",
            "n = 0",
            "one label",
            "two labels",
        ],
    )
    def test_without_anchors_it_is_zero_with_a_live_gradient(
        self, labels: list[int], options: dict[str, float]
    ) -> None:
        x = torch.randn(len(labels), 4, requires_grad=True)
        result = gloss(x, torch.tensor(labels, dtype=torch.long), sigma=0.3, **options)
        result.loss.backward()
        assert float(result.loss) == 0
        assert float(result.coverage) == 0
        assert torch.equal(x.grad, torch.zeros_like(x))

    @pytest.mark.parametrize("options", MODES)
    def test_one_class_only_is_perfect_already(self, options: dict[str, float]) -> None:
        x = torch.randn(8, 4, requires_grad=True)
        result = gloss(x, torch.tensor([2] * 6 + [-1] * 2), sigma=0.3, num_classes=5, **options)
        result.loss.backward()
        assert float(result.loss) == pytest.approx(0, abs=1e-6)
        assert float(result.coverage) == 1
        assert torch.isfinite(x.grad).all()

    @pytest.mark.parametrize("options", MODES)
    @pytest.mark.parametrize("case", ["duplicates", "zero vector", "absent class", "two components", "all zero"])
    def test_answer_and_gradient_are_finite(self, case: str, options: dict[str, float]) -> None:
        b = batch(24, 3, unlabeled=0.25, dtype=torch.float32)
        x, labels = b.embeddings.clone(), b.labels.clone()
        sigma = 0.3
        if case == "duplicates":
            x[:12] = x[0]
        elif case == "zero vector":
            x[3] = 0
        elif case == "all zero":
            x.zero_()
        elif case == "absent class":
            labels[labels == 1] = 7
        else:  # orthogonal halves: at sigma 0.02 their similarity is exp(-2500)
            x[:12, 8:], x[12:, :8], sigma = 0, 0, 0.02
        x.requires_grad_()
        result = gloss(x, labels, sigma=sigma, num_classes=9, **options)
        result.loss.backward()
        assert torch.isfinite(result.loss)
        assert float(result.loss) > 0
        assert torch.isfinite(x.grad).all()
        # bounded by q, the loss is flat where p is 0 or 1 to the last digit, as it is between orthogonal halves
        assert x.grad.norm() > 0 or case == "all zero" or (case == "two components" and "q" in options)

    @pytest.mark.parametrize("options", MODES)
    @pytest.mark.parametrize("unlabeled", [0.0, 0.4])
    @pytest.mark.parametrize("sigma", [0.05, 0.1])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_small_sigma_on_clusters(
        self, sigma: float, dtype: torch.dtype, unlabeled: float, options: dict[str, float]
    ) -> None:
        b = batch(64, 4, d=32, sigma=sigma, unlabeled=unlabeled, spread=0.3, dtype=dtype)
        lost = int((b.labels == 1).nonzero()[0, 0])
        b.labels[lost] = 2  # a wrong label amid another class: p underflows, its gradient must not
        loss, g, _ = backward(b, **options)
        assert torch.isfinite(loss)
        assert torch.isfinite(g).all()
        if "k" not in options:
            assert g[lost].norm() > 0 or options.get("q", 0) > 0

    def test_the_gradient_lives_where_p_is_below_the_smallest_float32(self) -> None:
        z = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
        x = z.clone().requires_grad_()
        result = gloss(x, torch.tensor([0, 1, 0, 1]), sigma=0.05)
        result.loss.backward()
        assert (result.log_p < -300).all()
        assert float(result.loss) == pytest.approx(float(oracles.nca(z, torch.tensor([0, 1, 0, 1]), 0.05)), rel=1e-5)
        assert (x.grad.norm(dim=1) > 1).all()


class TestLeastSigma:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("unlabeled", [0.0, 0.4])
    def test_all_is_finite_at_it(self, unlabeled: float, dtype: torch.dtype) -> None:
        b = batch(24, 3, unlabeled=unlabeled, dtype=dtype)
        shown = torch.arange(24) % 2 == 0
        for form in (LEAST_SIGMA, torch.tensor(LEAST_SIGMA)):
            for options in ({}, {"alpha": 0.9}, {"k": 3}, None):
                x = b.embeddings.clone().requires_grad_()
                if options is None:
                    loss = paper_loss(x, b.labels, shown, sigma=form).loss
                else:
                    loss = gloss(x, b.labels, sigma=form, **options).loss
                loss.backward()
                assert torch.isfinite(loss)
                assert torch.isfinite(x.grad).all()

    @pytest.mark.parametrize(
        ("seed", "n", "d", "sigma"),
        [(1, 40, 3, 0.0113), (16, 40, 2, 0.005), (84, 12, 8, 0.02), (239, 90, 8, 0.05), (296, 90, 3, 0.02)],
    )
    def test_few_dimensions_are_finite(self, seed: int, n: int, d: int, sigma: float) -> None:
        """Outliers that no document has as a neighbor, and gradients beyond the range of float32, were not."""
        g = torch.Generator().manual_seed(seed)
        for each in (2, 3, 8)[: (2, 3, 8).index(d) + 1]:
            x, y = torch.randn(n, each, generator=g).requires_grad_(), torch.randint(-1, 3, (n,), generator=g)
        for loss in (gloss(x, y, sigma=sigma), paper_loss(x, y, torch.arange(n) % 2 == 0, sigma=sigma)):
            (gradient,) = torch.autograd.grad(loss.loss, x)
            assert torch.isfinite(loss.loss) and torch.isfinite(gradient).all()

    @pytest.mark.parametrize("sigma", [1e-20, 0.0, -0.3, math.nan, 0.99e-3])
    def test_less_is_refused(self, sigma: float) -> None:
        b = batch(8, 2)
        for form in (sigma, torch.tensor(sigma)):
            with pytest.raises(ValueError, match="sigma must be at least"):
                gloss(b.embeddings, b.labels, sigma=form)
            with pytest.raises(ValueError, match="sigma must be at least"):
                paper_loss(b.embeddings, b.labels, torch.arange(8) < 4, sigma=form)

    @pytest.mark.parametrize("mode", ["loo", "paper"])
    def test_a_learned_one_is_held_there(self, mode: str) -> None:
        b = batch(24, 3, dtype=torch.float32)
        loss = GLoss(mode=mode, sigma="learned", num_classes=3)
        loss.log_sigma.data.fill_(-50.0)
        x = b.embeddings.requires_grad_()
        value = loss(x, b.labels)
        value.backward()
        assert loss.bandwidth == pytest.approx(LEAST_SIGMA)
        assert torch.isfinite(value) and torch.isfinite(x.grad).all() and torch.isfinite(loss.log_sigma.grad)


class TestProperties:
    @quick
    @given(batches())
    def test_order_names_rotation_and_scale_change_nothing(self, b: Batch) -> None:
        d = b.embeddings.shape[1]
        order = torch.randperm(len(b.labels), generator=b.generator)
        rename = torch.randperm(b.num_classes, generator=b.generator)
        rotation, _ = torch.linalg.qr(torch.randn(d, d, generator=b.generator, dtype=torch.float64))
        scale = torch.rand(len(b.labels), 1, generator=b.generator, dtype=torch.float64) + 0.1
        renamed = torch.where(b.labels >= 0, rename[b.labels.clamp_min(0)], -1)
        moved = b._replace(embeddings=(scale * b.embeddings @ rotation)[order], labels=renamed[order])
        for options in ({}, {"alpha": 0.9}, {"q": 0.5}):
            loss, g, coverage = backward(b, **options)
            loss2, g2, coverage2 = backward(moved, **options)
            assert float(loss) == pytest.approx(float(loss2), rel=1e-6, abs=1e-9)
            assert torch.allclose((g @ rotation / scale)[order], g2, rtol=1e-4, atol=1e-7)
            assert float(coverage) == pytest.approx(float(coverage2))

    @quick
    @given(batches())
    def test_the_gradient_is_tangent_to_the_sphere(self, b: Batch) -> None:
        _, g, _ = backward(b)
        assert ((g * b.embeddings).sum(1).abs() <= 1e-9 * (1 + g.norm(dim=1) * b.embeddings.norm(dim=1))).all()


class TestModule:
    def test_defaults(self) -> None:
        b = batch(20, 3)
        loss = GLoss()
        value = loss(b.embeddings, b.labels)
        assert loss.bandwidth == pytest.approx(AUTO_SIGMA)
        assert float(value) == pytest.approx(float(gloss(b.embeddings, b.labels, sigma=AUTO_SIGMA).loss), rel=1e-6)
        assert loss.coverage.shape == ()
        assert not loss.coverage.requires_grad
        assert not list(loss.parameters())

    @pytest.mark.parametrize("rule", ["root", "mst"])
    def test_a_rule_is_calibrated_once(self, rule: str) -> None:
        one, two = batch(40, 3, seed=1), batch(40, 3, seed=2, spread=3.0)
        expected = oracles.bandwidth(one.embeddings, one.labels, rule)
        loss = GLoss(sigma=rule)
        assert loss.calibrate(one.embeddings, one.labels) == pytest.approx(expected, rel=1e-6)
        loss(two.embeddings, two.labels)
        assert loss.bandwidth == pytest.approx(expected, rel=1e-6)
        late = GLoss(sigma=rule)  # never calibrated: the first batch decides
        late(one.embeddings, one.labels)
        late(two.embeddings, two.labels)
        assert late.bandwidth == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("sigma", ["auto", "learned", 0.42])
    def test_calibrating_leaves_other_choices_alone(self, sigma: float | str) -> None:
        b = batch(20, 3)
        loss = GLoss(sigma=sigma)
        before = loss.bandwidth
        assert loss.calibrate(b.embeddings, b.labels) == before
        assert before == pytest.approx(sigma if isinstance(sigma, float) else AUTO_SIGMA)

    @pytest.mark.parametrize("mode", ["loo", "paper"])
    def test_a_learned_bandwidth_is_trained(self, mode: str) -> None:
        b = batch(40, 3)
        loss = GLoss(mode=mode, sigma="learned", num_classes=3)
        (parameter,) = loss.parameters()
        loss(b.embeddings, b.labels).backward()
        assert parameter.grad.abs() > 0

        def f(log_sigma: Tensor) -> Tensor:
            return gloss(b.embeddings, b.labels, sigma=log_sigma.exp()).loss

        assert torch.autograd.gradcheck(f, (torch.tensor(-1.0, dtype=torch.float64, requires_grad=True),))

    @pytest.mark.parametrize("options", [{"mode": "paper"}, {"sigma": "root"}, {"sigma": "learned"}])
    def test_state_survives_safetensors_and_resumes_exactly(self, options: dict[str, str], tmp_path: Path) -> None:
        b = batch(30, 3, dtype=torch.float32)
        loss = GLoss(num_classes=3, class_weights=torch.tensor([1.0, 2.0, 0.5]), **options)
        for _ in range(3):
            loss(b.embeddings, b.labels)
        save_file(loss.state_dict(), tmp_path / "loss.safetensors")
        twin = GLoss(num_classes=3, class_weights=torch.ones(3), seed=9, **options)
        twin.load_state_dict(load_file(tmp_path / "loss.safetensors"))
        moved = b._replace(embeddings=b.embeddings + 0.1)
        values = [float(loss(moved.embeddings, b.labels)) for _ in range(3)]
        assert values == [float(twin(moved.embeddings, b.labels)) for _ in range(3)]
        assert len(set(values)) == (3 if "mode" in options else 1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "random"}, '"loo" or "paper"'),
            ({"sigma": "silverman"}, "one of auto, root, mst, learned"),
            ({"sigma": -1}, "sigma must be at least 0.001, got -1"),
            ({"sigma": 1e-20}, "sigma must be at least"),
            ({"sigma": math.nan}, "sigma must be at least"),
            ({"gamma": 1.0}, "share of labels shown"),
            ({"mode": "paper", "alpha": 0.9}, 'belong to mode "loo"'),
            ({"double_division": True}, 'belongs to mode "paper"'),
        ],
    )
    def test_bad_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            GLoss(**options)

    @pytest.mark.parametrize(
        ("embeddings", "labels", "options", "message"),
        [
            (torch.randn(4, 2, 3), torch.zeros(4, dtype=torch.long), {}, "pool the tokens first"),
            (torch.ones(4, 2, dtype=torch.long), torch.zeros(4, dtype=torch.long), {}, "must be floating point"),
            (torch.randn(4, 2), torch.zeros(3, dtype=torch.long), {}, r"shape \(4,\)"),
            (torch.randn(4, 2), torch.zeros(4), {}, "class indices"),
            (torch.randn(4, 2), torch.tensor([0, 1, -2, 0]), {}, "got -2"),
            (torch.randn(4, 2), torch.tensor([0, 1, 5, 0]), {"num_classes": 5}, "at least 6"),
            (torch.randn(4, 2), torch.tensor([0, 1, 1, 0]), {"class_weights": torch.ones(2, 1)}, r"shape \(2,\)"),
            (torch.randn(4, 2), torch.tensor([0, 1, 1, 0]), {"q": 2.0}, "q must lie between"),
            (torch.randn(4, 2), torch.tensor([0, 1, 1, 0]), {"alpha": 0.0}, "alpha must lie in"),
        ],
    )
    def test_bad_batches(self, embeddings: Tensor, labels: Tensor, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            gloss(embeddings, labels, sigma=0.3, **options)

    def test_autocast_changes_nothing(self) -> None:
        b = batch(40, 3, unlabeled=0.4, dtype=torch.float32)
        plain = backward(b)
        x = b.embeddings.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = gloss(x, b.labels, sigma=b.sigma).loss
        loss.backward()
        assert torch.equal(loss, plain[0])
        assert torch.equal(x.grad, plain[1])


class TestCombined:
    def test_is_the_sum_of_both_means(self) -> None:
        b = batch(30, 3, unlabeled=0.3, dtype=torch.float32)
        logits = torch.randn(30, 3, requires_grad=True)
        x = b.embeddings.requires_grad_()
        weights = torch.tensor([1.0, 2.0, 0.5])
        result = Combined(GLoss(class_weights=weights), weight=0.3, class_weights=weights)(x, logits, b.labels)
        ce = functional.cross_entropy(logits, b.labels, weight=weights, ignore_index=-1)
        g = gloss(x, b.labels, sigma=AUTO_SIGMA, class_weights=weights)
        assert float(result.ce) == pytest.approx(float(ce), rel=1e-6)
        assert float(result.graph) == pytest.approx(float(g.loss), rel=1e-5)
        assert float(result.loss) == pytest.approx(float(0.7 * ce + 0.3 * g.loss), rel=1e-5)
        assert torch.equal(result.coverage, g.coverage)
        result.loss.backward()
        assert x.grad.norm() > 0
        assert logits.grad.norm() > 0

    def test_without_a_label_it_is_zero_with_a_live_gradient(self) -> None:
        x, logits = torch.randn(5, 4, requires_grad=True), torch.randn(5, 3, requires_grad=True)
        result = Combined(GLoss())(x, logits, torch.full((5,), -1))
        result.loss.backward()
        assert float(result.loss) == 0
        assert torch.equal(logits.grad, torch.zeros(5, 3))
        assert torch.equal(x.grad, torch.zeros(5, 4))

    def test_cross_entropy_alone(self) -> None:
        logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, -1, 0, 1])
        result = Combined(None)(torch.randn(6, 4), logits, labels)
        assert float(result.loss) == pytest.approx(float(functional.cross_entropy(logits, labels, ignore_index=-1)))

    def test_the_published_double_division(self) -> None:
        b = batch(40, 4)
        logits = torch.randn(40, 4, dtype=torch.float64)
        plain, divided = (
            Combined(GLoss(mode="paper", num_classes=4, double_division=flag), weight=0.8)(
                b.embeddings, logits, b.labels
            )
            for flag in (False, True)
        )
        hidden = 40 - int(0.7 * 40)
        assert float(divided.graph) == pytest.approx(float(plain.graph) / hidden)
        assert float(divided.loss) == pytest.approx(0.2 * float(plain.ce) + 0.8 * float(plain.graph) / hidden)

    def test_half_precision_logits(self) -> None:
        b = batch(20, 3, dtype=torch.bfloat16)
        logits = torch.randn(20, 3).bfloat16().requires_grad_()
        result = Combined(GLoss())(b.embeddings, logits, b.labels)
        result.loss.backward()
        assert result.loss.dtype == torch.float32
        assert logits.grad.dtype == torch.bfloat16

    def test_state_holds_the_graph_losss(self) -> None:
        names = set(Combined(GLoss(sigma="learned"), class_weights=torch.ones(3)).state_dict())
        assert names >= {"class_weights", "graph_loss.log_sigma", "graph_loss.rng_state", "graph_loss.sigma_value"}

    @pytest.mark.parametrize(
        ("label", "message"), [(3, "from -1 .* to 2, .* count classes from 0"), (-2, "got -2 to 1")]
    )
    def test_a_label_out_of_range(self, label: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Combined(None)(torch.randn(3, 4), torch.randn(3, 3), torch.tensor([0, 1, label]))

    def test_bad_weight(self) -> None:
        with pytest.raises(ValueError, match="weight must lie between"):
            Combined(GLoss(), weight=1.5)


def test_balanced_class_weights() -> None:
    weights = balanced_class_weights(torch.tensor([0, 0, 0, 1, -1, 3]), 4)
    assert weights.tolist() == pytest.approx([5 / 12, 5 / 4, 0, 5 / 4])
    with pytest.raises(ValueError, match="labels go up to 3"):
        balanced_class_weights(torch.tensor([3]), 2)


def test_class_weights_weigh_documents() -> None:
    b = batch(30, 3)
    result = gloss(b.embeddings, b.labels, sigma=0.3)
    weights = torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64)
    w = weights[b.labels]
    expected = float((-result.log_p * w).sum() / w.sum())
    assert float(gloss(b.embeddings, b.labels, sigma=0.3, class_weights=weights).loss) == pytest.approx(expected)
    assert math.isfinite(expected)
