"""The search for good settings of a loss: by its Python function here, by the command in `runs`.

Each trial trains with settings that `study` proposes, and is worth what `crossval` finds on documents that it was not
trained on. No test document is needed for that, and none comes in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.research.tuning.folds import Fold, folds_of, natural, objective_for
from graphloss.research.tuning.space import Space, start_of
from graphloss.research.tuning.study import FailedTrialError, Row, Study, Trial
from graphloss.text.documents import Documents
from graphloss.training.settings import TrainSettings
from graphloss.training.validate import make

FOLD_STEPS = 1_000
"""In the study the evaluations of fold f are the steps from f times this on."""

FAILURES = 3
"""Trials of one process that may fail in a row; then something else than what they try is wrong."""

POLL = 1.0
"""Seconds between two looks at the trials of other processes."""


@dataclass(frozen=True)
class Tuned:
    """A study as it stands.

    `value` is a log-loss (`objective` "log_loss", lower is better) or a macro-F1 ("macro_f1", higher is better) on
    documents that were not trained on, but the best of many: expect a little less on new ones. `settings` are those of
    the call with the `best` values of the searched ones in their place.
    """

    settings: TrainSettings
    best: dict[str, Any]
    objective: str
    value: float
    rows: list[Row]
    study: Study

    def count(self, state: str) -> int:
        """How many trials are "complete", "pruned" or "fail"."""
        return sum(row.state == state for row in self.rows)


class Watcher:
    """What is told of a search while it goes on; each method may be left as it is."""

    def begun(self, number: int, values: dict[str, Any]) -> None:
        """A trial has begun, with these values of the searched settings."""

    def evaluated(self, fold: int, evaluation: int, reached: float) -> None:
        """A model of the trial has been evaluated; both count from 0, `reached` is the score so far."""

    def ended(self, row: Row, tuned: Tuned | None) -> None:
        """A trial has ended; `tuned` is the study by now, None while no trial is complete."""

    def waiting(self, running: int) -> None:
        """All that is missing are trials that other processes run."""


def tune(
    train: Documents,
    validation: Documents,
    label_names: list[str],
    settings: TrainSettings,
    space: Space,
    *,
    encoder_source: str,
    trials: int,
    timeout: float | None = None,
    storage: Any = None,
    study_name: str = "graphloss",
    watcher: Watcher | None = None,
) -> Tuned:
    """Search for the settings that are worth most on documents that were not trained on.

    A study that the storage holds already is gone on with. The first trial takes the settings as they are, as far as
    they lie within the space, so that by this measure nothing worse is found. `settings.seed` decides all chance: the
    folds, the proposals, and each training.

    Args:
        train: the training documents; unlabeled ones (-1) are always trained on.
        validation: labeled documents, or none; `folds.folds_of` says which documents judge.
        label_names: names of the C classes.
        settings: how to train, but for what is searched.
        space: what is searched, for example `space.space_for(loss, mode)`.
        encoder_source: what `encoder.resolve` returned.
        trials: complete and pruned trials that the study shall have, those of all processes together.
        timeout: seconds after which this process begins no further trial; it begins one in any case.
        storage: what `storage.open_storage` returned; None keeps the study in memory.
        study_name: name of the study in the storage.
        watcher: is told how the search goes on.

    Returns:
        The study at its end, with the best settings.

    Raises:
        InputError: the space is empty, optuna is missing, the study in the storage is of other data or settings,
            nothing can be judged, the storage is lost, or trials fail one after another.
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
        identity=_identity(train, validation, label_names, settings, space, objective),
        start=start_of(space, settings),
    )

    def attempt(trial: Trial) -> float | None:
        values = trial.propose(space)
        watcher.begun(trial.number, values)

        def report(fold: int, evaluation: int, reached: float) -> bool:
            watcher.evaluated(fold, evaluation, reached)
            return trial.report(fold * FOLD_STEPS + evaluation, reached)

        return _score(_with(settings, values), folds, label_names, encoder_source, objective, report)

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
                "see whether a training with these settings goes well"
            )
    tuned = _tuned(study, settings, objective)
    if tuned is None:
        raise InputError("no trial is complete; give more trials, or more time")
    return tuned


def _score(
    settings: TrainSettings, folds: list[Fold], label_names: list[str], encoder_source: str, objective: str, report: Any
) -> float | None:
    """The worth of settings; a training that fails, by NaN or for want of memory, fails the trial and not the study."""
    import torch

    from graphloss.research.tuning.cross_validation import try_settings

    try:
        return try_settings(
            settings, folds, label_names, encoder_source=encoder_source, objective=objective, report=report
        )
    except (ArithmeticError, RuntimeError, ValueError, torch.OutOfMemoryError) as error:
        if isinstance(error, InputError):
            raise
        said = f"{type(error).__name__}: {error}"
    raise FailedTrialError(said)  # out here, since the frames of the first error hold a model


def _tuned(study: Study, settings: TrainSettings, objective: str) -> Tuned | None:
    rows = study.rows()
    complete = [row for row in rows if row.state == "complete"]
    if not complete:
        return None
    best = max(complete, key=lambda row: -math.inf if row.score is None else row.score)  # of equals the first
    assert best.score is not None
    return Tuned(
        settings=_with(settings, best.settings),
        best=best.settings,
        objective=objective,
        value=natural(objective, best.score),
        rows=rows,
        study=study,
    )


def _with(settings: TrainSettings, values: dict[str, Any]) -> TrainSettings:
    """The settings with some values replaced, checked together: which values fit depends on the loss."""
    return make(TrainSettings, asdict(settings) | values)


def _identity(
    train: Documents,
    validation: Documents,
    label_names: list[str],
    settings: TrainSettings,
    space: Space,
    objective: str,
) -> dict[str, Any]:
    """What the trials of a study have in common; the encoder by its name, since machines keep it in other places."""
    parts = [label_names, train.texts, train.labels, validation.texts, validation.labels]
    fixed = {name: value for name, value in asdict(settings).items() if name not in space}
    return {
        "data": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "settings": fixed | {"model": Path(settings.model).name if settings.model else None},
        "bounds": {name: asdict(bounds) for name, bounds in space.items()},
        "objective": objective,
    }
