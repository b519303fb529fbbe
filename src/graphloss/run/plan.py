"""What a training is about to do and how long it may take, said before it begins."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape

from graphloss import distributed
from graphloss.text.corpus import Corpus
from graphloss.text.encoder import encode
from graphloss.training.settings import TrainSettings
from graphloss.training.sizes import batch_size_for, epochs_for, format_graphs, graph_size_for, steps_of_epoch

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


def estimate_time(corpus: Corpus, settings: TrainSettings, folder: Path, encoder: SentenceTransformer) -> Plan:
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
    world = distributed.world()
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


def show_plan(plan: Plan, console: Console) -> None:
    """What is about to be done."""
    corpus, settings = plan.corpus, plan.settings
    sizes: dict[str, int] = {}
    for label in corpus.train.labels:
        if label is not None:
            sizes[label] = sizes.get(label, 0) + 1
    words = [len(text.split()) for text in corpus.train.texts]
    shared = f" shared by {plan.processes} processes" if plan.processes > 1 else ""
    hidden = len(corpus.train) - sum(sizes.values())
    documents = [f"{sum(sizes.values()):,} labeled", f"{hidden:,} unlabeled" if hidden else ""]
    documents += [f"{len(corpus.validation):,} validation"]
    documents += [f"{len(corpus.test):,} test" if corpus.test else "no test split"]
    rows = {
        "documents": ", ".join(filter(None, documents)),
        "classes": f"{len(corpus.label_names)}, "
        + (f"{min(sizes.values()):,} to {max(sizes.values()):,} labeled documents each" if sizes else "none labeled"),
        "texts": f"{statistics.fmean(words):.0f} words on average, 95% under {_percentile(words, 0.95) + 1}; "
        f"read up to {plan.max_length} tokens",
        "encoder": f"{plan.encoder}, {plan.dimension} numbers a text, on {plan.device}",
        "training": f"{settings.loss} {settings.mode}, up to {plan.epochs} epochs of {plan.steps:,} "
        f"{'step' if plan.steps == 1 else 'steps'}, "
        f"{format_graphs(plan.graph_size, plan.batch_size)}{shared}, seed {settings.seed}",
        "time": f"about {plan.minutes:.1f} minutes, less if training stops early",
        "run folder": str(plan.folder),
    }
    console.print(f"[bold]graphloss[/bold] trains on [bold]{escape(corpus.name)}[/bold]")
    for name, value in rows.items():
        console.print(f"  [dim]{name:<11}[/dim]", end="")
        console.print(value, markup=False)
    console.print()


def _percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
