"""The losses by name: `config.LOSSES` says which settings each has, `build` makes one from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from graphloss import rivals
from graphloss.config import LOSSES
from graphloss.losses import GLoss

OF_THE_COMBINATION = ("weight",)
"""Settings of a loss that are not its own: λ belongs to `losses.Combined`."""

RIVALS: Mapping[str, type[rivals.Rival]] = MappingProxyType(
    {"supcon": rivals.SupCon, "triplet": rivals.Triplet, "cosine": rivals.Cosine, "nca": rivals.NCA}
)


def build(
    name: str, settings: Mapping[str, Any], *, num_classes: int, class_weights: Tensor | None = None, seed: int = 0
) -> nn.Module | None:
    """A loss (embeddings (n, d), labels (n,)) -> scalar by its name; None for "ce", which has no loss beside its head.

    Args:
        name: one of `config.LOSSES`.
        settings: values by the names of `config.TrainSettings`; those of other losses are passed over.
        num_classes: C.
        class_weights: (C,) for the losses that weigh their documents by class (gloss, gloss-paper).
        seed: of the random split of gloss-paper.

    Returns:
        A module with an attribute `coverage`: 0-d, the share of the labelled documents that the last batch asked.

    Raises:
        ValueError: there is no loss of that name, or a setting is out of its bounds.
    """
    if name not in LOSSES:
        raise ValueError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}")
    own = {each: settings[each] for each in LOSSES[name] if each not in OF_THE_COMBINATION}
    match name:
        case "ce":
            return None
        case "gloss":
            return GLoss(mode="loo", class_weights=class_weights, num_classes=num_classes, **own)
        case "gloss-paper":
            return GLoss(mode="paper", class_weights=class_weights, num_classes=num_classes, seed=seed, **own)
    return RIVALS[name](**own)
