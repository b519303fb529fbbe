"""Trials whose process was killed: each is noticed, and begun again with its settings under the next number.

On this machine it is noticed at once, elsewhere when the heartbeats have stayed away for `GRACE` seconds. A
study that was killed and resumed by one process therefore runs the trials of an undisturbed one, in their order.
"""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

GRACE = 60
"""Seconds without a heartbeat until a process of another machine counts as killed."""

RETRIES = 3
"""How often a trial whose process was killed is begun again with its settings."""

OWNER, VALUES, ERROR = "process", "settings", "error"
"""Names of the user attributes of a trial: where it runs, its settings, and why its training failed."""

FIRST, HISTORY = "failed_trial", "retry_history"
"""Names of optuna's attributes of a trial that is begun again: the number of the first attempt, and of all."""


def claim(trial: Any) -> None:
    """Note that this process runs a trial."""
    trial.set_user_attr(OWNER, [_machine(), os.getpid()])


def repeat_killed(study: Study) -> None:
    """Begin trials again whose process is gone."""
    import optuna

    optuna.storages.fail_stale_trials(study)  # repeats those of other machines
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING" and _is_killed(trial):
            with suppress(ValueError):  # another process noticed it first
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                repeat(study, trial)


def repeat_interrupted(study: Study) -> None:
    """Begin trials again that ended without an error and were not repeated: a kill or Ctrl-C came in between."""
    trials = study.get_trials(deepcopy=False)
    repeated = {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}
    for trial in trials:
        if trial.state.name == "FAIL" and ERROR not in trial.user_attrs and trial.number not in repeated:
            repeat(study, trial)


def repeat(study: Study, trial: FrozenTrial) -> None:
    """Queue a trial again, up to `RETRIES` times; if it had not got all its settings, to draw them anew."""
    import optuna

    history = [*trial.system_attrs.get(HISTORY, []), trial.number]
    drawn = VALUES in trial.user_attrs
    if len(history) <= RETRIES:
        study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.WAITING,
                params=trial.params if drawn else None,
                distributions=trial.distributions if drawn else None,
                system_attrs=trial.system_attrs | {FIRST: history[0], HISTORY: history},
            )
        )


def is_claimed(trial: FrozenTrial) -> bool:
    """False between the creation of a trial and `claim`, a fraction of a second, if its process lives."""
    return OWNER in trial.user_attrs


def age(trial: FrozenTrial) -> float:
    """Seconds since a trial has begun."""
    return (datetime.now() - trial.datetime_start).total_seconds() if trial.datetime_start else 0.0


def _is_killed(trial: FrozenTrial) -> bool:
    if not is_claimed(trial):
        return age(trial) >= GRACE
    machine, process = trial.user_attrs[OWNER]
    if machine != _machine() or os.name == "nt":  # there os.kill would end it
        return False
    with suppress(PermissionError):  # it lives, and is another user's
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
    return False


def _machine() -> str:
    """A fingerprint of this machine and, on Linux, of the container that numbers its processes."""
    name = platform.node()
    with suppress(OSError):
        name += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(name.encode()).hexdigest()[:16]
