"""The published loss: equal to its literal float64 version where that has an answer, finite where it has none."""

import math

import oracles
import pytest
import torch
from strategies import Batch, batch, split
from torch import Tensor

from graphloss.losses.functional import paper_loss
from graphloss.losses.modules import GLoss

SHAPES = [
    (2, 2, 16),
    (3, 2, 16),
    (7, 2, 16),
    (16, 4, 16),
    (33, 5, 32),
    (64, 20, 64),
    (128, 8, 384),
    (128, 52, 8),
    (256, 23, 64),
    (512, 52, 384),
    (512, 20, 32),
]
SIGMAS = [0.13, 0.155, 0.253, 0.3, 1.0, 10.0]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def both(b: Batch, shown: Tensor, weights: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and gradient, ours in `dtype`, the oracle's in float64, on the very same embeddings."""
    ours = b.embeddings.to(dtype).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    loss = paper_loss(
        ours,
        b.labels,
        shown,
        sigma=b.sigma,
        num_classes=b.num_classes,
        class_weights=None if weights is None else weights.to(dtype),
    ).loss
    expected = oracles.paper_loss(theirs, b.labels, shown, b.sigma, b.num_classes, weights)
    (g,) = torch.autograd.grad(loss, ours)
    (h,) = torch.autograd.grad(expected, theirs)
    return loss.detach(), expected.detach(), g, h


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("n", "num_classes", "d"), SHAPES)
def test_equals_the_oracle(
    n: int, num_classes: int, d: int, sigma: float, dtype: torch.dtype, tolerance: float
) -> None:
    b = batch(n, num_classes, d=d, sigma=sigma, seed=n + num_classes, spread=2.0)
    shown = split(b.labels, b.generator)
    weights = torch.rand(num_classes, generator=b.generator, dtype=torch.float64) + 0.5
    loss, expected, g, h = both(b, shown, weights, dtype)
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(float(expected), rel=tolerance)
    if len(shown.nonzero()) > 1 and len(b.labels[shown].unique()) > 1:
        assert h.norm() > 0
        if h.norm() > 1e-10:  # below, the oracle itself is rounding
            assert distance(g, h) < tolerance
    else:  # all that is shown is of one class: the answer is that class, whatever the embeddings
        assert h.norm() < 1e-12
        assert g.norm() < 1e-6


@pytest.mark.parametrize(("n", "d", "spread"), [(16, 384, 1.0), (64, 32, 0.3), (200, 8, 0.3), (200, 32, 0.3)])
def test_float32_keeps_the_gradient_of_nearly_certain_documents(n: int, d: int, spread: float) -> None:
    b = batch(n, 6, d=d, sigma=0.2, seed=n + d, spread=spread)
    _, _, g, h = both(b, split(b.labels, b.generator, 0.7), None, torch.float32)
    assert 1e-9 < h.norm() < 1e-2
    assert distance(g, h) < 1e-4


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equals_the_oracle_with_unlabeled_documents(share: float) -> None:
    b = batch(90, 6, unlabeled=0.4, seed=5, spread=2.0)
    loss, expected, g, h = both(b, split(b.labels, b.generator, share), None, torch.float64)
    assert float(loss) == pytest.approx(float(expected), rel=1e-8)
    assert distance(g, h) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sigma", [0.05, 0.1])
@pytest.mark.parametrize("spread", [0.1, 0.7, 2.0])
def test_finite_where_the_oracle_is_not(sigma: float, spread: float, dtype: torch.dtype) -> None:
    nans = 0
    for seed in range(4):
        b = batch(64, 4, d=32, sigma=sigma, seed=seed, spread=spread, dtype=dtype)
        far = -b.embeddings.float().mean(0) + 3 * torch.randn(32, generator=b.generator)
        x = torch.cat([b.embeddings, far[None].to(dtype)])  # an outlier, whose row of W underflows in float32
        labels = torch.cat([b.labels, torch.tensor([1])])
        shown = split(labels, b.generator)
        shown[labels == 3] = False  # a whole cluster hidden
        shown[-1] = False
        w = oracles.similarity(x, sigma).float()
        y = torch.nn.functional.one_hot(labels, 4).float()
        literal = torch.nn.functional.cross_entropy(
            oracles.harmonic(oracles.paper_transition(w), y, shown), labels[~shown]
        )
        nans += int(literal.isnan())
        x = x.requires_grad_()
        loss = paper_loss(x, labels, shown, sigma=sigma, num_classes=4).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(x.grad).all()
        assert x.grad.norm() > 0 or spread < 2  # tight clusters: the published loss is flat
    assert nans > 0 or sigma == 0.1


