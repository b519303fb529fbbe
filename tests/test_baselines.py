"""The baselines against literal oracles, and batches without anchors."""

from collections.abc import Callable

import oracles
import pytest
import torch
from hypothesis import assume, given
from strategies import Batch, batch, batches, quick
from torch import Tensor
from torch.nn import functional

from graphloss.losses import baselines, graph
from graphloss.losses.baselines import LEAST_TEMPERATURE, NCA, BaselineLoss, Cosine, SupCon, Triplet
from graphloss.losses.functional import gloss
from graphloss.losses.modules import Combined

CASES: dict[str, tuple[Callable[[], BaselineLoss], Callable[[Tensor, Tensor], Tensor]]] = {
    "supcon": (lambda: SupCon(0.1), lambda x, y: oracles.supcon(x, y, 0.1)),
    "supcon, warm": (lambda: SupCon(0.7), lambda x, y: oracles.supcon(x, y, 0.7)),
    "nca": (lambda: NCA(0.1), lambda x, y: oracles.neighbors(x, y, 0.1)),
    "nca, warm": (lambda: NCA(0.7), lambda x, y: oracles.neighbors(x, y, 0.7)),
    "triplet": (lambda: Triplet(), lambda x, y: oracles.triplets(x, y, 5.0)),
    "triplet, small": (lambda: Triplet(0.3), lambda x, y: oracles.triplets(x, y, 0.3)),
    "triplet, zero": (lambda: Triplet(0.0), lambda x, y: oracles.triplets(x, y, 0.0)),
    "cosine": (lambda: Cosine(), oracles.cosine),
}
ALL = [SupCon, NCA, Triplet, Cosine]


