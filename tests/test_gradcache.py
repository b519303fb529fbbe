"""Gradient caching: the gradient of the whole batch to the last bits, in the memory of a piece of it."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Toy
from sentence_transformers import SentenceTransformer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphloss.losses import gradient_cache
from graphloss.losses.gradient_cache import in_pieces
from graphloss.text.encoder import embed, encode, load, tokenize
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import Fitted, fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import LOSSES, TrainSettings
from graphloss.training.trainable_model import GraphModel, start_model

PIECE = 16  # a whole chunk of the encoder on a CPU, so that dropout is the same with and without pieces


@pytest.fixture
def encoder(tiny_encoder: Path) -> SentenceTransformer:
    return load(str(tiny_encoder), device="cpu").train()  # dropout is on


@pytest.fixture
def batch(encoder: SentenceTransformer, toy: Toy) -> dict[str, Any]:
    """64 documents, some unlabeled."""
    labels = torch.tensor([label if row % 5 else -1 for row, label in enumerate(toy.indices)])
    return {"features": tokenize(encoder, toy.texts), "labels": labels}


def model_of(encoder: SentenceTransformer, toy: Toy, **settings: Any) -> GraphModel:
    documents = Documents(toy.texts, toy.indices)
    return start_model(encoder, encode(encoder, toy.texts), documents, documents, 4, TrainSettings(**settings))


def gradient(model: GraphModel, batch: dict[str, Any], at_once: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss, and the gradient of all parameters in one vector, of the random state of seed 0."""
    model.at_once = at_once
    model.zero_grad()
    torch.manual_seed(0)
    loss = model(**batch)["loss"]
    loss.backward()
    return loss.detach(), gathered(model)


def gathered(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


CASES = [(loss, mode) for loss in LOSSES for mode in ("combined", "standalone") if (loss, mode) != ("ce", "standalone")]


@pytest.mark.parametrize(("loss", "mode"), CASES)
def test_every_loss_has_the_gradient_of_the_whole_batch(
    encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any], loss: str, mode: str
) -> None:
    assert len(CASES) == 13
    learned = {"sigma": "learned"} if "sigma" in LOSSES[loss] else {}
    model = model_of(encoder, toy, loss=loss, mode=mode, **learned)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole, expected = gradient(model, batch, None)
    model.load_state_dict(start)  # the random split of the published loss begins again
    stream = torch.get_rng_state()
    for at_once in (PIECE, 40):  # 40 is no whole number of chunks: pieces of 32
        found, got = gradient(model, batch, at_once)
        assert torch.equal(torch.get_rng_state(), stream), "the random stream is not where it would be"
        model.load_state_dict(start)
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=0)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    others = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    assert len(others) == 2 * (mode == "combined") + bool(learned)  # head and its bias, σ
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in [*others, *encoder[0].parameters()][:8])
    assert expected.norm() > 1e-2 and whole > 0


def test_dropout_is_replayed_and_matters(
    encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(encoder, toy)
    _, expected = gradient(model, batch, None)
    plain = gradient_cache.checkpoint

    def forgetful(*args: Any, **options: Any) -> Any:
        return plain(*args, preserve_rng_state=False, **options)

    monkeypatch.setattr(gradient_cache, "checkpoint", forgetful)
    _, wrong = gradient(model, batch, PIECE)
    assert (wrong - expected).norm() > 0.05 * expected.norm()


def test_gradients_of_several_graphs_add_up(encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any]) -> None:
    model = model_of(encoder, toy, sigma="learned")
    sums = []
    for at_once in (None, PIECE):
        gradient(model, batch, at_once)
        for _ in range(2):  # both passes before the way back, as a trainer might
            (model(**batch)["loss"] + model(**batch)["loss"]).backward()
        sums.append(gathered(model))
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-5, atol=1e-7)
    _, once = gradient(model, batch, PIECE)
    assert (sums[1] - once).norm() > once.norm()


