"""What the page shows beside a text: a guess and its reason, which texts come next, and a map of the pile.

The encoder is frozen: its embeddings of the pile are computed once, and after each batch only the head is refitted.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.description_prior import class_weights, gate, informed_probe
from graphloss.inference.graphs.facility_location import sample_rows
from graphloss.inference.informed_head import informed_head
from graphloss.inference.learning_curve import learning_curve
from graphloss.inference.suggestion import Predictions, rows_to_label
from graphloss.report.predictions import flat_map
from graphloss.text.read_descriptions import names_as_descriptions

GUESSES = 3
"""Classes that are named as guesses."""

FORECAST = 32
"""Additional labels that the forecast is for."""

MAPPED = 2000
"""Texts of the map; the others are shown where the most similar one of these is."""

BLOCK = 4096


class _Learned(NamedTuple):
    """What one round has found; the page may read it while the next one is computed."""

    labels: Sequence[str | None]
    classes: Sequence[str]
    probabilities: Tensor | None
    reasons: dict[int, str]
    described: list[tuple[str, str]]  # k classes and lines about them
    lines: Tensor  # (k, d)


class Guesses:
    """An advisor that learns from labels and descriptions.

    Args:
        z: (n, d) unit-length embeddings of the pile.
        texts: n texts.
        descriptions: class -> lines about it; where there are none, the names of the classes are used as `train` does.
        encode: k texts to their embeddings (k, d).
    """

    def __init__(
        self, z: Tensor, texts: Sequence[str], descriptions: dict[str, list[str]], encode: Callable[[list[str]], Tensor]
    ) -> None:
        self.z, self.texts, self.descriptions, self.encode = z, texts, descriptions, encode
        self.rounds, self.forecast = 0, ""
        self._learned = _Learned([None] * len(z), [], None, {}, [], z[:0])
        self._map: tuple[list[int], np.ndarray, np.ndarray] | None = None

    def learn(self, labels: Sequence[str | None], classes: Sequence[str], count: int) -> list[int]:
        """Learn from n labels, None for unlabeled; returns at most `count` rows to label next."""
        labeled = sum(name is not None for name in labels)
        descriptions = self.descriptions or names_as_descriptions(classes, labeled)
        described = [(name, line) for name, own in descriptions.items() for line in own]
        lines = self.encode([line for _, line in described])
        index: dict[str | None, int] = {name: place for place, name in enumerate(classes)} | {None: -1}
        y = torch.tensor([index[name] for name in labels], dtype=torch.long)
        p = class_probabilities(self.z, y, lines, torch.tensor([index[name] for name, _ in described]), len(classes))
        found = rows_to_label(self.z, labels, count, predictions=None if p is None else Predictions(p, classes))
        reasons = {each["row"]: each["reason"] for each in found}
        self._learned = _Learned(labels, list(classes), p, reasons, described, lines)
        curve = learning_curve(self.z, y)
        self.forecast = "" if curve is None else curve.sentence(FORECAST)
        self.rounds += 1
        return list(reasons)

    def about(self, row: int) -> dict[str, Any]:
        """What to show beside a text: `reason`, and after learning `guess` (classes, probabilities) and `why`."""
        now = self._learned
        found: dict[str, Any] = {"reason": now.reasons.get(row, "")}
        if now.probabilities is None:
            return found
        top = now.probabilities[row].topk(min(GUESSES, len(now.classes)))
        pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        found["guess"] = [{"name": now.classes[place], "probability": p} for p, place in pairs]
        return found | {"why": self._why(row, found["guess"][0]["name"], now)}

    def _why(self, row: int, name: str, now: _Learned) -> dict[str, str] | None:
        """The text or description of a class that is most similar to a text."""
        labeled = [place for place, label in enumerate(now.labels) if label == name and place != row]
        own = [place for place, (each, _) in enumerate(now.described) if each == name]
        if not labeled and not own:
            return None
        nearest = int((torch.cat([self.z[labeled], now.lines[own]]) @ self.z[row]).argmax())
        if nearest < len(labeled):
            return {"kind": "labeled", "text": self.texts[labeled[nearest]]}
        kind = "description" if self.descriptions else "name"
        return {"kind": kind, "text": now.described[own[nearest - len(labeled)]][1]}

    def draw(self) -> None:
        """Compute the map, which takes seconds."""
        rows = sample_rows(len(self.z), MAPPED)
        flat = flat_map(self.z[rows].numpy()).astype(np.float64)  # (m, 2)
        flat -= flat.min(axis=0)
        flat /= np.maximum(flat.max(axis=0), 1e-9)
        nearest = torch.cat([(block @ self.z[rows].T).argmax(dim=1) for block in self.z.split(BLOCK)])
        nearest[rows] = torch.arange(len(rows))
        self._map = rows.tolist(), flat, nearest.numpy()

    def points(self, labels: Sequence[str | None], classes: Sequence[str], current: int | None) -> dict[str, Any]:
        """The map: `points`, of each text its place in it, its label and its guess as places in `classes`, or -1.

        There are none before `draw` has ended. `current` is the place of the row that is shown.
        """
        if self._map is None:
            return {"points": []}
        now, (rows, flat, nearest) = self._learned, self._map
        index: dict[str | None, int] = {name: place for place, name in enumerate(classes)}
        rows = [*rows, *sorted({row for row, label in enumerate(labels) if label is not None}.difference(rows))]
        guessed = [-1] * len(rows)
        if now.probabilities is not None:
            best = now.probabilities[rows].argmax(dim=1).tolist()
            guessed = [index.get(now.classes[place], -1) for place in best]
        places = flat[nearest].round(4).tolist()
        points = [[*places[row], index.get(labels[row], -1), guess] for row, guess in zip(rows, guessed, strict=True)]
        return {"points": points, "current": None if current is None else places[current]}


class Suspects:
    """An advisor that shows what an audit found, by row; it learns nothing and has no map."""

    def __init__(self, found: dict[int, dict[str, Any]]) -> None:
        self.found, self.rounds, self.forecast = found, 0, ""

    def learn(self, labels: Sequence[str | None], classes: Sequence[str], count: int) -> list[int]:
        """No row: they come in the order of the audit."""
        return []

    def about(self, row: int) -> dict[str, Any]:
        """The proposed label as `guess`, and as `why` the document that supports it most."""
        found = self.found.get(row)
        if found is None:  # an answer that was taken back
            return {}
        why = [{"kind": "labeled", "text": each["text"]} for each in found["evidence"][:1]]
        return {
            "guess": [{"name": str(found["proposed"]), "probability": found["score"]}],
            "why": why[0] if why else None,
        }

    def points(self, labels: Sequence[str | None], classes: Sequence[str], current: int | None) -> dict[str, Any]:
        """No map."""
        return {"points": []}


def class_probabilities(z: Tensor, y: Tensor, lines: Tensor, of_lines: Tensor, num_classes: int) -> Tensor | None:
    """Probabilities (n, C) of the texts of a pile by the head that `train` would fit on these embeddings.

    None where fewer than two classes have a label or a line. Arguments as of `description_prior.gate`.
    """
    of_lines = of_lines.long()
    if len(torch.cat([y[y >= 0], of_lines]).unique()) < 2:
        return None
    weight = class_weights(gate(z, y, lines, of_lines, num_classes), y, num_classes)
    if (y >= 0).all():
        return informed_probe(z, y, lines, of_lines, num_classes, weight=weight).probabilities(z)
    return informed_head(z, y, lines, of_lines, num_classes, weight=weight)[0].probabilities(z)
