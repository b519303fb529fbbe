"""What a study tries next, and what it gives up.

Trials are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
optimization") and cut short by the median rule (Golovin et al. 2017, "Google Vizier", section 3.2): a trial ends where
what it has reached is worse than what half of the finished trials had reached at the same step.

Random numbers are those of (seed, number of the trial): a study of one process can be repeated exactly, and processes
that share one never draw the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STARTUP = 5
"""Trials that are proposed at random, and finished trials before which none is cut short."""

WARM_UP = 2
"""Steps of a trial that are never judged: the first comes while the learning rate still rises."""


def sampler(seed: int) -> Any:
    """Proposes the settings of a trial, as optuna takes it."""
    from optuna.samplers import BaseSampler, TPESampler

    class Numbered(BaseSampler):
        """The library's sampler, with fresh random numbers for each trial, by its number."""

        def __init__(self) -> None:
            self.own = TPESampler(seed=seed, n_startup_trials=STARTUP)

        def before_trial(self, study: Any, trial: Any) -> None:
            number = int(np.random.SeedSequence([seed, trial.number]).generate_state(1)[0])
            self.own = TPESampler(seed=number, n_startup_trials=STARTUP)
            self.own.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self.own.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self.own.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self.own.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self.own.after_trial(study, trial, state, values)

    return Numbered()


def pruner() -> Any:
    """Says which trial is not worth going on with, as optuna takes it."""
    from optuna.pruners import BasePruner

    class Median(BasePruner):
        """Compares at the same step.

        The library's own rule takes the best of all steps of the trial; after an easy first fold no other would count.
        """

        def prune(self, study: Any, trial: Any) -> bool:
            step = trial.last_step
            if step is None or len(trial.intermediate_values) < WARM_UP:
                return False
            done = [each for each in study.get_trials(deepcopy=False) if each.state.name == "COMPLETE"]
            reached = [each.intermediate_values[step] for each in done if step in each.intermediate_values]
            return len(reached) >= STARTUP and trial.intermediate_values[step] < float(np.median(reached))

    return Median()
