"""A corpus into a run folder: check everything, train, compare with the untouched encoder, write it all down."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss import claim, processes, runfolder
from graphloss.checking import check_predictor, make
from graphloss.config import DataSettings, TrainSettings, names
from graphloss.data import Corpus, Split, load_corpus, load_split
from graphloss.errors import InputError

if TYPE_CHECKING:
    from graphloss.console import Screen

PROBE_DOCUMENTS = 10_000  # of the untouched encoder's probe: beyond so many it hardly gains


@dataclass(frozen=True)
class Work:
    """A training that has been checked: what to train on, and how."""

    source: str
    data: DataSettings
    settings: TrainSettings
    corpus: Corpus
    encoder: str


def train(
    source: str | None, given: dict[str, Any], *, out: Path | None, resume: bool, screen: Screen
) -> dict[str, Any]:
    """Train on a corpus and leave a finished run folder.

    In several processes all call this: the first one reads, checks and writes, and they train together.

    Args:
        source: a file, a folder, a name or `hub:NAME`; None only when a run is resumed.
        given: fields of `DataSettings` and `TrainSettings` by name, as far as the user gave them.
        out: the run folder; None takes the next free name under `runs/`.
        resume: go on with the run in `out`.
        screen: where progress is shown.

    Returns:
        What `graphloss.json` says, with the folder under `run`; in the other processes, what it said at the start.

    Raises:
        InputError: the data, the settings, the encoder or the folder cannot be used; nothing has been trained then.
    """
    from graphloss.encoder import load
    from graphloss.plan import size_up

    work = processes.first_does(lambda: _prepared(source, given, out=out, resume=resume, screen=screen))
    if resume and out is not None and (out / runfolder.INFO).is_file():
        info = runfolder.read_info(out)
        if info["status"] == "finished":
            shutil.rmtree(out / runfolder.CHECKPOINTS, ignore_errors=True)
            screen.say(f"{out} has finished already; nothing is left to do")
            return info | {"run": str(out)}

    encoder = processes.all_do(lambda: load(work.encoder, max_length=work.settings.max_length))
    from graphloss.training import check  # the trainer, which need not be there for an encoder that cannot be read

    train = work.corpus.train
    counts = {"labelled": train.known, "unlabelled": len(train) - train.known}
    classes = len(work.corpus.label_names)
    # before the folder is claimed, and by one process, for each finds another part of the memory free
    processes.first_does(lambda: check(work.settings, encoder, train.texts, **counts, classes=classes))
    folder, begun = processes.first_does(
        lambda: claim.begin(out, work.source, work.corpus, work.data, work.settings, resume=resume)
    )
    with contextlib.ExitStack() as work_in_it:
        processes.first_does(lambda: work_in_it.enter_context(claim.alone(folder)))
        if processes.first():
            screen.plan(size_up(work.corpus, work.settings, folder, encoder))
        classifier = _fit(work.corpus, work.settings, encoder, folder, screen)
        return _conclude(folder, begun, work.corpus, classifier, work.encoder, screen)


def _prepared(source: str | None, given: dict[str, Any], *, out: Path | None, resume: bool, screen: Screen) -> Work:
    """Everything that can be checked without loading the encoder."""
    from graphloss.encoder_files import check_length, resolve
    from graphloss.schedule import check_hidden, check_processes, said_unused

    data = make(DataSettings, {name: value for name, value in given.items() if name in names(DataSettings)})
    settings = make(TrainSettings, {name: value for name, value in given.items() if name not in names(DataSettings)})
    if resume:
        if out is None:
            raise InputError("--resume needs to know which run: give --out RUN")
        if (out / runfolder.INFO).is_file() or source is None:
            source, data, settings = claim.resumed(out, source, given)
    if source is None:
        raise InputError("expected a data set: `graphloss train DATA`; try `graphloss train builtin`")
    encoder_source = resolve(settings.model)
    check_length(encoder_source, settings.max_length)
    if out is not None:
        claim.check_free(out, resume=resume)
    corpus = load_corpus(source, **asdict(data), seed=settings.seed)
    for line in corpus.warnings:
        screen.warn(line)
    if not corpus.test and not len(corpus.validation):
        raise InputError(
            f"{source}: no document is left to score the model on, neither for validation nor for a test; "
            "give --validation a share above 0, at least two documents a class, or a folder with a test file"
        )
    check_processes(corpus.train.known, settings)
    check_hidden(unlabelled := len(corpus.train) - corpus.train.known, settings)
    if unused := said_unused(unlabelled, settings):
        screen.warn(unused)
    return Work(source, data, settings, corpus, encoder_source)


def evaluate(
    folder: Path,
    source: str | None,
    *,
    split: str,
    text: str | None,
    label: str | None,
    screen: Screen,
    predictor: str | None = None,
) -> dict[str, Any]:
    """Score a finished run on a split of a corpus; by default on the corpus that it was trained on.

    In several processes all call this and share the documents.

    Returns:
        `accuracy`, `macro_f1`, `macro_silhouette`, `micro_silhouette`, `ece` (fractions of one) and
        `per_class`, with what was scored.

    Raises:
        InputError: the run or the data cannot be used, or the data has labels that the run does not know, or
            it is the single file of the training, which has no test split.
    """
    import torch

    from graphloss.classifier import TextClassifier
    from graphloss.evaluation import score

    def checked() -> tuple[str, Split]:  # by the first process alone, so that what is wrong is said once
        check_predictor(predictor)
        return _scored(folder, source, split=split, text=text, label=label, screen=screen)

    source, documents = processes.first_does(checked)
    label_names = [_name(label) for label in runfolder.read_info(folder)["labels"]]
    classifier = processes.all_do(lambda: TextClassifier.from_pretrained(folder))
    embeddings = classifier.encode(documents.texts, progress=screen.shows(len(documents)), shared=True)
    truth = np.array([label_names.index(str(name)) for name in documents.labels])
    scores = score(
        truth, classifier.probabilities(torch.from_numpy(embeddings), predictor=predictor), embeddings, label_names
    )
    return {"run": str(folder), "data": source, "split": split, "documents": len(documents), **scores.to_json()}


def _scored(
    folder: Path, source: str | None, *, split: str, text: str | None, label: str | None, screen: Screen
) -> tuple[str, Split]:
    """The name and the documents of what a run is to be scored on."""
    info = runfolder.read_info(folder)
    recorded, label_names = info.get("data", {}), [_name(label) for label in info["labels"]]
    own = "source" in recorded and (source is None or claim.place_of(source) == recorded["source"])
    source = recorded["source"] if own else source
    if source is None:
        raise InputError(
            f"{folder}: does not say what data it was trained on; name some: `graphloss evaluate {folder} DATA`"
        )
    if own and split == "test" and Path(source).is_file():  # a single file was all for training and validation
        raise InputError(
            f"{source}: the data of this run has no test split, and the documents it learnt from would flatter it; "
            "score the validation documents with `--split validation`, "
            f"or other DATA: `graphloss evaluate {folder} DATA`"
        )
    columns = {
        "text": text or (recorded["text"] if own else None),
        "label": label or (recorded["label"] if own else None),
    }
    if split == "validation" and own:
        given = {name: recorded[name] for name in names(DataSettings) if name in recorded} | columns
        corpus = load_corpus(source, **given, seed=info["settings"]["seed"])
        if corpus.fingerprint != recorded["fingerprint"]:
            raise InputError(
                f"{source}: the data has changed since the training; its validation documents are no longer known"
            )
        documents = corpus.validation
        if not documents:
            raise InputError(
                f"{folder}: no document was held out for validation, so that there is nothing to score; "
                f"give --split test, or other DATA: `graphloss evaluate {folder} DATA`"
            )
    else:
        documents = load_split(source, split, **columns, label_names=label_names)
    for line in documents.warnings:
        screen.warn(line)
    return source, documents


def _name(label: Any) -> str:
    """A label as the readers of files write it: 1.0 is "1"."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _fit(corpus: Corpus, settings: TrainSettings, encoder: Any, folder: Path, screen: Screen) -> Any:
    from graphloss.classifier import TextClassifier
    from graphloss.documents import Documents
    from graphloss.training import fit

    split = {
        name: Documents(part.texts, corpus.indices(part))
        for name, part in (("train", corpus.train), ("validation", corpus.validation))
    }
    where = folder / runfolder.CHECKPOINTS
    fitted = fit(
        encoder,
        split["train"],
        split["validation"],
        corpus.label_names,
        settings,
        folder=where,
        callbacks=[screen.watch(lambda history: runfolder.write_metrics(folder, history))] if processes.first() else [],
        progress=screen.shows(len(corpus.train)),
    )
    return TextClassifier.of(settings, fitted, corpus.label_names)


