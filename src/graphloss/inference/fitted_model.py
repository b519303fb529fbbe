"""A fitted model: an encoder, what predicts from its embeddings, and the labeled texts that both learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from graphloss.errors import InputError
from graphloss.inference import python_inputs
from graphloss.inference.label_errors import steps, suspicion
from graphloss.inference.predictor import Predictor
from graphloss.inference.suggestion import Labeled, Predictions, check_pile, predict_pile, rows_to_label
from graphloss.text.encoder import encode
from graphloss.text.read_descriptions import check_descriptions

SLOW = 256
"""Texts: encoding more of them may take over two seconds, so that a bar is drawn."""


@dataclass(frozen=True)
class FittedModel:
    """Classifies, explains and audits; the command and `TextClassifier` share it.

    Attributes:
        encoder: a sentence-transformers model.
        predictor: what predicts from its unit-length embeddings.
        labels: the C classes as the training labels were, in the order of the predictor's columns.
        texts: of the n labeled training documents in the predictor's graph; None where they were not kept.
        seed: of the folds of an audit.
        descriptions: how many of the texts are the user's descriptions of classes; they come first.
    """

    encoder: Any
    predictor: Predictor
    labels: list[Any]
    texts: list[str] | None = None
    seed: int = 0
    descriptions: int = 0

    def encode(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: bool = False, shared: bool = False
    ) -> torch.Tensor:
        """Unit-length embeddings (n, d), float32, of n texts; arguments as of `encoder.encode`."""
        texts = python_inputs.texts_only(texts)
        return encode(
            self.encoder, texts, batch_size=batch_size, progress=progress and len(texts) > SLOW, shared=shared
        )

    def probabilities(self, embeddings: torch.Tensor, *, predictor: str | None = None) -> torch.Tensor:
        """Probabilities (n, C) of unit-length embeddings (n, d), by `predictor` instead of the own kind, if any."""
        return self._by(predictor).probabilities(embeddings)

    def explain(
        self, embeddings: torch.Tensor, k: int = 5, *, predictor: str | None = None
    ) -> tuple[list[list[dict[str, Any]]], list[float]]:
        """The labeled training documents that support the predictions for unit-length embeddings (n, d).

        Returns:
            For each of them a list of at most k dictionaries `text`, `label` and `share`, in descending order of share,
            with `description` true for a line about the class, and the head's share of the predicted probability.
        """
        if k < 1:
            raise InputError(f"expected at least 1 document to explain an answer by, got {k}")
        texts, chosen = self.known_texts(), self._by(predictor)
        found = chosen.evidence(embeddings, k)
        listed = python_inputs.evidence(
            texts, self.support_labels(), found.documents, found.shares, descriptions=self.descriptions
        )
        return listed, [round(share, 6) for share in found.head.tolist()]

    def audit(
        self,
        texts: Sequence[str] | None = None,
        labels: Sequence[Any] | None = None,
        k: int = 5,
        *,
        progress: bool = False,
    ) -> list[dict[str, Any]]:
        """Probable label errors (`label_errors`): see `TextClassifier.audit`."""
        if texts is None or labels is None:
            if (texts is None) != (labels is None):
                raise InputError(
                    "expected texts and labels, got one of them; leave both out for the training documents"
                )
            k0 = self.descriptions  # a description is no document whose label could be wrong
            texts, labels, z = self.known_texts()[k0:], self.support_labels()[k0:], self.predictor.support[k0:]
        else:
            texts, labels = python_inputs.labeled_pairs(texts, labels)
            z = self.encode(texts, progress=progress)
        if not labels:
            return []
        names = python_inputs.sorted_labels(set(labels))
        index = {label: row for row, label in enumerate(names)}
        y = torch.tensor([index[label] for label in labels], dtype=torch.long)
        with tqdm(desc="checking labels", total=steps(len(y)), disable=not progress, leave=False) as bar:
            found = suspicion(
                z, y, len(names), sigma=self.predictor.sigma, k=k, seed=self.seed, on_step=lambda: bar.update() and None
            )
        evidence = python_inputs.evidence(texts, labels, found.documents, found.shares)
        rows = zip(found.rows(texts, labels, names), found.ranked(), strict=True)
        return [row | {"evidence": evidence[place]} for row, place in rows]

    def suggest(
        self,
        texts: Sequence[str],
        count: int,
        labels: Sequence[Any] | None = None,
        *,
        descriptions: Mapping[Any, str | Sequence[str]] | None = None,
        progress: bool = False,
    ) -> list[dict[str, Any]]:
        """Which texts of a pile to label next (`suggestion`): see `TextClassifier.suggest`.

        With descriptions, a head of them and the labels predicts instead of this model.
        """
        texts, labels = check_pile(texts, labels, count)
        lines = [(name, line) for name, own in check_descriptions(descriptions or {}).items() for line in own]
        z, k = self.encode(texts, progress=progress), self.descriptions
        beside = Labeled(self.predictor.support[k:], self.support_labels()[k:])
        described = Labeled(self.encode([line for _, line in lines]), [name for name, _ in lines])
        predictions = (
            predict_pile(z, labels, described, beside) if lines else Predictions(self.probabilities(z), self.labels)
        )
        found = rows_to_label(z, labels, count, beside=beside, predictions=predictions)
        return [{"text": texts[each["row"]], **each} for each in found]

    def known_texts(self) -> list[str]:
        """The labeled training texts; an InputError where they were not kept."""
        if self.texts is None:
            raise InputError(
                "this model was saved without its training texts, so that it cannot show them; train again, or put the "
                "file of the texts back into its folder"
            )
        return self.texts

    def support_labels(self) -> list[Any]:
        """Labels of the training documents in the graph."""
        return [self.labels[row] for row in self.predictor.support_labels.tolist()]

    def _by(self, predictor: str | None) -> Predictor:
        try:
            return self.predictor.by(predictor)
        except ValueError as error:
            raise InputError(str(error)) from error
