"""How far the labels confirm the descriptions of the classes: the figures of `description_prior.gate`, and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

FEW_CLASSES = 6
"""Up to so many classes, a label of each cannot tell good descriptions from swapped ones."""

UNCHECKED = (
    "one label per class cannot check the descriptions of so few classes: if a line is wrong, so is the model; read "
    "them twice, or label a second document of each class"
)


@dataclass(frozen=True)
class Gate:
    """How far the labels confirm descriptions.

    Attributes:
        weight: w of a class with labels, from 0 to 1; 0 without descriptions.
        unlabeled_weight: w of a class without any.
        over_chance: A, in nats.
        over_labels: B, in nats; None where no described class has two labels.
        right: labeled documents of described classes whose nearest description is that of their class.
        checked: labeled documents of described classes.
        classes: described classes, C'.
    """

    weight: float
    unlabeled_weight: float
    over_chance: float = 0.0
    over_labels: float | None = None
    right: int = 0
    checked: int = 0
    classes: int = 0

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Self:
        """From a dictionary with its attributes, and maybe others."""
        return cls(**{each.name: described[each.name] for each in fields(cls)})

    def __str__(self) -> str:
        if not self.checked:
            return "there is no label to check them by"
        right = f"the nearest description is right for {self.right:,} of {self.checked:,} labels"
        if self.unchecked:
            return f"{right}; these are too few to check them by"
        return f"{right}; they inform about the labels with probability {self.weight:.2f}"

    @property
    def informs(self) -> bool:
        """Are the descriptions more likely than not to inform?"""
        return self.weight >= 0.5

    @property
    def unchecked(self) -> bool:
        """Are descriptions used with too few labels and classes to tell them from swapped ones?"""
        return self.weight > 0 and self.checked > 0 and self.over_labels is None and self.classes <= FEW_CLASSES
