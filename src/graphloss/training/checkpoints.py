"""Checkpoints of the trainer: how they are called, which can be resumed, and the history in their state."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from graphloss import distributed
from graphloss.inference.checksums import digests

STATE, WEIGHTS, STOPPING = "trainer_state.json", "model.safetensors", "EarlyStoppingCallback"
SEAL = "checksums.json"
ALONE = "rng_state.pth"  # the random states of a training in one process


def name_at(step: int) -> str:
    """The name of the checkpoint after so many steps, as the library writes and reads it."""
    return f"{PREFIX_CHECKPOINT_DIR}-{step}"


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / STATE).is_file()]
    return sorted(found, key=step_of)


def seal(checkpoint: Path, seconds: float) -> None:
    """Write down the SHA-256 of every file of a checkpoint, and for how long its training has worked."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.name != SEAL)
    found = {"seconds": seconds, "files": digests(checkpoint, names)}
    (checkpoint / SEAL).write_text(json.dumps(found), encoding="utf-8")


def seconds_of(checkpoint: Path) -> float:
    """For how long the training had worked at a checkpoint, all its parts together."""
    return float(json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["seconds"])


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint of which every file is as it was written: damage costs an epoch and not the run."""
    return next((path for path in reversed(complete(folder)) if _whole(path)), None)


def damaged(folder: Path) -> list[Path]:
    """The checkpoints that are newer than the last whole one."""
    found, last = complete(folder), last_whole(folder)
    return found if last is None else found[found.index(last) + 1 :]


def _whole(checkpoint: Path) -> bool:
    """Whether every file that a resume reads is intact: states, random states, and the best weights so far."""
    # random states: one file, or one per process; the training may be resumed with another number of processes
    numbered = sorted(path.name for path in checkpoint.glob("rng_state_*.pth"))
    taken_over = len(numbered) > 1 or (checkpoint / ALONE).is_file()
    own = [ALONE] if distributed.world() == 1 else [f"rng_state_{rank}.pth" for rank in range(distributed.world())]
    states = (numbered or [ALONE]) if taken_over else own
    try:
        best = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["best_global_step"] or step_of(checkpoint)
        return _unchanged(checkpoint, (STATE, WEIGHTS, "optimizer.pt", "scheduler.pt", *states)) and _unchanged(
            checkpoint.with_name(name_at(best)), (WEIGHTS,)
        )
    except (KeyError, OSError, TypeError, ValueError, AttributeError):
        return False


def _unchanged(checkpoint: Path, needed: tuple[str, ...]) -> bool:
    """Whether the files that are needed are among those of a checkpoint, and these are what was written."""
    recorded = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
    return recorded.keys() >= {*needed} and digests(checkpoint, recorded) == recorded


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
