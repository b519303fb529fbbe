"""Encoder, head and loss as one module: its start, a step, and the predictor of a trained one."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from graphloss import distributed
from graphloss.inference.head_graph_share import share_for
from graphloss.inference.linear_probe import Probe, linear_probe
from graphloss.inference.predictor import Predictor
from graphloss.losses.label_trust import LabelTrust
from graphloss.losses.modules import Combined, GLoss, balanced_class_weights, call_loss
from graphloss.text.encoder import embed, encode
from graphloss.text.texts_and_labels import Documents
from graphloss.training.build_loss import build
from graphloss.training.settings import TrainSettings
from graphloss.training.size_defaults import batch_size_for


class GraphModel(nn.Module):
    """Encoder, head and loss as one module: texts and labels in, a loss out, everything learned in one `state_dict`.

    Args:
        encoder: a sentence-transformers model.
        head: of the cross-entropy; None where the objective has none.
        objective: `Combined`, or a loss (embeddings, labels) -> scalar.
        at_once: documents whose activations are kept, see `encoder.embed`; None keeps all.
        trust: in the labels of the documents; None weighs all alike.

    In several processes each embeds its own documents, and all compute the same loss, of the documents of all
    (`distributed`).
    """

    def __init__(
        self,
        encoder: SentenceTransformer,
        head: nn.Linear | None,
        objective: nn.Module,
        at_once: int | None = None,
        trust: LabelTrust | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.at_once = at_once
        self.trust = trust
        self._keys_to_ignore_on_save = None  # read by the trainer if a checkpoint lacks a name, as of tied weights
        self.seen: list[dict[str, float]] = []  # parts of the loss of each batch since the last call of `averages`

    def forward(
        self, features: dict[str, Any], labels: torch.Tensor, documents: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """One pass: `features` of n texts and `labels` (n,) to a scalar loss; `documents` (n,) are their numbers."""
        z = distributed.gather(self._embedded(features, len(labels)))  # (n, d) of all processes from here on
        labels = distributed.gather(labels)
        documents = None if documents is None else distributed.gather(documents)
        weight = None
        if self.trust is not None and documents is not None:
            weight = self.trust(z.detach(), labels, documents)  # (n,)
        if isinstance(self.objective, Combined):
            assert self.head is not None
            with torch.autocast(z.device.type, enabled=False):
                logits = self.head(z)  # (n, C)
            result = self.objective(z, logits, labels, documents, weight)
            parts = {"loss": result.loss, "ce": result.ce}
            if self.objective.graph_loss is not None:
                parts |= {"graph": result.graph, "coverage": result.coverage}
        else:
            loss = call_loss(self.objective, z, labels, documents, weight)
            parts = {"loss": loss, "graph": loss, "coverage": torch.as_tensor(self.objective.coverage)}
        if bool((labels >= 0).any()):  # a batch without labels has no loss, and would distort the averages
            self.seen.append({name: float(value.detach()) for name, value in parts.items()})
        return {"loss": parts["loss"]}

    def _embedded(self, features: dict[str, Any], count: int) -> torch.Tensor:
        """Embeddings (count, d); in several processes a small batch may leave this one none."""
        if count or distributed.world() == 1:
            return embed(self.encoder, features, at_once=self.at_once)
        weight = next(p for p in self.encoder.parameters() if p.requires_grad)
        nothing = weight.new_zeros(0, self.encoder.get_embedding_dimension() or 0)
        return nothing + weight.sum()  # without a gradient here the distributed wrapper would wait forever

    def averages(self) -> dict[str, float]:
        """Means over the batches since the last call."""
        names = self.seen[0] if self.seen else {}
        means = {name: float(np.mean([batch[name] for batch in self.seen])) for name in names}
        self.seen.clear()
        return means


def start_model(
    encoder: SentenceTransformer,
    start: torch.Tensor,
    sample: Documents,
    documents: Documents,
    classes: int,
    settings: TrainSettings,
    probe: Probe | None = None,
    trust: LabelTrust | None = None,
) -> GraphModel:
    """Loss and head for an encoder: σ is calibrated, and the head starts as a probe, on embeddings before training.

    Args:
        encoder: a sentence-transformers model.
        start: its unit-length embeddings (n, d) of `sample`.
        sample: n labeled documents.
        documents: all training documents, for the weights of the classes and the size of a batch.
        classes: C.
        settings: which loss, with or without a head.
        probe: the initial head; a linear probe of `sample` when left out.
        trust: in the labels of `documents`; None weighs all alike.
    """
    weights = None
    if settings.class_weights == "balanced":
        weights = balanced_class_weights(torch.tensor(documents.labels), classes)
    labels = torch.tensor(sample.labels)
    at_once = batch_size_for(documents.labeled_count, settings)
    loss = build(
        settings.loss,
        asdict(settings),
        num_classes=classes,
        dimensions=start.shape[1],
        class_weights=weights,
        seed=settings.seed,
    )
    if isinstance(loss, GLoss):
        loss.calibrate(start, labels)
    if settings.mode == "standalone":
        assert loss is not None
        return GraphModel(encoder, None, loss, at_once, trust)
    head = nn.Linear(start.shape[1], classes)
    if settings.head_start == "probe":
        probe = probe or linear_probe(start, sample.labels, classes)
        with torch.no_grad():
            head.weight.copy_(probe.weight)
            head.bias.copy_(probe.bias)
    return GraphModel(encoder, head, Combined(loss, settings.weight, weights), at_once, trust)


def predictor_of(
    model: GraphModel, documents: Documents, validation: Documents, classes: int, kind: str, *, progress: bool = False
) -> Predictor:
    """The predictor for new texts; the graph's share of a mix is chosen on held-out predictions (`head_graph_share`).

    The labeled ones of the training documents become the graph; validation documents help to choose the share. In
    standalone mode the head is a probe on all labeled documents.
    """
    labeled = documents.labeled()
    support = encode(model.encoder, labeled.texts, progress=progress, shared=True)
    support = support.half().float()  # as a run folder keeps it: a model predicts the same before and after saving
    if model.head is not None:
        weight, bias = model.head.weight.detach().float().cpu(), model.head.bias.detach().float().cpu()
    else:
        probe = linear_probe(support, labeled.labels, classes)
        weight, bias = probe.weight, probe.bias
    graph = model.objective.graph_loss if isinstance(model.objective, Combined) else model.objective
    sigma = graph.bandwidth if isinstance(graph, GLoss) else GLoss().bandwidth
    even = Predictor(weight, bias, support, torch.tensor(labeled.labels), sigma, graph_share=0.5, kind=kind)
    z = encode(model.encoder, validation.texts, shared=True)
    return replace(even, graph_share=share_for(even, z, torch.tensor(validation.labels, dtype=torch.long)))
