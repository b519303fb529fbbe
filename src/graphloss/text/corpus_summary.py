"""What a corpus is like, in numbers: to look at before training on it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from graphloss.text.corpus import Corpus


@dataclass(frozen=True)
class ClassCount:
    """Labeled documents of one class in each split."""

    label: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Words:
    """Length of the train texts in words: mean, median, the length that 95% do not exceed, and the longest."""

    mean: float
    median: float
    p95: float
    longest: int


@dataclass(frozen=True)
class Description:
    """A corpus in numbers; `dataclasses.asdict` makes it JSON.

    Documents are counted in each split, unlabeled ones in train, repeated ones in validation and test, if they stand in
    train too; the largest class of train is the first. Without columns, these are empty.
    """

    name: str
    fingerprint: str
    columns: dict[str, object]
    documents: dict[str, int]
    unlabeled: int
    classes: list[ClassCount]
    words: Words
    repeated: dict[str, int]
    warnings: list[str]


def describe(corpus: "Corpus") -> Description:
    """Describe a corpus in numbers."""
    splits = {"train": corpus.train, "validation": corpus.validation} | ({"test": corpus.test} if corpus.test else {})
    counts = {name: Counter(split.names) for name, split in splits.items()}
    order = sorted(corpus.label_names, key=lambda label: -counts["train"][label])
    lengths = np.array([len(text.split()) for text in corpus.train.texts])
    trained = {text.strip() for text in corpus.train.texts}
    return Description(
        name=corpus.name,
        fingerprint=corpus.fingerprint,
        columns=corpus.columns._asdict() if corpus.columns.text else {},
        documents={name: len(split) for name, split in splits.items()},
        unlabeled=counts["train"][None],
        classes=[
            ClassCount(label, *(counts.get(name, Counter())[label] for name in ("train", "validation", "test")))
            for label in order
        ],
        words=Words(
            mean=round(float(lengths.mean()), 1),
            median=float(np.median(lengths)),
            p95=float(np.quantile(lengths, 0.95)),
            longest=int(lengths.max()),
        ),
        repeated={
            name: sum(text.strip() in trained for text in splits[name].texts) for name in splits if name != "train"
        },
        warnings=corpus.warnings,
    )
