"""The losses for the trainer of sentence-transformers: each takes the model first, then its own options.

All need ONE column of texts and a column `label` of class indices, -1 for unlabeled::

    from graphloss.sentence_transformers import GLoss

    trainer = SentenceTransformerTrainer(model=model, train_dataset=dataset, loss=GLoss(model))

Two limits of that trainer. It uses one learning rate for all parameters, far too small for a new head or a learned
sigma: `learning_rate_mapping={"^(head|objective)": 1e-2}` in its arguments sets theirs. Its checkpoints hold the
encoder but not the parameters of a loss: a resumed run restarts head, sigma and random split.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graphloss.losses import baselines, modules
from graphloss.losses.gradient_cache import in_pieces
from graphloss.losses.graph import no_autocast, working

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "BatchLoss",
    "CombinedLoss",
    "CosineLoss",
    "CrossEntropyLoss",
    "GLoss",
    "NCALoss",
    "PaperGLoss",
    "SupConLoss",
    "TripletLoss",
]

GLOSS_PAPER = """
@misc{sharma2026gloss,
    title={G-Loss: Graph-Guided Fine-Tuning of Language Models},
    author={Sharma and Agarwal and Kumar},
    year={2026},
    eprint={2604.25853},
    archivePrefix={arXiv},
}
"""
SUPCON_PAPER = """
@inproceedings{khosla2020supervised,
    title={Supervised Contrastive Learning},
    author={Khosla, Prannay and Teterwak, Piotr and Wang, Chen and Sarna, Aaron and Tian, Yonglong and Isola, Phillip
        and Maschinot, Aaron and Liu, Ce and Krishnan, Dilip},
    booktitle={Advances in Neural Information Processing Systems},
    year={2020},
}
"""
TRIPLET_PAPER = """
@misc{hermans2017defense,
    title={In Defense of the Triplet Loss for Person Re-Identification},
    author={Hermans, Alexander and Beyer, Lucas and Leibe, Bastian},
    year={2017},
    eprint={1703.07737},
    archivePrefix={arXiv},
}
"""
NCA_PAPER = """
@inproceedings{goldberger2004neighborhood,
    title={Neighborhood Components Analysis},
    author={Goldberger, Jacob and Roweis, Sam and Hinton, Geoffrey and Salakhutdinov, Ruslan},
    booktitle={Advances in Neural Information Processing Systems},
    year={2004},
}
"""


class BatchLoss(nn.Module):
    """Common to these losses: embed one column of texts in one pass, and compute the loss of the batch.

    The trainer looks for the encoder in `model` and puts its distributed wrapper there.

    Args:
        model: a SentenceTransformer.
        objective: a module (embeddings (n, d), labels (n,)) -> scalar.
        settings: the settings of the loss, for the model card.
        mini_batch_size: texts whose activations are kept at once; a larger batch is embedded in pieces, and again in
            the backward pass: the exact gradient, in the memory of one piece (`gradient_cache`). None keeps all.

    Raises:
        ValueError: `mini_batch_size` is below 1.
    """

    citation = GLOSS_PAPER
    """BibTeX, for the model card."""

    def __init__(
        self,
        model: SentenceTransformer,
        objective: nn.Module,
        settings: dict[str, Any],
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if mini_batch_size is not None and mini_batch_size < 1:
            raise ValueError(
                f"mini_batch_size must be at least 1 text, got {mini_batch_size}; leave it out to embed all at once"
            )
        self.model = model
        self.objective = objective
        self.mini_batch_size = mini_batch_size
        self._warned = False
        self.settings = {
            name: value.tolist() if isinstance(value, Tensor) else value for name, value in settings.items()
        }
        if mini_batch_size is not None:
            self.settings["mini_batch_size"] = mini_batch_size

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None) -> Tensor:
        """Loss of a batch, 0-d.

        Args:
            sentence_features: a single dictionary: the tokens of the n texts of the column.
            labels: (n,) class indices, -1 for unlabeled.

        Raises:
            ValueError: another number of columns, or labels that are missing or not class indices.

        Warns:
            UserWarning: once, of a batch in which no document has another of its class.
        """
        columns = list(sentence_features)
        name = type(self).__name__
        if len(columns) != 1:
            raise ValueError(
                f"{name} expects one column of texts and one of labels, got {len(columns)} columns of texts; "
                'keep one of them, for example by dataset.select_columns(["text", "label"])'
            )
        if labels is None:
            raise ValueError(
                f"{name} expects a column `label` of class indices, and there is none; "
                'name yours so, for example by dataset.rename_column("topic", "label")'
            )
        if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(
                f"{name} expects one class index per text, -1 for unlabeled, got {labels.dtype} of shape "
                f'{tuple(labels.shape)}; dataset.class_encode_column("label") makes indices of names'
            )
        self.objective.train(self.model.training)  # the trainer sets the mode of the model only
        loss = self.compute(self._embeddings(columns[0], labels), labels)
        if not self._warned and self.model.training and not bool(getattr(self.objective, "coverage", 1.0)):
            self._warned = True
            warnings.warn(
                f"{name}: in a batch of {len(labels):,}, no document has another of its class, so that its loss is 0; "
                "give larger batches, or batch_sampler=BatchSamplers.GROUP_BY_LABEL in the training arguments",
                UserWarning,
                stacklevel=2,
            )
        return loss

    def _embeddings(self, features: dict[str, Any], labels: Tensor) -> Tensor:
        """Embeddings (n, d) of the tokens of n texts, at once or in pieces."""
        n = len(labels)
        if self.mini_batch_size is None or n <= self.mini_batch_size:
            return self.model(features)["sentence_embedding"]

        def embed(rows: Tensor) -> Tensor:
            of_rows = {
                name: value[rows] if isinstance(value, Tensor) and value.shape[:1] == (n,) else value
                for name, value in features.items()
            }
            return self.model(of_rows)["sentence_embedding"]

        return in_pieces(embed, torch.arange(n, device=labels.device), self.mini_batch_size)

    def compute(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss, 0-d, of embeddings (n, d) of the encoder."""
        return self.objective(embeddings, labels)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings, for the model card."""
        return dict(self.settings)


class GLoss(BatchLoss):
    """Leave-one-out G-Loss, see `graphloss.GLoss`; a batch needs two documents of a class.

    Args:
        model: a SentenceTransformer.
        sigma: a number, "auto", "learned", or a rule, which is computed from the first batch.
        **options: alpha, q, k, class_weights, num_classes of `graphloss.GLoss`, but no memory: that trainer does not
            pass the numbers of the documents.
        mini_batch_size: see `BatchLoss`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        sigma: float | str = "auto",
        *,
        mini_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if options.get("memory") is not None:
            raise ValueError(
                "a memory needs the number of each document, which the trainer of sentence-transformers does not pass; "
                "use graphloss.TextClassifier(memory=64), or graphloss.GLoss in a loop of your own"
            )
        objective = modules.GLoss(mode="loo", sigma=sigma, **options)
        super().__init__(model, objective, {"sigma": sigma, **options}, mini_batch_size)