def backward(loss: BaselineLoss, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    value = loss(x, labels)
    value.backward()
    return value.detach(), x.grad


def close(b: Batch, loss: BaselineLoss, expected: Callable[[Tensor, Tensor], Tensor], tolerance: float) -> Tensor:
    """Compare value and gradient, both float64 in the oracle, and return the gradient."""
    x = b.embeddings.double().clone().requires_grad_()
    value = expected(x, b.labels)
    (h,) = torch.autograd.grad(value, x)
    found, g = backward(loss, b.embeddings, b.labels)
    assert float(found) == pytest.approx(float(value.detach()), rel=tolerance)
    assert h.norm() > 0
    assert (g.double() - h).norm() / h.norm() < tolerance
    return g


def test_there_are_four() -> None:
    assert {type(make()) for make, _ in CASES.values()} == set(ALL) == set(BaselineLoss.__subclasses__())


class TestOracles:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
    @pytest.mark.parametrize(("n", "classes", "unlabeled"), [(9, 2, 0.0), (16, 5, 0.4), (30, 3, 0.2)])
    def test_a_loop_over_documents(
        self, n: int, classes: int, unlabeled: float, dtype: torch.dtype, tolerance: float, case: str
    ) -> None:
        b = batch(n, classes, unlabeled=unlabeled, seed=n, dtype=dtype)
        assert bool((b.labels < 0).any()) == (unlabeled > 0)
        make, expected = CASES[case]
        g = close(b, make(), expected, tolerance)
        assert g.dtype == dtype
        assert not g[b.labels < 0].any()
        assert (g[b.labels >= 0].norm(dim=1) > 0).any()

    @quick
    @given(batches())
    def test_over_random_batches(self, b: Batch) -> None:
        b = b._replace(embeddings=b.embeddings[:14], labels=b.labels[:14])
        count = torch.bincount(b.labels[b.labels >= 0])
        assume(bool((count >= 2).any()) and int((count > 0).sum()) >= 2)
        for case in ("supcon", "nca", "triplet, small", "cosine"):
            make, expected = CASES[case]
            value = float(expected(b.embeddings, b.labels))
            assert float(make()(b.embeddings, b.labels)) == pytest.approx(value, rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize("case", [case for case in CASES if "small" in case or "warm" in case or case == "cosine"])
    def test_gradient(self, case: str) -> None:
        b = batch(10, 3, d=4, unlabeled=0.2, seed=3)
        loss = CASES[case][0]()
        assert torch.autograd.gradcheck(lambda x: loss(x, b.labels), (b.embeddings.requires_grad_(),))


class TestAgainstTheLibrary:
    """What pytorch-metric-learning's own modules compute, and where they part from ours."""

    def test_supcon_and_nca_agree_where_theirs_is_sound(self) -> None:
        from pytorch_metric_learning import losses, reducers

        b = batch(40, 4, dtype=torch.float64)
        assert int(torch.bincount(b.labels).min()) >= 2  # all have a positive: one mean for both
        z = graph.unit(b.embeddings)
        theirs = losses.SupConLoss(0.1)(z, b.labels)
        assert float(SupCon(0.1)(z, b.labels)) == pytest.approx(float(theirs), rel=1e-9)
        # |z_i - z_j|^2 = 2 - 2 cos on unit vectors: their scale is half of our 1 / temperature
        theirs = losses.NCALoss(softmax_scale=1 / (2 * 0.1), reducer=reducers.MeanReducer())(z, b.labels)
        assert float(NCA(0.1)(z, b.labels)) == pytest.approx(float(theirs), rel=1e-9)

    def test_their_supcon_passes_over_what_is_learned(self) -> None:
        from pytorch_metric_learning import losses

        z = torch.eye(4)[[0, 0, 1, 2, 2, 3]] + torch.tensor([0, 0, 0, 0, 0.3, 0.1])[:, None]
        labels = torch.tensor([0, 0, 1, 2, 2, 1])
        expected = oracles.supcon(z, labels, 0.01)
        assert float(SupCon(0.01)(z, labels)) == pytest.approx(float(expected), rel=1e-4)
        assert float(losses.SupConLoss(0.01)(z, labels)) > 1.2 * float(expected)

    def test_their_nca_passes_over_a_document_whose_share_underflows(self) -> None:
        from pytorch_metric_learning import losses, reducers

        z = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0], [0.7, 0.7]])
        labels = torch.tensor([0, 1, 0, 1, 1])
        value, g = backward(NCA(0.005), z, labels)
        assert float(value) == pytest.approx(float(oracles.neighbors(z, labels, 0.005)), rel=1e-5)
        assert (g[:4].norm(dim=1) > 1).all()
        terms = losses.NCALoss(softmax_scale=100.0, reducer=reducers.DoNothingReducer())(z, labels)["loss"]
        assert terms["indices"].tolist() == [1, 3, 4]

    def test_triplets_agree(self) -> None:
        from pytorch_metric_learning import distances, losses

        b = batch(40, 4)
        theirs = losses.TripletMarginLoss(0.3, distance=distances.LpDistance(normalize_embeddings=False))
        value = float(theirs(b.embeddings, b.labels))
        assert value > 0
        assert float(Triplet(0.3)(b.embeddings, b.labels)) == pytest.approx(value, rel=1e-9)


def test_nca_is_gloss_without_unlabeled_documents() -> None:
    b = batch(30, 3, unlabeled=0.3)
    seen = b.labels >= 0
    alone = gloss(b.embeddings[seen], b.labels[seen], sigma=0.3).loss
    assert float(NCA(0.09)(b.embeddings, b.labels)) == pytest.approx(float(alone))
    assert float(alone) != pytest.approx(float(gloss(b.embeddings, b.labels, sigma=0.3).loss), rel=1e-3)


