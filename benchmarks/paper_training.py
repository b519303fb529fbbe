"""The trainings of `paper.py`: a trial of the search, a cell, and what either takes."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paper_plan import BATCH, SCORED_TEXTS, SEARCH_EPOCHS, SEARCH_SEED, SEARCH_TEXTS, TRIALS, Cell
from sentence_transformers.util import batch_to_device
from transformers import TrainerCallback

from graphloss.errors import InputError
from graphloss.inference.metrics import score, silhouettes
from graphloss.research.bench.cell import Task, run_cell
from graphloss.research.bench.curve import CLOCKS, PROCESSOR, WALL
from graphloss.research.bench.grid import Cell as BenchCell
from graphloss.text.corpus import load_corpus
from graphloss.text.encoder import embed, encode, load, tokenize
from graphloss.text.encoder_source import resolve
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import fit
from graphloss.training.frozen_layers import frozen
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings

KEPT = ("score", "accuracy", "macro_f1", "macro_silhouette", "log_loss", "loss")
DIVERGED = {"macro_f1": 0.0, "log_loss": 1e9}  # what a trial is worth whose training came to no end


class _Over(Exception):
    """A trial's curve is complete: nothing else of its training is needed."""


class Tracer(TrainerCallback):
    """Keeps the validation curve of a training, over epochs and seconds of optimizer steps alone.

    Seconds are the processor's on a CPU and the clock's elsewhere, as in `bench.curve`.

    Args:
        validation: the documents of the curve.
        names: of the classes.
        trial: no checkpoint, no point between the ends of epochs, and `_Over` at the end.
    """

    def __init__(self, validation: Documents, names: list[str], *, trial: bool = False) -> None:
        self.validation, self.names, self.trial = validation, names, trial
        self.rows: list[dict[str, Any]] = []
        self.seconds, self.began = 0.0, 0.0
        self.clock = CLOCKS[WALL if torch.cuda.is_available() else PROCESSOR]

    def now(self) -> float:
        """The clock, when all that was started has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.clock()

    def add(self, state: Any, figures: dict[str, Any]) -> None:
        """Add a point to the curve."""
        epoch = state.global_step * state.num_train_epochs / state.max_steps
        self.rows.append({"epoch": epoch, "step": state.global_step, "seconds": self.seconds} | figures)

    def look(self, state: Any, model: Any) -> None:
        """Add a point between two evaluations of the trainer."""
        z = encode(model.encoder, self.validation.texts)
        figures: dict[str, Any] = {"macro_silhouette": silhouettes(z, self.validation.labels)[0]}
        if model.head is not None:
            with torch.no_grad():
                p = model.head(z.to(model.head.weight)).softmax(1).cpu().numpy()
            found = score(np.array(self.validation.labels), p, None, self.names)
            figures |= {"accuracy": found.accuracy, "macro_f1": found.macro_f1}
        self.add(state, figures)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make cross-entropy the same in every arm: the published loss alone has class weights."""
        model = kwargs["model"]
        if model.head is not None:
            model.objective.class_weights = None
        if not self.trial:
            self.look(state, model)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.began = self.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock, and look in the middle of an epoch."""
        self.seconds += self.now() - self.began
        each = state.max_steps // state.num_train_epochs
        if not self.trial and state.global_step % each == each // 2 > 0:
            self.look(state, kwargs["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take over what the trainer has evaluated."""
        self.add(state, {name: kwargs["metrics"].get(f"eval_{name}") for name in KEPT})
        control.should_save = control.should_save and not self.trial

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End a trial."""
        if self.trial:
            raise _Over


def run_trial(cell: Cell, settings: TrainSettings, folder: Path) -> dict[str, Any]:
    """Try settings of a loss on training texts, scored on texts not learned from; the test documents are not read.

    The value is macro-F1 at the epoch that the trainer would choose; `winner` breaks ties by the log-loss.
    """
    corpus = load_corpus(cell.data)
    order = np.random.default_rng(SEARCH_SEED).permutation(len(corpus.train))
    more = max(SCORED_TEXTS - len(corpus.validation), 0)  # mr's 711 alone are noise of 1.7 points
    learned = corpus.train.take(order[:SEARCH_TEXTS])
    scored = corpus.validation + corpus.train.take(order[SEARCH_TEXTS : SEARCH_TEXTS + more])
    tracer = Tracer(scored, corpus.label_names, trial=True)
    encoder = load(resolve(settings.model), max_length=settings.max_length)
    checked = preflight(check_settings(settings, learned, scored, corpus.label_names), encoder)
    try:
        fit(encoder, checked, folder=folder, callbacks=[tracer])
    except _Over:
        best = max(tracer.rows, key=lambda row: row["score"])
        value = {name: best[name] for name in DIVERGED}
    except InputError:
        value = DIVERGED
    return value | {"trace": tracer.rows, "asked": asdict(settings)}


def winner(rows: list[dict[str, Any]]) -> int:
    """Which of the settings that were tried to take: that of the least mean rank over the data sets.

    Ties go to the lesser of the worse ranks, then to the first.

    Args:
        rows: the trials of one data set after those of the other, `TRIALS` each.
    """
    ranks = []
    for start in range(0, len(rows), TRIALS):
        tried = rows[start : start + TRIALS]
        order = sorted(range(TRIALS), key=lambda i: (-tried[i]["macro_f1"], tried[i]["log_loss"]))
        ranks.append([order.index(i) for i in range(TRIALS)])
    total = [(sum(each), max(each)) for each in zip(*ranks, strict=True)]
    return min(range(TRIALS), key=lambda i: total[i])


def run_whole(cell: Cell, settings: TrainSettings, folder: Path) -> dict[str, Any]:
    """Train on all documents, and score the test documents once, at the best epoch."""
    corpus = load_corpus(cell.data)
    tracer = Tracer(corpus.validation, corpus.label_names)
    bench = BenchCell(cell.data, None, settings.loss, cell.mode, cell.number)
    result = run_cell(Task(bench, settings, corpus, resolve(settings.model), folder, [tracer]), asdict(settings))
    for name in ("curve", "to_99", "training_seconds", "map"):  # the trace says more
        del result[name]
    return result | {"arm": cell.arm, "trace": tracer.rows, "step_seconds": tracer.seconds}


def seconds_of(data: str, settings: TrainSettings) -> tuple[float, float]:
    """Estimate the seconds of a cell and of a trial from an embedding pass and a training step on one batch.

    Raises:
        InputError: the data set, the encoder or the settings cannot be used.
    """
    corpus = load_corpus(data)
    encoder = load(resolve(settings.model), max_length=settings.max_length)
    preflight(check_settings(settings, corpus.train, corpus.validation, corpus.label_names), encoder)
    texts = corpus.train.take(np.random.default_rng(0).permutation(len(corpus.train))[:BATCH]).texts
    encode(encoder, texts[:16])
    with frozen(encoder, settings.freeze):
        clock = [time.process_time()]
        for _ in range(2):  # the second pass finds the frozen layers computed
            encode(encoder, texts)
            clock.append(time.process_time())
        for _ in range(2):  # the first step makes room for the gradients
            with torch.autocast(encoder.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                z = embed(encoder.train(), batch_to_device(tokenize(encoder, texts), encoder.device))
            z.sum().backward()
            clock.append(time.process_time())
    whole, upper, _, step = (after - before for before, after in itertools.pairwise(clock))
    n, v, t = (len(part) / BATCH for part in (corpus.train, corpus.validation, corpus.test or ()))
    epochs, tried = settings.epochs or 0, (SEARCH_TEXTS + SCORED_TEXTS) / BATCH
    cell = (n + v + t) * whole + epochs * n * step + (n + 2 * epochs * v) * upper + 10 * epochs + 15
    trial = tried * whole + SEARCH_EPOCHS * (SEARCH_TEXTS * step + SCORED_TEXTS * upper) / BATCH + 8
    return cell, trial
