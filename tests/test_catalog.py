"""The table of losses in `config` and the losses that are built from it say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pytest
import torch
from strategies import batch
from torch import Tensor, nn

from graphloss.losses import baselines
from graphloss.losses.modules import Combined, GLoss
from graphloss.training.build_loss import BASELINES, OF_THE_COMBINATION, build
from graphloss.training.settings import LOSSES, TrainSettings

OTHER = {
    "weight": 0.3,
    "sigma": 0.6,
    "alpha": 0.7,
    "q": 0.6,
    "k": 2,
    "memory": 4,
    "gamma": 0.4,
    "temperature": 0.4,
    "margin": 0.2,
}
"""Another value of each setting than its default."""

PAIRS = [(name, setting) for name, own in LOSSES.items() for setting in own]


def settings(**values: Any) -> dict[str, Any]:
    return asdict(TrainSettings()) | values


def loss_of(name: str, values: dict[str, Any], **options: Any) -> tuple[Tensor, Tensor]:
    """Loss of the combination on a random batch, and its gradient; a memory holds another batch."""
    other, b = (batch(36, 3, spread=1.5, unlabeled=0.2, seed=seed) for seed in (0, 1))
    x = b.embeddings.requires_grad_()
    logits = x @ torch.randn(16, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    part = build(name, values, num_classes=3, dimensions=16, **options)
    if getattr(part, "memory", None) is not None:
        part.memory.add(other.embeddings, other.labels, torch.arange(36, 72))
    loss = Combined(part, values["weight"])(x, logits, b.labels, torch.arange(36)).loss
    loss.backward()
    return loss.detach(), x.grad


def test_every_name_builds() -> None:
    kinds = {name: type(build(name, settings(), num_classes=3)) for name in LOSSES}
    assert kinds == {"gloss": GLoss, "gloss-paper": GLoss, "ce": type(None), **BASELINES}
    assert len(kinds) == 7 and set(BASELINES.values()) == set(baselines.BaselineLoss.__subclasses__())
    for name in ("gloss", "gloss-paper"):
        assert isinstance(build(name, settings(), num_classes=3), nn.Module)
    modes = {name: build(name, settings(), num_classes=3).mode for name in ("gloss", "gloss-paper")}
    assert modes == {"gloss": "loo", "gloss-paper": "paper"}


def test_the_pairs_that_the_next_tests_see() -> None:
    assert len(PAIRS) == sum(map(len, LOSSES.values())) >= 14
    assert {setting for _, setting in PAIRS} == set(OTHER) <= set(settings())
    assert all(OTHER[setting] != settings()[setting] for setting in OTHER)


@pytest.mark.parametrize(("name", "setting"), PAIRS)
def test_a_setting_of_a_loss_changes_it(name: str, setting: str) -> None:
    ground = settings()
    before, g = loss_of(name, ground)
    after, h = loss_of(name, ground | {setting: OTHER[setting]})
    assert abs(float(after - before)) > 1e-3 * abs(float(before))
    assert g.norm() > 0 and (g - h).norm() > 1e-3 * g.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_a_setting_of_another_loss_does_not(name: str) -> None:
    others = {setting: value for setting, value in OTHER.items() if setting not in LOSSES[name]}
    assert len(others) >= 3
    if name == "ce":
        assert build(name, settings(**others), num_classes=3) is None
    assert torch.equal(loss_of(name, settings())[0], loss_of(name, settings(**others))[0])


@pytest.mark.parametrize("name", LOSSES)
def test_no_other_setting_is_read(name: str) -> None:
    read: set[str] = set()

    class Spy(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            read.add(key)
            return settings()[key]

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("settings are asked for by name")

        def __len__(self) -> int:
            raise AssertionError("settings are asked for by name")

    build(name, Spy(), num_classes=3)
    assert read == set(LOSSES[name]) - set(OF_THE_COMBINATION)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_what_is_built_has_the_one_signature(name: str) -> None:
    b = batch(24, 3, unlabeled=0.2, dtype=torch.float32)
    loss = build(name, settings(), num_classes=3)
    x = b.embeddings.requires_grad_()
    value = loss(x, b.labels)
    value.backward()
    assert value.ndim == 0 and x.grad.norm() > 0
    assert loss.coverage.ndim == 0 and 0 < float(loss.coverage) <= 1


def test_class_weights_and_seed_reach_the_graph_losses() -> None:
    weights = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    for name in ("gloss", "gloss-paper"):
        plain, weighted = loss_of(name, settings()), loss_of(name, settings(), class_weights=weights)
        assert float(weighted[0]) != pytest.approx(float(plain[0]), rel=1e-3)
    assert float(loss_of("gloss-paper", settings(), seed=1)[0]) != float(loss_of("gloss-paper", settings())[0])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no loss 'glos'; choose one of gloss, gloss-paper, ce, supcon"):
        build("glos", settings(), num_classes=3)


def test_a_memory_is_built_from_its_settings() -> None:
    loss = build("gloss", settings(memory=5), num_classes=3, dimensions=16)
    assert isinstance(loss, GLoss) and loss.memory is not None
    assert loss.memory.embeddings.shape == (3, 5, 16)
    with pytest.raises(ValueError, match="needs the dimensions"):
        build("gloss", settings(memory=5), num_classes=3)
