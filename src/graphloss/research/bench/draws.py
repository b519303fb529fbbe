"""The documents of a grid: the same draw for every loss, and the same scored documents for every draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphloss.errors import InputError
from graphloss.research.bench.grid import Grid, slug
from graphloss.text.corpus import Corpus, load_corpus
from graphloss.text.documents import Documents

if TYPE_CHECKING:
    from graphloss.training.progress import Screen

Draw = tuple[str, int | None]  # source, shots


def corpus_of(grid: Grid, source: str, shots: int | None, seed: int) -> Corpus:
    """The documents of a draw; the scored ones, at most `grid.test_documents`, are the same for every draw."""
    corpus = load_corpus(source, **grid.data, shots=shots, seed=seed)
    if corpus.test and grid.test_documents is not None and len(corpus.test) > grid.test_documents:
        places = np.random.default_rng(0).permutation(len(corpus.test))[: grid.test_documents]
        return replace(corpus, test=corpus.test.take(sorted(map(int, places))))
    return corpus


def judged_of(corpus: Corpus) -> tuple[str, Documents]:
    """The split that is scored: test, or validation where there is no test split."""
    return ("test", corpus.test) if corpus.test else ("validation", corpus.validation)


def read_draws(
    grid: Grid, asked: Grid, known: Mapping[str, str], screen: Screen
) -> tuple[dict[Draw, Corpus], dict[str, str]]:
    """Read what is asked for once, before anything is trained on it.

    Args:
        grid: the whole grid of the folder.
        asked: the part of it that is asked for now.
        known: the fingerprint of each source that the folder has seen before.
        screen: where warnings are shown.

    Returns:
        The first draw of each (source, shots) that is asked for, and the fingerprints of all sources.

    Raises:
        InputError: a data set cannot be read or scored, or has changed since the comparison began.
    """
    drawn: dict[Draw, Corpus] = {}
    fingerprints = dict(known)
    for source in asked.sources:
        corpora = {(source, shots): corpus_of(asked, source, shots, 0) for shots in asked.shots}
        whole = corpora.get((source, None)) or corpus_of(asked, source, None, 0)
        if known.get(source, whole.fingerprint) != whole.fingerprint:
            raise InputError(f"{source}: the documents have changed since this comparison began; choose another --out")
        fingerprints[source] = whole.fingerprint
        for line in whole.warnings:
            screen.warn(f"{slug(source)}: {line}")
        split, judged = judged_of(whole)
        if not len(judged):
            raise InputError(
                f"{source}: no document is left to score the losses on; give a folder with a test file, "
                "or --validation a share above 0"
            )
        if split == "validation":
            screen.warn(
                f"{slug(source)}: there is no test split, so the validation documents are scored, "
                "which also choose the epochs: expect a little less on new documents"
            )
        drawn |= corpora
    names = [slug(source) for source in grid.sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two data sets go by the name {', '.join(sorted(twice))}; rename one of them")
    return drawn, fingerprints
