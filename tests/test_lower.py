"""Lower layers that stay as they are: the same embeddings and gradients as without remembering, and all put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Toy

from graphloss.errors import InputError
from graphloss.text.encoder import embed, encode, load, tokenize
from graphloss.training.frozen_layers import Lower, check_freeze, frozen, layers_of


def with_architecture(kind: str, tiny_encoder: Path, folder: Path) -> Any:
    """The tiny encoder with another transformer of random weights; its dropout is on in training."""
    from transformers import AutoConfig, AutoModel

    encoder = load(str(tiny_encoder))
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    if kind == "distilbert":
        size = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}
    vocabulary = encoder.tokenizer.vocab_size
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, max_position_embeddings=64, pad_token_id=0, **size)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return load(str(folder))


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "distilbert", "modernbert"])
def test_what_is_remembered_is_what_the_layers_say(kind: str, tiny_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    encoder = with_architecture(kind, tiny_encoder, tmp_path / kind)
    plain = encode(encoder, toy.texts)
    upper = layers_of(encoder)[1][2]  # type: ignore[index]
    with frozen(encoder, 2) as lower:
        assert isinstance(lower, Lower)
        encoder.eval()
        features = tokenize(encoder, toy.texts[:20])
        with torch.no_grad():
            first = embed(encoder, features, chunk=5)
        assert (lower.computed, lower.recalled) == (20, 0)
        torch.testing.assert_close(first, plain[:20])
        again = embed(encoder, features, chunk=7)  # other company, other padding
        assert (lower.computed, lower.recalled) == (20, 20)
        torch.testing.assert_close(again, plain[:20])
        again[:, 0].sum().backward()
        recalled = [p.grad.clone() for p in upper.parameters() if p.grad is not None]
    encoder.zero_grad()
    embed(encoder, features)[:, 0].sum().backward()
    direct = [p.grad for p in upper.parameters() if p.grad is not None]
    assert len(recalled) == len(direct) > 4 and any(float(x.abs().max()) > 1e-4 for x in direct)
    for x, y in zip(recalled, direct, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(encode(encoder, toy.texts), plain)


def test_the_frozen_part_learns_nothing_and_drops_nothing_out(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder))
    found = layers_of(encoder)
    assert found is not None
    embeddings, layers = found
    frozen_part = [*embeddings.parameters(), *layers[0].parameters()]
    with frozen(encoder, 1) as lower:
        encoder.train()
        features = tokenize(encoder, toy.texts[:8])
        with torch.random.fork_rng():
            first = embed(encoder, features)
        second = embed(encoder, features)
        assert lower is not None and lower.recalled == 8
        torch.testing.assert_close(first, second)  # drawn alike: what is remembered takes no random number
        assert not torch.equal(second, embed(encoder, features))  # the upper layer's own dropout
        second.sum().backward()
        assert all(p.grad is None and not p.requires_grad for p in frozen_part)
        assert any(p.grad is not None for p in layers[1].parameters())
    assert all(p.requires_grad for p in frozen_part)
    assert "forward" not in vars(embeddings) and "forward" not in vars(layers[0])
    embed(encoder, features).sum().backward()
    assert all(p.grad is not None for p in layers[0].parameters())


def test_a_full_memory_forgets_nothing_and_computes_the_rest(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder))
    plain = encode(encoder, toy.texts[:12])
    with frozen(encoder, 1, most_bytes=3000) as lower:
        assert lower is not None
        for _ in range(2):
            torch.testing.assert_close(encode(encoder, toy.texts[:12]), plain)
        assert 0 < lower.bytes <= 3000 and lower.computed == 24


def test_under_autocast_the_lower_part_stays_in_float32(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder))
    features = tokenize(encoder, toy.texts[:6])
    with frozen(encoder, 1) as lower, torch.autocast("cpu", torch.bfloat16):
        embed(encoder, features)
        assert lower is not None and {row.dtype for row in lower.memory.values()} == {torch.float32}


def test_padding_on_the_left_is_another_row(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder))
    encoder.tokenizer.padding_side = "left"
    texts = sorted(toy.texts[:12], key=len)
    plain = encode(encoder, texts)
    with frozen(encoder, 1):
        for _ in range(2):
            torch.testing.assert_close(encode(encoder, texts), plain)


@pytest.mark.parametrize(("count", "said"), [(2, "--freeze 1 or less"), (7, "has 2 layers")])
def test_layers_that_are_not_there_are_refused(tiny_encoder: Path, count: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_freeze(load(str(tiny_encoder)), count)
