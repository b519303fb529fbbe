"""One cell: train once, score the model four ways, and say how it learned.

    head     the classifier that the model comes with: its linear head in combined mode, a linear probe in standalone
             mode and for the untouched encoder
    default  the model as `graphloss predict` answers, by the predictor of its settings: with unlabeled documents, which
             train the head further after the fine-tuning by any loss, head, graph and neighbors together
    probe    a logistic regression on the embeddings of the labeled training documents (`evaluation.linear_probe`)
    knn      the 5 most similar labeled training documents by cosine, votes weighted by 1 / distance

A curve's seconds are those of training alone: no evaluation, no writing of checkpoints; see `curve` for the clock.
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

from graphloss.research.bench.curve import PROCESSOR, WALL, arrival, curve_of, start_of_curve, writing_clock
from graphloss.research.bench.draws import judged_of
from graphloss.research.bench.grid import UNTOUCHED, Cell, format_shots, slug
from graphloss.research.bench.storage import FORMAT
from graphloss.run import provenance
from graphloss.text.corpus import Corpus
from graphloss.training.settings import TrainSettings

if TYPE_CHECKING:
    from graphloss.inference.predictor import Predictor
    from graphloss.text.documents import Documents

NEIGHBORS = 5
MAP_DOCUMENTS = 500
HOVER_CHARACTERS = 120


@dataclass(frozen=True)
class Task:
    """A cell with all that running it takes.

    Attributes:
        cell: which one.
        settings: how it is trained.
        corpus: its documents, the scored ones already chosen.
        encoder: where the untouched encoder is loaded from (`encoder.resolve`).
        folder: for checkpoints; emptied before and removed after.
        callbacks: further callbacks of the trainer, for example a progress bar.
    """

    cell: Cell
    settings: TrainSettings
    corpus: Corpus
    encoder: str
    folder: Path
    callbacks: Sequence[Any] = ()


def run_cell(task: Task, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run a cell and return its result, ready for JSON.

    Args:
        task: what to run.
        asked: what the result depends on besides the documents, to be found again in it (`folder.asked_of`).
    """
    import torch

    shutil.rmtree(task.folder, ignore_errors=True)  # what a kill has left: times are those of one go
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    try:
        result = _result(task)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
        gc.collect()  # the trainer and its model refer to one another
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
        "asked": dict(asked),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "environment": provenance.environment(),
    }


def _result(task: Task) -> dict[str, Any]:
    from graphloss.inference.linear_probe import linear_probe
    from graphloss.inference.metrics import score
    from graphloss.text.encoder import encode, load

    corpus, classes = task.corpus, task.corpus.label_names
    split, judged = judged_of(corpus)
    documents, validation = corpus.train, corpus.validation
    truth = np.array(judged.labels)  # (m,)
    encoder = load(task.encoder, max_length=task.settings.max_length)
    if task.cell.loss == UNTOUCHED:
        known = corpus.described() + documents.labeled()  # a line about a class is one more labeled document
        support, known_labels = encode(encoder, known.texts), known.labels
        head, default, told = None, None, {"curve": start_of_curve(encoder, support, known, validation, classes)}
    else:
        predictor, told = _train(task, encoder, documents, validation)
        support, head, default = predictor.support, predictor.head, predictor.probabilities
        known_labels = predictor.support_labels.tolist()  # of lines, where descriptions take part, and documents
    z = encode(encoder, judged.texts)  # (m, d)
    probe = linear_probe(support, known_labels, len(classes)).probabilities(z).numpy()
    answers = {
        "head": probe if head is None else head(z).numpy(),
        "default": probe if default is None else default(z).numpy(),
        "probe": probe,
        "knn": neighbors(support.numpy(), known_labels, z.numpy(), len(classes)),
    }
    scores = {who: score(truth, given, None, classes) for who, given in answers.items()}
    whole = score(truth, answers["head"], z.numpy(), classes)
    return {
        "split": split,
        "documents": len(judged),
        "fingerprint": corpus.fingerprint,
        "sizes": {
            "classes": len(classes),
            "train": len(documents),
            "labeled": documents.known,
            "validation": len(validation),
        },
        "scores": {
            who: {"accuracy": said.accuracy, "macro_f1": said.macro_f1, "ece": said.ece} for who, said in scores.items()
        },
        "macro_silhouette": whole.macro_silhouette,
        "micro_silhouette": whole.micro_silhouette,
        "epochs": None,
        "steps": 0,
        "best_epoch": None,
        "clock": None,
        **told,
        "training_seconds": told["curve"][-1]["seconds"] if told["curve"] else 0.0,
        "to_99": arrival(told["curve"]),
        "map": _map(task.cell, judged, truth, answers["head"], z.numpy(), classes) if task.cell.seed == 0 else None,
    }


def _train(task: Task, encoder: Any, documents: Documents, validation: Documents) -> tuple[Predictor, dict[str, Any]]:
    """Fine-tune the encoder in place: what predicts from its embeddings, and how it went."""
    from graphloss.training.fit import fit
    from graphloss.training.preflight import check_settings, preflight

    clock = PROCESSOR if encoder.device.type == "cpu" else WALL
    writing = writing_clock(clock)
    checked = check_settings(task.settings, documents, validation, task.corpus.label_names, task.corpus.described())
    ready, sizes = preflight(checked, encoder), checked.sizes
    fitted = fit(encoder, ready, folder=task.folder, callbacks=[writing, *task.callbacks])
    told = {
        "curve": curve_of(fitted.history, writing.seconds, clock),
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
    return fitted.model.predictor, told


def neighbors(support: np.ndarray, labels: Sequence[int], z: np.ndarray, classes: int) -> np.ndarray:
    """Class probabilities (m, C) by the most similar documents.

    Args:
        support: (n, d) unit-length embeddings of labeled documents.
        labels: (n,) their classes.
        z: (m, d) unit-length embeddings of those to classify.
        classes: C.
    """
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(NEIGHBORS, len(support)), metric="cosine", weights="distance")
    model.fit(support, np.asarray(labels))
    found = np.zeros((len(z), classes), np.float32)
    found[:, model.classes_] = np.clip(model.predict_proba(z), 0.0, 1.0)
    return found


def _map(
    cell: Cell, judged: Documents, truth: np.ndarray, given: np.ndarray, z: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Places of some documents on a plane; the untouched encoder's map has their texts, for all maps of the draw."""
    shown = np.sort(np.random.default_rng(0).permutation(len(judged))[:MAP_DOCUMENTS])
    texts = [" ".join(judged.texts[row].split())[:HOVER_CHARACTERS] for row in shown]
    words = {"texts": texts, "classes": list(classes)} if cell.loss == UNTOUCHED else {}
    return {
        "points": [[round(float(x), 3), round(float(y), 3)] for x, y in _flat(z[shown])],
        "truth": truth[shown].tolist(),
        "predicted": given.argmax(1)[shown].tolist(),
        **words,
    }


def _flat(embeddings: np.ndarray) -> np.ndarray:
    """Two coordinates a document, by t-SNE (van der Maaten and Hinton 2008); first axes where there are few."""
    if len(embeddings) < 10:
        return np.pad(embeddings, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    return TSNE(perplexity=min(30.0, (len(embeddings) - 1) / 3), init="pca", random_state=0).fit_transform(embeddings)
