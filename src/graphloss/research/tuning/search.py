"""The search for good settings of a loss, as a Python function; `command` is the command.

Each trial trains with settings proposed by `study` and is scored by `cross_validation` on held-out documents. Test
documents are never used.
"""

import hashlib
import itertools
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.research.tuning.folds import Fold, as_metric, folds_of, objective_for
from graphloss.research.tuning.space import Space, start_of
from graphloss.research.tuning.study import FailedTrialError, Row, Study, Trial
from graphloss.text.texts_and_labels import Documents
from graphloss.training.settings import TrainSettings
from graphloss.training.settings_errors import make

FOLD_STEPS = 1_000
"""In the study, the evaluations of fold f are the steps from f times this on."""

FAILURES = 3
"""Consecutive failed trials of a process after which the search ends: the cause is then not their settings."""

POLL = 1.0
"""Seconds between checks of the trials of other processes."""


@dataclass(frozen=True)
class Tuned:
    """The state of a study.

    `value` is a log-loss (`objective` "log_loss", lower is better) or a macro-F1 ("macro_f1", higher is better) on
    held-out documents. As the best of many trials it is slightly optimistic. `settings` are those of the call, with the
    `best` values of the searched ones.
    """

    settings: TrainSettings
    best: dict[str, Any]
    objective: str
    value: float
    rows: list[Row]
    study: Study

    def count(self, state: str) -> int:
        """Number of trials in a state: "complete", "pruned" or "fail"."""
        return sum(row.state == state for row in self.rows)


class Watcher:
    """Callbacks of a search; override those needed."""

    def begun(self, number: int, values: dict[str, Any]) -> None:
        """A trial has begun with these values of the searched settings."""

    def evaluated(self, fold: int, evaluation: int, reached: float) -> None:
        """A model of the trial was evaluated; both numbers count from 0, `reached` is the score so far."""

    def ended(self, row: Row, tuned: Tuned | None) -> None:
        """A trial has ended; `tuned` is the study, None while no trial is complete."""

    def waiting(self, running: int) -> None:
        """Only trials of other processes are still running."""


def tune(
    train: Documents,
    validation: Documents,
    label_names: list[str],
    settings: TrainSettings,
    space: Space,
    *,
    encoder_source: str,
    trials: int,
    descriptions: Documents | None = None,
    timeout: float | None = None,
    storage: Any = None,
    study_name: str = "graphloss",
    watcher: Watcher | None = None,
) -> Tuned:
    """Search for the settings with the best score on held-out documents.

    A study in the storage is resumed. The first trial uses the specified settings, as far as the space contains them,
    so the result is never worse by this metric. `settings.seed` seeds the folds, the proposals and each training.

    Args:
        train: the training documents; unlabeled ones (-1) and descriptions are always trained on.
        validation: labeled documents, may be empty; `folds.folds_of` chooses the held-out documents.
        label_names: names of the C classes.
        settings: how to train, except for the searched settings.
        space: the searched settings, for example `space.space_for(loss, mode)`.
        encoder_source: the result of `encoder_source.resolve`.
        trials: number of complete and pruned trials of the study, over all processes.
        descriptions: lines about classes.
        timeout: seconds after which this process begins no further trial; it runs at least one.
        storage: the result of `storage.open_storage`; None keeps the study in memory.
        study_name: name of the study in the storage.
        watcher: callbacks.

    Raises:
        InputError: the study in the storage has other data or settings, no document can be held out, the storage is
            lost, or trials fail one after another.
    """
    if not space:
        raise InputError("the space is empty: expected at least one setting to search")
    watcher, began = watcher or Watcher(), time.monotonic()
    folds = folds_of(train, validation, seed=settings.seed)
    objective = objective_for(sum(label >= 0 for label in train.labels + validation.labels))
    study = Study(
        storage,
        study_name,
        seed=settings.seed,
        identity=_identity(train, validation, label_names, settings, space, objective, descriptions),
        start=start_of(space, settings),
    )

    def attempt(trial: Trial) -> float | None:
        values = trial.propose(space)
        watcher.begun(trial.number, values)

        def report(fold: int, evaluation: int, reached: float) -> bool:
            watcher.evaluated(fold, evaluation, reached)
            return trial.report(fold * FOLD_STEPS + evaluation, reached)

        return _score(
            _updated(settings, values),
            folds,
            label_names,
            encoder_source=encoder_source,
            objective=objective,
            descriptions=descriptions,
            report=report,
        )

    failed: list[Row] = []
    for ran in itertools.count():
        unbegun, running = study.missing(trials)
        late = timeout is not None and time.monotonic() - began >= timeout
        if (late and ran) or (not unbegun and (late or not running)):
            break
        if not unbegun:
            watcher.waiting(running)
            time.sleep(POLL)
            continue
        row = study.run(attempt)
        if row is not None:
            failed = [*failed, row] if row.state == "fail" else []
            watcher.ended(row, _tuned(study, settings, objective))
        if len(failed) == FAILURES:
            raise InputError(
                f"{FAILURES} trials in a row have failed, the last of {failed[-1].error}; "
                "check whether a training with these settings works"
            )
    tuned = _tuned(study, settings, objective)
    if tuned is None:
        raise InputError("no trial is complete; allow more trials, or more time")
    return tuned


def _score(settings: TrainSettings, folds: list[Fold], label_names: list[str], **how: Any) -> float | None:
    """Score settings; a failed training, by NaN or out of memory, fails the trial and not the study."""
    import torch

    from graphloss.research.tuning.cross_validation import try_settings

    try:
        return try_settings(settings, folds, label_names, **how)
    except (ArithmeticError, RuntimeError, ValueError, torch.OutOfMemoryError) as error:
        if isinstance(error, InputError):
            raise
        message = f"{type(error).__name__}: {error}"
    raise FailedTrialError(message)  # outside the handler, since the frames of the first error reference a model


def _tuned(study: Study, settings: TrainSettings, objective: str) -> Tuned | None:
    rows = study.rows()
    complete = [row for row in rows if row.state == "complete"]
    if not complete:
        return None
    best = max(complete, key=lambda row: -math.inf if row.score is None else row.score)  # the first of equals
    assert best.score is not None
    return Tuned(
        settings=_updated(settings, best.settings),
        best=best.settings,
        objective=objective,
        value=as_metric(objective, best.score),
        rows=rows,
        study=study,
    )


def _updated(settings: TrainSettings, values: dict[str, Any]) -> TrainSettings:
    """The settings with some values replaced, checked together: valid values depend on the loss."""
    return make(TrainSettings, asdict(settings) | values)


def _identity(
    train: Documents,
    validation: Documents,
    label_names: list[str],
    settings: TrainSettings,
    space: Space,
    objective: str,
    descriptions: Documents | None,
) -> dict[str, Any]:
    """What all trials of a study share; the encoder by its name, since its path differs between machines."""
    parts = [label_names, train.texts, train.labels, validation.texts, validation.labels]
    parts += [descriptions.texts, descriptions.labels] if descriptions else []
    fixed = {name: value for name, value in asdict(settings).items() if name not in space}
    return {
        "data": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "settings": fixed | {"model": Path(settings.model).name if settings.model else None},
        "bounds": {name: asdict(bounds) for name, bounds in space.items()},
        "objective": objective,
    }