class TestTriplet:
    @pytest.mark.parametrize("margin", [0.3, 5.0])
    @pytest.mark.parametrize("chunk", [1, 200, 1000])
    def test_chunks_change_nothing(self, chunk: int, margin: float, monkeypatch: pytest.MonkeyPatch) -> None:
        b = batch(24, 3, unlabeled=0.2)
        whole, g = backward(Triplet(margin), b.embeddings, b.labels)
        calls = []
        terms = Triplet._terms
        monkeypatch.setattr(baselines, "CHUNK", chunk)
        monkeypatch.setattr(Triplet, "_terms", lambda *given: calls.append(len(given[3])) or terms(*given))
        parts, h = backward(Triplet(margin), b.embeddings, b.labels)
        seen = int((b.labels >= 0).sum())
        each = max(chunk // seen**2, 1)
        assert len(calls) == 2 * -(-seen // each) and max(calls) == each  # once forward, once again backward
        assert float(parts) == pytest.approx(float(whole), rel=1e-12)
        assert torch.allclose(g, h, rtol=1e-9, atol=1e-15)

    def test_at_most_chunk_places_are_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        places = []
        terms = Triplet._terms

        def spy(self: Triplet, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            places.append(len(rows) * len(y) ** 2)
            return terms(self, x, y, rows)

        monkeypatch.setattr(baselines, "CHUNK", 2**16)
        monkeypatch.setattr(Triplet, "_terms", spy)
        b = batch(100, 10, dtype=torch.float32)
        backward(Triplet(), b.embeddings, b.labels)
        assert len(places) == 2 * 17 and max(places) <= 2**16

    def test_scale_matters(self) -> None:
        b = batch(20, 3)
        assert float(Triplet(0.3)(b.embeddings, b.labels)) != pytest.approx(
            float(Triplet(0.3)(graph.unit(b.embeddings), b.labels)), rel=0.1
        )

    def test_nothing_is_left_where_all_triplets_are_satisfied(self) -> None:
        x = torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 9.0], [9.0, 9.1]])
        loss = Triplet(1.0)
        value, g = backward(loss, x, torch.tensor([0, 0, 1, 1]))
        assert float(value) == 0 and torch.equal(g, torch.zeros_like(x))
        assert float(loss.coverage) == 1

    def test_on_unit_vectors_the_published_margin_lets_no_hinge_close(self) -> None:
        b = batch(30, 3, spread=0.01)  # three tight, distant clusters: nothing is left to learn
        z = graph.unit(b.embeddings)
        assert float(Triplet(0.3)(z, b.labels)) == 0
        assert 5.0 - 2.0 <= float(Triplet(5.0)(z, b.labels)) <= 5.0 + 2.0

    def test_the_published_loss_goes_down_as_classes_part(self) -> None:
        near, far = (
            float(Triplet()(batch(30, 3, spread=s).embeddings, batch(30, 3, spread=s).labels)) for s in (2, 0.1)
        )
        assert far < near


class TestCoverage:
    def test_it_counts_the_documents_with_a_term(self) -> None:
        labels = torch.tensor([0, 0, 1, 2, 2, 2, -1, 3])
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
        for kind, expected in ((SupCon, 5 / 7), (NCA, 5 / 7), (Triplet, 5 / 7), (Cosine, 1.0)):
            loss = kind()
            loss(x, labels)
            assert loss.coverage.ndim == 0 and not loss.coverage.requires_grad
            assert float(loss.coverage) == pytest.approx(expected)

    @pytest.mark.parametrize("kind", [SupCon, NCA, Triplet])
    def test_a_document_without_a_positive_has_no_term_of_its_own(self, kind: type[BaselineLoss]) -> None:
        b = batch(12, 3, dtype=torch.float64)
        labels = b.labels.clone()
        labels[4] = 7  # alone in its class: still a negative of the others
        found, g = backward(kind(), b.embeddings, labels)
        make, expected = CASES[kind.__name__.lower()]
        assert isinstance(make(), kind)
        assert float(found) == pytest.approx(float(expected(b.embeddings, labels)), rel=1e-9)
        assert g[4].norm() > 0


EMPTY = {
    "one document per class": [0, 1, 2, 3, 4, 5],
    "all unlabeled": [-1] * 6,
    "n = 1": [0],
    "n = 1, unlabeled": [-1],
    "n = 0": [],
    "one label": [0, -1, -1, -1, -1, -1],
}


