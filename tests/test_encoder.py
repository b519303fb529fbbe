"""The encoder's door: what it accepts, what it refuses at once, and embedding in chunks as if there were none."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from conftest import Toy

from graphloss.encoder import embed, encode, load, resolve
from graphloss.errors import InputError

TEXTS = [
    "goal",
    "the keeper and the striker of the league then",
    "onion in the pan",
    "a rocket",
    "the the the the the moon",
]


def test_chunks_do_not_change_the_embedding_or_its_gradient(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    features = encoder.preprocess(TEXTS)
    results = []
    for chunk in (1, 2, 5):
        encoder.zero_grad()
        z = embed(encoder, features, chunk=chunk)
        (z * torch.arange(z.numel()).view_as(z)).sum().backward()
        grads = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
        assert grads.abs().max() > 0
        results.append((z.detach(), grads))
    for z, grads in results[1:]:
        torch.testing.assert_close(z, results[0][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grads, results[0][1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(results[0][0], encode(encoder, TEXTS), rtol=1e-5, atol=1e-6)
    assert results[0][0].norm(dim=1).sub(1).abs().max() < 1e-5


def test_padding_on_the_left_is_cut_too(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    encoder.tokenizer.padding_side = "left"
    features = encoder.preprocess(TEXTS)
    assert features["attention_mask"][0, 0] == 0
    seen = []
    encoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]["input_ids"].shape[1]))
    embed(encoder, features, chunk=1)
    assert sorted(seen) == sorted(features["attention_mask"].sum(1).tolist())


def test_chunks_of_equal_length_texts_hold_no_pad_token(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder)).eval()
    features = encoder.preprocess(toy.texts)
    computed = []
    encoder[0].register_forward_pre_hook(lambda module, args: computed.append(args[0]["input_ids"].numel()))
    embed(encoder, features, chunk=8)
    needed = int(features["attention_mask"].sum())
    assert needed <= sum(computed) < 1.15 * needed < features["input_ids"].numel()


def test_a_bare_transformer_is_pooled_at_cls(bare_encoder: Path) -> None:
    encoder = load(resolve(str(bare_encoder)))
    assert encoder[1].pooling_mode == "cls"


def test_a_model_keeps_its_own_pooling(tiny_encoder: Path) -> None:
    assert load(resolve(str(tiny_encoder)))[1].pooling_mode == "mean"


def test_encode_leaves_training_mode_as_it_was(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).train()
    encode(encoder, TEXTS)
    assert encoder.training


def test_no_texts_give_no_rows(tiny_encoder: Path) -> None:
    assert encode(load(str(tiny_encoder)), []).shape == (0, 32)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_hub_name_that_cannot_be_had_is_refused_at_once(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match="not in the local cache"):
        resolve(name)
    assert time.perf_counter() - began < 10


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(InputError, match="cannot be reached"):
        resolve("nobody/no-such-model")


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "~/no-such-folder"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        resolve(name)


def test_a_folder_that_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        resolve(str(tmp_path))


def test_damaged_weights_are_said_without_a_traceback(tiny_encoder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_encoder, broken)
    (broken / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(broken))


def test_more_tokens_than_the_encoder_has_positions(tiny_encoder: Path) -> None:
    with pytest.raises(InputError, match="at most 64"):
        load(str(tiny_encoder), max_length=65)
