"""Checkpoints of the trainer: which can be resumed, and the history in their state."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from graphloss import distributed

STATE, WEIGHTS, STOPPING = "trainer_state.json", "model.safetensors", "EarlyStoppingCallback"
ALONE = "rng_state.pth"  # the random states of a training in one process


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / STATE).is_file()]
    return sorted(found, key=step_of)


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint without damage, so that a damaged one costs an epoch and not the run."""
    return next((path for path in reversed(complete(folder)) if _whole(path)), None)


def _whole(checkpoint: Path) -> bool:
    """Whether every file that a resume reads is intact: states, random states, and the best weights so far."""
    # random states: one file, or one per process; the training may be resumed with another number of processes
    numbered = sorted(path.name for path in checkpoint.glob("rng_state_*.pth"))
    taken_over = len(numbered) > 1 or (checkpoint / ALONE).is_file()
    own = [ALONE] if distributed.world() == 1 else [f"rng_state_{rank}.pth" for rank in range(distributed.world())]
    states = (numbered or [ALONE]) if taken_over else own
    try:
        best = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["best_global_step"]
        for step in {step_of(checkpoint), best or step_of(checkpoint)}:
            with safe_open(checkpoint.with_name(f"{PREFIX_CHECKPOINT_DIR}-{step}") / WEIGHTS, framework="pt"):
                pass
        for name in ("optimizer.pt", "scheduler.pt", *states):
            with zipfile.ZipFile(checkpoint / name) as archive:
                if archive.testzip() is not None:  # a CRC differs
                    return False
    except (KeyError, OSError, TypeError, ValueError, SafetensorError, zipfile.BadZipFile):
        return False
    return True


def step_of(checkpoint: Path) -> int:
    """Number of optimizer steps before a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def finished(checkpoint: Path, patience: int) -> TrainerState | None:
    """The trainer's state if training had finished at this checkpoint, else None."""
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    stopping = state.stateful_callbacks.get(STOPPING, {}).get("attributes", {})
    stopped = stopping.get("early_stopping_patience_counter", 0) >= patience
    return state if stopped or state.global_step >= state.max_steps else None


def history_of(state: Any) -> list[dict[str, Any]]:
    """The evaluations in a trainer's log, one dictionary each, as in `metrics.jsonl`."""
    logged = [entry for entry in state.log_history if "eval_seconds" in entry]
    return [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in logged]
