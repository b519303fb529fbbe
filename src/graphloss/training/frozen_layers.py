"""The lower layers of an encoder left as they are, and what they say of a text computed once.

A transformer is `upper(lower(tokens))`. With `lower` unchanged and without dropout in it, `lower(tokens)` is the same
in every epoch, so it is remembered, and a step costs forward and backward of `upper` alone: half of the work with half
of the layers frozen, and neither a gradient nor an optimizer state for the table of word embeddings, which is half of
a small encoder.

The architecture is not written again here: the model's own forward runs, with its embeddings giving what is remembered
and its lower layers handing it on. That suits encoders that are embeddings followed by a list of layers (BERT, RoBERTa,
MPNet, DistilBERT, XLM-R, ModernBERT ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphloss.errors import InputError
from graphloss.text.encoder import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Key = tuple[int, bytes]

MOST_BYTES = 2 << 30
"""Of remembered activations; texts beyond are computed anew each time. 48 tokens of 384 numbers are 74 kB."""


def layers_of(encoder: SentenceTransformer) -> tuple[nn.Module, list[nn.Module]] | None:
    """The embeddings and the layers of an encoder's transformer; None where it is not built that way."""
    transformer = transformer_of(encoder)
    embeddings = getattr(transformer, "embeddings", None)
    if transformer is None or not isinstance(embeddings, nn.Module):
        return None
    count = getattr(transformer.config, "num_hidden_layers", None)
    lists = [m for m in transformer.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    return (embeddings, list(lists[0])) if len(lists) == 1 else None


def check_freeze(encoder: SentenceTransformer, count: int) -> None:
    """Refuse to freeze layers that an encoder does not have, or all it has.

    Raises:
        InputError: with what can be had.
    """
    found = layers_of(encoder)
    if count and found is None:
        raise InputError(
            f"freeze {count}: this encoder is not embeddings followed by a list of layers; give --freeze 0"
        )
    if found is not None and count >= len(found[1]):
        raise InputError(
            f"freeze {count}: this encoder has {len(found[1])} layers, and one at least must learn; "
            f"give --freeze {len(found[1]) - 1} or less"
        )


@contextmanager
def frozen(encoder: SentenceTransformer, count: int, *, most_bytes: int = MOST_BYTES) -> Iterator[Lower | None]:
    """Keep the embeddings and the `count` lowest layers as they are for a while; their results are remembered.

    Args:
        encoder: a sentence-transformers model; on leaving it is as before, but for what was learned above.
        count: layers, as `check_freeze` allows; 0 changes nothing.
        most_bytes: of the memory for results.
    """
    found = layers_of(encoder) if count else None
    if found is None:
        yield None
        return
    lower = Lower(transformer_of(encoder), found[0], found[1][:count], most_bytes)
    learning = [p for module in lower.modules for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    lower.attach()
    try:
        yield lower
    finally:
        lower.detach()
        for parameter in learning:
            parameter.requires_grad_(True)


class Lower:
    """The frozen part at work: it puts itself in the place of the modules' forward, and out of it again.

    Attributes:
        bytes: how much is remembered.
        computed: rows of tokens that went through the layers.
        recalled: rows that did not have to.
    """

    def __init__(self, transformer: nn.Module, embeddings: nn.Module, layers: list[nn.Module], most_bytes: int) -> None:
        self.transformer, self.modules, self.most_bytes = transformer, [embeddings, *layers], most_bytes
        self.memory: dict[Key, torch.Tensor] = {}  # tokens of a text -> (its length, d), float32
        self.bytes = self.computed = self.recalled = 0
        self.keys: list[Key] = []  # of the rows that are under way
        self.mask = torch.empty(0, 0, dtype=torch.bool)  # (n, t) of the same rows
        self.skipping = False
        self.wraps = False  # a layer answers with a tuple, as MPNet's do; known once one has answered

    def attach(self) -> None:
        """Put remembered results in the place of the modules' own."""
        embeddings, *layers = self.modules
        self.transformer.forward = self._transformer(self.transformer.forward)
        embeddings.forward = self._embeddings(embeddings.forward)
        for layer in layers:
            layer.forward = self._layer(layer.forward, last=layer is layers[-1])

    def detach(self) -> None:
        """Give the modules their own forward back, and forget."""
        for module in (self.transformer, *self.modules):
            del module.forward  # the class's own shows again
        self.memory.clear()

    def _transformer(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def transformer(*args: Any, **kwargs: Any) -> Any:
            for module in self.modules:
                module.eval()  # whatever mode the encoder is in: dropout would make every result another
            self.keys, ids, mask = [], kwargs.get("input_ids"), kwargs.get("attention_mask")  # (n, t) both
            if isinstance(ids, torch.Tensor) and isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
                self.keys, self.mask = _keys(ids, mask), mask.bool()
            self.skipping = bool(self.keys) and all(key in self.memory for key in self.keys)
            return forward(*args, **kwargs)

        return transformer

    def _embeddings(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def embeddings(*args: Any, **kwargs: Any) -> Any:
            if not self.skipping:
                with self._plainly():
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
            with self._plainly():
                given = forward(hidden, *args, **kwargs)
            self.wraps = isinstance(given, tuple)
            if last:
                self._remember(given[0] if self.wraps else given)
            return given

        return layer

    def _remember(self, hidden: torch.Tensor) -> None:
        """Keep the results (n, t, d) of the rows that are under way, as far as there is room."""
        self.computed += len(hidden)
        for key, row, used in zip(self.keys, hidden, self.mask, strict=False):  # no keys: nothing is remembered
            kept = row[used]  # (its length, d), a copy
            size = kept.numel() * kept.element_size()
            if key not in self.memory and self.bytes + size <= self.most_bytes:
                self.memory[key] = kept
                self.bytes += size

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Without a gradient, and in float32 under autocast too: what is remembered serves in training and outside."""
        with torch.no_grad(), torch.autocast(next(self.transformer.parameters()).device.type, enabled=False):
            yield


def _keys(ids: torch.Tensor, mask: torch.Tensor) -> list[Key]:
    """What tells the rows (n, t) apart: tokens without padding, and where these begin, which positions depend on."""
    used, tokens = mask.bool().cpu().numpy(), ids.cpu().numpy()
    return [(int(row.argmax()), line[row].tobytes()) for row, line in zip(used, tokens, strict=True)]
