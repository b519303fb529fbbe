"""A corpus into a run folder: check everything, train, compare with the untouched encoder, write it all down."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss import runfolder
from graphloss.config import DataSettings, TrainSettings, make, names
from graphloss.data import Corpus, Split, load_corpus, load_split, read_texts
from graphloss.errors import InputError

if TYPE_CHECKING:
    from graphloss.console import Screen

PROBE_DOCUMENTS = 10_000  # of the untouched encoder's probe: beyond so many it hardly gains
PREDICT_AT_ONCE = 256  # texts: enough for sorting by length to pay
MAP_DOCUMENTS = 1_000  # dots that an eye can still tell apart
PACKAGES = ("graphloss", "torch", "transformers", "sentence-transformers", "accelerate", "datasets", "scikit-learn")


@dataclass(frozen=True)
class Plan:
    """What is about to be done, for the first lines that a training prints."""

    corpus: Corpus
    settings: TrainSettings
    folder: Path
    encoder: str
    dimension: int
    max_length: int
    device: str
    batch_size: int
    epochs: int
    steps: int
    minutes: float


def train(source: str | None, data: DataSettings, settings: TrainSettings, *, out: Path | None, resume: bool, screen: Screen) -> dict[str, Any]:
    """Train on a corpus and leave a finished run folder.

    Args:
        source: a file, a folder, a name or `hub:NAME`; None only when a run is resumed.
        data: which documents are used.
        settings: how to train.
        out: the run folder; None takes the next free name under `runs/`.
        resume: go on with the run in `out`.
        screen: where progress is shown.

    Returns:
        What `graphloss.json` says, with the folder under `run`.

    Raises:
        InputError: the data, the settings, the encoder or the folder cannot be used; nothing has been trained then.
    """
    from graphloss.encoder import load, resolve

    if resume:
        if out is None:
            raise InputError("--resume needs to know which run: give --out RUN")
        if (out / runfolder.INFO).is_file() or source is None:
            source, data, settings = _of_run(out, source, settings)
    if source is None:
        raise InputError("expected a data set: `graphloss train DATA`; try `graphloss train builtin`")
    _sensible(settings)
    encoder_source = resolve(settings.model)
    if out is not None:
        _check_free(out, resume=resume)
    corpus = load_corpus(source, **asdict(data), seed=settings.seed)
    for line in corpus.warnings:
        screen.warn(line)
    folder = out or _free_folder(corpus.name, settings)
    begun = _begin(folder, source, corpus, data, settings)
    if begun["status"] == "finished":
        shutil.rmtree(folder / runfolder.CHECKPOINTS, ignore_errors=True)
        screen.say(f"{folder} has finished already; nothing is left to do")
        return begun | {"run": str(folder)}
    encoder = load(encoder_source, max_length=settings.max_length)
    screen.plan(_plan(corpus, settings, folder, encoder))
    classifier = _fit(corpus, settings, encoder, folder, screen)
    return _conclude(folder, begun, corpus, classifier, encoder_source, screen)


def evaluate(folder: Path, source: str | None, *, split: str, text: str | None, label: str | None, screen: Screen) -> dict[str, Any]:
    """Score a finished run on a split of a corpus; by default on the corpus that it was trained on.

    Returns:
        `accuracy`, `macro_f1`, `macro_silhouette`, `micro_silhouette`, `ece` (fractions of one) and `per_class`, with what was scored.

    Raises:
        InputError: the run or the data cannot be used, or the data has labels that the run does not know.
    """
    from graphloss.classifier import TextClassifier
    from graphloss.evaluation import score

    info = runfolder.read_info(folder)
    recorded = info["data"]
    own = source is None or source == recorded["source"]
    source = source or recorded["source"]
    columns = {"text": text or (recorded["text"] if own else None), "label": label or (recorded["label"] if own else None)}
    if split == "validation" and own:
        given = {name: recorded[name] for name in names(DataSettings)} | columns
        documents = load_corpus(source, **given, seed=info["settings"]["seed"]).validation
    else:
        documents = load_split(source, split, **columns, label_names=info["labels"])
    classifier = TextClassifier.from_pretrained(folder)
    embeddings = classifier.encode(documents.texts, progress=screen.shows(len(documents)))
    truth = np.array([info["labels"].index(name) for name in documents.labels])
    import torch

    scores = score(truth, classifier.probabilities(torch.from_numpy(embeddings)), embeddings, info["labels"])
    return {"run": str(folder), "data": source, "split": split, "documents": len(documents), **scores.to_json()}


def predict(folder: Path, source: str | list[str], *, column: str | None) -> Iterator[dict[str, Any]]:
    """Classify texts as they come: whatever has arrived is answered at once, up to `PREDICT_AT_ONCE` texts together.

    Args:
        folder: a finished run.
        source: a file, "-" for standard input, or the texts themselves.
        column: of the texts in a file; guessed when None.

    Yields:
        `text`, `label` and `probability` of each text, in their order.

    Raises:
        InputError: the run or the texts cannot be used.
    """
    from graphloss.classifier import TextClassifier

    runfolder.read_info(folder)
    texts = read_texts(source, text=column)
    first = next(texts, None)  # a file that cannot be read is said before a model is loaded
    classifier = TextClassifier.from_pretrained(folder)
    waiting: queue.Queue[Any] = queue.Queue(maxsize=PREDICT_AT_ONCE)
    threading.Thread(target=_feed, args=(itertools.chain([first] if first else [], texts), waiting), daemon=True).start()
    while batch := _arrived(waiting):
        rows = [text for _, text in batch]
        probabilities = classifier.predict_proba(rows)
        for text, row in zip(rows, probabilities, strict=True):
            yield {"text": text, "label": str(classifier.classes_[row.argmax()]), "probability": round(float(row.max()), 6)}


def _feed(texts: Iterator[tuple[int, str]], waiting: queue.Queue[Any]) -> None:
    """Put texts in the queue, then None, or the error that ended them."""
    try:
        for item in texts:
            waiting.put(item)
        waiting.put(None)
    except Exception as error:
        waiting.put(error)


def _arrived(waiting: queue.Queue[Any]) -> list[tuple[int, str]]:
    """At least one text, and those behind it that are there already; nothing at the end."""
    batch: list[tuple[int, str]] = []
    while not batch or (len(batch) < PREDICT_AT_ONCE and not waiting.empty()):
        item = waiting.get()
        if item is None or isinstance(item, Exception):
            if batch or item is None:
                waiting.put(item)  # the end is found again by the next call
                return batch
            raise item
        batch.append(item)
    return batch


def environment() -> dict[str, Any]:
    """The machine, as far as it explains a figure or a time."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _sensible(settings: TrainSettings) -> None:
    if settings.loss == "ce" and settings.mode == "standalone":
        raise InputError("loss 'ce' has no standalone mode: it is the cross-entropy of a head; give --mode combined or --loss gloss")


