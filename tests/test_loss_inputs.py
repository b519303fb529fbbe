"""Careless inputs of the losses: a value, or a message that says what was expected, what came and the repair."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphloss.losses.baselines import NCA, Cosine, SupCon, Triplet
from graphloss.losses.functional import gloss, paper_loss
from graphloss.losses.memory_bank import Memory
from graphloss.losses.modules import Combined, GLoss, balanced_class_weights

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "gloss": GLoss,
    "spreading": lambda: GLoss(alpha=0.5),
    "q": lambda: GLoss(q=0.5),
    "nearest": lambda: GLoss(k=3),
    "nearest, spreading": lambda: GLoss(k=3, alpha=0.5),
    "mst": lambda: GLoss(sigma="mst"),
    "learned": lambda: GLoss(sigma="learned"),
    "paper": lambda: GLoss(mode="paper"),
    "paper, classes": lambda: GLoss(mode="paper", num_classes=10**13),
    "nca": NCA,
    "supcon": SupCon,
    "triplet": Triplet,
    "cosine": Cosine,
}


def a_batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    z = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return z.requires_grad_(), torch.tensor([0, 1, 2] * 3 + [-1, -1, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_the_largest_label_costs_nothing_and_changes_nothing(name: str) -> None:
    z, y = a_batch()
    far = torch.where(y > 0, y * 10**12, y)
    small, large = (LOSSES[name]()(z, labels) for labels in (y, far))
    if name == "paper":  # there the number of classes enters the softmax, and the largest label says it
        assert 20 < float(large.detach()) < 30
    else:
        torch.testing.assert_close(large, small, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(large, z)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_absent_classes_count_in_the_published_loss_as_if_they_had_columns() -> None:
    z, y = a_batch()
    shown = torch.arange(12) % 2 == 0
    found = paper_loss(z, torch.where(y > 0, y * 3, y), shown, sigma=0.5, num_classes=9).log_p
    gap = paper_loss(z, y, shown, sigma=0.5, num_classes=9).log_p
    torch.testing.assert_close(found, gap)
    assert not torch.allclose(found, paper_loss(z, y, shown, sigma=0.5).log_p)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("cosine", "triplet")])
def test_second_derivatives_are_refused(name: str) -> None:
    z, y = a_batch()
    value = LOSSES[name]()(z, y)
    if name == "supcon":  # torch's own operations: right
        (g,) = torch.autograd.grad(value, z, create_graph=True)
        assert torch.autograd.grad(g.square().sum(), z)[0].abs().max() > 0
        return
    with pytest.raises(RuntimeError, match="no second derivatives; leave out create_graph"):
        torch.autograd.grad(value, z, create_graph=True)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["list", "numpy", "float labels", "boolean labels", "list of labels"])
def test_what_is_no_tensor_is_refused_and_said(name: str, kind: str) -> None:
    z, y = a_batch()
    given: dict[str, tuple[Any, Any]] = {
        "list": (z.tolist(), y),
        "numpy": (z.detach().numpy(), y),
        "float labels": (z, y.double()),
        "boolean labels": (z, y > 0),
        "list of labels": (z, y.tolist()),
    }
    with pytest.raises((TypeError, ValueError), match=r"(embeddings|labels) must be .*, got "):
        LOSSES[name]()(*given[kind])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_labels_of_any_integer_type_give_the_same(name: str, dtype: torch.dtype) -> None:
    z, y = a_batch()
    z, y = z[:9], y[:9]
    assert torch.equal(LOSSES[name]()(z, y.to(dtype)), LOSSES[name]()(z, y))


@pytest.mark.parametrize("name", LOSSES)
def test_denormal_embeddings_have_a_finite_loss_and_gradient(name: str) -> None:
    z, y = a_batch(torch.float32)
    x = z.detach().clone()
    x[:4] *= 1e-42
    assert 0 < x[:4].abs().max() < torch.finfo(torch.float32).tiny
    value = LOSSES[name]()(x.requires_grad_(), y)
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite() and gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("sigma", [float("inf"), float("nan"), True, None, -1, 0, [0.3], np.array(0.3), 1e-9])
def test_a_bandwidth_without_sense_is_refused(sigma: Any) -> None:
    z, y = a_batch()
    for make in (
        lambda: GLoss(sigma=sigma),
        lambda: GLoss(sigma=sigma, mode="paper"),
        lambda: gloss(z, y, sigma=sigma),
        lambda: paper_loss(z, y, y > 0, sigma=sigma),
    ):
        with pytest.raises((TypeError, ValueError), match=r"sigma must be .*got "):
            make()
    with pytest.raises(ValueError, match="got inf"):
        gloss(z, y, sigma=torch.tensor(float("inf")))
    with pytest.raises(TypeError, match="a number or a 0-d tensor, got tensor"):
        gloss(z, y, sigma=torch.full((12,), 0.3))


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, 2.0, 3.0],
        np.ones(3),
        torch.ones(3).long(),
        torch.tensor([1, -1.0]),
        torch.tensor([float("nan")]),
        torch.ones(0),
    ],
)
def test_class_weights_without_sense_are_refused(weights: Any) -> None:
    z, y = a_batch()
    for make in (
        lambda: GLoss(class_weights=weights),
        lambda: Combined(None, class_weights=weights),
        lambda: gloss(z, y, sigma=0.3, class_weights=weights),
    ):
        with pytest.raises((TypeError, ValueError), match="class_weights must be"):
            make()


@pytest.mark.parametrize("scale", [1e38, 1e-38, 1e-42])
@pytest.mark.parametrize("mode", ["loo", "paper"])
def test_the_scale_of_class_weights_changes_nothing(mode: Any, scale: float) -> None:
    z, y = a_batch(torch.float32)
    plain, scaled = (
        GLoss(mode=mode, sigma=0.3, class_weights=weight * torch.ones(int(y.max()) + 1))(z, y) for weight in (1, scale)
    )
    assert plain > 0 and torch.allclose(plain, scaled, rtol=1e-6)


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5], torch.tensor([0.5]), 1j, torch.tensor(0.5)])
def test_options_that_are_no_numbers_are_refused(value: Any) -> None:
    z, y = a_batch()
    for name, make in {
        "alpha": lambda: GLoss(alpha=value),
        "q": lambda: GLoss(q=value),
        "gamma": lambda: GLoss(mode="paper", gamma=value),
        "weight": lambda: Combined(None, weight=value),
        "temperature": lambda: SupCon(temperature=value),
        "margin": lambda: Triplet(margin=value),
    }.items():
        with pytest.raises(TypeError, match=f"{name} must be a number, got "):
            make()
    for name in ("alpha", "q"):
        with pytest.raises(TypeError, match=f"{name} must be a number, got "):
            gloss(z, y, sigma=0.3, **{name: value})
    with pytest.raises(TypeError, match="memory must be a Memory"):
        GLoss(memory=value or 7)


def test_a_bandwidth_to_be_learned_is_not_forgotten() -> None:
    for sigma in (torch.nn.Parameter(torch.tensor(0.3)), torch.tensor(0.3, requires_grad=True)):
        with pytest.raises(ValueError, match='"learned" learns it'):
            GLoss(sigma=sigma)  # type: ignore[arg-type]
    assert GLoss(sigma=torch.tensor(0.3)).bandwidth == pytest.approx(0.3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOSSES)
def test_tensors_without_dense_values_are_refused(name: str) -> None:
    z, y = a_batch()
    for batch in ((z.to_sparse(), y), (z, y.to_sparse()), (z.to("meta"), y), (z, y.to("meta"))):
        with pytest.raises(TypeError, match=r"(embeddings|labels) must be a dense tensor with values, got "):
            LOSSES[name]()(*batch)


@pytest.mark.parametrize("k", [2.5, True, 0, -1, "3"])
def test_neighbors_that_are_no_count_are_refused(k: Any) -> None:
    z, y = a_batch()
    for make in (lambda: GLoss(k=k), lambda: gloss(z, y, sigma=0.3, k=k)):
        with pytest.raises(ValueError, match=re.escape(f"got {k!r}")):
            make()


def test_labels_beyond_a_memory_or_the_classes_are_refused_at_once() -> None:
    z, y = a_batch(torch.float32)
    memory = GLoss(memory=Memory(3, 4, 5))
    with pytest.raises(ValueError, match="label"):
        memory(z, y * 10**12, torch.arange(12))
    with pytest.raises(ValueError, match="labels go up to 2000000000000"):
        balanced_class_weights(y * 10**12, 3)