class PaperGLoss(BatchLoss):
    """G-Loss as published, see `graphloss.GLoss`: a random share of the labels is shown and predicts the others.

    Args:
        model: a SentenceTransformer.
        num_labels: C, which enters the loss.
        sigma: as in `GLoss`.
        gamma: share of the labels that is shown.
        mini_batch_size: see `BatchLoss`.
        **options: class_weights, seed, double_division of `graphloss.GLoss`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        num_labels: int,
        sigma: float | str = "auto",
        gamma: float = 0.7,
        *,
        mini_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        objective = modules.GLoss(mode="paper", num_classes=num_labels, sigma=sigma, gamma=gamma, **options)
        settings = {"num_labels": num_labels, "sigma": sigma, "gamma": gamma, **options}
        super().__init__(model, objective, settings, mini_batch_size)


class SupConLoss(BatchLoss):
    """Supervised contrastive loss, see `baselines.SupCon`; a batch needs two classes and two documents of one."""

    citation = SUPCON_PAPER

    def __init__(
        self, model: SentenceTransformer, temperature: float = 0.1, *, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, baselines.SupCon(temperature), {"temperature": temperature}, mini_batch_size)


class NCALoss(BatchLoss):
    """Neighborhood components analysis, see `baselines.NCA`; a batch needs two documents of a class."""

    citation = NCA_PAPER

    def __init__(
        self, model: SentenceTransformer, temperature: float = 0.1, *, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, baselines.NCA(temperature), {"temperature": temperature}, mini_batch_size)


class TripletLoss(BatchLoss):
    """All valid triplets, see `baselines.Triplet`; a batch needs two classes and two documents of one."""

    citation = TRIPLET_PAPER

    def __init__(self, model: SentenceTransformer, margin: float = 5.0, *, mini_batch_size: int | None = None) -> None:
        super().__init__(model, baselines.Triplet(margin), {"margin": margin}, mini_batch_size)


class CosineLoss(BatchLoss):
    """Squared error of every pair's cosine against 1 or 0, see `baselines.Cosine`; a batch needs two documents."""

    def __init__(self, model: SentenceTransformer, *, mini_batch_size: int | None = None) -> None:
        super().__init__(model, baselines.Cosine(), {}, mini_batch_size)


