"""One cell: train once, score four classifiers on the embeddings, and return the learning curve.

    head     the classifier of the model: its linear head in combined mode, a linear probe in standalone mode and for
             the untouched encoder
    default  the predictions of `graphloss predict`, by the predictor in the settings: with unlabeled documents a
             mixture of the head after self-training, the graph and the neighbors
    probe    a logistic regression on the embeddings of the labeled training documents (`linear_probe`)
    knn      the 5 most similar labeled training documents by cosine, votes weighted by 1 / distance

The seconds of a curve are training only, without evaluation and writing of checkpoints; see `curve` for the clock.
"""

from __future__ import annotations

import datetime
import gc
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.inference.metrics import score
from graphloss.report.predictions import flat_map
from graphloss.research.bench.curve import PROCESSOR, WALL, curve_of, near_best, start_of_curve
from graphloss.research.bench.grid import UNTOUCHED, Cell, format_shots, slug
from graphloss.research.bench.storage import FORMAT
from graphloss.run import provenance
from graphloss.text.corpus import Corpus
from graphloss.text.texts_and_labels import Documents
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings

if TYPE_CHECKING:
    from graphloss.inference.predictor import Predictor

NEIGHBORS = 5
MAP_DOCUMENTS = 500
HOVER_CHARACTERS = 120


@dataclass(frozen=True)
class Task:
    """A cell and the inputs of its run.

    The scored documents of the corpus are already chosen; the folder, for checkpoints, is emptied before and removed
    after; the encoder is what `encoder_source.resolve` returned.
    """

    cell: Cell
    settings: TrainSettings
    corpus: Corpus
    encoder: str
    folder: Path
    callbacks: Sequence[Any] = ()


def run_cell(task: Task, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Run a cell and return its result, ready for JSON, with the `requested` settings that it depends on."""
    import torch

    shutil.rmtree(task.folder, ignore_errors=True)  # left by a kill: a timed cell is never resumed
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    try:
        result = _result(task)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
        gc.collect()  # the trainer and its model reference each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    cell = task.cell
    return {
        "format": FORMAT,
        "data": slug(cell.source),
        "shots": format_shots(cell.shots),
        "loss": cell.loss,
        "mode": cell.mode,
        "seed": cell.seed,
        **result,
        "seconds": time.perf_counter() - began,
        "peak_memory": peak,
        "asked": dict(requested),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "environment": provenance.environment(),
    }


def _result(task: Task) -> dict[str, Any]:
    from graphloss.inference.linear_probe import linear_probe
    from graphloss.text.encoder import encode, load

    corpus, classes = task.corpus, task.corpus.label_names
    split, scored = corpus.scored()
    labeled, validation = corpus.train.labeled(), corpus.validation
    truth = np.array(scored.labels)  # (m,)
    encoder = load(task.encoder, max_length=task.settings.max_length)
    if task.cell.loss == UNTOUCHED:
        known = corpus.described() + labeled  # a line about a class is one more labeled document
        support, known_labels = encode(encoder, known.texts), known.labels
        head, default, training = None, None, {"curve": start_of_curve(encoder, support, known, validation, classes)}
    else:
        predictor, training = _train(task, encoder)
        support, head, default = predictor.support, predictor.head, predictor.probabilities
        known_labels = predictor.support_labels.tolist()  # of lines, where descriptions take part, and documents
    z = encode(encoder, scored.texts)  # (m, d)
    probe = linear_probe(support, known_labels, len(classes)).probabilities(z).numpy()
    probabilities = {
        "head": probe if head is None else head(z).numpy(),
        "default": probe if default is None else default(z).numpy(),
        "probe": probe,
        "knn": neighbors(support.numpy(), known_labels, z.numpy(), len(classes)),
    }
    scores = {who: score(truth, p, None, classes) for who, p in probabilities.items()}
    whole = score(truth, probabilities["head"], z.numpy(), classes)
    first = task.cell.seed == 0
    return {
        "split": split,
        "documents": len(scored),
        "fingerprint": corpus.fingerprint,
        "sizes": {
            "classes": len(classes),
            "train": len(corpus.train),
            "labeled": corpus.train.labeled_count,
            "validation": len(validation),
        },
        "scores": {who: {"accuracy": s.accuracy, "macro_f1": s.macro_f1, "ece": s.ece} for who, s in scores.items()},
        "macro_silhouette": whole.macro_silhouette,
        "micro_silhouette": whole.micro_silhouette,
        "epochs": None,
        "steps": 0,
        "best_epoch": None,
        "clock": None,
        **training,
        "training_seconds": training["curve"][-1]["seconds"] if training["curve"] else 0.0,
        "to_99": near_best(training["curve"]),
        "map": _map(task.cell, scored, truth, probabilities["head"], z.numpy(), classes) if first else None,
    }


def _train(task: Task, encoder: Any) -> tuple[Predictor, dict[str, Any]]:
    """Fine-tune the encoder in place; return its predictor, and the training's part of the result."""
    from graphloss.training.fit import fit

    clock, corpus = PROCESSOR if encoder.device.type == "cpu" else WALL, task.corpus
    checked = check_settings(task.settings, corpus.train, corpus.validation, corpus.label_names, corpus.described())
    ready, sizes = preflight(checked, encoder), checked.sizes
    fitted = fit(encoder, ready, folder=task.folder, callbacks=[*task.callbacks])
    return fitted.model.predictor, {
        "curve": curve_of(fitted.history, clock, fitted.early_history),
        "clock": clock,
        "epochs": sizes.epochs,
        "steps": fitted.history[-1]["step"],
        "best_epoch": fitted.best_epoch,
        "batch_size": sizes.batch,
        "graph_size": sizes.graph,
        "steps_an_epoch": sizes.steps,
        "graph_share": fitted.model.predictor.graph_share,
        "sigma": fitted.model.predictor.sigma,
    }


def neighbors(support: np.ndarray, labels: Sequence[int], z: np.ndarray, classes: int) -> np.ndarray:
    """Class probabilities (m, C) of a k-NN classifier.

    Args:
        support: (n, d) unit-length embeddings of labeled documents.
        labels: (n,) their classes.
        z: (m, d) unit-length embeddings of the documents to classify.
        classes: C.
    """
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(NEIGHBORS, len(support)), metric="cosine", weights="distance")
    model.fit(support, np.asarray(labels))
    found = np.zeros((len(z), classes), np.float32)
    found[:, model.classes_] = np.clip(model.predict_proba(z), 0.0, 1.0)
    return found


def _map(
    cell: Cell, scored: Documents, truth: np.ndarray, p: np.ndarray, z: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """A map of some documents; only that of the untouched encoder has their texts, for all maps of the draw."""
    shown = np.sort(np.random.default_rng(0).permutation(len(scored))[:MAP_DOCUMENTS])
    texts = [" ".join(scored.texts[row].split())[:HOVER_CHARACTERS] for row in shown]
    words = {"texts": texts, "classes": list(classes)} if cell.loss == UNTOUCHED else {}
    return {
        "points": [[round(float(x), 3), round(float(y), 3)] for x, y in flat_map(z[shown])],
        "truth": truth[shown].tolist(),
        "predicted": p.argmax(1)[shown].tolist(),
        **words,
    }
