"""A study, by optuna: trials in a storage shared by processes and machines; a higher score is better."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError, first_line
from graphloss.report.figures import GRID, new_figure
from graphloss.report.sections import Page, part
from graphloss.research.tuning import killed_trials
from graphloss.research.tuning.killed_trials import ERROR, VALUES
from graphloss.research.tuning.sampler import pruner, sampler
from graphloss.research.tuning.space import Range, Space
from graphloss.research.tuning.storage import library

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

IDENTITY = "graphloss"
"""Name of the user attribute of a study."""

AXIS = {"gridcolor": GRID, "zeroline": False}


@dataclass(frozen=True)
class Row:
    """One trial. `state` is "complete", "pruned", "fail" or "running"; `score` is None before the first evaluation."""

    number: int
    state: str
    score: float | None
    settings: dict[str, Any]
    steps: int
    seconds: float | None
    error: str | None


class FailedTrialError(Exception):
    """The training of a trial failed; the study stores the message and continues."""


class Trial:
    """A running trial."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial
        self.number: int = trial.number

    def propose(self, space: Space) -> dict[str, Any]:
        """A value for each setting, rounded to four significant digits before its use, so that reports are exact."""
        values: dict[str, Any] = {}
        for name, bounds in space.items():
            if isinstance(bounds, Range):
                found = self._trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
                values[name] = min(max(float(f"{found:.4g}"), bounds.low), bounds.high)
            else:
                values[name] = self._trial.suggest_categorical(name, bounds.values)
        self._trial.set_user_attr(VALUES, values)
        return values

    def report(self, step: int, score: float) -> bool:
        """Record the score at a step; true if the trial is to be pruned."""
        self._trial.report(score, step)
        return bool(self._trial.should_prune())


class Study:
    """A study, new or resumed.

    Args:
        storage: the result of `open_storage`; None keeps the study in memory.
        name: of the study in the storage, where none has it with another identity.
        seed: of the proposals.
        identity: what all trials share, serializable as JSON.
        start: settings of the first trial.
    """

    def __init__(
        self,
        storage: BaseStorage | None,
        name: str,
        *,
        seed: int,
        identity: Mapping[str, Any],
        start: Mapping[str, Any],
    ) -> None:
        self.optuna, self.name = library(), name
        with self._quiet():
            self.study = self.optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                sampler=sampler(seed),
                pruner=pruner(),
                load_if_exists=True,
            )
            self._check_identity(json.loads(json.dumps(identity)))
            if start and not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(dict(start), skip_if_exists=True)
            killed_trials.repeat_interrupted(self.study)

    def run(self, objective: Callable[[Trial], float | None]) -> Row | None:
        """Run one trial: `objective` returns its score, or None if `Trial.report` pruned it.

        Returns:
            The trial; None if other processes declared it failed meanwhile, as after a suspension of the machine.
        """
        ended: list[FrozenTrial] = []
        given_up = False

        def attempt(trial: Any) -> float:
            nonlocal given_up
            killed_trials.claim(trial)
            try:
                score = objective(Trial(trial))
            except FailedTrialError as error:
                trial.set_user_attr(ERROR, str(error))
                raise
            finally:
                given_up = self.study.get_trials(deepcopy=False)[trial.number].state.is_finished()
            if score is None:
                raise self.optuna.TrialPruned
            return score

        with self._quiet():
            try:
                self.study.optimize(
                    attempt, n_trials=1, catch=(FailedTrialError,), callbacks=[lambda study, trial: ended.append(trial)]
                )
            except Exception:
                if not given_up:
                    raise
        return _row(ended[0]) if ended else None

    def missing(self, trials: int) -> tuple[int, int]:
        """How many trials may begin now for `trials` complete or pruned ones, and how many are running.

        None may begin while it is unknown whether a running one was killed: it would be repeated first.
        """
        with self._quiet():
            killed_trials.repeat_killed(self.study)
            rows = self.study.get_trials(deepcopy=False)
        done = [trial for trial in rows if trial.state.name in ("COMPLETE", "PRUNED")]
        running = [trial for trial in rows if trial.state.name == "RUNNING" and _is_alive(trial, done)]
        unbegun = max(trials - len(done) - len(running), 0) if all(map(killed_trials.is_claimed, running)) else 0
        return unbegun, len(running) if len(done) < trials else 0

    def rows(self) -> list[Row]:
        """All trials that have begun, by number."""
        with self._quiet():
            return [_row(trial) for trial in self.study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def page(self, title: str, axis: str, value: Callable[[float], float]) -> str:
        """The trials over time and by setting, as one self-contained HTML file; `value` is the metric of a score."""
        draw, options = self.optuna.visualization, {"target": lambda trial: value(trial.value), "target_name": axis}
        with self._quiet():
            figures = {
                "Trials over time": draw.plot_optimization_history(self.study, **options),
                "Trials by setting": draw.plot_slice(self.study, **options),
            }
        page = Page()
        for name, figure in figures.items():
            figure.update_layout(new_figure(380).layout, title=None).update_xaxes(AXIS).update_yaxes(AXIS)
            page.section(name, "", page.figure(figure))
        head = part("head", "graphloss tune", title)
        return page.render(title=f"{title} · graphloss", head=head, footer="Written by graphloss tune.")

    def _check_identity(self, identity: Mapping[str, Any]) -> None:
        kept = self.study.user_attrs.get(IDENTITY)
        if kept is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(IDENTITY, identity)
            return
        if kept != identity:
            raise InputError(
                f"study '{self.name}': was begun with other {_differences(kept or {}, identity)}; "
                "use the same, or another --study"
            )

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Silence optuna's log messages, and turn a lost storage into one error message."""
        verbosity = self.optuna.logging.get_verbosity()
        self.optuna.logging.set_verbosity(self.optuna.logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
                yield
        except Exception as error:
            lost: BaseException | None = error
            while lost is not None and not isinstance(lost, self.optuna.exceptions.StorageInternalError):
                lost = lost.__context__  # the library raises a second error while it handles the first
            if lost is None:
                raise
            raise InputError(
                f"the storage is no longer available ({first_line(lost.__cause__ or lost)}); "
                "run the same command again to resume when it is back"
            ) from error
        finally:
            self.optuna.logging.set_verbosity(verbosity)


def _row(trial: FrozenTrial) -> Row:
    steps = trial.intermediate_values
    return Row(
        number=trial.number,
        state=trial.state.name.lower(),
        score=trial.value if trial.state.name == "COMPLETE" else steps[max(steps)] if steps else None,
        settings=trial.user_attrs.get(VALUES, {}),
        steps=len(steps),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        error=trial.user_attrs.get(ERROR),
    )


def _is_alive(trial: FrozenTrial, done: list[FrozenTrial]) -> bool:
    """Whether a running trial may still end; one of another machine, killed before its first heartbeat, will not."""
    longest = max((each.duration.total_seconds() for each in done if each.duration), default=0.0)
    return killed_trials.age(trial) < killed_trials.GRACE + 3 * longest


def _differences(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Names of the values that differ, for settings of each one."""
    found = []
    for name in sorted(stored.keys() | requested.keys()):
        old, new = stored.get(name), requested.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            inner = ", ".join(each for each in sorted(old.keys() | new.keys()) if old.get(each) != new.get(each))
            found.append(f"{name} ({inner})")
        else:
            found.append(name)
    return " and ".join(found)
