"""What is known before training: doubtful labels, the gate of the descriptions, the head and its predictions."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from graphloss.inference.description_gate import Gate
from graphloss.inference.description_prior import class_weights, gate, informed_probe
from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.informed_head import informed_head
from graphloss.inference.label_errors import doubtful, suspicion
from graphloss.inference.linear_probe import Probe
from graphloss.text.encoder import encode
from graphloss.text.texts_and_labels import Documents
from graphloss.training.preflight import Preflight
from graphloss.training.size_defaults import SUREST

SAMPLE = 2048  # labeled documents that calibrate σ, start the head and score a headless encoder between epochs
CENTERING = 256  # unlabeled documents that help to center the embeddings for the gate


def contradicted(encoder: SentenceTransformer, checked: Preflight, progress: bool) -> list[dict[str, Any]]:
    """The contradicted labels, the most suspect first, as the run lists them; none where the labels need no doubt."""
    labeled, names = checked.documents.labeled(), checked.label_names
    if not labeled:
        return []
    y = torch.tensor(labeled.labels, dtype=torch.long)
    z = encode(encoder, labeled.texts, progress=progress, shared=True)
    found = suspicion(z, y, len(names), sigma=SIGMA, seed=checked.settings.seed)
    given = [names[label] for label in labeled.labels]
    return found.rows(labeled.texts, given, names) if doubtful(found, y) else []


@dataclass(frozen=True)
class Start:
    """What is known before training.

    Attributes:
        gate: how far the labels confirm the descriptions.
        weight: (C,) of the descriptions.
        lines: the descriptions as documents, where they inform.
        probe: the initial head; None is a linear probe.
        early_probe: the same for a training on the labels alone.
        texts: m unlabeled ones, of which some will have pseudo-labels.
        probabilities: (m, C) of their classes by that head; None where there will be no pseudo-labels.
        doubted: whether the labels are weighed by `losses.label_trust`.
    """

    gate: Gate
    weight: torch.Tensor
    lines: Documents = field(default_factory=lambda: Documents([], []))
    probe: Probe | None = None
    early_probe: Probe | None = None
    texts: list[str] = field(default_factory=list)
    probabilities: np.ndarray | None = None
    doubted: bool = False


def starting_point(encoder: SentenceTransformer, checked: Preflight, progress: bool) -> Start:
    """Embed labeled and some unlabeled documents, and conclude."""
    descriptions, documents, classes = checked.descriptions, checked.documents, len(checked.label_names)
    settings, rest, pseudo = checked.settings, documents.unlabeled().texts, checked.sizes.pseudo_labels
    if not descriptions and not pseudo:
        return Start(Gate(0.0, 0.0), torch.zeros(classes))
    sample = documents.labeled(max(SAMPLE, classes), seed=settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(rest))[: max(CENTERING, round(pseudo / SUREST))]
    some = [rest[row] for row in order]
    z = encode(encoder, sample.texts + some, progress=progress, shared=True)
    lines, described = encode(encoder, descriptions.texts, shared=True), torch.tensor(descriptions.labels).long()
    labels = torch.tensor(sample.labels + [-1] * len(some), dtype=torch.long)
    centered = slice(len(sample) + CENTERING)
    found = gate(z[centered], labels[centered], lines, described, classes)
    weight = class_weights(found, torch.tensor(documents.labels), classes)
    known = descriptions if found.informs else Documents([], [])
    early = informed_probe(z, labels, lines, described, classes, weight=weight) if descriptions else None
    if not pseudo:
        return Start(found, weight, known, early)
    probe = informed_head(z, labels, lines, described, classes, weight=weight, shared=True)[0]
    return Start(found, weight, known, probe, early, some, probe.probabilities(z[len(sample) :]).numpy())