def test_autocast_loses_nothing_by_pieces(encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any]) -> None:
    """Pieces have weights of their own in bfloat16, so their gradients are summed in float32."""
    model = model_of(encoder, toy, sigma="learned")
    _, exact = gradient(model, batch, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, expected = gradient(model, batch, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, got = gradient(model, batch, PIECE)
    assert torch.equal(found, whole) and not torch.equal(expected, exact)
    torch.testing.assert_close(got, expected, rtol=0.05, atol=2e-3 * float(expected.abs().max()))
    assert (got - exact).norm() <= (expected - exact).norm() < 0.05 * exact.norm()


def test_a_gradient_scaler_finds_the_scaled_gradient(
    encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any]
) -> None:
    model = model_of(encoder, toy, sigma="learned")
    grads = []
    for at_once in (None, PIECE):
        model.at_once = at_once
        model.zero_grad()
        torch.manual_seed(0)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = model(**batch)["loss"]
        scaler.scale(loss).backward()
        scaled = gathered(model)
        scaler.unscale_(optimizer)
        grads.append(gathered(model))
        torch.testing.assert_close(scaled, grads[-1] * 2.0**10)
    assert grads[0].isfinite().all() and grads[0].norm() > 1e-2
    torch.testing.assert_close(grads[1], grads[0], rtol=0.01, atol=2e-3 * float(grads[0].abs().max()))


def test_a_frozen_encoder_and_no_gradient_at_all(encoder: SentenceTransformer, toy: Toy, batch: dict[str, Any]) -> None:
    with torch.no_grad():
        z = embed(encoder.eval(), batch["features"], at_once=PIECE)
        torch.testing.assert_close(z, encode(encoder, toy.texts), rtol=1e-5, atol=1e-6)
    assert not z.requires_grad
    model = model_of(encoder, toy)
    encoder.requires_grad_(False)
    _, expected = gradient(model, batch, None)
    torch.testing.assert_close(gradient(model, batch, PIECE)[1], expected)
    assert expected.numel() == 33 * 4 and expected.norm() > 0


def test_pieces_smaller_than_a_chunk_and_larger_than_the_batch(
    encoder: SentenceTransformer, batch: dict[str, Any]
) -> None:
    encoder.eval()
    passed: list[int] = []
    encoder[0].register_forward_pre_hook(lambda module, args: passed.append(len(args[0]["input_ids"])))
    for at_once, seen in ((5, [5] * 12 + [4]), (64, [16] * 4), (1000, [16] * 4)):
        passed.clear()
        z = embed(encoder, batch["features"], at_once=at_once)
        assert passed == seen
        z.sum().backward()
        assert sorted(passed[len(seen) :]) == (sorted(seen) if at_once == 5 else [])  # each piece once more, or none


def test_in_pieces_has_the_right_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = torch.randperm(7, generator=generator)

    def both(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return in_pieces(lambda piece: (x[piece] @ w).tanh(), rows, 3)

    assert torch.autograd.gradcheck(both, (x, w))
    assert torch.equal(both(x, w), (x[rows] @ w).tanh())


class Meter(TorchDispatchMode):
    """The most bytes that tensors made under it hold at once: a peak that no allocator or other process blurs."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known.add(key)
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def test_the_memory_is_that_of_a_piece(encoder: SentenceTransformer, batch: dict[str, Any]) -> None:
    """Peaks of the encoder's tensors, forth and back, counted; parameters and their gradients are there before."""
    features, few = batch["features"], {name: value[:PIECE] for name, value in batch["features"].items()}
    embed(encoder, few).sum().backward()

    def peak(features: dict[str, Any], at_once: int | None) -> int:
        with Meter() as meter:
            embed(encoder, features, at_once=at_once)[:, 0].sum().backward()
        return meter.peak

    one, four, cached = peak(few, None), peak(features, None), peak(features, PIECE)
    assert four > 2.5 * one
    assert cached < 1.3 * one


@pytest.mark.parametrize(
    "settings",
    [
        {"sigma": "learned", "accumulate": 2},
        {"loss": "gloss-paper", "mode": "standalone", "sigma": "root"},
        {"loss": "supcon", "class_weights": "balanced", "freeze": 1},
        {"memory": 4},
    ],
    ids=["learned sigma, accumulated", "gloss-paper", "supcon", "memory"],
)
def test_a_training_in_pieces_ends_like_one_without(
    tiny_encoder: Path, toy: Toy, tmp_path: Path, settings: dict[str, Any]
) -> None:
    def run(name: str, **sizes: int) -> Fitted:
        chosen = TrainSettings(blend=1.0, epochs=2, max_length=32, learning_rate=1e-3, **sizes, **settings)
        parts = Documents(toy.texts[:56], toy.indices[:56]), Documents(toy.texts[56:], toy.indices[56:])
        encoder = load(str(tiny_encoder), device="cpu")
        return fit(encoder, preflight(check_settings(chosen, *parts, toy.names), encoder), folder=tmp_path / name)

    whole, pieces = run("whole", batch_size=28), run("pieces", batch_size=PIECE, graph_size=28)
    assert len(whole.history) == len(pieces.history) > 0
    for one, other in zip(whole.history, pieces.history, strict=True):
        assert one["step"] == other["step"] > 0
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    state, moved = whole.model.encoder.state_dict(), 0.0
    untouched = load(str(tiny_encoder), device="cpu").state_dict()
    for name, tensor in pieces.model.encoder.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-3, atol=1e-5)
        moved = max(moved, float((tensor - untouched[name]).abs().max()))
    assert moved > 1e-4
    torch.testing.assert_close(pieces.model.predictor.weight, whole.model.predictor.weight, rtol=1e-3, atol=1e-4)
    assert pieces.model.predictor.sigma == pytest.approx(whole.model.predictor.sigma, rel=1e-4)
