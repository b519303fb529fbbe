"""A short training in which the loss of a batch is any function: what trials of new losses share.

The recipe is that of `TextClassifier` for few labels (all layers, AdamW, 1e-4, 60 steps at least, a head that begins as
a linear probe, class-aware batches), in bfloat16 on one thread; what differs between two arms is their loss alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from graphloss.inference.linear_probe import linear_probe
from graphloss.text.encoder import embed, encode, load, tokenize
from graphloss.text.encoder_source import resolve
from graphloss.training.batches import ClassAwareBatchSampler
from graphloss.training.frozen_layers import frozen
from graphloss.training.settings import TrainSettings
from graphloss.training.size_defaults import Sizes

DEFAULT = TrainSettings()
WARMUP, MAX_NORM = 0.1, 1.0


@dataclass(frozen=True)
class Batch:
    """What a loss sees of n rows: the labeled texts of a batch, those of every batch, unlabeled ones; each per view."""

    z: Tensor
    """(n, d) unit-length embeddings, attached."""
    logits: Tensor
    """(n, C) of the head, attached."""
    labels: Tensor
    """(n,) class indices, -1 for unlabeled."""
    texts: Tensor
    """(n,) the number of a row's text: the two views of a text have the same. Labeled texts come first, in the order
    in which they were given, then those of every batch, then the unlabeled."""
    every: Tensor
    """(n,) boolean: a text of every batch."""
    progress: float
    """Share of the steps that are done, from 0 to 1."""


Loss = Callable[[Batch], Tensor]


def train(
    texts: Sequence[str],
    labels: Sequence[int],
    classes: int,
    loss: Loss,
    *,
    tokens: int,
    seed: int,
    every: Sequence[tuple[str, int]] = (),
    unlabeled: Sequence[str] = (),
    unlabeled_per_batch: int = 0,
    views: int = 1,
    rate: float = DEFAULT.learning_rate,
    freeze: int = 0,
    second_view: Callable[[str, np.random.Generator], str] = lambda text, rng: text,
) -> tuple[SentenceTransformer, nn.Linear]:
    """Fine-tune all-MiniLM-L6-v2 and a head.

    Args:
        texts: labeled ones, m of them.
        labels: class indices (m,).
        classes: C.
        loss: of a batch, 0-d.
        tokens: of a text that are read.
        seed: of batches and dropout.
        every: texts and classes that are in every batch and start the head too.
        unlabeled: texts without a label.
        unlabeled_per_batch: how many of them join each batch.
        views: times that each text is embedded per step, each with dropout of its own.
        rate: peak learning rate of the encoder.
        freeze: lowest layers that do not learn, nor the embeddings below them; 0 for none.
        second_view: makes the text of the second view.

    Returns:
        The encoder and the head.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = load(resolve(None), max_length=tokens, device="cpu")
    pool = [*texts, *(text for text, _ in every), *unlabeled]
    known = [*labels, *(label for _, label in every)]
    y = torch.tensor(known + [-1] * len(unlabeled))
    fixed = list(range(len(texts), len(known)))
    probe = linear_probe(encode(encoder, pool[: len(known)]), known, classes)
    head = nn.Linear(probe.weight.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(probe.weight)
        head.bias.copy_(probe.bias)
    sizes = Sizes.of(len(texts), DEFAULT)
    steps = sizes.epochs * sizes.steps
    sampler = ClassAwareBatchSampler(labels, sizes.batch, seed=seed)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in encoder.parameters() if p.ndim > 1], "lr": rate, "weight_decay": 0.01},
            {"params": [p for p in encoder.parameters() if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            {"params": [*head.parameters()], "lr": DEFAULT.head_learning_rate, "weight_decay": 0.0},
        ]
    )
    warmup = math.ceil(WARMUP * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (step + 1) / (warmup + 1) if step < warmup else (steps - step) / max(1, steps - warmup),
    )
    learned = [*encoder.parameters(), *head.parameters()]
    encoder.train()
    with frozen(encoder, freeze):
        for step, rows in enumerate(itertools.islice(_batches(sampler), steps)):
            more = rng.choice(len(unlabeled), min(unlabeled_per_batch, len(unlabeled)), replace=False)
            chosen = rows + fixed + (len(known) + more).tolist()
            shown = [pool[row] for row in chosen]
            if views > 1:
                shown += [second_view(pool[row], rng) for row in chosen]
            numbers = torch.tensor(chosen * views)
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                z = embed(encoder, tokenize(encoder, shown)).float()  # (n, d)
            is_fixed = (numbers >= len(texts)) & (numbers < len(known))
            value = loss(Batch(z, head(z), y[numbers], numbers, is_fixed, step / steps))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(learned, MAX_NORM)
            optimizer.step()
            schedule.step()
    encoder.eval()
    return encoder, head


def probabilities(encoder: SentenceTransformer, head: nn.Linear, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Class probabilities (n, C) and embeddings (n, d) of texts."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        z = encode(encoder, [*texts]).float()
    with torch.no_grad():
        return head(z).softmax(1), z


def _batches(sampler: ClassAwareBatchSampler) -> Iterator[list[int]]:
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from sampler
