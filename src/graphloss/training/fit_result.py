"""The result of a training, and its entries in `graphloss.json`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from graphloss.inference.description_gate import Gate
from graphloss.inference.fitted_model import FittedModel
from graphloss.inference.python_inputs import kept_labels
from graphloss.inference.self_training import SelfTrainingSummary
from graphloss.text.data_sources import name_to_keep
from graphloss.training.settings import TrainSettings


@dataclass(frozen=True)
class Fitted:
    """The model of the best epoch, and how it was trained.

    Attributes:
        model: what classifies; its texts are the labeled training documents.
        self_training: summary of self-training on unlabeled documents; None where there are none or it was off.
        history: one dictionary per evaluation.
        early_history: the same of the training on the labels alone that pseudo-labels begin with.
        best_epoch: the epoch whose weights were kept; None where nothing was evaluated.
        seconds: time of the whole training, of all its parts if it was resumed; None where it is not known.
        descriptions: how far the labels confirm the descriptions; None without any.
        lines: class -> its description.
        doubted: contradicted labels of a training that weighed them: `text`, `label`, `proposed` and `score`.
    """

    model: FittedModel
    self_training: SelfTrainingSummary | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    early_history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: float | None = None
    seconds: float | None = None
    descriptions: Gate | None = None
    lines: dict[str, list[str]] = field(default_factory=dict)
    doubted: list[dict[str, Any]] = field(default_factory=list)

    def info(self, settings: TrainSettings, run: Path) -> dict[str, Any]:
        """The entries of this model in the `graphloss.json` of the folder `run`."""
        model, predictor, base = self.model, self.model.predictor, name_to_keep(settings.model, run)
        read = model.encoder.max_seq_length or math.inf
        return {
            "labels": kept_labels(model.labels),
            "settings": asdict(settings) | {"model": base},
            "encoder": {
                "name": Path(base).name if base and base.startswith("..") else base or "all-MiniLM-L6-v2",
                "dimension": int(predictor.weight.shape[1]),
                "max_length": read if math.isfinite(read) else None,  # a static encoder reads texts whole
            },
            "predictor": {
                "kind": predictor.kind,
                "sigma": predictor.sigma,
                "graph_share": predictor.graph_share,
                "neighbor_weight": predictor.neighbor_weight,
            },
            "self_training": self.self_training
            and asdict(self.self_training)
            | {"shares": dict(zip(map(str, model.labels), self.self_training.shares, strict=True))},
            "described": self.descriptions
            and {"lines": model.descriptions, "texts": self.lines} | asdict(self.descriptions),
            "doubted_labels": self.doubted,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, info: Mapping[str, Any], model: FittedModel) -> Self:
        """From what `info` wrote, and the model beside it."""
        found, described = info.get("self_training"), info.get("described")
        return cls(
            model,
            SelfTrainingSummary(**found | {"shares": [*found["shares"].values()]}) if found else None,
            best_epoch=info.get("best_epoch"),
            seconds=info.get("seconds"),
            descriptions=Gate.of(described) if described else None,
            lines=described["texts"] if described else {},
            doubted=info.get("doubted_labels", []),
        )
