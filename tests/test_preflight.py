"""What is checked before a training is checked once, and what is cheap before what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Toy

from graphloss.classifier import TextClassifier
from graphloss.errors import InputError
from graphloss.run.train import train
from graphloss.text import encoder as encoder_module
from graphloss.training import frozen_layers, memory_estimate, preflight
from graphloss.training.progress import Screen

CHECKS = {
    preflight: ("_check_processes", "_unused_warning", "_try"),
    frozen_layers: ("check_freeze",),
    encoder_module: ("check_precision",),
    memory_estimate: ("check_loss", "try_texts", "of_activations", "check_batch"),
}


def counting(counted: Counter[str], name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        counted[name] += 1
        return whole(*args, **options)

    return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counted: Counter[str] = Counter()
    for module, names in CHECKS.items():
        for name in names:
            monkeypatch.setattr(module, name, counting(counted, name, getattr(module, name)))
    return counted


def once() -> Counter[str]:
    names = [name for own in CHECKS.values() for name in own]
    assert len(names) == 9
    return Counter(names)


def data(toy: Toy, folder: Path) -> Path:
    path = folder / "toy.csv"
    path.write_text("text,label\n" + "".join(f"{t},{n}\n" for t, n in zip(toy.texts, toy.labels, strict=True)))
    return path


def test_a_command_checks_once(calls: Counter[str], toy: Toy, tiny_encoder: Path, tmp_path: Path) -> None:
    given = {"model": str(tiny_encoder), "epochs": 1, "max_length": 16}
    train(str(data(toy, tmp_path)), given, out=tmp_path / "run", resume=False, screen=Screen(quiet=True))
    assert calls == once()


def test_a_classifier_checks_once(calls: Counter[str], toy: Toy, tiny_encoder: Path) -> None:
    TextClassifier(model=str(tiny_encoder), epochs=1, max_length=16).fit(toy.texts, toy.labels)
    assert calls == once()


def test_what_needs_no_encoder_is_refused_without_it(
    calls: Counter[str], toy: Toy, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "load", lambda *args, **options: pytest.fail("the encoder was loaded"))
    monkeypatch.setattr(preflight.distributed, "world", lambda: 1000)
    out = tmp_path / "run"
    with pytest.raises(InputError, match="1000 processes cannot share graphs"):
        train(str(data(toy, tmp_path)), {"model": str(tiny_encoder)}, out=out, resume=False, screen=Screen(quiet=True))
    assert not out.exists() and calls == Counter(["_check_processes"])
    with pytest.raises(InputError, match="1000 processes cannot share graphs"):
        TextClassifier(model=str(tiny_encoder)).fit(toy.texts, toy.labels)
