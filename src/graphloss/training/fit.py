"""Training: one encoder pass a step, a graph over the whole batch, the library's `Trainer` around it.

What the transformers `Trainer` does is left to it: loop, optimizer, schedule, mixed precision, accumulation,
checkpoints, resuming, early stopping. Ours are the model of encoder, head and loss as one module, so that a checkpoint
holds all three (`model`); class-aware batches, an evaluation that encodes the validation texts as a user would, and
checkpoints that appear whole or not at all (`trainer`).
"""

from __future__ import annotations

import math
import pickle
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.inference.description_gate import Gate
from graphloss.inference.description_prior import class_weights, gate, informed_probe
from graphloss.inference.fitted_model import FittedModel
from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.informed_head import informed_head
from graphloss.inference.label_errors import suspicion, to_hide
from graphloss.inference.linear_probe import Probe
from graphloss.inference.self_training import self_train_head
from graphloss.text.encoder import encode, quiet_libraries
from graphloss.text.texts_and_labels import Documents
from graphloss.training import checkpoints
from graphloss.training.fit_result import Fitted
from graphloss.training.frozen_layers import frozen
from graphloss.training.preflight import Preflight
from graphloss.training.pseudo_labels import pseudo_labeled
from graphloss.training.settings import TrainSettings
from graphloss.training.size_defaults import SUREST, Sizes
from graphloss.training.trainable_model import predictor_of, start_model
from graphloss.training.trainer import GraphTrainer
from graphloss.training.weight_interpolation import Blend

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SAMPLE = 2048  # labeled documents that calibrate σ, start the head and score a headless encoder between epochs
CENTERING = 256  # unlabeled documents that help to center the embeddings for the gate
EVALUATE_EVERY = 250  # steps: where an epoch is longer than this, it is evaluated and saved more than once
EVALUATE_AFTER = 3  # steps at least between two evaluations, each of which writes a checkpoint: of several epochs


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore the caller's random states: Python's, numpy's, and torch's on every device."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


@quiet_libraries()
@_random_states_kept()
def fit(
    encoder: SentenceTransformer,
    checked: Preflight,
    *,
    folder: Path,
    callbacks: list[TrainerCallback] | None = None,
    progress: bool = False,
) -> Fitted:
    """Train an encoder; resume from the last checkpoint in `folder` if there is one.

    In several processes all call this with the same arguments: they train one model together, which all return.

    Args:
        encoder: a sentence-transformers model; it is changed in place.
        checked: documents and settings that have passed the checks.
        folder: where checkpoints are written; to resume an interrupted call, repeat it with the same arguments.
        callbacks: further callbacks of the trainer, for example a progress bar.
        progress: draw a bar while the training documents are embedded, before and after training.

    Returns:
        The encoder of the best epoch, with what predicts from its embeddings.
    """
    began = time.perf_counter()
    hidden = _contradicted(encoder, checked, progress) if checked.settings.clean == "auto" else {}
    checked = replace(checked, documents=checked.documents.without_labels(hidden))
    settings, documents, label_names = checked.settings, checked.documents, checked.label_names
    set_seed(settings.seed)
    start = _start(encoder, checked, progress)
    lines = checked.descriptions if start.gate.informs else Documents([], [])
    train = lines + documents
    with frozen(encoder, settings.freeze):
        learned = replace(checked, documents=lines + start.documents)
        trainer = _trainer(encoder, learned, folder, callbacks or [], progress, start.probe)
        trainer.began = began
        # descriptions alone, without text, train no encoder
        step = _train(trainer, settings, folder) if start.documents else None
        trainer.blend.keep()
        predictor = predictor_of(
            trainer.module, train, checked.validation, len(label_names), settings.predictor, progress=progress
        )
    summary = None
    if settings.corpus_graph == "auto" and (unlabeled := documents.unlabeled().texts):
        predictor, summary = self_train_head(
            predictor,
            encode(encoder, unlabeled, progress=progress, shared=True),
            encode(encoder, checked.descriptions.texts, shared=True),
            torch.tensor(checked.descriptions.labels, dtype=torch.long),
            weight=start.weight,
            support_lines=len(lines),
            fallback=Probe(predictor.weight, predictor.bias) if start.documents else None,
        )
    history = checkpoints.history_of(trainer.state)
    best = next((row for row in history if row["step"] == step), history[-1] if history else None)
    return Fitted(
        model=FittedModel(
            encoder.eval(), predictor, list(label_names), train.labeled().texts, settings.seed, len(lines)
        ),
        descriptions=start.gate if checked.descriptions else None,
        lines=_by_class(checked.descriptions, label_names),
        self_training=summary,
        hidden=[*hidden.values()],
        history=history,
        best_epoch=best["epoch"] if best else None,
        seconds=time.perf_counter() - trainer.began,
    )


def _contradicted(encoder: SentenceTransformer, checked: Preflight, progress: bool) -> dict[int, dict[str, Any]]:
    """Rows of the contradicted labels, which the training leaves out, with their entry in the run."""
    documents, names = checked.documents, checked.label_names
    rows = [row for row, label in enumerate(documents.labels) if label >= 0]
    labeled = documents.take(rows)
    if not labeled:
        return {}
    y = torch.tensor(labeled.labels, dtype=torch.long)
    z = encode(encoder, labeled.texts, progress=progress, shared=True)
    found = suspicion(z, y, len(names), sigma=SIGMA, seed=checked.settings.seed)
    return {
        rows[place]: {
            "text": labeled.texts[place],
            "label": names[labeled.labels[place]],
            "proposed": names[int(found.proposed[place])],
            "score": round(float(found.score[place]), 6),
        }
        for place in to_hide(found, y)
    }