class TestDegenerate:
    @pytest.mark.parametrize(
        ("case", "kind"),  # but for Cosine, which has a term for each pair of different classes too
        [(case, kind) for case in EMPTY for kind in ALL if kind is not Cosine or case != "one document per class"],
    )
    def test_without_anchors_it_is_zero_with_a_live_gradient(self, case: str, kind: type[BaselineLoss]) -> None:
        labels = torch.tensor(EMPTY[case], dtype=torch.long)
        loss = kind()
        value, g = backward(loss, torch.randn(len(labels), 4), labels)
        assert float(value) == 0 and float(loss.coverage) == 0
        assert torch.equal(g, torch.zeros_like(g))

    @pytest.mark.parametrize("kind", [SupCon, NCA, Triplet])
    def test_one_class_is_zero_with_a_live_gradient(self, kind: type[BaselineLoss]) -> None:
        value, g = backward(kind(), torch.randn(8, 4), torch.tensor([2] * 6 + [-1] * 2))
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert torch.equal(g, torch.zeros_like(g))

    def test_cosine_pulls_one_class_together_and_pushes_single_documents_apart(self) -> None:
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        for labels in (torch.zeros(6, dtype=torch.long), torch.arange(6)):
            loss = Cosine()
            value, g = backward(loss, x, labels)
            assert float(value) == pytest.approx(float(oracles.cosine(x, labels)), rel=1e-5)
            assert g.norm() > 0 and float(loss.coverage) == 1

    @pytest.mark.parametrize("make", [make for make, _ in CASES.values()], ids=list(CASES))
    @pytest.mark.parametrize("case", ["duplicates", "all duplicates", "zero vector", "all zero", "huge", "tiny"])
    @pytest.mark.parametrize("n", [12, 60])  # torch computes distances another way from 26 rows on
    def test_answer_and_gradient_are_finite(self, n: int, case: str, make: Callable[[], BaselineLoss]) -> None:
        b = batch(n, 3, unlabeled=0.2, dtype=torch.float32)
        x = b.embeddings.clone()
        if case == "duplicates":
            x[: n // 2] = x[0]
        elif case == "all duplicates":
            x[:] = x[0]
        elif case == "zero vector":
            x[3] = 0
        elif case == "all zero":
            x.zero_()
        elif case == "huge":
            x *= 1e15
        else:
            x *= 1e-15
        value, g = backward(make(), x, b.labels)
        assert torch.isfinite(value)
        assert torch.isfinite(g).all()
        if case in ("duplicates", "zero vector"):
            assert float(value) > 0 and g.norm() > 0
            assert g.norm(dim=1).max() < 100  # a zero vector's gradient is not 1 / 1e-12

    @pytest.mark.parametrize("kind", [SupCon, NCA])
    def test_the_least_temperature(self, kind: type[BaselineLoss]) -> None:
        b = batch(24, 3, spread=4.0, dtype=torch.float32)
        value, g = backward(kind(LEAST_TEMPERATURE), b.embeddings, b.labels)
        assert float(value) > 50
        assert torch.isfinite(g).all() and g.norm() > 1
        if kind is NCA:
            expected = oracles.nca(b.embeddings, b.labels, LEAST_TEMPERATURE**0.5)  # by log-sum-exp, float64
            assert float(value) == pytest.approx(float(expected), rel=1e-4)


class TestProperties:
    @quick
    @given(batches())
    def test_order_names_and_rotation_change_nothing(self, b: Batch) -> None:
        d = b.embeddings.shape[1]
        order = torch.randperm(len(b.labels), generator=b.generator)
        rename = torch.randperm(b.num_classes, generator=b.generator)
        rotation, _ = torch.linalg.qr(torch.randn(d, d, generator=b.generator, dtype=torch.float64))
        labels = torch.where(b.labels >= 0, rename[b.labels.clamp_min(0)], -1)[order]
        for make, _ in CASES.values():
            loss = make()
            value, g = backward(loss, b.embeddings, b.labels)
            coverage = float(loss.coverage)
            moved, h = backward(loss, (b.embeddings @ rotation)[order], labels)
            assert float(moved) == pytest.approx(float(value), rel=1e-7, abs=1e-10)
            assert torch.allclose((g @ rotation)[order], h, rtol=1e-5, atol=1e-8)
            assert float(loss.coverage) == coverage

    @pytest.mark.parametrize("kind", [SupCon, NCA, Cosine])
    def test_those_of_cosines_know_no_scale(self, kind: type[BaselineLoss]) -> None:
        b = batch(20, 3)
        scale = torch.rand(20, 1, dtype=torch.float64) + 0.1
        assert float(kind()(scale * b.embeddings, b.labels)) == pytest.approx(float(kind()(b.embeddings, b.labels)))

    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_small_precision_is_computed_in_float32(self, dtype: torch.dtype, kind: type[BaselineLoss]) -> None:
        b = batch(40, 4, unlabeled=0.2, dtype=dtype)
        found, g = backward(kind(), b.embeddings, b.labels)
        expected, h = backward(kind(), b.embeddings.float(), b.labels)
        assert found.dtype == torch.float32 and g.dtype == dtype
        assert torch.equal(found, expected)
        assert torch.equal(g, h.to(dtype)) and g.norm() > 0

    @pytest.mark.parametrize("kind", ALL)
    def test_autocast_does_not_touch_it(self, kind: type[BaselineLoss], monkeypatch: pytest.MonkeyPatch) -> None:
        b = batch(40, 4, dtype=torch.float32)
        for chunk in (2**21, 1600):  # all at once, and anchor by anchor
            monkeypatch.setattr(baselines, "CHUNK", chunk)
            expected, h = backward(kind(), b.embeddings, b.labels)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = b.embeddings.clone().requires_grad_()
                value = kind()(x, b.labels)
            value.backward()
            assert value.dtype == torch.float32 and torch.equal(value.detach(), expected)
            assert torch.equal(x.grad, h) and h.norm() > 0


@pytest.mark.parametrize("kind", ALL)
def test_a_step_downhill_is_one(kind: type[BaselineLoss]) -> None:
    b = batch(30, 3)
    loss = Triplet(0.3) if kind is Triplet else kind()
    x = functional.normalize(b.embeddings, dim=1)
    first, g = backward(loss, x, b.labels)
    assert float(loss(x - 1e-3 * g / g.norm(), b.labels)) < float(first)


@pytest.mark.parametrize("kind", ALL)
def test_it_stands_beside_cross_entropy(kind: type[BaselineLoss]) -> None:
    b = batch(20, 3, unlabeled=0.2, dtype=torch.float32)
    loss = kind()
    result = Combined(loss, weight=0.25)(b.embeddings, torch.randn(20, 3), b.labels)
    assert float(result.graph) == pytest.approx(float(loss(b.embeddings, b.labels)))
    assert float(result.loss) == pytest.approx(0.75 * float(result.ce) + 0.25 * float(result.graph))
    assert not loss.state_dict() and not list(loss.parameters())


class TestRefusals:
    @pytest.mark.parametrize("kind", [SupCon, NCA])
    @pytest.mark.parametrize("value", [0.0, -1.0, 9e-4, float("nan"), float("inf")])
    def test_temperature(self, value: float, kind: type[BaselineLoss]) -> None:
        with pytest.raises(ValueError, match=r"temperature must be at least 0\.001, got"):
            kind(value)

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
    def test_margin(self, value: float) -> None:
        with pytest.raises(ValueError, match="margin must be a number of at least 0, got"):
            Triplet(value)

    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize(
        ("x", "labels", "said"),
        [
            (torch.zeros(4, 3, 2), torch.zeros(4).long(), r"got torch.float32 \(4, 3, 2\); pool the tokens"),
            (torch.zeros(4, 3).long(), torch.zeros(4).long(), r"got torch.int64 \(4, 3\)"),
            (torch.zeros(4, 3), torch.zeros(3).long(), r"of shape \(4,\), -1 for unlabeled, got torch.int64 \(3,\)"),
            (torch.zeros(4, 3), torch.zeros(4), r"got torch.float32 \(4,\)"),
            (torch.zeros(4, 3), torch.zeros(4).bool(), r"got torch.bool \(4,\)"),
            (torch.zeros(4, 3), torch.full((4,), -2), "or -1 for unlabeled; got -2"),
        ],
    )
    def test_batches(self, x: Tensor, labels: Tensor, said: str, kind: type[BaselineLoss]) -> None:
        with pytest.raises(ValueError, match=said):
            kind()(x, labels)
