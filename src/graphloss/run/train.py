"""A corpus into a run folder: check everything, train, compare with the untouched encoder, write it all down."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss import distributed
from graphloss.disk import write_text
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.description_gate import UNCHECKED
from graphloss.inference.metrics import intervals, score
from graphloss.report.card import model_card
from graphloss.report.page import write_report
from graphloss.report.predictions import write_predictions
from graphloss.run import claim_folder
from graphloss.run.plan import show_plan
from graphloss.text.corpus import Corpus, load_corpus
from graphloss.text.encoder_source import about, check_length, resolve
from graphloss.training.preflight import CheckedSettings, Preflight, check_settings, preflight
from graphloss.training.progress import FIRST, SECOND, Screen
from graphloss.training.settings import DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make

if TYPE_CHECKING:
    from graphloss.inference.fitted_model import FittedModel
    from graphloss.training.fit_result import Fitted

CROSS_FITTED, UNVERIFIED = "cross-fitted", "unverified"  # instead of a split
LEAST_SURE = 10
PROBE_DOCUMENTS = 10_000  # of the untouched encoder's probe: beyond so many it hardly gains


@dataclass(frozen=True)
class CheckedRun:
    """The checked data, encoder and settings of a training."""

    source: str
    data: DataSettings
    corpus: Corpus
    encoder: str
    checked: CheckedSettings


def train(
    source: str | None, specified: dict[str, Any], *, out: Path | None, resume: bool, screen: Screen
) -> dict[str, Any]:
    """Train on a corpus and leave a finished run folder.

    In several processes all call this: the first one reads, checks and writes, and they train together. `specified` are
    fields of `DataSettings` and `TrainSettings`. All that cannot be used is an `InputError` before any training.

    Returns:
        The content of `graphloss.json`, with the folder under `run`; in the other processes that of the start.
    """
    from graphloss.text.encoder import load

    run = distributed.on_first(lambda: _prepared(source, specified, out=out, resume=resume, screen=screen))
    if resume and out is not None and (out / run_folder.INFO).is_file():
        info = run_folder.read_info(out)
        if info["status"] == "finished":
            shutil.rmtree(out / run_folder.CHECKPOINTS, ignore_errors=True)
            screen.say(f"{out} has finished already; nothing is left to do")
            return info | {"run": str(out)}

    settings = run.checked.settings
    encoder = distributed.on_all(lambda: load(run.encoder, max_length=settings.max_length))
    checked = preflight(run.checked, encoder)  # before the folder is claimed
    folder, begun = distributed.on_first(
        lambda: claim_folder.begin(out, run.source, run.corpus, run.data, settings, encoder=run.encoder, resume=resume)
    )
    with contextlib.ExitStack() as locks:
        distributed.on_first(lambda: locks.enter_context(claim_folder.alone(folder)))
        if distributed.first():
            show_plan(run.corpus, checked, folder, encoder, screen)
        fitted = _fit(checked, encoder, folder, screen)
        return _conclude(folder, begun, run, fitted, screen)


def _prepared(
    source: str | None, specified: dict[str, Any], *, out: Path | None, resume: bool, screen: Screen
) -> CheckedRun:
    """Everything that can be checked without loading the encoder."""
    data = make(DataSettings, {name: value for name, value in specified.items() if name in names(DataSettings)})
    own = {name: value for name, value in specified.items() if name not in names(DataSettings)}
    settings = make(TrainSettings, own)
    named = source is not None
    if resume:
        if out is None:
            raise InputError("--resume needs to know which run: give --out RUN")
        if (out / run_folder.INFO).is_file() or source is None:
            source, data, settings = claim_folder.resumed(out, source, specified)
    if source is None:
        raise InputError("expected a data set: `graphloss train DATA`; try `graphloss train builtin`")
    encoder_source = resolve(settings.model)
    check_length(encoder_source, settings.max_length)
    if out is not None:
        claim_folder.check_free(out, resume=resume)
    corpus = load_corpus(source, **data.reading(), seed=settings.seed)
    if named and out is not None and (out / run_folder.INFO).is_file():
        claim_folder.check_same_data(out, run_folder.read_info(out), corpus)
    screen.warn(*corpus.warnings)
    if not corpus.train.labeled_count:
        screen.warn(f"{source}: no document has a label; the model is made of the descriptions, nothing verifies it")
    elif not corpus.test and not corpus.validation:
        screen.warn(
            "no document is set aside to score the model on; its scores are cross-fitted on the training labels, whose "
            "texts the encoder has seen: they flatter"
        )
        if alone := sum(corpus.train.labels.count(label) == 1 for label in range(len(corpus.label_names))):
            screen.warn(
                f"{alone:,} of {len(corpus.label_names):,} classes have one label: left out, it can be predicted by a "
                "description alone, so that these scores say little; label a second document of each"
            )
    checked = check_settings(settings, corpus.train, corpus.validation, corpus.label_names, corpus.described())
    screen.warn(*checked.warnings)
    return CheckedRun(source, data, corpus, encoder_source, checked)


def _fit(checked: Preflight, encoder: Any, folder: Path, screen: Screen) -> Fitted:
    from graphloss.training import checkpoints
    from graphloss.training.fit import LABELS_ALONE, fit

    kept = folder / run_folder.CHECKPOINTS
    for path in (*checkpoints.damaged(kept / LABELS_ALONE), *checkpoints.damaged(kept)):
        screen.warn(f"{path}: damaged, so that training resumes from before it")
    twice = checked.sizes.labels_alone and checked.documents.labeled_count
    last = screen.watch(lambda history: run_folder.write_metrics(folder, history), title=SECOND if twice else "")
    fitted = fit(
        encoder,
        checked,
        folder=kept,
        callbacks=[last] if distributed.first() else [],
        early_callbacks=[screen.watch(title=FIRST)] if distributed.first() else [],
        progress=screen.shows(len(checked.documents)),
    )
    if fitted.descriptions and fitted.descriptions.unchecked:
        screen.warn(UNCHECKED)
    return fitted


def _scores(truth: np.ndarray, probabilities: np.ndarray, embeddings: Any, names: list[str]) -> dict[str, Any]:
    """Scores of a split; None each where it is empty."""
    if len(truth):
        return asdict(score(truth, probabilities, embeddings, names))
    return dict.fromkeys(("accuracy", "macro_f1", "macro_silhouette", "micro_silhouette", "ece")) | {"per_class": []}


def _least_sure(corpus: Corpus, model: FittedModel, screen: Screen) -> list[dict[str, Any]]:
    """The training texts of least confidence: the first ones to label."""
    texts = corpus.train.texts
    p = model.probabilities(model.encode(texts, progress=screen.draws))
    best = p.max(dim=1)
    return [
        {
            "text": texts[row],
            "label": model.labels[int(best.indices[row])],
            "probability": round(float(best.values[row]), 4),
        }
        for row in best.values.argsort(stable=True)[:LEAST_SURE].tolist()
    ]


def _conclude(folder: Path, begun: dict[str, Any], run: CheckedRun, fitted: Fitted, screen: Screen) -> dict[str, Any]:
    """Score the model and its baseline, the probe of the untouched encoder, and write everything."""
    import torch

    from graphloss.inference.description_prior import cross_fitted
    from graphloss.inference.learning_curve import learning_curve
    from graphloss.inference.linear_probe import linear_probe
    from graphloss.text.encoder import encode, load

    corpus, model = run.corpus, fitted.model
    lines, (name, scored) = corpus.described(), corpus.scored()
    if not scored:  # or else the training labels, cross-fitted
        scored = corpus.train.labeled()
        name = CROSS_FITTED if scored else UNVERIFIED
    truth, labeled = np.array(scored.labels, dtype=np.int64), run.checked.documents.labeled(PROBE_DOCUMENTS)
    if scored:
        screen.stage(f"Scoring {len(scored):,} documents ({name}) by model and linear probe of the untouched encoder")
    tuned = model.encode(scored.texts, progress=screen.draws, shared=True)
    untouched = load(run.encoder, max_length=run.checked.settings.max_length)
    before = encode(untouched, scored.texts, progress=screen.shows(len(scored)), shared=True)
    start = encode(untouched, labeled.texts, progress=screen.shows(len(labeled)), shared=True)
    if not distributed.first():
        return begun | {"run": str(folder)}
    curve = learning_curve(start, torch.tensor(labeled.labels, dtype=torch.long))
    classes = len(corpus.label_names)
    if name == CROSS_FITTED:
        labels, own = torch.from_numpy(truth), encode(model.encoder, lines.texts)
        of_lines = torch.tensor(lines.labels, dtype=torch.long)
        probabilities = cross_fitted(tuned, labels, own, of_lines, classes).numpy()
        by_probe = cross_fitted(before, labels, own[:0], of_lines[:0], classes).numpy()
    else:
        probabilities = model.probabilities(tuned).numpy()
        by_probe = probabilities
        if labeled:
            by_probe = linear_probe(start, labeled.labels, classes).probabilities(before).numpy()
    info = (
        begun
        | fitted.info(run.checked.settings, folder)
        | {
            "status": "finished",
            "metrics": {
                "split": name,
                "model": _scores(truth, probabilities, tuned, corpus.label_names),
                "probe": _scores(truth, by_probe, before, corpus.label_names),
                **({"intervals": intervals(truth, probabilities)} if name == CROSS_FITTED and len(truth) > 1 else {}),
                "seconds": fitted.seconds,
                "coverage": fitted.history[-1].get("coverage") if fitted.history else None,
            },
            "learning_curve": curve and asdict(curve),
            "least_sure": _least_sure(corpus, model, screen) if name == UNVERIFIED else [],
        }
    )
    info["encoder"] |= about(run.encoder)
    shown = info
    if run.data.no_texts:
        model, scored = replace(model, texts=None), replace(scored, texts=[""] * len(scored))
        info = info | {
            **{name: [row | {"text": ""} for row in info[name]] for name in ("least_sure", "doubted_labels")},
            "described": info["described"] and info["described"] | {"texts": {}},
        }
    screen.stage("Writing the model and the report")
    run_folder.write_metrics(folder, fitted.history)
    run_folder.write_model(folder, model)
    write_predictions(folder, scored, corpus.label_names, probabilities, tuned.numpy(), before.numpy())
    write_text(folder / run_folder.CARD, model_card(info))
    run_folder.write_info(folder, info | {"status": "running"})  # for the report, after which the run is finished
    write_report(folder)
    run_folder.write_info(folder, info)
    shutil.rmtree(folder / run_folder.CHECKPOINTS, ignore_errors=True)
    return shown | {"run": str(folder)}