def _free_folder(name: str, settings: TrainSettings) -> Path:
    stem = f"{name}-{settings.loss}-{settings.mode}-seed{settings.seed}"
    tried = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))
    return next(path for path in tried if not path.exists())


def _of_run(folder: Path, source: str | None, settings: TrainSettings) -> tuple[str, DataSettings, TrainSettings]:
    """Data and settings of a run that is resumed."""
    info = runfolder.read_info(folder)
    recorded = info["data"]
    kept = make(TrainSettings, info["settings"])
    if settings not in (kept, TrainSettings()):
        other = [name for name in names(TrainSettings) if getattr(settings, name) not in (getattr(kept, name), getattr(TrainSettings(), name))]
        if other:
            raise InputError(f"{folder}: began with other settings ({', '.join(other)}); resume without them, or train into another folder")
    if source is not None and _place(source) != recorded["source"]:
        raise InputError(f"{folder}: began with data '{recorded['source']}', not '{source}'; resume without naming data")
    return recorded["source"], make(DataSettings, {name: recorded[name] for name in names(DataSettings)}), kept


def _place(source: str) -> str:
    """A file or folder by its whole path, so that the run finds it from anywhere; a name as it is."""
    return str(Path(source).resolve()) if Path(source).suffix and Path(source).exists() else source


