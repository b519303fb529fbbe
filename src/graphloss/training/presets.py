"""Presets of settings: `default`, and `paper`, as published with G-Loss (arXiv 2604.25853, section 4 and appendix).

A preset only fills in settings that the user does not specify. The paper tuned learning rate, γ and σ on each of its
five data sets for the standalone loss on BERT-base; for other data σ follows the paper's rule `root`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from graphloss.errors import InputError
from graphloss.training.settings import LOSSES

PRESETS = ("default", "paper")

PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "max_length": 128,
        "batch_size": 128,
        "epochs": 200,
        "patience": 10,  # best epoch by macro-F1 in combined mode, by macro silhouette in standalone mode
        "schedule": "step",  # a tenth of the rate from epoch 30 on
        "weight_decay": 0.0,  # Adam without decay
        "head_start": "random",
        "class_weights": "balanced",
        "blend": 1.0,
        "predictor": "head",  # in standalone mode the probe
    }
)

WEIGHTS = {"supcon": 0.9}  # λ by loss; the paper searched 0.5 to 0.9
WEIGHT = 0.8

TUNED = {  # learning rate, γ, σ
    "mr": (1e-5, 0.7, 0.136),
    "r8": (5e-5, 0.5, 0.253),
    "r52": (5e-5, 0.6, 0.155),
    "20ng": (2e-5, 0.3, 0.23),
    "ohsumed": (5e-5, 0.7, 0.3),
}
UNTUNED = (2e-5, 0.7, "root")


def settings(preset: str, data: str, loss: str | None = None) -> dict[str, Any]:
    """Values for `TrainSettings`, which the user's own override; without a loss, `gloss-paper` for `paper`."""
    if preset not in PRESETS:
        raise InputError(f"there is no preset '{preset}'; there are {', '.join(PRESETS)}")
    if preset == "default":
        return {}
    loss = loss or "gloss-paper"
    rate, gamma, sigma = TUNED.get(data, UNTUNED)
    own = {"weight": WEIGHTS.get(loss, WEIGHT), "gamma": gamma, "sigma": sigma, "temperature": 0.1, "margin": 5.0}
    values = {name: value for name, value in own.items() if name in LOSSES.get(loss, ())}
    return dict(PUBLISHED) | {"loss": loss, "learning_rate": rate, "head_learning_rate": rate} | values
