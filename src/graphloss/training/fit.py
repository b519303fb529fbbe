"""Training: one encoder pass a step, a graph over the whole batch, the library's `Trainer` around it.

What the transformers `Trainer` does is left to it: loop, optimizer, schedule, mixed precision, accumulation,
checkpoints, resuming, early stopping. Ours are the model of encoder, head and loss as one module, so that a checkpoint
holds all three (`model`); class-aware batches, an evaluation that encodes the validation texts as a user would, and
checkpoints that appear whole or not at all (`trainer`).
"""

import gc
import math
import pickle
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.inference.fitted_model import FittedModel
from graphloss.inference.linear_probe import Probe
from graphloss.inference.predictor import Predictor
from graphloss.inference.self_training import SelfTrainingSummary, self_train_head
from graphloss.losses.label_trust import LabelTrust
from graphloss.text.encoder import encode, quiet_libraries
from graphloss.text.texts_and_labels import Documents
from graphloss.training import checkpoints
from graphloss.training.batches import distinct
from graphloss.training.fit_result import Fitted
from graphloss.training.frozen_layers import frozen
from graphloss.training.preflight import Preflight
from graphloss.training.pseudo_labels import pooled, pseudo_labeled
from graphloss.training.settings import TrainSettings
from graphloss.training.starting_point import SAMPLE, Start, contradicted, starting_point
from graphloss.training.trainable_model import predictor_of, start_model
from graphloss.training.trainer import GraphTrainer
from graphloss.training.weight_interpolation import Blend

EVALUATE_EVERY = 250  # steps: where an epoch is longer than this, it is evaluated and saved more than once
LABELS_ALONE = "labels-alone"  # folder of the checkpoints of the training that pseudo-labels begin with
EVALUATE_AFTER = 3  # steps at least between two evaluations, which choose the epoch
SAVE_AFTER = 6  # steps at least between two checkpoints where nothing is evaluated: one costs as much as a short step


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


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One training of the encoder; a run with pseudo-labels has two.

    Attributes:
        checked: its documents are those of the predictor's graph.
        learned: the documents of the steps; without any, nothing is trained.
        folder: of the checkpoints.
        resumable: whether a checkpoint has all that a resume needs, or the weights alone.
        began: when the run did.
    """

    encoder: SentenceTransformer
    checked: Preflight
    start: Start
    learned: Documents
    folder: Path
    resumable: bool
    callbacks: list[TrainerCallback]
    progress: bool
    began: float


@quiet_libraries()
@_random_states_kept()
def fit(
    encoder: SentenceTransformer,
    checked: Preflight,
    *,
    folder: Path | None = None,
    callbacks: list[TrainerCallback] | None = None,
    early_callbacks: list[TrainerCallback] | None = None,
    progress: bool = False,
) -> Fitted:
    """Train an encoder; resume from the last checkpoint in `folder` if there is one.

    In several processes all call this with the same arguments: they train one model together, which all return.

    Args:
        encoder: a sentence-transformers model; it is changed in place.
        checked: documents and settings that have passed the checks.
        folder: where checkpoints are written; to resume an interrupted call, repeat it with the same arguments. None
            keeps the weights of the best epoch alone, in a temporary folder.
        callbacks: further callbacks of the trainer, for example a progress bar.
        early_callbacks: the same for the training on the labels alone that pseudo-labels begin with.
        progress: draw a bar while the training documents are embedded, before and after training.

    Returns:
        The encoder of the best epoch, with what predicts from its embeddings.
    """
    began = time.perf_counter()
    settings, documents, label_names = checked.settings, checked.documents, checked.label_names
    set_seed(settings.seed)
    doubted = contradicted(encoder, checked, progress) if settings.clean == "auto" else []
    start = replace(starting_point(encoder, checked, progress), doubted=bool(doubted))
    early_history: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="graphloss-") if folder is None else nullcontext(folder) as place:
        stage = _Stage(
            encoder=encoder,
            checked=checked,
            start=start,
            learned=documents.labeled(),
            folder=Path(distributed.on_first(lambda: place)),
            resumable=folder is not None,
            callbacks=callbacks or [],
            progress=progress,
            began=began,
        )
        if start.probabilities is not None:
            stage, early_history = _with_pseudo_labels(stage, start.probabilities, early_callbacks or [])
        trainer, step, predictor = _fit_once(stage)
    summary = None
    if settings.corpus_graph == "auto" and (unlabeled := documents.unlabeled().texts):
        predictor, summary, _ = _self_trained(stage, predictor, unlabeled)
    history = checkpoints.history_of(trainer.state)
    best = next((row for row in history if row["step"] == step), history[-1] if history else None)
    return Fitted(
        model=FittedModel(
            encoder.eval(),
            predictor,
            list(label_names),
            (start.lines + documents).labeled().texts,
            settings.seed,
            len(start.lines),
        ),
        descriptions=start.gate if checked.descriptions else None,
        lines=_by_class(checked.descriptions, label_names),
        self_training=summary,
        doubted=doubted,
        history=history,
        early_history=early_history,
        best_epoch=best["epoch"] if best else None,
        seconds=time.perf_counter() - trainer.began,
    )


def _by_class(lines: Documents, label_names: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text, place in zip(lines.texts, lines.labels, strict=True):
        found.setdefault(label_names[place], []).append(text)
    return found


def _with_pseudo_labels(
    stage: _Stage, probabilities: np.ndarray, callbacks: list[TrainerCallback]
) -> tuple[_Stage, list[dict[str, Any]]]:
    """The stage that learns from copies of the labels and from pseudo-labels, and the history of the one before it."""
    labels, sizes = stage.learned, stage.checked.sizes
    history: list[dict[str, Any]] = []
    if labels:
        early = replace(stage, folder=stage.folder / LABELS_ALONE, callbacks=callbacks)
        if (last := checkpoints.last_whole(early.folder)) and not checkpoints.last_whole(stage.folder):
            stage = replace(stage, began=stage.began - checkpoints.seconds_of(last))
        trained, history = _by_labels_alone(early)
        probabilities = pooled(probabilities, trained)
    copies = labels.take([*range(len(labels))] * sizes.copies)
    pseudo = pseudo_labeled(stage.start.texts, probabilities, sizes.pseudo_labels)
    return replace(stage, learned=copies + pseudo), history


def _by_labels_alone(stage: _Stage) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Train on labels and lines alone, and set the encoder back: probabilities (m, C) of the start's texts, history."""
    encoder, sizes, texts = stage.encoder, stage.checked.sizes.labels_alone, stage.start.texts
    assert sizes is not None
    untouched = {name: value.clone() for name, value in encoder.state_dict().items()}
    stage = replace(
        stage,
        checked=replace(stage.checked, documents=stage.learned, sizes=sizes),
        start=replace(stage.start, probe=stage.start.early_probe),
        began=time.perf_counter(),
    )
    trainer, _, predictor = _fit_once(stage)
    history = checkpoints.history_of(trainer.state)
    predictor, _, z = _self_trained(stage, predictor, texts)
    encoder.load_state_dict(untouched)
    del trainer
    gc.collect()  # it has a cycle, and the optimizer's states
    return predictor.probabilities(z).numpy(), history


