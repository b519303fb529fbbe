"""The one door to sentence-transformers: load an encoder, embed with a gradient, encode without one.

Whatever the encoder, an embedding here has unit length (`graph.unit`): the graph, the head and the probe see the same
vectors, and `SentenceTransformer.encode` of the saved encoder followed by a normalization gives them back.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.losses.gradient_cache import in_pieces
from graphloss.losses.graph import unit
from graphloss.text.encoder_source import check_modules, check_positions, is_cached

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS_AT_ONCE = 512
"""Texts whose tokens are sorted together: enough that hardly a pad token is left, few enough for a bar that moves."""
TOKENS_AT_ONCE = 512
"""Tokens that a CPU embeds together without a gradient: fewer leave its cores waiting, more only bring pad tokens."""
CHARACTERS = 32
"""Of a text for each token that is read; where so many hold too few tokens, more are taken."""


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence what the libraries print of loading, training and saving; then their levels and bars are as before."""
    from transformers.utils import logging as of_transformers

    loggers = [
        logging.getLogger(name)
        for name in ("sentence_transformers", "transformers", "datasets", "huggingface_hub", "accelerate")
    ]
    levels, bars = [logger.level for logger in loggers], of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            of_transformers.enable_progress_bar()


@quiet_libraries()
def load(source: str, *, max_length: int | None = None, device: str | None = None) -> SentenceTransformer:
    """Load an encoder; a bare transformer gets `[CLS]` pooling, as in the paper (arXiv 2604.25853, section 4).

    Args:
        source: what `encoder_files.resolve` returned.
        max_length: tokens of a text that are read; by default what the encoder was made for.
        device: for example "cpu" or "cuda"; by default what sentence-transformers finds.

    Returns:
        The encoder, in float32.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    here = is_cached(source)
    options: dict[str, Any] = {"local_files_only": True} if here else {}
    if not here:
        from huggingface_hub.utils.tqdm import enable_progress_bars

        enable_progress_bars()  # a download takes minutes; on leaving they are as they were
    modules = check_modules(source)
    try:
        with contextlib.redirect_stderr(io.StringIO()) if here else contextlib.nullcontext():
            if modules is not None:  # one of sentence-transformers, which specifies its pooling
                encoder = SentenceTransformer(source, device=device, **options)
            else:
                words = Transformer(source)
                encoder = SentenceTransformer(
                    modules=[words, Pooling(words.get_embedding_dimension(), pooling_mode="cls")], device=device
                )
    except Exception as error:
        raise InputError(f"model '{source}' cannot be loaded as a text encoder: {error}") from error
    encoder.float()
    if max_length is not None:
        config = encoder.config
        positions, kind = (getattr(config, key, None) for key in ("max_position_embeddings", "model_type"))
        check_positions(source, max_length, positions, kind)
        try:
            encoder.max_seq_length = max_length
        except AttributeError as error:  # a table of word vectors: no length to set
            raise InputError(
                f"max_length {max_length}: model '{source}' reads texts whole; leave --max-length away"
            ) from error
    return encoder


def check_precision(encoder: SentenceTransformer, precision: str) -> None:
    """Refuse half precision where the libraries would silently compute in float32: fp16 on a CPU."""
    if precision == "fp16" and encoder.device.type == "cpu":
        raise InputError("precision fp16: needs a GPU, and this is a CPU; give --precision auto, or bf16")


def tokenize(encoder: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    """Tokens of a batch for `embed`, with the encoder's default prompt before each text, as `encode` puts it there."""
    name = encoder.default_prompt_name
    texts = [_beginning(encoder, text) for text in texts]
    return encoder.preprocess(texts, prompt=encoder.prompts.get(name) if name is not None else None)


def _beginning(encoder: SentenceTransformer, text: str) -> str:
    """The whole words of a long text that hold all the tokens that are read; a book is cut before it is tokenized.

    They are cut where a blank follows, if there is one, and far behind the last token that is read, so that the
    embedding is the same.
    """
    most, tokenizer = encoder.max_seq_length, getattr(encoder, "tokenizer", None)
    if not most or len(text) <= (size := most * CHARACTERS) or not callable(tokenizer):
        return text
    while size < len(text):
        words = text[: max(text.rfind(" ", 0, size), 0) or size]
        if len(tokenizer(words, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]) > 2 * most:
            return words
        size *= 4
    return text


def embed(
    encoder: SentenceTransformer, features: dict[str, Any], *, chunk: int | None = None, at_once: int | None = None
) -> torch.Tensor:
    """Embed one tokenized batch with a gradient, in chunks sorted by length, so that hardly a pad token is computed.

    The result does not depend on the chunks (but for dropout's random numbers): the graph of the loss still spans the
    whole batch. It does not depend on `at_once` at all.

    Args:
        encoder: a sentence-transformers model.
        features: what `tokenize` gives: `input_ids` and `attention_mask` (n, t), other tensors of n rows, for example
            the lengths of the texts (n,), and entries that are passed on. Without an `attention_mask`, as for a table
            of word vectors, which pads nothing and keeps no activations, all is one chunk.
        chunk: texts of a chunk; by default 16 on a CPU, where small matrices are as fast, and 64 elsewhere.
        at_once: texts whose activations are kept for the way back; where the batch holds more, it is embedded in
            pieces, and each piece once more on the way back (`gradcache`). None keeps all.

    Returns:
        Unit-length embeddings (n, d) in the order of the batch, float32.
    """
    mask = features.get("attention_mask")
    if mask is None:
        return unit(_cut(encoder, encoder(dict(features))["sentence_embedding"]).float())
    chunk = chunk or (16 if mask.device.type == "cpu" else 64)
    piece = len(mask)
    if at_once is not None and at_once < piece:
        chunk = min(chunk, at_once)
        piece = at_once - at_once % chunk  # whole chunks, so that dropout draws what it draws without pieces
    order = mask.sum(1).argsort(stable=True)  # (n,)

    def in_chunks(rows: torch.Tensor) -> torch.Tensor:
        parts = []
        with _words_once(encoder, features, rows):
            for few in rows.split(chunk):
                used = mask[few].any(0)  # (t,) positions that some text of the chunk fills, whichever side is padded
                cut = {name: _part(value, mask, few, used) for name, value in features.items()}
                parts.append(_cut(encoder, encoder(cut)["sentence_embedding"]))
        return torch.cat(parts)

    shuffled = in_chunks(order) if piece == len(mask) else in_pieces(in_chunks, order, piece)
    return unit(shuffled[order.argsort()].float())


