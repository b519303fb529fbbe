"""What `paper.py` trains: budgets, losses, the settings that each loss's search tries, and the order of the cells."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from graphloss.training.settings import TrainSettings
from graphloss.training.settings_errors import make

TOKENS = {"mr": 48, "r8": 64, "r52": 64, "ohsumed": 80, "20ng": 96}  # by cost, the cheapest first
EPOCHS = {"mr": 3, "r8": 3, "r52": 3, "ohsumed": 4, "20ng": 3}
LONGEST = "20ng"  # half of the time of a seed: it comes after both modes of the others
SEEDS = {"mr": 3, "r8": 3, "r52": 3, "ohsumed": 3, "20ng": 1}
BATCH = 128
SEARCHED_ON, SEARCH_TEXTS, SCORED_TEXTS, SEARCH_EPOCHS, SEARCH_SEED = ("mr", "r8"), 1_500, 1_000, 2, 1_000
RATES, RATES_ALONE, TRIALS = (1e-4, 3e-4), (5e-5, 1e-4, 2e-4, 4e-4), 4
NEVER = 1_000_000  # patience: every training spends its budget, and the stopping rule is applied to its curve

LOSS = {
    "ce": "ce",
    "supcon": "supcon",
    "triplet": "triplet",
    "cosine": "cosine",
    "gloss-root": "gloss-paper",
    "gloss-search": "gloss-paper",
    "gloss": "gloss",
}
"""Arm -> the loss of `TrainSettings`. The published form is there twice: σ by the rule `root`, and σ searched."""

VARIANTS: dict[str, dict[str, list[dict[str, Any]]]] = {  # each with two rates; where there is none, four rates
    "combined": {
        "ce": [],
        "supcon": [{"weight": 0.5, "temperature": 0.1}, {"weight": 0.9, "temperature": 0.3}],
        "triplet": [{"weight": 0.5, "margin": 0.5}, {"weight": 0.8, "margin": 5.0}],
        "cosine": [{"weight": 0.5}, {"weight": 0.8}],
        "gloss-root": [{"weight": 0.8, "sigma": "root", "gamma": gamma} for gamma in (0.7, 0.5)],
        "gloss-search": [{"weight": 0.8, "gamma": 0.7, "sigma": sigma} for sigma in (0.15, 0.3)],
        "gloss": [{"weight": 0.5, "sigma": 0.3}, {"weight": 0.8, "sigma": 0.2}],
    },
    "standalone": {
        "supcon": [{"temperature": 0.1}, {"temperature": 0.3}],
        "triplet": [{"margin": 0.5}, {"margin": 5.0}],
        "cosine": [],
        "gloss-root": [{"sigma": "root", "gamma": gamma} for gamma in (0.7, 0.5)],
        "gloss-search": [{"gamma": 0.7, "sigma": sigma} for sigma in (0.15, 0.3)],
        "gloss": [{"sigma": 0.3}, {"sigma": 0.2}],
    },
}


@dataclass(frozen=True)
class Cell:
    """One training on a whole data set, or (`number`) one trial of the search for its settings."""

    data: str
    mode: str
    arm: str
    number: int
    trial: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What finds its row in the result table."""
        return "trial" if self.trial else "cell", f"{self.data}-{self.mode}-{self.arm}-{self.number}"


@dataclass(frozen=True)
class Budget:
    """What all losses share; None is the plan's own number for each data set."""

    encoder: str | None = None
    freeze: int = 3
    max_length: int | None = None
    epochs: int | None = None
    precision: str = "auto"

    def settings(self, cell: Cell, own: dict[str, Any] | None = None) -> TrainSettings:
        """How a cell is trained, `own` being what its search found; a trial has settings of its own.

        Raises:
            InputError: some value cannot be used.
        """
        loss = LOSS[cell.arm]
        shared = {
            "model": self.encoder,
            "freeze": self.freeze,
            "precision": self.precision,
            "max_length": self.max_length or TOKENS[cell.data],
            "epochs": SEARCH_EPOCHS if cell.trial else self.epochs or EPOCHS[cell.data],
            "seed": SEARCH_SEED if cell.trial else cell.number,
            "loss": loss,
            "mode": cell.mode,
            "batch_size": BATCH,
            "blend": 1.0,
            "predictor": "head",
            "patience": NEVER,
            "class_weights": "balanced" if loss == "gloss-paper" else "none",  # part of the published loss
        }
        if cell.trial:
            own = settings_tried(cell.mode, cell.arm)[cell.number]
        return make(TrainSettings, shared | (own or {}))


def settings_tried(mode: str, arm: str) -> list[dict[str, Any]]:
    """The four settings that a loss's search tries."""
    if not VARIANTS[mode][arm]:
        return [{"learning_rate": rate} for rate in RATES_ALONE]
    return [{"learning_rate": rate} | own for own, rate in itertools.product(VARIANTS[mode][arm], RATES)]


def trials(cell: Cell) -> list[Cell]:
    """The trials that decide a cell's settings: on its own data set, or else on those that are searched on."""
    places = (cell.data,) if cell.data in SEARCHED_ON else SEARCHED_ON
    return [Cell(place, cell.mode, cell.arm, number, trial=True) for place in places for number in range(TRIALS)]


def cells(
    data: list[str] | None = None,
    losses: list[str] | None = None,
    modes: list[str] | None = None,
    seeds: int | None = None,
) -> list[Cell]:
    """The cells of a plan, in an order in which whatever is finished answers something whole: seed by seed."""
    found = [
        Cell(name, mode, arm, seed)
        for name in data or TOKENS
        for mode in modes or VARIANTS
        for arm in VARIANTS[mode]
        for seed in range(seeds or SEEDS[name])
        if arm in (losses or LOSS)
    ]
    order = list(TOKENS)
    return sorted(found, key=lambda cell: (cell.number, cell.data == LONGEST, cell.mode, order.index(cell.data)))
