"""`TextClassifier`: graphloss with the manners of scikit-learn."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from graphloss import given, processes, runfolder
from graphloss.answering import Answering
from graphloss.checking import make
from graphloss.config import DataSettings, TrainSettings, names
from graphloss.errors import InputError
from graphloss.teaching import Taught


class TextClassifier(Answering, ClassifierMixin, BaseEstimator):
    """Fine-tune a text encoder with G-Loss and classify with it.

    Labels go in and come out as they are, names or numbers. A label of None marks an unlabelled
    document: after training, the graph of all documents teaches the head (`corpus_graph`), and in training some can
    join each batch as hidden nodes (`hidden`). All arguments are keywords and named like the options of
    `graphloss train`; `validation` is the share of the labelled documents held out to choose the best epoch (0: the
    last epoch is kept), `verbose` shows a bar and a line an epoch on standard error.

    Attributes (after `fit`):
        classes_: labels (C,), sorted.
        encoder_: the fine-tuned sentence-transformers model.
        predictor_: head and graph over unit-length embeddings (`graphloss.prediction.Predictor`).
        texts_: the labelled training documents in that graph, or None in a folder that was saved without them.
        taught_: what the unlabelled documents did for the head (`graphloss.teaching.Taught`); None without any.
        history_: one dictionary an evaluation: loss and its parts, coverage, validation scores, seconds.
        best_epoch_: the epoch whose weights were kept.

    Example:
        >>> from graphloss import TextClassifier
        >>> model = TextClassifier(epochs=3)  # doctest: +SKIP
        >>> model.fit(texts, labels).predict(["where is my card?"])  # doctest: +SKIP
        array(['card_arrival'], dtype='<U12')
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        loss: str = TrainSettings.loss,
        mode: str = TrainSettings.mode,
        weight: float = TrainSettings.weight,
        sigma: float | str = TrainSettings.sigma,
        perplexity: float = TrainSettings.perplexity,
        alpha: float = TrainSettings.alpha,
        q: float = TrainSettings.q,
        k: int | None = TrainSettings.k,
        hidden: int = TrainSettings.hidden,
        soft_weight: float = TrainSettings.soft_weight,
        corpus_graph: str = TrainSettings.corpus_graph,
        memory: int = TrainSettings.memory,
        memory_warmup: int = TrainSettings.memory_warmup,
        leave_out: str = TrainSettings.leave_out,
        gamma: float = TrainSettings.gamma,
        temperature: float = TrainSettings.temperature,
        margin: float = TrainSettings.margin,
        class_weights: str = TrainSettings.class_weights,
        epochs: int | None = TrainSettings.epochs,
        batch_size: int | None = TrainSettings.batch_size,
        graph_size: int | None = TrainSettings.graph_size,
        learning_rate: float = TrainSettings.learning_rate,
        head_learning_rate: float = TrainSettings.head_learning_rate,
        schedule: str = TrainSettings.schedule,
        weight_decay: float = TrainSettings.weight_decay,
        head_start: str = TrainSettings.head_start,
        max_length: int | None = TrainSettings.max_length,
        freeze: int = TrainSettings.freeze,
        accumulate: int = TrainSettings.accumulate,
        blend: float | None = TrainSettings.blend,
        patience: int = TrainSettings.patience,
        predictor: str = TrainSettings.predictor,
        precision: str = TrainSettings.precision,
        seed: int = TrainSettings.seed,
        validation: float = 0.1,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.loss = loss
        self.mode = mode
        self.weight = weight
        self.sigma = sigma
        self.perplexity = perplexity
        self.alpha = alpha
        self.q = q
        self.k = k
        self.hidden = hidden
        self.soft_weight = soft_weight
        self.corpus_graph = corpus_graph
        self.memory = memory
        self.memory_warmup = memory_warmup
        self.leave_out = leave_out
        self.gamma = gamma
        self.temperature = temperature
        self.margin = margin
        self.class_weights = class_weights
        self.epochs = epochs
        self.batch_size = batch_size
        self.graph_size = graph_size
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.head_start = head_start
        self.max_length = max_length
        self.freeze = freeze
        self.accumulate = accumulate
        self.blend = blend
        self.patience = patience
        self.predictor = predictor
        self.precision = precision
        self.seed = seed
        self.validation = validation
        self.verbose = verbose

    def settings(self) -> TrainSettings:
        """The settings as one checked object.

        Raises:
            InputError: some setting cannot be used; all faults are listed.
        """
        return make(TrainSettings, {name: getattr(self, name) for name in names(TrainSettings)})

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        unlabeled: Sequence[str] | None = None,
        *,
        validation_data: tuple[Sequence[str], Sequence[Any]] | None = None,
    ) -> Self:
        """Fine-tune the encoder; in several processes (`torchrun`) all call this, with the same documents.

        Args:
            texts: n documents.
            labels: n labels; None where a document has none.
            unlabeled: further documents without a label, as those of `texts` whose label is None; blank ones are left
                out.
            validation_data: texts and labels that choose the best epoch, instead of a share of `texts`.

        Returns:
            This classifier.

        Raises:
            InputError: texts and labels do not fit together, fewer than two classes, or a setting cannot be used.
        """
        from graphloss.console import Screen
        from graphloss.documents import Documents
        from graphloss.encoder import load
        from graphloss.encoder_files import check_length, resolve
        from graphloss.schedule import said_unused
        from graphloss.training import fit

        settings, source = self.settings(), resolve(self.model)
        check_length(source, self.max_length)
        texts, labels = given.checked(texts, labels)
        share = make(DataSettings, {"validation": self.validation}).validation
        known = given.sorted_labels({label for label in labels if label is not None})
        index = {label: row for row, label in enumerate(known)}
        if len(known) < 2:
            raise InputError(f"expected labels of at least two classes, got {len(known)}: {known}")
        more = [text for text in given.texts_only([] if unlabeled is None else unlabeled, "unlabeled") if text.strip()]
        train = Documents([*texts, *more], [index.get(label, -1) for label in labels] + [-1] * len(more))
        label_names = [str(label) for label in known]
        if validation_data is not None:
            held_texts, held_labels = given.checked(*validation_data, "validation_data")
            if strange := sorted({str(label) for label in held_labels if label not in index}):
                raise InputError(f"validation_data has labels that the training labels lack: {', '.join(strange)}")
            held = Documents(held_texts, [index[label] for label in held_labels])
        else:
            train, held = given.held_out(train, label_names, share, settings.seed)
        if unused := said_unused(len(train) - train.known, settings):
            warnings.warn(unused, UserWarning, stacklevel=2)
        processes.join()
        with tempfile.TemporaryDirectory(prefix="graphloss-") as own:
            folder = processes.first_does(lambda: own)
            fitted = fit(
                load(source, max_length=self.max_length),
                train,
                held,
                label_names,
                settings,
                folder=Path(folder),
                callbacks=[Screen().watch()] if self.verbose else None,
                progress=self.verbose,
            )
        self._take(fitted, known)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained`, `graphloss predict` and `graphloss evaluate` read.

        Raises:
            InputError: the folder holds something already.
        """
        self._fitted()
        path = Path(folder)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: holds something already; give a new folder")
        info = self.description() | {"status": "finished"}
        path.mkdir(parents=True, exist_ok=True)
        runfolder.write_metrics(path, self.history_)
        runfolder.write_model(path, self.as_model())
        runfolder.write_info(path, info)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | None = None) -> Self:
        """Read a folder that `save_pretrained` or `graphloss train` wrote.

        Raises:
            InputError: the folder is no finished run, is damaged, or was written by a newer graphloss.
        """
        info, model = runfolder.read_model(Path(folder), device=device)
        self = cls(**{name: value for name, value in info["settings"].items() if name in names(TrainSettings)})
        self.classes_ = np.array(info["labels"])
        self.encoder_, self.predictor_, self.texts_ = model.encoder, model.predictor, model.texts
        self.history_, self.best_epoch_, self.seconds_ = [], info.get("best_epoch"), info.get("seconds")
        found = info.get("unlabelled")
        if found:  # a folder of an older graphloss does not say how far the head was trusted: wholly
            found = {"trust": 1.0} | found | {"shares": [*found["shares"].values()]}
        self.taught_ = Taught(**found) if found else None
        return self

    @classmethod
    def of(cls, settings: TrainSettings, fitted: Any, labels: Sequence[Any]) -> Self:
        """A fitted classifier from what `graphloss.training.fit` returned."""
        self = cls(**{name: getattr(settings, name) for name in names(TrainSettings)})
        self._take(fitted, list(labels))
        return self

    def as_model(self) -> runfolder.Model:
        """What a run folder keeps of this classifier."""
        return runfolder.Model(self.encoder_, self.predictor_, self.texts_)

    def description(self) -> dict[str, Any]:
        """What `graphloss.json` says of this classifier."""
        read = self.encoder_.max_seq_length or math.inf
        return {
            "labels": [label.item() if isinstance(label, np.generic) else label for label in self.classes_],
            "settings": asdict(self.settings()),
            "encoder": {
                "name": self.model or "all-MiniLM-L6-v2",
                "dimension": int(self.predictor_.weight.shape[1]),
                "max_length": read if math.isfinite(read) else None,  # a static encoder reads texts whole
            },
            "predictor": {
                "kind": self.predictor_.kind,
                "sigma": self.predictor_.sigma,
                "graph_share": self.predictor_.graph_share,
                "near_share": self.predictor_.near_share,
            },
            "unlabelled": self.taught_
            and asdict(self.taught_) | {"shares": dict(zip(map(str, self.classes_), self.taught_.shares, strict=True))},
            "best_epoch": self.best_epoch_,
            "seconds": self.seconds_,
        }

    def _take(self, fitted: Any, known: list[Any]) -> None:
        self.classes_ = np.array(known)
        self.encoder_, self.predictor_, self.texts_ = fitted.encoder, fitted.predictor, fitted.texts
        self.history_, self.best_epoch_, self.seconds_ = fitted.history, fitted.best_epoch, fitted.seconds
        self.taught_ = fitted.taught
