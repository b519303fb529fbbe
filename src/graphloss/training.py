"""Training: one encoder pass a step, a graph over the whole batch, the library's `Trainer` around it.

What the transformers `Trainer` does is left to it (loop, optimiser, schedule, mixed precision, accumulation, checkpoints, resuming, early
stopping). Ours are the model of encoder, head and loss as one module, so that a checkpoint holds all three; class-aware batches;
an evaluation that encodes the validation texts as a user would; and checkpoints that appear whole or not at all.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from graphloss.config import TrainSettings
from graphloss.encoder import embed, encode
from graphloss.evaluation import linear_probe, score
from graphloss.losses import Combined, GLoss, balanced_class_weights
from graphloss.prediction import Predictor
from graphloss.sampling import ClassAwareBatchSampler

SAMPLE = 2048  # labelled documents that calibrate σ, start the head and judge a headless encoder between epochs
EVALUATE_EVERY = 250  # steps: where an epoch is longer than this, it is evaluated and saved more than once
LEAST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 60, 3, 20
SMALLEST_GRAPH, LARGEST_GRAPH, STEPS_OF_EPOCH = 32, 128, 8
STATE, STOPPING = "trainer_state.json", "EarlyStoppingCallback"


@dataclass(frozen=True)
class Documents:
    """Texts with their class index; -1 is unlabelled."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def labelled(self, most: int | None = None, *, seed: int = 0) -> Documents:
        """The labelled documents; with `most`, at most so many, as equal in number over the classes as they allow."""
        known = [row for row, label in enumerate(self.labels) if label >= 0]
        if most is not None and len(known) > most:
            order = np.random.default_rng(seed).permutation(known)
            turn: dict[int, int] = {}
            ranked = []  # (how many of its class came before it, place): the first of each class, then the second, ...
            for place, row in enumerate(order):
                label = self.labels[row]
                turn[label] = turn.get(label, -1) + 1
                ranked.append((turn[label], place))
            known = sorted(int(order[place]) for _, place in sorted(ranked)[:most])
        return Documents([self.texts[row] for row in known], [self.labels[row] for row in known])


@dataclass(frozen=True)
class Fitted:
    """What training leaves behind: the encoder of the best epoch, what predicts from its embeddings, and how it went.

    `seconds` is the time of the whole call.
    """

    encoder: Any
    predictor: Predictor
    history: list[dict[str, Any]]
    best_epoch: float | None
    seconds: float


