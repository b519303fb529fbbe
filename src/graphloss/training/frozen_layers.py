"""Frozen lower layers of an encoder, whose outputs are cached per text.

A transformer is `upper(lower(tokens))`. With `lower` frozen and without dropout, `lower(tokens)` is the same in every
epoch and is cached. A step then costs forward and backward of `upper` only: half of the work with half of the layers
frozen, and neither gradients nor optimizer states for the word embeddings, half of the weights of a small encoder.

The architecture is not reimplemented: the model's own forward runs, with the cache in place of its embeddings and with
its lower layers passing the input through. This fits encoders made of embeddings and a list of layers (BERT, RoBERTa,
MPNet, DistilBERT, XLM-R, ModernBERT ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from graphloss.errors import InputError
from graphloss.text.encoder import transformer_of

Key = tuple[int, bytes]

MOST_BYTES = 2 << 30
"""Size of the cache; further texts are recomputed each time. 48 tokens of 384 numbers are 74 kB."""


def layers_of(encoder: SentenceTransformer) -> tuple[nn.Module, list[nn.Module]] | None:
    """The embeddings and the layers of an encoder's transformer; None if it has another structure."""
    transformer = transformer_of(encoder)
    embeddings = getattr(transformer, "embeddings", None)
    if transformer is None or not isinstance(embeddings, nn.Module):
        return None
    count = getattr(transformer.config, "num_hidden_layers", None)
    lists = [m for m in transformer.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    return (embeddings, list(lists[0])) if len(lists) == 1 else None


def check_freeze(encoder: SentenceTransformer, count: int) -> None:
    """Refuse to freeze all layers of an encoder, or more."""
    found = layers_of(encoder)
    if count and found is None:
        raise InputError(
            f"freeze {count}: this encoder is not embeddings followed by a list of layers; give --freeze 0"
        )
    if found is not None and count >= len(found[1]):
        raise InputError(
            f"freeze {count}: this encoder has {len(found[1])} layers, and at least one must be trained; "
            f"give --freeze {len(found[1]) - 1} or less"
        )


@contextmanager
def frozen(encoder: SentenceTransformer, count: int, *, most_bytes: int = MOST_BYTES) -> Iterator[Lower | None]:
    """Freeze the embeddings and the `count` lowest layers inside the block, and cache their outputs.

    Args:
        encoder: a sentence-transformers model; afterward all its parameters can be trained again.
        count: layers, as `check_freeze` allows; 0 changes nothing.
        most_bytes: size of the cache.
    """
    found = layers_of(encoder) if count else None
    if found is None:
        yield None
        return
    lower = Lower(transformer_of(encoder), found[0], found[1][:count], most_bytes)
    trained = [p for module in lower.modules for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    lower.attach()
    try:
        yield lower
    finally:
        lower.detach()
        for parameter in trained:
            parameter.requires_grad_(True)


class Lower:
    """The frozen part: replaces the `forward` of its modules while attached.

    Attributes:
        bytes: size of the cached outputs.
        computed: rows of tokens that went through the layers.
        recalled: rows that came from the cache.
    """

    def __init__(self, transformer: nn.Module, embeddings: nn.Module, layers: list[nn.Module], most_bytes: int) -> None:
        self.transformer, self.modules, self.most_bytes = transformer, [embeddings, *layers], most_bytes
        self.memory: dict[Key, torch.Tensor] = {}  # tokens of a text -> (its length, d), float32
        self.bytes = self.computed = self.recalled = 0
        self.keys: list[Key] = []  # of the current rows
        self.mask = torch.empty(0, 0, dtype=torch.bool)  # (n, t) of the same rows
        self.skipping = False
        self.wraps = False  # whether layers return a tuple, as MPNet's do; set by the first call

    def attach(self) -> None:
        """Replace the `forward` of the modules by one with the cache."""
        embeddings, *layers = self.modules
        self.transformer.forward = self._transformer(self.transformer.forward)
        embeddings.forward = self._embeddings(embeddings.forward)
        for layer in layers:
            layer.forward = self._layer(layer.forward, last=layer is layers[-1])

    def detach(self) -> None:
        """Restore the `forward` of the modules and clear the cache."""
        for module in (self.transformer, *self.modules):
            del module.forward  # uncovers that of the class
        self.memory.clear()

    def _transformer(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def transformer(*args: Any, **kwargs: Any) -> Any:
            for module in self.modules:
                module.eval()  # in every mode of the encoder: with dropout outputs could not be cached
            self.keys, ids, mask = [], kwargs.get("input_ids"), kwargs.get("attention_mask")  # (n, t) both
            if isinstance(ids, torch.Tensor) and isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
                self.keys, self.mask = _keys(ids, mask), mask.bool()
            self.skipping = bool(self.keys) and all(key in self.memory for key in self.keys)
            return forward(*args, **kwargs)

        return transformer

    def _embeddings(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def embeddings(*args: Any, **kwargs: Any) -> Any:
            if not self.skipping:
                with self._exactly():
                    return forward(*args, **kwargs)
            self.recalled += len(self.keys)
            rows = torch.cat([self.memory[key] for key in self.keys])  # (tokens, d)
            hidden = rows.new_zeros(*self.mask.shape, rows.shape[1])  # (n, t, d)
            hidden[self.mask] = rows
            return hidden

        return embeddings

    def _layer(self, forward: Callable[..., Any], *, last: bool) -> Callable[..., Any]:
        def layer(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.skipping:
                return (hidden,) if self.wraps else hidden
            with self._exactly():
                output = forward(hidden, *args, **kwargs)
            self.wraps = isinstance(output, tuple)
            if last:
                self._remember(output[0] if self.wraps else output)
            return output

        return layer

    def _remember(self, hidden: torch.Tensor) -> None:
        """Cache the outputs (n, t, d) of the current rows, as far as there is room."""
        self.computed += len(hidden)
        for key, row, used in zip(self.keys, hidden, self.mask, strict=False):  # without keys nothing is cached
            kept = row[used]  # (its length, d), a copy
            size = kept.numel() * kept.element_size()
            if key not in self.memory and self.bytes + size <= self.most_bytes:
                self.memory[key] = kept
                self.bytes += size

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """No gradient, and float32 under autocast too: the cache serves training and evaluation."""
        with torch.no_grad(), torch.autocast(next(self.transformer.parameters()).device.type, enabled=False):
            yield


def _keys(ids: torch.Tensor, mask: torch.Tensor) -> list[Key]:
    """Keys of the rows (n, t): the tokens without padding, and the index of the first, which sets their positions."""
    used, tokens = mask.bool().cpu().numpy(), ids.cpu().numpy()
    return [(int(row.argmax()), line[row].tobytes()) for row, line in zip(used, tokens, strict=True)]
