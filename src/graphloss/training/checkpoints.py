"""What the library's trainer leaves on disk to go on from, and what its state says of the training so far."""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

STATE, STOPPING = "trainer_state.json", "EarlyStoppingCallback"


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / STATE).is_file()]
    return sorted(found, key=step_of)


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that can be read, so that a damaged one costs an epoch and not the run."""
    return next((path for path in reversed(complete(folder)) if _readable(path)), None)


def _readable(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        with safe_open(checkpoint / "model.safetensors", framework="pt"):
            pass
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except (EOFError, OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError):
        return False
    return True


def step_of(checkpoint: Path) -> int:
    """Number of optimizer steps that a checkpoint has behind it."""
    return int(checkpoint.name.rpartition("-")[2])


def finished(checkpoint: Path, patience: int) -> TrainerState | None:
    """The trainer's state, if training had come to its end at this checkpoint."""
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    stopping = state.stateful_callbacks.get(STOPPING, {}).get("attributes", {})
    stopped = stopping.get("early_stopping_patience_counter", 0) >= patience
    return state if stopped or state.global_step >= state.max_steps else None


def history_of(state: Any) -> list[dict[str, Any]]:
    """The evaluations in a trainer's log, one dictionary each: what `metrics.jsonl` holds."""
    logged = [entry for entry in state.log_history if "eval_seconds" in entry]
    return [{name.removeprefix("eval_"): value for name, value in entry.items()} for entry in logged]
