"""The search space: the settings of a loss in a mode, with their bounds.

The bounds are wide around the defaults (docs/research/defaults.md) and the published values (arXiv 2604.25853,
section 4).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from graphloss.errors import InputError
from graphloss.losses.sigma import AUTO_SIGMA
from graphloss.training.settings import LOSSES, TrainSettings


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, both included, uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """One of several numbers."""

    values: tuple[float, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = Mapping[str, Range | Choices]

BOUNDS: Space = MappingProxyType(
    {
        "learning_rate": Range(2e-5, 3e-4, log=True),
        "weight": Range(0.1, 0.9),
        "sigma": Range(0.1, 1.0, log=True),
        "alpha": Choices((1.0, 0.9, 0.7)),  # 1 is another method, which a range would never hit
        "gamma": Range(0.3, 0.9),
        "temperature": Range(0.03, 0.7, log=True),
        "margin": Range(0.05, 2.0, log=True),  # unit vectors are at most 2 apart
    }
)


def space_for(loss: str, mode: str, memory: int = 0) -> dict[str, Range | Choices]:
    """The search space of a loss: the learning rate and its own settings, without a weight λ in "standalone" mode.

    With a memory α is not searched, since it has to be 1.
    """
    left_out = {*(["weight"] if mode == "standalone" else []), *(["alpha"] if memory else [])}
    own = {"learning_rate", *LOSSES[loss]} - left_out
    return {name: bounds for name, bounds in BOUNDS.items() if name in own}


def remaining(space: Space, specified: Collection[str]) -> dict[str, Range | Choices]:
    """The space without the settings that the user specified, of which at least one is left."""
    left = {name: bounds for name, bounds in space.items() if name not in specified}
    if not left:
        raise InputError(f"no setting to search: {', '.join(space)} are all specified; leave out those to search")
    return left


def start_of(space: Space, settings: TrainSettings) -> dict[str, Any]:
    """Start of the search: the specified settings, clamped to the bounds."""
    values = {name: getattr(settings, name) for name in space}
    if values.get("sigma") == "auto":
        values["sigma"] = AUTO_SIGMA
    near = {
        name: min(max(value, bounds.low), bounds.high)
        for name, value in values.items()
        if isinstance(bounds := space[name], Range) and isinstance(value, int | float)
    }
    return {name: value for name, value in (values | near).items() if value in space[name]}
