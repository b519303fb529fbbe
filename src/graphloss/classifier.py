"""`TextClassifier`: graphloss with scikit-learn's interface."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from graphloss.errors import InputError
from graphloss.inference import python_inputs, run_folder
from graphloss.inference.description_gate import UNCHECKED
from graphloss.inference.fitted_model import FittedModel
from graphloss.text.class_warnings import NONE_HELD_OUT, class_warnings, contradictions
from graphloss.text.read_descriptions import check_descriptions, match_classes, names_as_descriptions
from graphloss.training.fit_result import Fitted
from graphloss.training.settings import DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make


@dataclass(kw_only=True, repr=False, eq=False)
class TextClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tune a text encoder with G-Loss and classify with it.

    Labels go in and come out as they are, names or numbers. A label of None marks an unlabeled document,
    from which encoder and head learn too (`corpus_graph`).
    All arguments are keywords and named like the options of `graphloss train`; `validation` is the share of the labeled
    documents held out to choose the best epoch (0: the last epoch is kept; None: a tenth from 500 on), `verbose` shows
    a bar and a line per epoch on standard error.

    Attributes:
        classes_: labels (C,), sorted; this and the others are there after `fit`.
        fitted_: the model with its history (`graphloss.training.fit_result.Fitted`); the attributes below are
            parts of it.
        encoder_: the fine-tuned sentence-transformers model.
        predictor_: head and graph over unit-length embeddings (`graphloss.inference.predictor.Predictor`).
        texts_: the labeled training documents in that graph, or None in a folder that was saved without them.
        self_training_: what the unlabeled documents did for the head; None without any.
        history_: one dictionary per evaluation: loss and its parts, coverage, validation scores, seconds.
        best_epoch_: the epoch whose weights were kept.

    Examples:
        >>> from graphloss import TextClassifier
        >>> model = TextClassifier(epochs=3)  # doctest: +SKIP
        >>> model.fit(texts, labels).predict(["where is my card?"])  # doctest: +SKIP
        array(['card_arrival'], dtype='<U12')
    """

    model: str | None = None
    loss: str = TrainSettings.loss
    mode: str = TrainSettings.mode
    weight: float = TrainSettings.weight
    sigma: float | str = TrainSettings.sigma
    alpha: float = TrainSettings.alpha
    q: float = TrainSettings.q
    k: int | None = TrainSettings.k
    corpus_graph: str = TrainSettings.corpus_graph
    clean: str = TrainSettings.clean
    memory: int = TrainSettings.memory
    gamma: float = TrainSettings.gamma
    temperature: float = TrainSettings.temperature
    margin: float = TrainSettings.margin
    class_weights: str = TrainSettings.class_weights
    epochs: int | None = TrainSettings.epochs
    batch_size: int | None = TrainSettings.batch_size
    graph_size: int | None = TrainSettings.graph_size
    learning_rate: float = TrainSettings.learning_rate
    head_learning_rate: float = TrainSettings.head_learning_rate
    schedule: str = TrainSettings.schedule
    weight_decay: float = TrainSettings.weight_decay
    head_start: str = TrainSettings.head_start
    max_length: int | None = TrainSettings.max_length
    freeze: int = TrainSettings.freeze
    accumulate: int = TrainSettings.accumulate
    blend: float = TrainSettings.blend
    patience: int = TrainSettings.patience
    predictor: str = TrainSettings.predictor
    precision: str = TrainSettings.precision
    seed: int = TrainSettings.seed
    validation: float | None = None
    verbose: bool = False

    def settings(self) -> TrainSettings:
        """The settings as one checked object.

        Raises:
            InputError: some setting cannot be used; all faults are listed.
        """
        return make(TrainSettings, {name: getattr(self, name) for name in names(TrainSettings)})

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn that a document is a string, not a row of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = True, False, True
        return tags

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        unlabeled: Sequence[str] | None = None,
        *,
        descriptions: Mapping[Any, str | Sequence[str]] | Literal[False] | None = None,
        add_classes: bool = False,
        validation_data: tuple[Sequence[str], Sequence[Any]] | None = None,
    ) -> Self:
        """Fine-tune the encoder; in several processes (`torchrun`) all call this, with the same documents.

        Args:
            texts: n documents.
            labels: n labels, of one kind that can be keys of a dictionary. None, NaN, NA and blanks mark unlabeled
                documents.
            unlabeled: further documents without a label; blank ones, and those that are in `texts` too, are left out.
            descriptions: class -> one or several lines about it; None takes the label names in words where labels are
                few, as far as they inform about them, False none.
            add_classes: a described class without a labeled text is a class too; without any label all of them are.
            validation_data: texts and labels that choose the best epoch, instead of a share of `texts`; those without
                a label are left out.

        Returns:
            This classifier.

        Raises:
            InputError: texts and labels do not fit together, fewer than two classes, or a setting cannot be used.

        Warns:
            UserWarning: labels or texts that may not be what was meant.
        """
        from graphloss.text.encoder import load
        from graphloss.text.encoder_source import check_length, resolve
        from graphloss.text.texts_and_labels import Documents
        from graphloss.training.fit import fit
        from graphloss.training.preflight import check_settings, preflight
        from graphloss.training.progress import FIRST, Screen

        settings, source = self.settings(), resolve(self.model)
        check_length(source, self.max_length)
        texts, labels = python_inputs.checked(texts, labels)
        share = make(DataSettings, {"validation": self.validation}).validation
        described = {} if descriptions is None or descriptions is False else check_descriptions(descriptions)
        found = {label for label in labels if label is not None}
        match_classes(described, list(found), known_from="the training texts", add=add_classes)
        classes = python_inputs.sorted_labels(found | set(described) if add_classes or not found else found)
        index = {label: row for row, label in enumerate(classes)}
        if len(classes) < 2:
            raise InputError(f"expected labels of at least two classes, got {len(classes)}: {classes}")
        unlabeled = python_inputs.texts_only([] if unlabeled is None else unlabeled, "unlabeled")
        known = {"", *(text.strip() for text in texts)}
        unlabeled = [text for text in unlabeled if text.strip() not in known]
        label_names = python_inputs.label_names(classes)
        train = Documents(texts, [index.get(label, -1) for label in labels], label_names)
        odd = python_inputs.label_warnings(labels) + contradictions(train, "texts")
        train += Documents(unlabeled, [-1] * len(unlabeled))
        if not train:
            raise InputError("expected at least one text; without labels, give the texts of a pile beside descriptions")
        by_name = names_as_descriptions(label_names, train.labeled_count) if descriptions is None else {}
        lines = described or {classes[label_names.index(name)]: own for name, own in by_name.items()}
        pairs = [(line, index[name]) for name, own in lines.items() if name in index for line in own]
        described_by = Documents([line for line, _ in pairs], [place for _, place in pairs])
        if validation_data is not None:
            held_texts, held_labels = python_inputs.validation_pairs(validation_data)
            if strange := sorted({str(label) for label in held_labels if label not in index}):
                raise InputError(f"validation_data has labels that the training labels lack: {', '.join(strange)}")
            held = Documents(held_texts, [index[label] for label in held_labels])
        else:
            train, held = python_inputs.held_out(train, share, settings.seed)
            if share and not held and train.labeled_count:
                odd.append(NONE_HELD_OUT)
        checked = check_settings(settings, train, held, label_names, described_by)
        odd += class_warnings(label_names, [label_names[index[label]] for label in labels if label is not None])
        for line in [*odd, *checked.warnings]:
            warnings.warn(line, UserWarning, stacklevel=2)
        encoder = load(source, max_length=self.max_length)
        ready = preflight(checked, encoder)
        fitted = fit(
            encoder,
            ready,
            callbacks=[Screen().watch()] if self.verbose else None,
            early_callbacks=[Screen().watch(title=FIRST)] if self.verbose else None,
            progress=self.verbose,
        )
        if fitted.descriptions and fitted.descriptions.unchecked:
            warnings.warn(UNCHECKED, UserWarning, stacklevel=2)
        self._take(replace(fitted, model=replace(fitted.model, labels=classes)), settings)
        return self

    def predict(self, texts: Sequence[str], *, predictor: str | None = None) -> np.ndarray:
        """The likeliest label of each of n texts, (n,), as the training labels were.

        Args:
            texts: each is classified by itself, whatever the others are.
            predictor: "head", "graph", "knn" or "mix" instead of the one of the settings.
        """
        best = self.predict_proba(texts, predictor=predictor).argmax(1)
        return self.classes_[best]

    def predict_proba(self, texts: Sequence[str], *, predictor: str | None = None) -> np.ndarray:
        """Probabilities (n, C), columns in the order of `classes_`; arguments as for `predict`."""
        model = self._model()
        return model.probabilities(model.encode(texts, progress=self.verbose), predictor=predictor).numpy()

    def explain(self, texts: Sequence[str], k: int = 5, *, predictor: str | None = None) -> list[list[dict[str, Any]]]:
        """The labeled training documents that support each prediction, at most k, in descending order of share.

        Returns:
            For each text a list of `text`, `label` and `share`, the part of the predicted probability that the document
            contributes. The rest comes from other documents and from the head, which has no supporting documents:
            where it alone predicts, for the text or for unlabeled neighbors, the lists are empty.

        Raises:
            InputError: k is below 1, or the folder that this was read from does not keep the training texts.
        """
        model = self._model()
        return model.explain(model.encode(texts, progress=self.verbose), k, predictor=predictor)[0]

    def audit(
        self, texts: Sequence[str] | None = None, labels: Sequence[Any] | None = None, k: int = 5
    ) -> list[dict[str, Any]]:
        """Probable label errors, in descending order of score (docs/research/audit.md).

        Args:
            texts: n labeled documents to compare with one another; the training documents when left out.
            labels: n labels, of any names; documents without a label (None) are ignored.
            k: supporting documents of each proposal.

        Returns:
            One dictionary per contradicted label: `text`, `label`, `proposed`, `score` (above one half, at most 1) and
            `evidence`, a list of `text`, `label` and `share`, the part of the proposed label's probability that each
            of these documents contributes.

        Raises:
            InputError: texts and labels do not fit together, or the folder that this was read from does not keep the
                training texts.
        """
        return self._model().audit(texts, labels, k, progress=self.verbose)

    def suggest(
        self,
        texts: Sequence[str],
        count: int,
        labels: Sequence[Any] | None = None,
        *,
        descriptions: Mapping[Any, str | Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Which texts of a pile to label next, in an order in which one may stop anywhere.

        Args:
            texts: the pile, n texts; those that this classifier learned from count as labeled.
            count: texts wanted.
            labels: n labels, None for unlabeled; all are unlabeled when left out.
            descriptions: class -> a line about it or several; by default this classifier predicts.

        Returns:
            At most `count` dictionaries `row` (the place in `texts`, from 0), `text`, `reason`, `stands_for`, `guess`
            and `probability`.

        Raises:
            InputError: arguments do not fit together, or fewer texts than wanted are unlabeled.
        """
        return self._model().suggest(texts, count, labels, descriptions=descriptions, progress=self.verbose)

    def encode(self, texts: Sequence[str], *, batch_size: int | None = None) -> np.ndarray:
        """Unit-length embeddings (n, d), float32."""
        return self._model().encode(texts, batch_size=batch_size, progress=self.verbose).numpy()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained`, `graphloss predict` and `graphloss evaluate` read.

        Raises:
            InputError: the folder is not empty, or a label is neither text nor number.
        """
        model, path = self._model(), Path(folder)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: holds something already; give a new folder")
        info = self.fitted_.info(self._fitted_with, path) | {"status": "finished"}
        path.mkdir(parents=True, exist_ok=True)
        run_folder.write_metrics(path, self.history_)
        run_folder.write_model(path, model)
        run_folder.write_info(path, info)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | None = None) -> Self:
        """Read a folder that `save_pretrained` or `graphloss train` wrote.

        Raises:
            InputError: the folder is no finished run, is damaged, or was written by a newer graphloss.
        """
        info, model = run_folder.read_model(Path(folder), device=device)
        self = cls(**{name: value for name, value in info["settings"].items() if name in names(TrainSettings)})
        self._take(Fitted.of(info, model), self.settings())
        return self

    def _take(self, fitted: Fitted, settings: TrainSettings) -> None:
        """Be a fitted classifier; the settings are kept for the folder, whatever `set_params` changes afterwards."""
        model, self._fitted_with = fitted.model, settings
        self.fitted_, self.classes_ = fitted, python_inputs.label_array(model.labels)
        self.encoder_, self.predictor_, self.texts_ = model.encoder, model.predictor, model.texts
        self.self_training_, self.history_, self.best_epoch_ = fitted.self_training, fitted.history, fitted.best_epoch

    def _model(self) -> FittedModel:
        if not hasattr(self, "fitted_"):
            raise NotFittedError(
                "this TextClassifier has not been fitted; call fit, or read one with TextClassifier.from_pretrained"
            )
        return self.fitted_.model