class GraphModel(nn.Module):
    """Encoder, head and loss as one module: texts and labels in, a loss out, everything learned in one `state_dict`."""

    def __init__(self, encoder: nn.Module, head: nn.Linear | None, objective: Combined | GLoss) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.seen: list[dict[str, float]] = []  # parts of the loss of each batch since they were last asked for

    def forward(self, features: dict[str, Any], labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One pass: `features` of n texts and `labels` (n,) to a scalar loss."""
        z = embed(self.encoder, features)  # (n, d)
        if isinstance(self.objective, Combined):
            with torch.autocast(z.device.type, enabled=False):
                logits = self.head(z)  # (n, C)
            result = self.objective(z, logits, labels)
            parts = {"loss": result.loss, "ce": result.ce}
            if self.objective.graph_loss is not None:
                parts |= {"graph": result.graph, "coverage": result.coverage}
        else:
            loss = self.objective(z, labels)
            parts = {"loss": loss, "graph": loss, "coverage": self.objective.coverage}
        self.seen.append({name: float(value.detach()) for name, value in parts.items()})
        return {"loss": parts["loss"]}

    def averages(self) -> dict[str, float]:
        """Means over the batches since the last call."""
        names = self.seen[0] if self.seen else {}
        means = {name: float(np.mean([batch[name] for batch in self.seen])) for name in names}
        self.seen.clear()
        return means


class Collator:
    """Rows of a batch -> what `GraphModel.forward` takes; tokenised here, so that nothing as large as the corpus is kept twice."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def __call__(self, rows: list[tuple[str, int]]) -> dict[str, Any]:
        texts, labels = zip(*rows, strict=True)
        return {"features": self.encoder.preprocess(list(texts)), "labels": torch.tensor(labels)}


class Rows(torch.utils.data.Dataset):
    """Documents as a torch data set of (text, label)."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, row: int) -> tuple[str, int]:
        return self.documents.texts[row], self.documents.labels[row]


class GraphTrainer(Trainer):
    """The library's trainer with class-aware batches, evaluation on texts, and checkpoints that appear whole."""

    def __init__(self, *args: Any, documents: Documents, validation: Documents, label_names: list[str], settings: TrainSettings, **options: Any) -> None:
        self.documents, self.validation, self.class_names, self.settings = documents, validation, label_names, settings
        self.sample = documents.labelled(SAMPLE, seed=settings.seed)
        self.clock = time.perf_counter()
        super().__init__(*args, train_dataset=Rows(documents), eval_dataset=Rows(validation), **options)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the trainer divides it by the number of accumulated batches

    def get_train_dataloader(self) -> DataLoader:
        """Batches by class; every document once an epoch."""
        size = batch_size_for(len(self.documents), self.settings)
        sampler = ClassAwareBatchSampler(self.documents.labels, size, seed=self.settings.seed)
        loader = DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW: decay on the encoder's matrices alone, a rate of their own for head and σ, which start from scratch."""
        if self.optimizer is None:
            module, settings = self.model, self.settings
            encoder = [p for p in module.encoder.parameters() if p.requires_grad]
            others = [p for name, p in module.named_parameters() if p.requires_grad and not name.startswith("encoder.")]
            groups = [
                {"params": [p for p in encoder if p.ndim > 1], "lr": settings.learning_rate, "weight_decay": 0.01},
                {"params": [p for p in encoder if p.ndim <= 1], "lr": settings.learning_rate, "weight_decay": 0.0},
                {"params": others, "lr": settings.head_learning_rate, "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the validation documents as a user would see them, and say how the training went since the last time."""
        metrics: dict[str, Any] = {f"eval_{name}": value for name, value in self.model.averages().items()}
        metrics["eval_seconds"] = time.perf_counter() - self.clock
        if len(self.validation):
            with self.autocast_smart_context_manager():
                z = encode(self.model.encoder, self.validation.texts)
            truth = np.asarray(self.validation.labels)
            scores = score(truth, self.probabilities(z), z.numpy(), self.class_names)
            metrics |= {
                "eval_accuracy": scores.accuracy,
                "eval_macro_f1": scores.macro_f1,
                "eval_macro_silhouette": scores.macro_silhouette if scores.macro_silhouette is not None else -1.0,
            }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.clock = time.perf_counter()
        return metrics

    def probabilities(self, z: torch.Tensor) -> np.ndarray:
        """Class probabilities (n, C) of unit-length embeddings (n, d): by the head, or by a probe where there is none."""
        if self.model.head is not None:
            head = self.model.head
            with torch.no_grad():
                return (z.to(head.weight) @ head.weight.T + head.bias).softmax(1).cpu().numpy()
        with self.autocast_smart_context_manager():
            seen = encode(self.model.encoder, self.sample.texts)
        return linear_probe(seen, self.sample.labels, len(self.class_names)).probabilities(z)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint under a hidden name, then rename it: a kill never leaves half of one."""
        run, name = Path(self.args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        writing = run / ".writing"
        shutil.rmtree(writing, ignore_errors=True)
        self.args.output_dir = str(writing)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(run)
        (writing / name / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        shutil.rmtree(run / name, ignore_errors=True)
        os.replace(writing / name, run / name)
        shutil.rmtree(writing, ignore_errors=True)
        keep = {self.state.global_step, self.state.best_global_step}
        for folder in checkpoints(run):
            if step_of(folder) not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def load_step(self, step: int) -> None:
        """Load encoder, head and loss as they were after `step` steps."""
        self._load_from_checkpoint(str(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"))


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / STATE).is_file()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Number of optimiser steps that a checkpoint has behind it."""
    return int(checkpoint.name.rpartition("-")[2])


def batch_size_for(count: int, settings: TrainSettings) -> int:
    """Documents of one graph: as asked, or a power of two from 32 to 128 that makes some 8 steps of an epoch where that can be."""
    if settings.batch_size is not None:
        return settings.batch_size
    return min(max(2 ** round(math.log2(max(count / STEPS_OF_EPOCH, 1))), SMALLEST_GRAPH), LARGEST_GRAPH)


def steps_of_epoch(count: int, settings: TrainSettings) -> int:
    """Optimiser steps of one pass over `count` documents."""
    return math.ceil(math.ceil(count / batch_size_for(count, settings)) / settings.accumulate)


def epochs_for(count: int, settings: TrainSettings) -> int:
    """Passes over `count` documents: as asked, or enough for some 60 steps, 20 at the most and 3 at the least."""
    if settings.epochs is not None:
        return settings.epochs
    return min(max(math.ceil(LEAST_STEPS / steps_of_epoch(count, settings)), FEWEST_EPOCHS), MOST_EPOCHS)


def fit(
    encoder: Any,
    documents: Documents,
    validation: Documents,
    label_names: list[str],
    settings: TrainSettings,
    *,
    folder: Path,
    callbacks: list[TrainerCallback] | None = None,
    on_start: Callable[[float], None] | None = None,
) -> Fitted:
    """Train an encoder; go on from the last checkpoint in `folder` where there is one.

    Args:
        encoder: a sentence-transformers model; it is changed in place.
        documents: the training documents, labelled or not.
        validation: labelled documents that choose the best epoch; may be empty, then the last epoch is kept.
        label_names: names of the C classes.
        settings: how to train.
        folder: where checkpoints are written; an interrupted call is repeated with the same arguments to go on.
        callbacks: further callbacks of the trainer, for example a progress bar.

    Returns:
        The encoder of the best epoch, with what predicts from its embeddings.
    """
    began = time.perf_counter()
    set_seed(settings.seed)
    sample = documents.labelled(SAMPLE, seed=settings.seed)
    start = encode(encoder, sample.texts)
    model = _model(encoder, start, sample, documents, len(label_names), settings)
    judged = len(validation) > 0
    trainer = GraphTrainer(
        model,
        _arguments(settings, folder, encoder.device, count=len(documents), judged=judged),
        data_collator=Collator(encoder),
        documents=documents,
        validation=validation,
        label_names=label_names,
        settings=settings,
        callbacks=[*(callbacks or []), *([EarlyStoppingCallback(settings.patience, _least_gain(settings))] if judged else [])],
    )
    trainer.remove_callback(next(cb for cb in trainer.callback_handler.callbacks if type(cb).__name__ == "PrinterCallback"))
    if (last := next(reversed(checkpoints(folder)), None)) and (state := _finished(last, trainer)):
        trainer.state = state  # killed between the last step and the end: nothing is left to train
        trainer.load_step(state.global_step)
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if judged:
        trainer.load_step(trainer.state.best_global_step)
    history = history_of(trainer.state)
    best = next((row for row in history if row["step"] == trainer.state.best_global_step), history[-1] if history else None)
    return Fitted(
        encoder=encoder.eval(),
        predictor=_predictor(trainer, documents, validation, len(label_names)),
        history=history,
        best_epoch=best["epoch"] if best else None,
        seconds=time.perf_counter() - began,
    )


def _model(
    encoder: Any, start: torch.Tensor, sample: Documents, documents: Documents, classes: int, settings: TrainSettings
) -> GraphModel:
    """Loss and head for an encoder: σ calibrated, and the head begun as a probe, on the embeddings before training."""
    weights = None
    if settings.class_weights == "balanced":
        weights = balanced_class_weights(torch.tensor(documents.labels), classes)
    labels = torch.tensor(sample.labels)
    graph = GLoss(
        mode="loo", sigma=settings.sigma, alpha=settings.alpha, q=settings.q, class_weights=weights, num_classes=classes,
        seed=settings.seed,
    )  # fmt: skip
    graph.calibrate(start, labels)
    if settings.mode == "standalone":
        return GraphModel(encoder, None, graph)
    head = nn.Linear(start.shape[1], classes)
    probe = linear_probe(start, sample.labels, classes)
    with torch.no_grad():
        head.weight.copy_(probe.weight)
        head.bias.copy_(probe.bias)
    return GraphModel(encoder, head, Combined(graph if settings.loss == "gloss" else None, settings.weight, weights))


def _arguments(settings: TrainSettings, folder: Path, device: torch.device, *, count: int, judged: bool) -> TrainingArguments:
    """The trainer's own settings; the combined mode is judged by macro-F1, the standalone mode by silhouette (paper, section 4)."""
    often = "epoch" if steps_of_epoch(count, settings) <= EVALUATE_EVERY else "steps"
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs_for(count, settings),
        per_device_train_batch_size=batch_size_for(count, settings),
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_grad_norm=1.0 if settings.mode == "combined" else 5.0,
        eval_strategy=often,
        save_strategy=often,
        logging_strategy=often,
        eval_steps=EVALUATE_EVERY,
        save_steps=EVALUATE_EVERY,
        logging_steps=EVALUATE_EVERY,
        metric_for_best_model=("macro_f1" if settings.mode == "combined" else "macro_silhouette") if judged else None,
        greater_is_better=True if judged else None,
        use_cpu=device.type == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def _least_gain(settings: TrainSettings) -> float:
    """What counts as better: anything for macro-F1, 0.005 for the silhouette (paper, section 4)."""
    return 0.0 if settings.mode == "combined" else 0.005


def _finished(checkpoint: Path, trainer: GraphTrainer) -> Any | None:
    """The trainer's state, if training had come to its end at this checkpoint."""
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(checkpoint / STATE))
    stopping = state.stateful_callbacks.get(STOPPING, {}).get("attributes", {})
    stopped = stopping.get("early_stopping_patience_counter", 0) >= trainer.settings.patience
    return state if stopped or state.global_step >= state.max_steps else None


def history_of(state: Any) -> list[dict[str, Any]]:
    """The evaluations in a trainer's log, one dictionary each: what `metrics.jsonl` holds."""
    logged = [entry for entry in state.log_history if "eval_seconds" in entry]
    return [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in logged]


def _predictor(trainer: GraphTrainer, documents: Documents, validation: Documents, classes: int) -> Predictor:
    """Head (in standalone mode a probe on all labelled documents) and graph, mixed unless validation prefers the head alone."""
    model, known = trainer.model, documents.labelled()
    support = encode(model.encoder, known.texts)
    if model.head is not None:
        weight, bias = model.head.weight.detach().float().cpu(), model.head.bias.detach().float().cpu()
    else:
        probe = linear_probe(support, known.labels, classes)
        weight, bias = probe.weight, probe.bias
    graph = model.objective.graph_loss if isinstance(model.objective, Combined) else model.objective
    sigma = graph.bandwidth if graph is not None else GLoss().bandwidth
    mixed = Predictor(weight, bias, support, torch.tensor(known.labels), sigma, graph_share=0.5)
    alone = replace(mixed, graph_share=0.0)
    if not len(validation):
        return mixed
    z, truth = encode(model.encoder, validation.texts), np.asarray(validation.labels)
    scores = [score(truth, each.probabilities(z).numpy(), None, trainer.class_names).macro_f1 for each in (mixed, alone)]
    return mixed if scores[0] >= scores[1] else alone
