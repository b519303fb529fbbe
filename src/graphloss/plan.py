"""What a training is about to do and how long it may take, said before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphloss import processes
from graphloss.config import TrainSettings
from graphloss.data import Corpus
from graphloss.encoder import encode
from graphloss.schedule import batch_size_for, epochs_for, graph_size_for, steps_of_epoch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Plan:
    """What is about to be done, for the first lines that a training prints."""

    corpus: Corpus
    settings: TrainSettings
    folder: Path
    encoder: str
    dimension: int | None
    max_length: int | None
    device: str
    batch_size: int
    graph_size: int
    processes: int
    epochs: int
    steps: int
    minutes: float


def size_up(corpus: Corpus, settings: TrainSettings, folder: Path, encoder: SentenceTransformer) -> Plan:
    """Size up the work by encoding a few documents: a step costs some 3.6 times as much as encoding its texts.

    A graph of several batches embeds them once more, and so costs 4.6 times as much. Processes share all of it.
    """
    texts = corpus.train.texts
    tried = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:64]]
    encode(encoder, tried[:4])
    began = time.perf_counter()
    encode(encoder, tried)
    each = (time.perf_counter() - began) / len(tried)
    count = corpus.train.known
    epochs, steps = epochs_for(count, settings), steps_of_epoch(count, settings)
    judged = len(corpus.test or corpus.validation)
    batch_size, graph_size = batch_size_for(count, settings), graph_size_for(count, settings)
    world = processes.world()
    step = 4.6 if batch_size < min(graph_size, count) / world else 3.6
    hidden = min(settings.hidden, len(texts) - count) * steps * settings.accumulate
    taught = len(texts) if settings.corpus_graph == "auto" and count < len(texts) else 0
    passes = epochs * (step * (count + hidden) + len(corpus.validation)) + 2 * (judged + count) + taught
    return Plan(
        corpus=corpus,
        settings=settings,
        folder=folder,
        encoder=Path(settings.model).name if settings.model else "all-MiniLM-L6-v2",
        dimension=encoder.get_embedding_dimension(),
        max_length=encoder.max_seq_length,
        device=str(encoder.device),
        batch_size=batch_size,
        graph_size=graph_size,
        processes=world,
        epochs=epochs,
        steps=steps,
        minutes=passes * each / 60 / world,
    )