class CrossEntropyLoss(BatchLoss):
    """Cross-entropy of a linear head on each embedding; any batch will do.

    `head` is a randomly initialized float32 `torch.nn.Linear`, part of the loss and not saved with the encoder.

    Args:
        model: a SentenceTransformer.
        num_labels: C.
        class_weights: (C,), for example `losses.balanced_class_weights`.
        mini_batch_size: see `BatchLoss`.

    Raises:
        ValueError: the dimension of the encoder's embeddings is unknown.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        num_labels: int,
        class_weights: Tensor | None = None,
        *,
        mini_batch_size: int | None = None,
    ) -> None:
        objective = modules.Combined(None, class_weights=class_weights)
        settings = {"num_labels": num_labels, "class_weights": class_weights}
        super().__init__(model, objective, settings, mini_batch_size)
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise ValueError(
                "the head needs the dimension of the encoder's embeddings, which is unknown; "
                "end the encoder with a Pooling or a Dense module"
            )
        self.head = nn.Linear(dimension, num_labels, device=model.device)

    def compute(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss, 0-d, of embeddings (n, d); the head runs in float32 under autocast too."""
        with no_autocast(embeddings):
            logits = self.head(working(embeddings).to(self.head.weight.dtype))  # (n, C)
        return self.objective(embeddings, logits, labels).loss


class CombinedLoss(CrossEntropyLoss):
    """(1 - weight) cross-entropy of a linear head + weight of another loss, both on the same embeddings.

    Args:
        model: a SentenceTransformer.
        num_labels: C.
        loss: another of these losses, for example `SupConLoss(model)`, or any module (embeddings, labels) -> scalar;
            `GLoss(model)` when left out.
        weight: λ, the share of `loss`.
        class_weights: (C,) of the cross-entropy; `loss` has its own.
        mini_batch_size: see `BatchLoss`; that of `loss` when left out.

    Raises:
        ValueError: `loss` has a head already, or the dimension of the encoder's embeddings is unknown.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        num_labels: int,
        loss: nn.Module | None = None,
        weight: float = 0.5,
        class_weights: Tensor | None = None,
        *,
        mini_batch_size: int | None = None,
    ) -> None:
        other = GLoss(model) if loss is None else loss
        if mini_batch_size is None and isinstance(other, BatchLoss):
            mini_batch_size = other.mini_batch_size
        super().__init__(model, num_labels, class_weights, mini_batch_size=mini_batch_size)
        if isinstance(other, CrossEntropyLoss):
            raise ValueError(
                f"CombinedLoss has its own cross-entropy, and {type(other).__name__} has one too; "
                "pass a loss without it, for example SupConLoss(model)"
            )
        name = type(other).__name__
        if isinstance(other, BatchLoss):
            name += "(" + ", ".join(f"{key}={value!r}" for key, value in other.settings.items()) + ")"
            self.citation, other = other.citation, other.objective
        self.objective = modules.Combined(other, weight, class_weights)
        self.settings |= {"loss": name, "weight": weight}