def _conclude(
    folder: Path, begun: dict[str, Any], corpus: Corpus, classifier: Any, encoder_source: str, screen: Screen
) -> dict[str, Any]:
    """Score the model beside the probe of the untouched encoder, and write all of it."""
    import torch

    from graphloss.documents import Documents
    from graphloss.encoder import encode, load
    from graphloss.evaluation import linear_probe, score
    from graphloss.report import model_card, write_report
    from graphloss.scored import write_predictions

    name, judged = ("test", corpus.test) if corpus.test else ("validation", corpus.validation)
    truth, train = np.array(corpus.indices(judged)), Documents(corpus.train.texts, corpus.indices(corpus.train))
    known = train.labelled(PROBE_DOCUMENTS)
    screen.stage(
        f"Scoring {len(judged):,} {name} documents, by the model and by a linear probe of the untouched encoder"
    )
    shows = screen.shows(len(judged))
    tuned = classifier.encode(judged.texts, progress=shows, shared=True)
    untouched = load(encoder_source, max_length=classifier.max_length)
    before = encode(untouched, judged.texts, progress=shows, shared=True)
    start = encode(untouched, known.texts, progress=screen.shows(len(known)), shared=True)
    if not processes.first():
        return begun | {"run": str(folder)}
    probe = linear_probe(start, known.labels, len(corpus.label_names))
    probabilities = classifier.probabilities(torch.from_numpy(tuned))
    info = (
        begun
        | classifier.description()
        | {
            "status": "finished",
            "metrics": {
                "split": name,
                "model": score(truth, probabilities, tuned, corpus.label_names).to_json(),
                "probe": score(
                    truth, probe.probabilities(before).numpy(), before.numpy(), corpus.label_names
                ).to_json(),
                "seconds": classifier.seconds_,
                "coverage": classifier.history_[-1].get("coverage") if classifier.history_ else None,
            },
        }
    )
    screen.stage("Writing the model and the report")
    runfolder.write_metrics(folder, classifier.history_)
    runfolder.write_model(folder, classifier.as_model())
    write_predictions(folder, judged, corpus.label_names, probabilities, tuned, before.numpy())
    runfolder.write_text(folder / runfolder.CARD, model_card(info))
    runfolder.write_info(
        folder, info | {"status": "running"}
    )  # the report reads the figures; the run is finished when it stands
    write_report(folder)
    runfolder.write_info(folder, info)
    shutil.rmtree(folder / runfolder.CHECKPOINTS, ignore_errors=True)
    return info | {"run": str(folder)}
