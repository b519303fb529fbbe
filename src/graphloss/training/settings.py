"""The settings: two dataclasses that the command line, a settings file and `TextClassifier` share.

Each fact about a setting (name, type, default, help, choices, bounds) is here only: the command's options and help are
generated from these fields, and all values are checked against them (`settings_errors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from graphloss.errors import InputError
from graphloss.inference.predictor_names import PREDICTORS
from graphloss.losses.sigma import LEAST_SIGMA, SIGMAS

LOSSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gloss": ("weight", "sigma", "alpha", "q", "k", "memory"),
        "gloss-paper": ("weight", "sigma", "gamma"),
        "ce": (),
        "supcon": ("weight", "temperature"),
        "triplet": ("weight", "margin"),
        "cosine": ("weight",),
        "nca": ("weight", "temperature"),
    }
)
"""Losses by name, with the settings that not all losses have; `build_loss.build` makes them."""

FILES = ("model", "unlabeled", "describe")
"""Settings that name files or folders."""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field with its help and bounds: `least <= value <= most`, `above < value < below`."""
    bounds = {"least": least, "most": most, "above": above, "below": below}
    return field(default=default, metadata={"help": help, "choices": choices, **bounds})


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The source of the documents and which of them are used."""

    text: str | None = setting(None, "Column of the texts (default: guessed).")
    label: str | None = setting(None, "Column of the labels (default: guessed). An empty label means unlabeled.")
    shots: int | None = setting(None, "Keep only N labeled documents per class.", least=1)
    keep_unlabeled: bool = setting(False, "With --shots: keep the other documents, without their labels.")
    unlabeled: str | None = setting(
        None, "File of further, unlabeled documents: a table, or a .txt file with one text per line."
    )
    describe: str | None = setting(
        None,
        "File of descriptions, class -> one or several lines (TOML, YAML, JSON, CSV); default: the label names, if "
        "there are few labels, weighted by how well they predict them; off: none.",
    )
    add_classes: bool = setting(False, "With --describe: also predict described classes without a labeled document.")
    validation: float | None = setting(
        None,
        "Share of train used for validation if the data has no validation split (default: 0.1 from 500 labels on, of "
        "fewer none).",
        least=0,
        most=0.9,
    )
    no_header: bool = setting(
        False, "The first line of CSV or TSV is a document; the columns are then called 1, 2, and so on."
    )
    keep_na: bool = setting(
        False, "Labels as NA, null, None or nan are names of classes (default: they mark unlabeled documents)."
    )
    no_texts: bool = setting(
        False, "Keep no text in the run folder: none for `predict --explain` and `audit`, none in the report."
    )

    def reading(self) -> dict[str, Any]:
        """Those that say how the data is read, for `text.corpus.load_corpus`."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "no_texts"}


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a training; every field is a keyword of `TextClassifier` and an option of `graphloss train`."""

    model: str | None = setting(None, "Encoder: a folder or a Hub name (default: the packaged all-MiniLM-L6-v2).")
    loss: str = setting("gloss", "What is minimized:", choices=tuple(LOSSES))
    mode: str = setting(
        "combined",
        "combined: cross-entropy and the loss; standalone: the loss alone, then a linear probe.",
        choices=("combined", "standalone"),
    )
    weight: float = setting(0.5, "λ, the weight of the loss against cross-entropy in combined mode.", least=0, most=1)
    sigma: float | str = setting(
        "auto", "Bandwidth σ of the graph, a number or a rule:", choices=SIGMAS, least=LEAST_SIGMA
    )
    alpha: float = setting(1.0, "Below 1: label spreading with this damping; 1: harmonic functions.", above=0, most=1)
    q: float = setting(
        0.0, "0: likelihood; up to 1: generalized cross-entropy, robust to wrong labels.", least=0, most=1
    )
    k: int | None = setting(None, "Keep only edges to the k nearest neighbors (default: all edges).", least=1)
    memory: int = setting(0, "Labeled documents per class of earlier batches that stay in the graph; 0: none.", least=0)
    gamma: float = setting(0.7, "γ of gloss-paper, the share of the labels that is shown.", above=0, below=1)
    temperature: float = setting(0.1, "Temperature of supcon and nca.", least=1e-3)
    margin: float = setting(5.0, "Margin of triplet, in Euclidean distance.", least=0)
    class_weights: str = setting("none", "Weights of the classes in the loss:", choices=("none", "balanced"))
    epochs: int | None = setting(None, "Passes over the training documents (default: by their number).", least=1)
    batch_size: int | None = setting(
        None, "Documents embedded at once (default: 32 to 128, by the number of documents).", least=2
    )
    corpus_graph: str = setting(
        "auto",
        "auto: if some documents are unlabeled, spread labels to them over a k-NN graph and refit the classifier; "
        "off: ignore them.",
        choices=("auto", "off"),
    )
    clean: str = setting(
        "off",
        "auto: if other documents contradict many labels and the encoder knows the classes, weigh each label in "
        "cross-entropy and gloss by how far they confirm it, and list the contradicted ones with the run; off: all "
        "weigh alike.",
        choices=("auto", "off"),
    )
    graph_size: int | None = setting(
        None,
        "Documents per graph and gradient (default: the batch size). A larger graph is embedded batch by batch, twice, "
        "for the exact gradient: a third more time, the memory of one batch.",
        least=2,
    )
    learning_rate: float = setting(1e-4, "Peak learning rate of the encoder.", above=0)
    head_learning_rate: float = setting(1e-2, "Peak learning rate of the linear head and of a learned σ.", above=0)
    schedule: str = setting(
        "linear",
        "linear: warm-up over a tenth of the steps, then decay to zero; step: a tenth of the rate from epoch 30 on.",
        choices=("linear", "step"),
    )
    weight_decay: float = setting(0.01, "Weight decay of the encoder's matrices.", least=0)
    head_start: str = setting(
        "probe", "Initial linear head, a linear probe of the pretrained encoder or random:", choices=("probe", "random")
    )
    max_length: int | None = setting(None, "Tokens per text (default: the encoder's own maximum).", least=4)
    freeze: int = setting(
        0, "Lower encoder layers that are frozen and computed once per text (0: train all layers).", least=0
    )
    accumulate: int = setting(1, "Graphs whose gradients are averaged into one step.", least=1)
    blend: float = setting(
        1.0,
        "Weight of the fine-tuned parameters when they are averaged with the pretrained ones; 1 keeps the fine-tuned.",
        above=0,
        most=1,
    )
    patience: int = setting(
        5, "Evaluations (one per epoch of 3 to 250 steps) without a better score before training stops.", least=1
    )
    predictor: str = setting(
        "mix",
        "Classifier of new texts: the linear head, the graph of the training documents, their 10 nearest (knn), or a "
        "mixture of head and graph, with weights from cross-fitted predictions, and of the nearest texts after "
        "self-training:",
        choices=PREDICTORS,
    )
    precision: str = setting("auto", "Arithmetic of the encoder:", choices=("auto", "fp32", "bf16", "fp16"))
    seed: int = setting(0, "Random seed.", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        """Refuse combinations of settings that exclude each other."""
        if self.loss == "ce" and self.mode == "standalone":
            raise InputError(
                "loss 'ce' has no standalone mode: it is the cross-entropy of a head; "
                "give --mode combined or --loss gloss"
            )
        if self.clean == "auto" and self.mode == "standalone" and self.loss != "gloss":
            raise InputError(
                f"clean 'auto' weighs the labels of gloss and of cross-entropy, and loss '{self.loss}' standalone has "
                "neither; give --mode combined, --loss gloss or --clean off"
            )
        if self.memory and (self.alpha != 1 or self.k is not None):
            raise InputError(
                f"a memory needs alpha 1 and no k, got alpha {self.alpha} and k {self.k}: both would need the edges "
                "between remembered documents; leave them out, or the memory"
            )
        if self.graph_size is not None and self.batch_size is not None and self.graph_size < self.batch_size:
            raise InputError(
                f"graph_size {self.graph_size}: expected at least the batch_size, which is {self.batch_size}: a graph "
                f"is embedded batch by batch; give --batch-size {self.graph_size} or less, or leave out --graph-size"
            )
        for item in fields(self):
            owners = [loss for loss, own in LOSSES.items() if item.name in own]
            if owners and self.loss not in owners and getattr(self, item.name) != item.default:
                raise InputError(
                    f"loss '{self.loss}' has no setting '{item.name}', which belongs to {', '.join(owners)}; "
                    f"leave it out, or choose one of those losses"
                )


def names(settings_class: type) -> list[str]:
    """Names of the settings, in the order of their definition."""
    return [item.name for item in fields(settings_class)]
