"""Estimates of the memory of a training, so that one that would run out of memory is refused before it begins."""

import importlib.util
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer

from graphloss import distributed, free_memory
from graphloss.errors import InputError
from graphloss.free_memory import format_free, gib
from graphloss.inference.graphs import nearest_neighbors
from graphloss.inference.graphs.corpus_graph import K
from graphloss.losses.memory_bank import check_size
from graphloss.text.encoder import embed, encode, tokenize
from graphloss.training.frozen_layers import MOST_BYTES, frozen
from graphloss.training.settings import TrainSettings
from graphloss.training.size_defaults import batch_size_for, graph_size_for

PLAIN, SOLVED = 7, 13
"""Float32 matrices n x n at the peak of a loss, rounded up: measured 4 to 6 if all documents are labeled, 9 to 13 if a
system is solved (damping) and in SupCon."""

COPIES, ALONE, TRUSTED = 5, 3, 2
"""Copies of the embeddings of all documents during self-training, of the labeled ones without it, and of those that
`losses.label_trust` adds: its own, and one while a checkpoint is written."""

MEASURED, SPARE, TIMED = 16, 1.2, 64
"""Texts whose activations are measured, safety factor on their mean, and texts that are timed."""

OF_A_WEIGHT = 16
"""Bytes beside each trained parameter: its gradient, AdamW's two moments, and the pretrained value for the blend."""


@dataclass(frozen=True)
class Trial:
    """Cost of a text, measured on a few of the training texts.

    Attributes:
        memory: bytes of activations per text kept for the backward pass; 0 on a GPU, which raises an error when it is
            full, while a process that exceeds the memory of a machine is killed.
        seconds: to embed a text.
    """

    memory: float
    seconds: float


