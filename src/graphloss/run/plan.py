"""The plan of a training, shown before it begins: its data, its settings, its time."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from graphloss import distributed
from graphloss.terminal import counted, printable
from graphloss.text.corpus import Corpus
from graphloss.training.preflight import Preflight
from graphloss.training.progress import Screen
from graphloss.training.size_defaults import SUREST, Sizes, format_graphs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def estimate_minutes(checked: Preflight, scored: int) -> float:
    """Estimate the time of a training: a step costs about 3.6 times as much as embedding its texts.

    A graph of several batches embeds them once more, and so costs 4.6 times as much. Processes share all of it. The
    model is scored on `scored` documents at the end.
    """
    settings, sizes, count = checked.settings, checked.sizes, checked.documents.labeled_count
    unlabeled, world = len(checked.documents) - count, distributed.world()
    step = 4.6 if sizes.batch < min(sizes.graph, sizes.documents) / world else 3.6
    before, after = sizes.pseudo_labels / SUREST, unlabeled if settings.corpus_graph == "auto" else 0
    trainings = [sizes]
    if count and sizes.labels_alone:
        trainings, before = [sizes.labels_alone, sizes], 2 * before
    passes = sum(each.epochs * (step * each.documents + len(checked.validation)) for each in trainings)
    passes += 2 * (scored + count) + before + after
    return passes * checked.trial.seconds / 60 / world


def show_plan(corpus: Corpus, checked: Preflight, folder: Path, encoder: SentenceTransformer, screen: Screen) -> None:
    """Print the plan."""
    settings, sizes = checked.settings, checked.sizes
    minutes = estimate_minutes(checked, len(corpus.scored()[1]))
    name = Path(settings.model).name if settings.model else "all-MiniLM-L6-v2"
    counts = Counter(corpus.train.labels)
    classes = [counts[label] for label in range(len(corpus.label_names))]
    words = sorted(len(text.split()) for text in corpus.train.texts)
    world = distributed.world()
    shared = f" shared by {world} processes" if world > 1 else ""
    unlabeled = len(corpus.train) - corpus.train.labeled_count
    documents = [f"{corpus.train.labeled_count:,} labeled", f"{unlabeled:,} unlabeled" if unlabeled else ""]
    documents += [f"{sizes.pseudo_labels:,} of them pseudo-labeled"] if sizes.pseudo_labels else []
    documents += [f"{len(corpus.validation):,} validation"]
    trained = corpus.train.labeled_count or sizes.pseudo_labels
    documents += [f"{len(corpus.test):,} test" if corpus.test else "no test split"]
    alone = sizes.labels_alone if corpus.train.labeled_count else None
    early = f"\nfirst up to {_epochs(alone)} on the labels alone, for the pseudo-labels" if alone else ""
    rows = {
        **({"columns": str(corpus.columns)} if corpus.columns.text else {}),
        "documents": ", ".join(filter(None, documents)),
        "classes": f"{len(corpus.label_names)}, {_each(classes) if any(classes) else 'none labeled'}",
        "texts": f"{statistics.fmean(words):.0f} words on average, 95% under {words[int(0.95 * len(words))] + 1}; "
        f"read up to {encoder.max_seq_length} tokens",
        "encoder": f"{name}, {encoder.get_embedding_dimension()} numbers per text, on {encoder.device}",
        "training": f"{settings.loss} {settings.mode}, up to {_epochs(sizes)}, "
        f"{format_graphs(sizes.graph, sizes.batch)}{shared}, seed {settings.seed}{early}"
        if trained
        else "no label: the encoder is not trained",
        "time": "less than a minute"
        if minutes < 1
        else f"about {minutes:.1f} minutes{', less if training stops early' if corpus.validation else ''}",
        "run folder": str(folder),
    }
    screen.rows(f"[bold]graphloss[/bold] trains on [bold]{escape(printable(corpus.name))}[/bold]", rows)


def _epochs(sizes: Sizes) -> str:
    return f"{counted(sizes.epochs, 'epoch')} of {counted(sizes.steps, 'step')}"


def _each(sizes: Collection[int]) -> str:
    least, most = min(sizes), max(sizes)
    return f"{f'{least:,} to ' if least < most else ''}{counted(most, 'labeled document')} each"
