"""Sampler and pruner of a study.

Trials are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
optimization") and pruned by the median rule (Golovin et al. 2017, "Google Vizier", section 3.2): a trial ends if its
score is below the median score of the finished trials at the same step.

Random numbers are seeded by (seed, rank of the trial): a study in one process is reproducible, and processes that share
a study never draw the same. The rank counts a trial and its repetitions after kills once, so that a study that was
killed and resumed draws what an undisturbed one does.
"""

from typing import Any

import numpy as np

STARTUP = 5
"""Trials proposed at random, and finished trials required before any is pruned."""

WARM_UP = 2
"""Steps before which no trial is pruned: the learning rate is still rising."""


def sampler(seed: int) -> Any:
    """A sampler for optuna."""
    from optuna.samplers import TPESampler

    class Numbered(TPESampler):
        """optuna's TPE sampler, begun anew for each trial with a seed by its rank."""

        def before_trial(self, study: Any, trial: Any) -> None:
            first = trial.system_attrs.get("failed_trial", trial.number)  # that of a trial begun again
            earlier = study.get_trials(deepcopy=False)[:first]
            rank = sum("failed_trial" not in each.system_attrs for each in earlier)
            number = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
            super().__init__(seed=number, n_startup_trials=STARTUP)
            super().before_trial(study, trial)

    return Numbered(seed=seed, n_startup_trials=STARTUP)


def pruner() -> Any:
    """A pruner for optuna."""
    from optuna.pruners import BasePruner

    class Median(BasePruner):
        """The median rule at equal steps.

        optuna's own rule uses the best of all steps of a trial, which after an easy first fold would never change.
        """

        def prune(self, study: Any, trial: Any) -> bool:
            step = trial.last_step
            if step is None or len(trial.intermediate_values) < WARM_UP:
                return False
            done = [each for each in study.get_trials(deepcopy=False) if each.state.name == "COMPLETE"]
            reached = [each.intermediate_values[step] for each in done if step in each.intermediate_values]
            return len(reached) >= STARTUP and trial.intermediate_values[step] < float(np.median(reached))

    return Median()