def test_the_band_has_the_published_floor() -> None:
    b = batch(40, 4, spread=0.01)
    loss = paper_loss(b.embeddings, b.labels, split(b.labels, b.generator, 0.7), sigma=0.1, num_classes=4).loss
    assert float(loss) == pytest.approx(math.log(1 + 3 / math.e), abs=1e-6)


def test_the_extra_division_is_by_the_number_of_hidden_targets() -> None:
    b = batch(40, 4, unlabeled=0.3)
    shown = split(b.labels, b.generator)
    plain = paper_loss(b.embeddings, b.labels, shown, sigma=0.3, num_classes=4)
    divided = paper_loss(b.embeddings, b.labels, shown, sigma=0.3, num_classes=4, double_division=True)
    assert float(plain.loss / divided.loss) == pytest.approx(int((~shown & (b.labels >= 0)).sum()))
    assert int(plain.anchors.sum()) == int((~shown & (b.labels >= 0)).sum())
    assert float(plain.coverage) == pytest.approx(int(plain.anchors.sum()) / int((b.labels >= 0).sum()))


@pytest.mark.parametrize("case", ["nothing shown", "nothing hidden", "unlabeled", "one", "none"])
def test_without_anchors_it_is_zero_with_a_live_gradient(case: str) -> None:
    n = {"one": 1, "none": 0}.get(case, 6)
    x = torch.randn(n, 4, requires_grad=True)
    labels = torch.full((n,), -1) if case == "unlabeled" else torch.arange(n) % 2
    shown = torch.full((n,), case == "nothing hidden")
    result = paper_loss(x, labels, shown, sigma=0.3, num_classes=2)
    result.loss.backward()
    assert float(result.loss) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert float(result.coverage) == 0


@pytest.mark.parametrize("shown", [torch.ones(5, dtype=torch.bool), torch.ones(6), torch.ones(6, 1, dtype=torch.bool)])
def test_bad_mask(shown: Tensor) -> None:
    with pytest.raises(ValueError, match=r"boolean mask of shape \(6,\)"):
        paper_loss(torch.randn(6, 3), torch.arange(6) % 2, shown, sigma=0.3)


class TestRandomSplit:
    def test_the_share_is_gamma_and_every_split_differs(self) -> None:
        loss = GLoss(mode="paper", gamma=0.7, num_classes=2)
        labels = torch.arange(100) % 2
        labels[90:] = -1
        splits = [loss._draw(labels) for _ in range(5)]
        assert all(int(s.sum()) == 63 and not s[90:].any() for s in splits)
        assert len({tuple(s.tolist()) for s in splits}) == 5

    def test_the_module_is_the_function_under_the_split_it_draws(self) -> None:
        b = batch(30, 3)
        module, twin = (GLoss(mode="paper", sigma=0.3, num_classes=3, seed=4) for _ in range(2))
        expected = paper_loss(b.embeddings, b.labels, twin._draw(b.labels), sigma=0.3, num_classes=3)
        assert float(module(b.embeddings, b.labels)) == pytest.approx(float(expected.loss))
        assert torch.equal(module.coverage, expected.coverage)

    def test_evaluation_does_not_disturb_training(self) -> None:
        b = batch(30, 3)
        one, two = (GLoss(mode="paper", num_classes=3, seed=1) for _ in range(2))
        two.eval()
        for _ in range(3):
            values = {float(two(b.embeddings, b.labels)) for _ in range(2)}
            assert len(values) == 1
        two.train()
        assert [float(one(b.embeddings, b.labels)) for _ in range(3)] == [
            float(two(b.embeddings, b.labels)) for _ in range(3)
        ]

    @pytest.mark.parametrize("n", [0, 1, 2, 3])
    def test_tiny_batches(self, n: int) -> None:
        shown = GLoss(mode="paper", gamma=0.9)._draw(torch.arange(n))
        assert int(shown.sum()) == max(n - 1, 0)
