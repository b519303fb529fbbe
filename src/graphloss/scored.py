"""The scored split, document by document, with its places on two maps: `predictions.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphloss import runfolder
from graphloss.data import Split

MAP_DOCUMENTS = 1_000  # dots that an eye can still tell apart


def write_predictions(
    folder: Path, split: Split, label_names: list[str], probabilities: np.ndarray, tuned: np.ndarray, before: np.ndarray
) -> None:
    """Write the file whole.

    Args:
        folder: the run folder.
        split: the n documents that were scored.
        label_names: names of the C classes.
        probabilities: (n, C) of the trained model.
        tuned: (n, d) embeddings of the trained encoder.
        before: (n, d) embeddings of the untouched encoder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown = np.sort(np.random.default_rng(0).permutation(len(split))[:MAP_DOCUMENTS])
    columns: dict[str, Any] = {
        "text": split.texts,
        "label": split.labels,
        "predicted": [label_names[row] for row in probabilities.argmax(1)],
        "probability": probabilities.max(1).astype(np.float32),
    }
    for axes, embeddings in ((("x", "y"), tuned), (("x0", "y0"), before)):
        flat = _flat_map(embeddings[shown])
        for axis, column in enumerate(axes):
            values = np.full(len(split), np.nan, np.float32)
            values[shown] = flat[:, axis]
            columns[column] = values
    hidden = folder / f".{runfolder.PREDICTIONS}.writing"
    pq.write_table(pa.table(columns), hidden)
    hidden.replace(folder / runfolder.PREDICTIONS)


def _flat_map(embeddings: np.ndarray) -> np.ndarray:
    """Two coordinates a document: by t-SNE (van der Maaten and Hinton 2008), or its first axes where there are few."""
    if len(embeddings) < 10:
        return np.pad(embeddings, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(embeddings)
