"""The trainer of transformers with our batches, learning rates, evaluation and checkpoints."""

import errno
import math
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from safetensors import SafetensorError
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from graphloss import distributed
from graphloss.disk import whole
from graphloss.errors import InputError, first_line
from graphloss.inference.linear_probe import linear_probe
from graphloss.inference.metrics import score
from graphloss.text.encoder import encode
from graphloss.text.texts_and_labels import Documents
from graphloss.training import checkpoints
from graphloss.training.batches import ClassAwareBatchSampler, collate, rows_of
from graphloss.training.preflight import CheckedSettings
from graphloss.training.trainable_model import GraphModel
from graphloss.training.weight_interpolation import Blend, untied

WARMUP = 0.1
"""Share of warm-up steps of `schedule="linear"`."""

STEP_DOWN_EPOCH = 30
"""Epochs after which `schedule="step"` reduces the rates to a tenth."""


class GraphTrainer(Trainer):
    """A trainer with class-aware batches, evaluation on texts, and checkpoints written whole."""

    def __init__(
        self,
        model: GraphModel,
        args: TrainingArguments,
        *,
        checked: CheckedSettings,
        sample: Documents,
        blend: Blend,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.documents, self.validation = checked.documents.labeled(), checked.validation
        self.class_names = checked.label_names
        self.sizes, self.settings = checked.sizes, checked.settings
        self.sample, self.blend = sample, blend
        self.began = time.perf_counter()
        self._restart_clocks()
        # every process computes the same buffers itself: no broadcast before a step
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(dict(model.named_buffers())))
        super().__init__(
            model,
            args,
            data_collator=partial(collate, model.encoder),
            train_dataset=rows_of(self.documents),
            eval_dataset=rows_of(self.validation),
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the trainer divides it by the accumulated batches

    @property
    def module(self) -> GraphModel:
        """The model without the library's wrappers."""
        assert isinstance(self.model, GraphModel)
        return self.model

    @property
    def folder(self) -> Path:
        """The folder of the checkpoints."""
        assert self.args.output_dir is not None
        return Path(self.args.output_dir)

    def get_train_dataloader(self) -> DataLoader:
        """Class-aware batches, of each this process's part; every labeled document once per epoch."""
        sampler = ClassAwareBatchSampler(
            self.documents.labels, self.sizes.graph, seed=self.settings.seed, part=distributed.part()
        )
        loader = DataLoader(rows_of(self.documents), batch_sampler=sampler, collate_fn=self.data_collator)
        # as for one process: accelerate's own sharding distributes whole batches and repeats documents to even them out
        return prepare_data_loader(loader, self.args.device, num_processes=1, process_index=0, put_on_device=True)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with weight decay only on the encoder's matrices, and another learning rate for head and σ."""
        if self.optimizer is None:
            module, rate, decay = self.module, self.settings.learning_rate, self.settings.weight_decay
            encoder = [p for p in module.encoder.parameters() if p.requires_grad]
            others = [p for name, p in module.named_parameters() if p.requires_grad and not name.startswith("encoder.")]
            groups = [
                {"params": [p for p in encoder if p.ndim > 1], "lr": rate, "weight_decay": decay},
                {"params": [p for p in encoder if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
                {"params": others, "lr": self.settings.head_learning_rate, "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """One of the two schedules; no step has a rate of 0, not even the first or last."""
        if self.lr_scheduler is None:
            down = STEP_DOWN_EPOCH * self.sizes.steps
            warmup = math.ceil(WARMUP * num_training_steps)

            def linear(step: int) -> float:
                if step < warmup:
                    return (step + 1) / (warmup + 1)
                return max(0.0, (num_training_steps - step) / max(1, num_training_steps - warmup))

            def steps_down(step: int) -> float:
                return 1.0 if step < down else 0.1

            chosen = steps_down if self.settings.schedule == "step" else linear
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), chosen)
        return self.lr_scheduler

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the validation documents with the blended encoder; add the averages since the last evaluation."""
        metrics: dict[str, Any] = {f"eval_{name}": value for name, value in self.module.averages().items()}
        metrics["eval_seconds"] = time.perf_counter() - self.clock
        metrics["eval_processor_seconds"] = time.process_time() - self.processor_clock
        if len(self.validation):
            truth = np.asarray(self.validation.labels)
            with self.blend.applied(), self.autocast_smart_context_manager():
                z = encode(self.module.encoder, self.validation.texts, shared=True)
                if not torch.isfinite(z).all():
                    raise InputError(
                        f"the training diverged: embeddings are no longer finite after step {self.state.global_step}; "
                        "train again with a smaller --learning-rate"
                    )
                probabilities = self.probabilities(z)
            scores = score(truth, probabilities, z.numpy(), self.class_names)
            log_loss = -float(np.log(probabilities[np.arange(len(truth)), truth] + 1e-12).mean())
            metrics |= {
                "eval_accuracy": scores.accuracy,
                "eval_macro_f1": scores.macro_f1,
                "eval_macro_silhouette": scores.macro_silhouette if scores.macro_silhouette is not None else -1.0,
            }
            metrics["eval_log_loss"] = log_loss
            if self.settings.mode == "standalone" and scores.macro_silhouette is not None:
                metrics["eval_score"] = scores.macro_silhouette
            elif self.sizes.few:  # with few validation documents macro-F1 is too noisy to compare epochs
                metrics["eval_score"] = -log_loss
            else:
                metrics["eval_score"] = scores.macro_f1
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._restart_clocks()
        return metrics

    def _restart_clocks(self) -> None:
        """Count the seconds of training from here: evaluation and the writing of a checkpoint are none."""
        self.clock, self.processor_clock = time.perf_counter(), time.process_time()

    def probabilities(self, z: torch.Tensor) -> np.ndarray:
        """Class probabilities (n, C) of unit-length embeddings (n, d): by the head, or a linear probe without one."""
        if (head := self.module.head) is not None:
            with torch.no_grad():
                return (z.to(head.weight) @ head.weight.T + head.bias).softmax(1).cpu().numpy()
        seen = encode(self.module.encoder, self.sample.texts, shared=True)
        return linear_probe(seen, self.sample.labels, len(self.class_names)).probabilities(z).numpy()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint under a hidden name, then rename it, so that it is never incomplete."""
        run, name = self.folder, checkpoints.name_at(self.state.global_step)
        writing = run / ".writing"
        distributed.on_first(lambda: shutil.rmtree(writing, ignore_errors=True))
        self.args.output_dir = str(writing)
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(writing, ignore_errors=True)
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):  # of torch's writer
                raise
            reason = getattr(error, "strerror", None) or first_line(error)
            raise OSError(error.errno if isinstance(error, OSError) else errno.EIO, reason, str(run)) from error
        finally:
            self.args.output_dir = str(run)
        self.accelerator.wait_for_everyone()  # each process writes its random state
        distributed.on_first(lambda: self._keep_checkpoint(run, writing, name))
        self._restart_clocks()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write tied weights, as of T5, only once; loading restores them under every name."""
        super()._save(output_dir, untied(state_dict or self.module.state_dict()))

    def _keep_checkpoint(self, run: Path, writing: Path, name: str) -> None:
        """Rename a written checkpoint; of the others keep only the best."""
        (writing / name / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        checkpoints.seal(writing / name, time.perf_counter() - self.began)
        with whole(run / name) as hidden:
            (writing / name).rename(hidden)
        shutil.rmtree(writing, ignore_errors=True)
        keep = {self.state.global_step, self.state.best_global_step}
        for folder in checkpoints.complete(run):
            if checkpoints.step_of(folder) not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def load_step(self, step: int) -> None:
        """Load encoder, head and loss as they were after `step` steps."""
        self._load_from_checkpoint(str(self.folder / checkpoints.name_at(step)))
