"""Is there room: estimates that cover what is really held, what is free, and a refusal before the work."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graphloss import free_memory
from graphloss.errors import InputError
from graphloss.inference.informed_head import informed_head
from graphloss.losses.modules import GLoss
from graphloss.text.encoder import embed, load, tokenize
from graphloss.training import memory_estimate
from graphloss.training.build_loss import build
from graphloss.training.frozen_layers import frozen
from graphloss.training.settings import TrainSettings

CPU = torch.device("cpu")


def peak(work: Callable[[], Any]) -> int:
    """The most bytes of tensors that the work held at once, by what torch's profiler saw allocated and freed."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    held = most = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert most > 0
    return most


@pytest.mark.parametrize(
    ("values", "unlabeled"),
    [
        ({}, 0.0),
        ({"k": 5}, 0.0),
        ({"alpha": 0.9}, 0.0),
        ({"loss": "gloss-paper"}, 0.0),
        ({"loss": "supcon"}, 0.0),
        ({"loss": "nca"}, 0.0),
        ({"loss": "cosine"}, 0.0),
    ],
)
def test_the_loss_holds_what_was_estimated(values: dict[str, Any], unlabeled: float) -> None:
    settings = TrainSettings(**values)
    generator = torch.Generator().manual_seed(0)
    n = 600
    labels = torch.randint(4, (n,), generator=generator)
    x = torch.randn(n, 16, generator=generator, requires_grad=True)
    labels[torch.rand(n, generator=generator) < unlabeled] = -1
    loss = build(settings.loss, vars(settings), num_classes=4)
    assert loss is not None
    estimate = memory_estimate.of_graph(n, settings, 4, 16)
    assert 0.4 * estimate < peak(lambda: loss(x, labels).backward()) < 1.1 * estimate
    assert x.grad is not None and x.grad.norm() > 0


@pytest.mark.parametrize(("n", "classes"), [(128, 200), (600, 4)])
def test_a_memory_holds_what_was_estimated(n: int, classes: int) -> None:
    settings, d = TrainSettings(memory=4), 64
    generator = torch.Generator().manual_seed(0)
    loss = build(settings.loss, vars(settings), num_classes=classes, dimensions=d)
    assert isinstance(loss, GLoss) and loss.memory is not None
    earlier = torch.arange(4 * classes)
    loss.memory.add(torch.randn(len(earlier), d, generator=generator), earlier % classes, earlier)
    x = torch.randn(n, d, generator=generator, requires_grad=True)
    documents = torch.arange(n) + len(earlier)
    estimate = memory_estimate.of_graph(n, settings, classes, d)
    assert 0.4 * estimate < peak(lambda: loss(x, documents % classes, documents).backward()) < 1.1 * estimate


def test_the_corpus_graph_holds_what_was_estimated() -> None:
    generator = torch.Generator().manual_seed(0)
    n, d, classes = 6000, 64, 20
    labels = torch.randint(classes, (n,), generator=generator)
    z = torch.randn(n, d, generator=generator) + torch.randn(classes, d, generator=generator)[labels]
    labels[200:] = -1
    estimate = memory_estimate.of_corpus_graph(n, d, classes)
    known = (z[:0], labels[:0], classes)
    taken = peak(lambda: informed_head(z, labels, *known, weight=torch.zeros(classes)))
    assert 0.3 * estimate < taken < estimate


def test_what_is_free_is_what_the_machine_and_its_container_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("memory.max", "5000\n"), ("memory.current", "3000\n"), ("memory.stat", "inactive_file 500\n")):
        (tmp_path / name).write_text(text)
    assert free_memory._of_container(tmp_path) == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory._of_container(tmp_path) is None and free_memory._of_container(tmp_path / "none") is None
    assert 2**24 < memory_estimate.available(CPU) < 2**50
    monkeypatch.setattr(free_memory, "_of_machine", lambda: 2**20)
    for limit, free in ((None, 2**20), (2**21, 2**20), (2**19, 2**19)):
        monkeypatch.setattr(free_memory, "_of_container", lambda group, limit=limit: limit)
        assert free_memory.free() == free