def _check_free(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that is not ours to write into, before the data is read."""
    if (folder / runfolder.INFO).is_file():
        info = runfolder.read_info(folder)
        if not resume:
            todo = "it has finished" if info["status"] == "finished" else f"go on with `graphloss train --resume --out {folder}`"
            raise InputError(f"{folder}: holds another run ({todo}); choose another --out")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds other files; choose an --out that is new or empty")


def _begin(folder: Path, source: str, corpus: Corpus, data: DataSettings, settings: TrainSettings) -> dict[str, Any]:
    """Claim the run folder, or find in it the run that is resumed."""
    if (folder / runfolder.INFO).is_file():
        info = runfolder.read_info(folder)
        if info["data"]["fingerprint"] != corpus.fingerprint:
            raise InputError(f"{folder}: the data has changed since this run began; train into another folder")
        return info
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    info = {
        "status": "running",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "graphloss": version("graphloss"),
        "name": corpus.name,
        "labels": corpus.label_names,
        "settings": asdict(settings),
        "data": {
            "source": _place(source),
            **asdict(data),
            "fingerprint": corpus.fingerprint,
            "sizes": {
                "train": len(corpus.train),
                "labelled": sum(label is not None for label in corpus.train.labels),
                "validation": len(corpus.validation),
                "test": len(corpus.test) if corpus.test else 0,
            },
        },
        "versions": {name: version(name) for name in PACKAGES},
        "environment": environment(),
    }
    runfolder.write_info(folder, info)
    return runfolder.read_info(folder)


def _plan(corpus: Corpus, settings: TrainSettings, folder: Path, encoder: Any) -> Plan:
    """Size up the work by encoding a few documents: a step costs about three times as much as encoding its texts."""
    from graphloss.encoder import encode
    from graphloss.training import batch_size_for, epochs_for, steps_of_epoch

    texts = corpus.train.texts
    tried = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:64]]
    encode(encoder, tried[:4])
    began = time.perf_counter()
    encode(encoder, tried)
    each = (time.perf_counter() - began) / len(tried)
    count, epochs = len(texts), epochs_for(len(texts), settings)
    judged = len(corpus.test or corpus.validation)
    passes = epochs * (3 * count + len(corpus.validation)) + 2 * (judged + count)
    return Plan(
        corpus=corpus,
        settings=settings,
        folder=folder,
        encoder=Path(settings.model).name if settings.model else "all-MiniLM-L6-v2",
        dimension=encoder.get_embedding_dimension(),
        max_length=encoder.max_seq_length,
        device=str(encoder.device),
        batch_size=batch_size_for(count, settings),
        epochs=epochs,
        steps=steps_of_epoch(count, settings),
        minutes=passes * each / 60,
    )


def _fit(corpus: Corpus, settings: TrainSettings, encoder: Any, folder: Path, screen: Screen) -> Any:
    from graphloss.classifier import TextClassifier
    from graphloss.training import Documents, fit

    split = {name: Documents(part.texts, corpus.indices(part)) for name, part in (("train", corpus.train), ("validation", corpus.validation))}
    where = folder / runfolder.CHECKPOINTS
    fitted = fit(
        encoder, split["train"], split["validation"], corpus.label_names, settings, folder=where,
        callbacks=[screen.watch(lambda history: runfolder.write_metrics(folder, history))],
    )  # fmt: skip
    return TextClassifier.of(settings, fitted, corpus.label_names)


def _conclude(folder: Path, begun: dict[str, Any], corpus: Corpus, classifier: Any, encoder_source: str, screen: Screen) -> dict[str, Any]:
    """Score the model beside the probe of the untouched encoder, and write all of it."""
    import torch

    from graphloss.encoder import encode, load
    from graphloss.evaluation import linear_probe, score
    from graphloss.report import model_card, write_report
    from graphloss.training import Documents

    name, judged = ("test", corpus.test) if corpus.test else ("validation", corpus.validation)
    truth, train = np.array(corpus.indices(judged)), Documents(corpus.train.texts, corpus.indices(corpus.train))
    known = train.labelled(PROBE_DOCUMENTS)
    screen.stage(f"Scoring {len(judged):,} {name} documents, by the model and by a linear probe of the untouched encoder")
    shows = screen.shows(len(judged))
    tuned = classifier.encode(judged.texts, progress=shows)
    untouched = load(encoder_source, max_length=classifier.max_length)
    before = encode(untouched, judged.texts, progress=shows)
    probe = linear_probe(encode(untouched, known.texts, progress=screen.shows(len(known))), known.labels, len(corpus.label_names))
    probabilities = classifier.probabilities(torch.from_numpy(tuned))
    info = begun | classifier.description() | {
        "status": "finished",
        "metrics": {
            "split": name,
            "model": score(truth, probabilities, tuned, corpus.label_names).to_json(),
            "probe": score(truth, probe.probabilities(before).numpy(), before.numpy(), corpus.label_names).to_json(),
            "seconds": classifier.seconds_,
            "coverage": classifier.history_[-1].get("coverage") if classifier.history_ else None,
        },
    }  # fmt: skip
    screen.stage("Writing the model and the report")
    runfolder.write_metrics(folder, classifier.history_)
    runfolder.write_model(folder, classifier.as_model())
    _write_predictions(folder, judged, corpus.label_names, probabilities, tuned, before.numpy())
    runfolder.write_text(folder / runfolder.CARD, model_card(info))
    runfolder.write_info(folder, info | {"status": "running"})  # the report reads the figures; the run is finished when it stands
    write_report(folder)
    runfolder.write_info(folder, info)
    shutil.rmtree(folder / runfolder.CHECKPOINTS, ignore_errors=True)
    return info | {"run": str(folder)}


def _write_predictions(folder: Path, split: Split, label_names: list[str], probabilities: np.ndarray, tuned: np.ndarray, before: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown = np.sort(np.random.default_rng(0).permutation(len(split))[:MAP_DOCUMENTS])
    columns: dict[str, Any] = {
        "text": split.texts,
        "label": split.labels,
        "predicted": [label_names[row] for row in probabilities.argmax(1)],
        "probability": probabilities.max(1).astype(np.float32),
    }
    for names_, embeddings in ((("x", "y"), tuned), (("x0", "y0"), before)):
        flat = _flat_map(embeddings[shown])
        for axis, column in enumerate(names_):
            values = np.full(len(split), np.nan, np.float32)
            values[shown] = flat[:, axis]
            columns[column] = values
    hidden = folder / f".{runfolder.PREDICTIONS}.writing"
    pq.write_table(pa.table(columns), hidden)
    os.replace(hidden, folder / runfolder.PREDICTIONS)


def _flat_map(embeddings: np.ndarray) -> np.ndarray:
    """Two coordinates a document by t-SNE (van der Maaten and Hinton 2008), or by its first axes where documents are too few."""
    if len(embeddings) < 10:
        return np.pad(embeddings, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(embeddings)
