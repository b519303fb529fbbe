"""The documents of a grid: one draw for all losses, and the same scored documents for all draws."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from graphloss.errors import InputError
from graphloss.research.bench.grid import Grid, slug
from graphloss.text.corpus import Corpus, load_corpus
from graphloss.text.stratified_selection import SHARE
from graphloss.training.progress import Screen
from graphloss.training.settings import FILES

Draw = tuple[str, int | None]  # source, shots


def corpus_of(grid: Grid, source: str, shots: int | None, seed: int) -> Corpus:
    """The documents of a draw; the scored documents, at most `grid.test_documents`, are the same for every draw."""
    data: dict[str, Any] = {name: grid.find(value) if name in FILES else value for name, value in grid.data.items()}
    if data.get("validation") is None:
        data["validation"] = SHARE  # a comparison needs its curves
    corpus = load_corpus(str(grid.find(source)), **data, shots=shots, seed=seed)
    if corpus.test and grid.test_documents is not None and len(corpus.test) > grid.test_documents:
        places = np.random.default_rng(0).permutation(len(corpus.test))[: grid.test_documents]
        return replace(corpus, test=corpus.test.take(sorted(map(int, places))))
    return corpus


def read_draws(
    grid: Grid, requested: Grid, recorded: Mapping[str, str], screen: Screen
) -> tuple[dict[Draw, Corpus], dict[str, str]]:
    """Read the requested part of a folder's grid once, before any training.

    Returns:
        The first draw of each requested (source, shots), and the fingerprints of all sources, those `recorded` too.
    """
    drawn: dict[Draw, Corpus] = {}
    fingerprints = dict(recorded)
    for source in requested.sources:
        corpora = {(source, shots): corpus_of(requested, source, shots, 0) for shots in requested.shots}
        whole = corpora.get((source, None)) or corpus_of(requested, source, None, 0)
        if recorded.get(source, whole.fingerprint) != whole.fingerprint:
            raise InputError(f"{source}: the documents have changed since this comparison began; choose another --out")
        fingerprints[source] = whole.fingerprint
        screen.warn(*(f"{slug(source)}: {line}" for line in whole.warnings))
        split, scored = whole.scored()
        if not len(scored):
            raise InputError(
                f"{source}: no document is left to score the losses on; give a folder with a test file, "
                "or --validation a share above 0"
            )
        if split == "validation":
            screen.warn(
                f"{slug(source)}: there is no test split, so the validation documents are scored, "
                "which also choose the epochs: the scores are slightly optimistic"
            )
        drawn |= corpora
    names = [slug(source) for source in grid.sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two data sets have the name {', '.join(sorted(twice))}; rename one of them")
    return drawn, fingerprints