@pytest.mark.parametrize(
    ("values", "counts", "said"),
    [
        (
            {"graph_size": 50_000},
            (90_000, 0),
            r"--graph-size 50000: .* 50,000 documents needs about 65.2 GiB, and 1.0 GiB are free on cpu",
        ),
        ({"graph_size": 50_000}, (90_000, 0), r"give --graph-size 6192 or less"),
        ({"batch_size": 50_000}, (90_000, 0), r"--batch-size 50000: .* give --batch-size 6192 or less"),
        (
            {"memory": 9, "batch_size": 20_000},
            (90_000, 0),
            r"needs about 11.9 GiB, .* give --batch-size 1686 or",
        ),
        (
            {"loss": "ce"},
            (9_000_000, 0),
            r"embeddings of 9,000,000 labeled .* about 3.2 GiB, .* 2,796,202",
        ),
        ({"clean": "auto"}, (9_000_000, 0), r"embeddings of 9,000,000 labeled .* about 5.4 GiB, .* 1,677,721"),
        ({"memory": 90_000}, (1000, 0), r"--memory 90000: a memory of 90,000 documents for each of 300 classes"),
        ({}, (1000, 119_000), r"the corpus graph over 120,000 documents needs about 1.\d GiB, and 1.0 GiB are free"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], counts: tuple[int, int], said: str
) -> None:
    monkeypatch.setattr(memory_estimate, "available", lambda device: 2**30)
    settings, encoder = TrainSettings(**values), load(str(tiny_encoder))
    with pytest.raises(InputError, match=said):
        memory_estimate.check_loss(settings, encoder, labeled=counts[0], unlabeled=counts[1], classes=300)


def test_a_graph_is_no_larger_than_the_corpus(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_estimate, "available", lambda device: 2**30)
    memory_estimate.check_loss(
        TrainSettings(graph_size=50_000), load(str(tiny_encoder)), labeled=3000, unlabeled=0, classes=9
    )
    memory_estimate.check_loss(
        TrainSettings(loss="ce", graph_size=50_000),
        load(str(tiny_encoder)),
        labeled=90_000,
        unlabeled=0,
        classes=9,
    )


def test_without_the_index_a_very_large_corpus_graph_is_refused(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"130,000 documents, more than 120,000, .* pip install 'graphloss\[large\]'"):
        memory_estimate.check_loss(
            TrainSettings(), load(str(tiny_encoder)), labeled=30_000, unlabeled=100_000, classes=9
        )
    settings = TrainSettings(corpus_graph="off")
    memory_estimate.check_loss(settings, load(str(tiny_encoder)), labeled=30_000, unlabeled=100_000, classes=9)


def texts_of(lengths: list[int]) -> list[str]:
    return [" ".join(["quiet", "loud", "green"][(i + j) % 3] for j in range(n)) for i, n in enumerate(lengths)]


def test_a_batch_holds_what_was_estimated(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder), max_length=32, device="cpu").eval()
    texts = texts_of([20 + i % 10 for i in range(64)])
    estimate = memory_estimate.SPARE * memory_estimate.of_activations(encoder, texts)
    assert not encoder.training and all(p.grad is None for p in encoder.parameters())
    encoder.train()
    features = tokenize(encoder, texts)
    assert 0.5 * estimate < peak(lambda: embed(encoder, features).sum().backward()) < 1.1 * estimate
    quarter = peak(lambda: embed(encoder, features, at_once=16).sum().backward())
    assert quarter < 0.5 * estimate
    with frozen(encoder, 1):
        assert 0 < memory_estimate.of_activations(encoder, texts) < 0.8 * estimate / memory_estimate.SPARE


def test_an_estimate_leaves_nothing_in_memory(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder), max_length=32, device="cpu")
    assert memory_estimate.of_activations(encoder, texts_of([20, 30])) > 0
    weights = [weakref.ref(x) for x in encoder.parameters()]
    del encoder
    gc.collect()
    assert len(weights) > 20 and not [ref for ref in weights if ref() is not None]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"batch_size": 64},
            r"--batch-size 64: training on 64 texts .* give --graph-size 64 --batch-size \d\d: the same",
        ),
        ({"graph_size": 200, "batch_size": 64}, r"training on 64 texts .* give --graph-size 200 --batch-size \d\d:"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_with_what_would(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], said: str
) -> None:
    encoder, texts = load(str(tiny_encoder), max_length=32, device="cpu"), texts_of([40] * 300)
    trial = memory_estimate.try_texts(encoder, texts, 0)
    weights = memory_estimate.OF_A_WEIGHT * sum(p.numel() for p in encoder.parameters())
    free = weights + int(50 * memory_estimate.SPARE * memory_estimate.of_activations(encoder, texts[:1]))
    monkeypatch.setattr(memory_estimate, "available", lambda device: free)
    settings = TrainSettings(corpus_graph="off", **values)
    with pytest.raises(InputError, match=said) as refused:
        memory_estimate.check_batch(settings, encoder, trial, 300)
    remedy = dict(re.findall(r"--(graph-size|batch-size) (\d+)", str(refused.value).split("; give ")[1]))
    following = {name.replace("-", "_"): int(value) for name, value in remedy.items()}
    memory_estimate.check_batch(TrainSettings(**(vars(settings) | following)), encoder, trial, 300)
    frozen = TrainSettings(**(vars(settings) | following | {"freeze": 1}))
    with pytest.raises(InputError, match="training on"):  # what 300,000 texts leave in the cache of a frozen layer
        memory_estimate.check_batch(frozen, encoder, trial, 300_000)
    assert trial.seconds > 0
    fitting = TrainSettings(**(vars(settings) | following))
    enough = weights + int(following["batch_size"] * trial.memory)
    monkeypatch.setattr(memory_estimate, "available", lambda device: enough)
    memory_estimate.check_batch(fitting, encoder, trial, 300)
    with pytest.raises(InputError, match="training on"):  # what it was is kept beside it
        memory_estimate.check_batch(fitting, encoder, trial, 300, twice=True)
    trial = replace(trial, memory=2.0**40)
    with pytest.raises(InputError, match="give a smaller --max-length, --freeze, or a smaller encoder"):
        memory_estimate.check_batch(settings, encoder, trial, 300)


def test_processes_of_a_machine_share_what_is_free(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "_of_machine", lambda: 8_000_000)
    monkeypatch.setattr(free_memory, "_of_container", lambda path: None)
    assert memory_estimate.available(CPU) == 8_000_000
    launched = {"RANK": 0, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in launched.items():
        monkeypatch.setenv(name, str(value))
    assert memory_estimate.available(CPU) == 2_000_000
    encoder = load(str(tiny_encoder), device="cpu")
    with pytest.raises(InputError, match="are free on cpu for each of 4 processes"):
        memory_estimate.check_loss(TrainSettings(batch_size=300), encoder, labeled=900, unlabeled=0, classes=4)