def _part(value: Any, mask: torch.Tensor, few: torch.Tensor, used: torch.Tensor) -> Any:
    """The rows of a few documents, and of what has one number per token, as the mask (n, t), the used positions."""
    if not torch.is_tensor(value) or value.shape[:1] != mask.shape[:1]:
        return value
    return value[few][:, used] if value.shape == mask.shape else value[few]


def _cut(encoder: SentenceTransformer, z: torch.Tensor) -> torch.Tensor:
    """Embeddings (n, d) in the dimension that the encoder was set to give, as its own `encode` has them."""
    return z[:, : encoder.truncate_dim]


def encode(
    encoder: SentenceTransformer,
    texts: list[str],
    *,
    batch_size: int | None = None,
    progress: bool = False,
    shared: bool = False,
) -> torch.Tensor:
    """Embed texts without a gradient.

    They are sorted by their tokens, as in `embed`; the library's own `encode` counts characters, and computes a fifth
    more of pad tokens.

    Args:
        encoder: a sentence-transformers model; it computes on its own device, without dropout.
        texts: n of them.
        batch_size: texts at once; by default 8 to 64 that hold some 512 tokens on a CPU, else 64.
        progress: draw a bar, in the first process.
        shared: all processes call this with the same texts, and each embeds a part of them.

    Returns:
        Unit-length embeddings (n, d), float32, on the CPU.
    """
    from sentence_transformers.util import batch_to_device

    if not texts:
        return torch.empty(0, encoder.get_embedding_dimension() or 0)
    if shared and 1 < (world := distributed.world()) <= len(texts):  # dealt out in turn, for lengths may have a trend
        own = encode(encoder, texts[distributed.rank() :: world], batch_size=batch_size, progress=progress)
        dealt = torch.cat([torch.arange(first, len(texts), world) for first in range(world)])  # (n,)
        return distributed.gather(own)[dealt.argsort()]
    order = torch.tensor([-len(text) for text in texts]).argsort(stable=True)  # (n,) what needs most memory comes first
    training = encoder.training
    encoder.eval()
    parts = []
    try:
        with (
            torch.inference_mode(),
            tqdm(
                total=len(texts),
                desc="embedding",
                unit=" texts",
                leave=False,
                disable=not (progress and distributed.first()),
            ) as bar,
        ):
            for rows in order.split(TEXTS_AT_ONCE):
                features = tokenize(encoder, [texts[row] for row in rows.tolist()])
                features = batch_to_device(features, encoder.device)
                parts.append(embed(encoder, features, chunk=batch_size or _chunk(features)).cpu())
                bar.update(len(rows))
    finally:
        encoder.train(training)
    return torch.cat(parts)[order.argsort()]


def _chunk(features: dict[str, Any]) -> int | None:
    """Texts to embed at once without a gradient: on a CPU as many as keep its cores busy and hardly a pad token."""
    mask = features.get("attention_mask")
    if mask is None or mask.device.type != "cpu":
        return None
    return min(max(TOKENS_AT_ONCE * len(mask) // int(mask.sum().clamp(min=1)), 8), 64)


@contextlib.contextmanager
def _words_once(encoder: SentenceTransformer, features: dict[str, Any], rows: torch.Tensor) -> Iterator[None]:
    """Look the words of all chunks up together: the word table is half of a small encoder, its gradient is large."""
    ids, transformer = features.get("input_ids"), transformer_of(encoder)
    table = transformer.get_input_embeddings() if hasattr(transformer, "get_input_embeddings") else None
    if (
        type(table) is not nn.Embedding  # a class of its own may do more than look up
        or ids is None
        or "forward" in vars(table)  # already replaced
        or table.max_norm is not None
        or table.scale_grad_by_freq
        or table.sparse
        or not (table.weight.requires_grad and torch.is_grad_enabled())
    ):
        yield
        return
    used = ids[rows].unique()  # (w,)
    words = table(used)  # (w, d)
    place = ids.new_zeros(table.num_embeddings).index_copy(0, used, torch.arange(len(used), device=ids.device))
    vars(table)["forward"] = lambda ids: functional.embedding(place[ids], words)
    try:
        yield
    finally:
        del vars(table)["forward"]  # the class's own shows again


def transformer_of(encoder: SentenceTransformer) -> Any:
    """The encoder's transformer, None where it has none, as with a table of word vectors."""
    return getattr(encoder[0], "auto_model", None)
