"""`predictions.parquet`: the documents of the scored split, with their coordinates on two maps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphloss.disk import whole
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.text.texts_and_labels import Documents

MAP_DOCUMENTS = 1_000  # more dots would cover each other


def write_predictions(
    folder: Path,
    split: Documents,
    label_names: list[str],
    probabilities: np.ndarray,
    tuned: np.ndarray,
    before: np.ndarray,
) -> None:
    """Write the file of a run folder whole.

    Args:
        folder: of the run.
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
        "label": split.names,
        "predicted": [label_names[row] for row in probabilities.argmax(1)],
        "probability": probabilities.max(1).astype(np.float32),
    }
    for axes, embeddings in ((("x", "y"), tuned), (("x0", "y0"), before)):
        flat = flat_map(embeddings[shown])
        for axis, column in enumerate(axes):
            values = np.full(len(split), np.nan, np.float32)
            values[shown] = flat[:, axis]
            columns[column] = values
    with whole(folder / run_folder.PREDICTIONS) as hidden:
        pq.write_table(pa.table(columns), hidden)


def flat_map(embeddings: np.ndarray) -> np.ndarray:
    """Map (n, d) to (n, 2) by t-SNE (van der Maaten and Hinton 2008); for few documents keep the first two axes."""
    if len(embeddings) < 10:
        return np.pad(embeddings, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(embeddings)


@dataclass(frozen=True)
class Document:
    """A document of the scored split, with the probability of the predicted class and its points on the two maps."""

    text: str
    label: str
    predicted: str
    probability: float
    after: tuple[float, float] | None = None
    before: tuple[float, float] | None = None

    @property
    def right(self) -> bool:
        """Whether the prediction is the label."""
        return self.label == self.predicted


def read_documents(path: Path) -> list[Document]:
    """The labeled documents of `predictions.parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: missing; copy the run folder again or train again")
    try:
        columns = pq.read_table(path).to_pydict()
        rows = zip(*(columns[name] for name in ("text", "label", "predicted", "probability")), strict=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); copy the run folder again or train again"
        ) from error
    after, before = (_places(columns, *names) for names in (("x", "y"), ("x0", "y0")))
    return [
        Document(str(text), str(label), str(predicted), float(probability), after.get(i), before.get(i))
        for i, (text, label, predicted, probability) in enumerate(rows)
        if label is not None
    ]


def _places(columns: Mapping[str, list[Any]], x: str, y: str) -> dict[int, tuple[float, float]]:
    """Row -> point on a map, for the rows that have one."""
    pairs = enumerate(zip(columns.get(x, []), columns.get(y, []), strict=True))
    return {i: pair for i, pair in pairs if None not in pair and all(map(math.isfinite, pair))}