def try_texts(encoder: SentenceTransformer, texts: Sequence[str], freeze: int) -> Trial:
    """Embed a few texts in batches for the time, and on a CPU fewer one by one for the activations."""
    timed, measured = (list(texts[:: max(1, len(texts) // most)][:most]) for most in (TIMED, MEASURED))
    encode(encoder, timed[:4])  # warm-up
    began = time.perf_counter()
    encode(encoder, timed)
    seconds = (time.perf_counter() - began) / len(timed)
    if encoder.device.type != "cpu":
        return Trial(memory=0.0, seconds=seconds)
    with frozen(encoder, freeze):
        return Trial(memory=SPARE * of_activations(encoder, measured) / len(measured), seconds=seconds)


def check_loss(
    settings: TrainSettings, encoder: SentenceTransformer, *, labeled: int, unlabeled: int, classes: int
) -> None:
    """Refuse settings whose memory, graphs or corpus graph would not fit, before any work is done.

    Of the encoder only the dimensions and the device count, of the training documents and classes their numbers.
    """
    dimensions = encoder.get_embedding_dimension() or 1
    try:
        if settings.memory:
            check_size(classes, settings.memory, dimensions)
    except ValueError as error:
        raise InputError(f"--memory {settings.memory}: {error}") from error
    _check_graph(settings, encoder.device, labeled, classes, dimensions)
    if unlabeled and settings.corpus_graph == "auto":
        _check_corpus_graph(labeled + unlabeled, dimensions, classes)
    else:
        needed = 4 * (ALONE + (TRUSTED if settings.clean == "auto" else 0)) * labeled * dimensions
        _check_fits(f"the embeddings of {labeled:,} labeled documents need", labeled, needed, "give fewer")


def check_batch(
    settings: TrainSettings, encoder: SentenceTransformer, trial: Trial, labeled: int, *, twice: bool = False
) -> None:
    """Refuse a batch whose activations would not fit beside the trained parameters and the cache of frozen layers.

    An encoder that is trained `twice` is kept as it was before.
    """
    free = available(encoder.device)
    if not trial.memory:
        return
    each = max(1.0, trial.memory)
    with frozen(encoder, settings.freeze):
        fixed = OF_A_WEIGHT * sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    if twice:
        fixed += sum(x.nbytes for x in encoder.state_dict().values())
    if settings.freeze:  # outputs of the frozen layers are cached for each labeled text
        tokens, dimensions = encoder.max_seq_length or 0, encoder.get_embedding_dimension() or 1
        fixed += min(MOST_BYTES, 4 * labeled * tokens * dimensions)
    graph, size = graph_size_for(labeled, settings), batch_size_for(labeled, settings)
    own = math.ceil(min(graph, labeled) / distributed.world())
    count = min(own, size)
    if (needed := int(count * each) + fixed) <= free:
        return
    fits = min(math.floor((free - fixed) / each), graph)
    remedy = (
        f"give --graph-size {graph} --batch-size {fits}: the same gradient in batches of {fits}, a third more time; "
        "or a smaller --max-length, or --freeze"
        if fits >= 2
        else "give a smaller --max-length, --freeze, or a smaller encoder"
    )
    raise InputError(
        f"--batch-size {size}: training on {count:,} texts at once needs about {gib(needed)}, and {format_free(free)}; "
        + remedy
    )


def of_graph(count: int, settings: TrainSettings, classes: int, dimensions: int) -> int:
    """Bytes that the loss needs for a graph of `count` documents, rounded up; 0 for cross-entropy alone.

    A memory adds the mean embedding of each class for each document, twice while they are concatenated.
    """
    if settings.loss == "ce":
        return 0
    solved = settings.alpha < 1 or settings.loss in ("supcon", "triplet")
    remembered = 2 * classes * count * dimensions if settings.memory else 0
    return 4 * ((SOLVED if solved else PLAIN) * count**2 + remembered)


def of_corpus_graph(count: int, dimensions: int, classes: int) -> int:
    """Bytes that the corpus graph of `count` documents needs, with their embeddings, rounded up."""
    return nearest_neighbors.memory(count, dimensions, K, classes) + 4 * COPIES * count * dimensions


def of_activations(encoder: SentenceTransformer, texts: Sequence[str]) -> int:
    """Bytes that autograd keeps of these texts for the backward pass, each embedded by itself, in total."""
    weights = {x.untyped_storage().data_ptr() for x in (*encoder.parameters(), *encoder.buffers())}
    training, total = encoder.training, 0
    encoder.train()
    try:
        for text in texts:
            kept: dict[int, int] = {}  # by address: several operations save the same tensor

            def note(x: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
                storage = x.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
                return x.detach()  # x itself, saved by the operation that made it, would be a reference cycle

            # dropout must not advance the caller's random state
            with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
                embed(encoder, tokenize(encoder, [text]))
            total += sum(size for address, size in kept.items() if address not in weights)
    finally:
        encoder.train(training)
    return total


def available(device: torch.device) -> int:
    """Bytes free on a device for this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory.free()


def _check_graph(settings: TrainSettings, device: torch.device, labeled: int, classes: int, dimensions: int) -> None:
    requested = graph_size_for(labeled, settings)
    count = min(requested, labeled)
    needed, free = of_graph(count, settings, classes, dimensions), available(device)
    if needed <= free:
        return
    power = 1.0 if settings.memory else 0.5  # a memory's bytes grow with the size, the others with its square
    fits = math.floor(count * (free / needed) ** power)
    option = "--graph-size" if settings.graph_size else "--batch-size"
    raise InputError(
        f"{option} {requested}: the loss on a graph of {count:,} documents needs about {gib(needed)}, and "
        f"{format_free(free, device.type)}; give {option} {max(2, fits)} or less"
    )


def _check_corpus_graph(count: int, dimensions: int, classes: int) -> None:
    if count > nearest_neighbors.EXACT_DOCUMENTS and importlib.util.find_spec("faiss") is None:
        raise InputError(
            f"the corpus graph over {count:,} documents, more than {nearest_neighbors.EXACT_DOCUMENTS:,}, needs the "
            "index of faiss, which is not installed: pip install 'graphloss[large]'; or leave out unlabeled documents, "
            "or give --corpus-graph off"
        )
    needed = of_corpus_graph(count, dimensions, classes)
    remedy = "leave out unlabeled documents, or give --corpus-graph off"
    _check_fits(f"the corpus graph over {count:,} documents needs", count, needed, remedy)


def _check_fits(what: str, count: int, needed: int, remedy: str) -> None:
    """Refuse so many documents where they need more bytes than are free; `what` begins the message."""
    free = available(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"{what} about {gib(needed)}, and {format_free(free)}: about {int(count * free / needed):,} documents "
            f"would fit; {remedy}"
        )