def _fit_once(stage: _Stage) -> tuple[GraphTrainer, int | None, Predictor]:
    """Train on lines and the learned documents: the trainer, the step of the weights kept, and what predicts."""
    checked, lines, settings = stage.checked, stage.start.lines, stage.checked.settings
    set_seed(settings.seed)
    with frozen(stage.encoder, settings.freeze):
        trainer = _trainer(stage)
        # descriptions alone, without text, train no encoder
        step = _train(trainer, stage) if stage.learned else None
        trainer.blend.keep()
        predictor = predictor_of(
            trainer.module,
            lines + checked.documents,
            checked.validation,
            len(checked.label_names),
            settings.predictor,
            progress=stage.progress,
        )
    return trainer, step, predictor


def _self_trained(
    stage: _Stage, predictor: Predictor, unlabeled: list[str]
) -> tuple[Predictor, SelfTrainingSummary, torch.Tensor]:
    """A predictor whose head the unlabeled texts have refitted, a summary, and the texts' embeddings (m, d)."""
    checked, start = stage.checked, stage.start
    z = encode(stage.encoder, unlabeled, progress=stage.progress, shared=True)
    learned = checked.documents.labeled_count or start.probabilities is not None
    predictor, summary = self_train_head(
        predictor,
        z,
        encode(stage.encoder, checked.descriptions.texts, shared=True),
        torch.tensor(checked.descriptions.labels, dtype=torch.long),
        weight=start.weight,
        support_lines=len(start.lines),
        fallback=Probe(predictor.weight, predictor.bias) if learned else None,
    )
    return predictor, summary, z


def _trainer(stage: _Stage) -> GraphTrainer:
    """Model and trainer as they are before the first step."""
    encoder, start, progress, settings = stage.encoder, stage.start, stage.progress, stage.checked.settings
    documents, classes = start.lines + stage.learned, len(stage.checked.label_names)
    sample = documents.labeled(max(SAMPLE, classes), seed=settings.seed)  # some of every class
    if settings.freeze:  # cached in one order, resumed or not: results differ in their last bits by batch;
        # in each process, which may need any document
        encode(encoder, documents.labeled().texts, progress=progress)
    seen = encode(encoder, sample.texts, progress=progress, shared=True)
    trust = None
    if start.doubted:
        own = distinct(documents.labeled())
        trust = LabelTrust(encode(encoder, own.texts, progress=progress, shared=True), torch.tensor(own.labels))
    early = [EarlyStoppingCallback(settings.patience, _least_gain(settings))] if stage.checked.validation else []
    trainer = GraphTrainer(
        start_model(encoder, seen, sample, documents, classes, settings, start.probe, trust),
        _arguments(stage),
        checked=replace(stage.checked, documents=documents),
        sample=sample,
        blend=Blend(encoder, settings.blend),
        callbacks=[*stage.callbacks, *early],
    )
    trainer.began = stage.began
    trainer.remove_callback(PrinterCallback)
    if distributed.world() > 1:
        torch.manual_seed(settings.seed + distributed.rank())  # other dropout masks in each process
    return trainer


def _train(trainer: GraphTrainer, stage: _Stage) -> int | None:
    """Train, from the last checkpoint where there is one, and load the best step, which is returned."""
    last = checkpoints.last_whole(stage.folder)
    trainer.began -= checkpoints.seconds_of(last) if last else 0
    if last and (state := checkpoints.finished(last, stage.checked.settings.patience)):
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


def _arguments(stage: _Stage) -> TrainingArguments:
    """The trainer's own settings; the best epoch is chosen by `score`."""
    settings, sizes, scored = stage.checked.settings, stage.checked.sizes, len(stage.checked.validation) > 0
    device = stage.encoder.device
    least = EVALUATE_AFTER if scored else SAVE_AFTER
    every = min(sizes.steps * math.ceil(least / sizes.steps), EVALUATE_EVERY)
    often = "epoch" if every == sizes.steps else "steps"
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    arguments = TrainingArguments(
        output_dir=str(stage.folder),
        num_train_epochs=sizes.epochs,
        per_device_train_batch_size=sizes.graph,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        max_grad_norm=1.0 if settings.mode == "combined" else 5.0,
        eval_strategy=often,
        save_strategy=often if scored or stage.resumable else "no",
        save_only_model=not stage.resumable,
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
