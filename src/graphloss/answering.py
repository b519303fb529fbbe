"""What a fitted classifier answers: labels, probabilities, the documents that carried them, and labels it doubts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError

from graphloss import given, runfolder
from graphloss.errors import InputError
from graphloss.prediction import Predictor

if TYPE_CHECKING:
    from graphloss.console import Screen


class Answering:
    """The half of `TextClassifier` that asks nothing but an encoder, a predictor and the texts in its graph."""

    classes_: np.ndarray
    encoder_: Any
    predictor_: Predictor
    texts_: list[str] | None
    seed: int
    verbose: bool

    def predict(self, texts: Sequence[str], *, predictor: str | None = None) -> np.ndarray:
        """The likeliest label of each of n texts, (n,), as the training labels were.

        Args:
            texts: each is judged by itself, whatever the others are.
            predictor: "head", "graph", "knn" or "mix" instead of the one of the settings.
        """
        best = self.predict_proba(texts, predictor=predictor).argmax(1)
        return self.classes_[best]

    def predict_proba(self, texts: Sequence[str], *, predictor: str | None = None) -> np.ndarray:
        """Probabilities (n, C), columns in the order of `classes_`; arguments as for `predict`."""
        return self.probabilities(torch.from_numpy(self.encode(texts)), predictor=predictor)

    def probabilities(self, embeddings: torch.Tensor, *, predictor: str | None = None) -> np.ndarray:
        """Probabilities (n, C) of unit-length embeddings (n, d), as `encode` gives them."""
        return self._by(predictor).probabilities(embeddings).numpy()

    def explain(self, texts: Sequence[str], k: int = 5, *, predictor: str | None = None) -> list[list[dict[str, Any]]]:
        """The labelled training documents that carried the answer to each text, at most k, the heaviest first.

        Returns:
            For each text a list of `text`, `label` and `share`, the part of the answer's probability that the document
            gave. What is missing to one comes from other documents and from the head, which asks none with a label:
            where it alone answers, for the text or for unlabelled neighbours, the lists are empty.

        Raises:
            InputError: k is below 1, or the folder that this was read from does not keep the training texts.
        """
        return self.explanations(torch.from_numpy(self.encode(texts)), k, predictor=predictor)[0]

    def explanations(
        self, embeddings: torch.Tensor, k: int = 5, *, predictor: str | None = None
    ) -> tuple[list[list[dict[str, Any]]], list[float]]:
        """What `explain` says of unit-length embeddings (n, d), and the head's share of each answer's probability."""
        if k < 1:
            raise InputError(f"expected at least 1 document to explain an answer by, got {k}")
        texts, chosen = self._texts(), self._by(predictor)
        found = chosen.evidence(embeddings, k)
        said = given.evidence(texts, self._labels(), found.documents, found.shares)
        return said, [round(share, 6) for share in found.head.tolist()]

    def audit(
        self,
        texts: Sequence[str] | None = None,
        labels: Sequence[Any] | None = None,
        k: int = 5,
        *,
        screen: Screen | None = None,
    ) -> list[dict[str, Any]]:
        """Labels that similar documents contradict, the surest first (`graphloss.audit`, docs/audit.md).

        Args:
            texts: n labelled documents to judge by one another; those that this classifier learnt from when left out.
            labels: n labels, of any names; None is an unlabelled document, which takes no part.
            k: documents to name as evidence for each.
            screen: where progress is shown; by default as `verbose` says.

        Returns:
            One dictionary a contradicted label: `text`, `label`, `proposed`, `score` (above one half, at most 1) and
            `evidence`, a list of `text`, `label` and `share`, the part of the proposed label's probability that each
            of these documents gave.

        Raises:
            InputError: texts and labels do not fit together, or the folder that this was read from does not keep the
                training texts.
        """
        from graphloss.audit import steps, suspicion
        from graphloss.console import Screen

        self._fitted()
        screen = screen or Screen(quiet=not self.verbose)
        if texts is None or labels is None:
            if (texts is None) != (labels is None):
                raise InputError(
                    "expected texts and labels, got one of them; leave both out for the training documents"
                )
            texts, labels = self._texts(), self._labels()
            z = self.predictor_.support
        else:
            texts, labels = given.labelled(texts, labels)
            z = torch.from_numpy(self.encode(texts, progress=screen.shows(len(texts))))
        known = given.sorted_labels(set(labels))
        index = {label: row for row, label in enumerate(known)}
        y = torch.tensor([index[label] for label in labels], dtype=torch.long)
        with screen.bar("judging labels", steps(len(y))) as on_step:
            found = suspicion(z, y, len(known), sigma=self.predictor_.sigma, k=k, seed=self.seed, on_step=on_step)
        evidence = given.evidence(texts, labels, found.documents, found.shares)
        return [
            {
                "text": texts[place],
                "label": labels[place],
                "proposed": known[int(found.proposed[place])],
                "score": round(float(found.score[place]), 6),
                "evidence": evidence[place],
            }
            for place in found.ranked()
        ]

    def encode(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: bool = False, shared: bool = False
    ) -> np.ndarray:
        """Unit-length embeddings (n, d), float32; `shared` where all processes of a launcher call it and share them."""
        from graphloss.encoder import encode

        texts = given.texts_only(texts)
        self._fitted()
        return encode(self.encoder_, texts, batch_size=batch_size, progress=progress, shared=shared).numpy()

    def _by(self, predictor: str | None) -> Predictor:
        self._fitted()
        try:
            return self.predictor_.by(predictor)
        except ValueError as error:
            raise InputError(str(error)) from error

    def _texts(self) -> list[str]:
        self._fitted()
        if self.texts_ is None:
            raise InputError(
                f"this model was saved without the texts that it learnt from (no {runfolder.TEXTS} in its folder), so "
                "that it cannot show them; train again, or give them back that file"
            )
        return self.texts_

    def _labels(self) -> list[Any]:
        """Labels of the training documents in the graph, as plain Python has them."""
        return list(self.classes_[self.predictor_.support_labels.numpy()].tolist())

    def _fitted(self) -> None:
        if not hasattr(self, "predictor_"):
            raise NotFittedError(
                "this TextClassifier has not been fitted; call fit, or read one with TextClassifier.from_pretrained"
            )
