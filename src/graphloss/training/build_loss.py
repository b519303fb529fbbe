"""The losses by name: `settings.LOSSES` lists the settings of each, `build` makes one from them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from graphloss.losses import baselines
from graphloss.losses.memory_bank import Memory
from graphloss.losses.modules import GLoss
from graphloss.training.settings import LOSSES

OF_THE_COMBINATION = ("weight",)
"""Settings that belong to `modules.Combined` and not to the loss itself: λ."""

BASELINES: Mapping[str, type[baselines.BaselineLoss]] = MappingProxyType(
    {"supcon": baselines.SupCon, "triplet": baselines.Triplet, "cosine": baselines.Cosine, "nca": baselines.NCA}
)


def build(
    name: str,
    settings: Mapping[str, Any],
    *,
    num_classes: int,
    dimensions: int | None = None,
    class_weights: Tensor | None = None,
    seed: int = 0,
) -> nn.Module | None:
    """A loss (embeddings (n, d), labels (n,)) -> scalar by its name; None for "ce", cross-entropy alone.

    Args:
        name: one of `settings.LOSSES`.
        settings: values by the names of `TrainSettings`; those of other losses are ignored.
        num_classes: C.
        dimensions: d of the embeddings, for the memory of gloss.
        class_weights: (C,) for the losses with class weights (gloss, gloss-paper).
        seed: of the random split of gloss-paper.

    Returns:
        A module with an attribute `coverage`: 0-d, the share of the labeled documents of the last batch that are
        anchors.

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
            each = own.pop("memory")
            if each and dimensions is None:
                raise ValueError("a memory needs the dimensions of the embeddings; pass dimensions=")
            memory = Memory(num_classes, each, dimensions or 0) if each else None
            return GLoss(mode="loo", class_weights=class_weights, num_classes=num_classes, memory=memory, **own)
        case "gloss-paper":
            return GLoss(mode="paper", class_weights=class_weights, num_classes=num_classes, seed=seed, **own)
    return BASELINES[name](**own)