@dataclass(frozen=True)
class _Start:
    """What is known before training.

    Attributes:
        gate: how far the labels confirm the descriptions.
        weight: (C,) of the descriptions.
        documents: labeled and pseudo-labeled ones to learn from.
        probe: the initial head; None is a linear probe.
    """

    gate: Gate
    weight: torch.Tensor
    documents: Documents
    probe: Probe | None = None


def _by_class(lines: Documents, label_names: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text, place in zip(lines.texts, lines.labels, strict=True):
        found.setdefault(label_names[place], []).append(text)
    return found


def _start(encoder: SentenceTransformer, checked: Preflight, progress: bool) -> _Start:
    descriptions, documents, classes = checked.descriptions, checked.documents, len(checked.label_names)
    settings, labeled, rest = checked.settings, documents.labeled(), documents.unlabeled().texts
    pseudo = checked.sizes.pseudo_labels
    if not descriptions and not pseudo:
        return _Start(Gate(0.0, 0.0), torch.zeros(classes), labeled)
    sample = documents.labeled(max(SAMPLE, classes), seed=settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(rest))[: max(CENTERING, round(pseudo / SUREST))]
    some = [rest[row] for row in order]
    z = encode(encoder, sample.texts + some, progress=progress, shared=True)
    lines, described = encode(encoder, descriptions.texts, shared=True), torch.tensor(descriptions.labels).long()
    labels = torch.tensor(sample.labels + [-1] * len(some), dtype=torch.long)
    centered = slice(len(sample) + CENTERING)
    found = gate(z[centered], labels[centered], lines, described, classes)
    weight = class_weights(found, torch.tensor(documents.labels), classes)
    if not pseudo:
        return _Start(found, weight, labeled, informed_probe(z, labels, lines, described, classes, weight=weight))
    probe = informed_head(z, labels, lines, described, classes, weight=weight, shared=True)[0]
    probabilities = probe.probabilities(z[len(sample) :]).numpy()
    copies = labeled.take([*range(len(labeled))] * checked.sizes.copies)
    return _Start(found, weight, copies + pseudo_labeled(some, probabilities, pseudo), probe)


def _trainer(
    encoder: SentenceTransformer,
    checked: Preflight,
    folder: Path,
    callbacks: list[TrainerCallback],
    progress: bool,
    probe: Probe | None,
) -> GraphTrainer:
    """Model and trainer as they are before the first step."""
    settings, documents, label_names = checked.settings, checked.documents, checked.label_names
    sample = documents.labeled(max(SAMPLE, len(label_names)), seed=settings.seed)  # some of every class
    if settings.freeze:  # cached in one order, resumed or not: results differ in their last bits by batch;
        # in each process, which may need any document
        encode(encoder, documents.labeled().texts, progress=progress)
    start = encode(encoder, sample.texts, progress=progress, shared=True)
    scored = len(checked.validation) > 0
    early = [EarlyStoppingCallback(settings.patience, _least_gain(settings))] if scored else []
    trainer = GraphTrainer(
        start_model(encoder, start, sample, documents, len(label_names), settings, probe),
        _arguments(settings, checked.sizes, folder, encoder.device, scored=scored),
        checked=checked,
        sample=sample,
        blend=Blend(encoder, settings.blend),
        callbacks=[*callbacks, *early],
    )
    trainer.remove_callback(PrinterCallback)
    if distributed.world() > 1:
        torch.manual_seed(settings.seed + distributed.rank())  # other dropout masks in each process
    return trainer


def _train(trainer: GraphTrainer, settings: TrainSettings, folder: Path) -> int | None:
    """Train, from the last checkpoint where there is one, and load the best step, which is returned."""
    last = checkpoints.last_whole(folder)
    trainer.began -= checkpoints.seconds_of(last) if last else 0
    if last and (state := checkpoints.finished(last, settings.patience)):
        trainer.state = state  # killed between the last step and the end: nothing is left to train
        trainer.load_step(state.global_step)
    else:
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except pickle.UnpicklingError as error:  # not what this program writes, though its checksum fits
            raise InputError(
                f"{last}: holds something else than numbers; delete it, and resume from before it"
            ) from error
    if (step := trainer.state.best_global_step) is not None:
        trainer.load_step(step)
    return step


def _arguments(
    settings: TrainSettings, sizes: Sizes, folder: Path, device: torch.device, *, scored: bool
) -> TrainingArguments:
    """The trainer's own settings; the best epoch is chosen by `score`."""
    every = min(sizes.steps * math.ceil(EVALUATE_AFTER / sizes.steps), EVALUATE_EVERY)
    often = "epoch" if every == sizes.steps else "steps"
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=sizes.epochs,
        per_device_train_batch_size=sizes.graph,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        max_grad_norm=1.0 if settings.mode == "combined" else 5.0,
        eval_strategy=often,
        save_strategy=often,
        logging_strategy=often,
        eval_steps=every,
        save_steps=every,
        logging_steps=every,
        metric_for_best_model="score" if scored else None,
        greater_is_better=True if scored else None,
        use_cpu=device.type == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=settings.seed,
        report_to="none",
        log_level_replica="error",  # the other processes of a launcher are silent
        disable_tqdm=True,
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,  # the patience that early stopping has used up
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # on several GPUs without a launcher the library would cut the graph
    return arguments


def _least_gain(settings: TrainSettings) -> float:
    """The least improvement that counts: any for macro-F1, 0.005 for the silhouette (paper, section 4)."""
    return 0.0 if settings.mode == "combined" else 0.005
