"""Labels come back as they were given, missing ones are unlabeled everywhere, and odd names of classes are said."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Toy

from graphloss import TextClassifier
from graphloss.errors import InputError
from graphloss.inference import python_inputs
from graphloss.text.class_warnings import class_warnings, look


class Topic(str, Enum):  # noqa: UP042 - the older form, whose members are texts too
    A, B, C, D = "a", "b", "c", "d"


class Color(Enum):
    A, B, C, D = 4, 2, 3, 1


KINDS: dict[str, list[Any]] = {
    "texts": ["a", "b", "c", "d"],
    "texts with a NUL": ["a\0", "a", "b\0\0", "c"],
    "members that are texts": list(Topic),
    "members": list(Color),
    "large numbers": [-1, 2**63, 2**64, 7],
    "tuples": [(1, "a"), (1, "b"), (2, None), ()],
    "truth": [True, False, True, False],
    "numbers of numpy": [np.int8(3), np.int8(-3), np.int8(5), np.int8(0)],
    "fractions of numpy": [np.float32(0.1), np.float32(0.2), np.float32(0.3), np.float32(4)],
    "dates": [datetime.date(2026, 1, day) for day in (4, 3, 2, 1)],
    "sets": [frozenset("ab"), frozenset("b"), frozenset(), frozenset("xyz")],
    "bytes": [b"a", b"b", b"c", b"a\0"],
    "decimals": [Decimal("0.10"), Decimal(1), Decimal(2), Decimal(3)],
    "complex": [1j, 2 + 1j, 0j, 1 + 0j],
    "fractions": [Fraction(1, 3), Fraction(1), Fraction(2), Fraction(3)],
}
IN_FOLDERS = ("texts", "texts with a NUL", "large numbers", "truth", "numbers of numpy", "fractions of numpy")


@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back_as_they_were(kind: str, tiny_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    own = KINDS[kind]
    labels = [own[place] for place in toy.indices]
    model = TextClassifier(model=str(tiny_encoder), epochs=1, max_length=32, validation=0).fit(toy.texts, labels)
    classes = model.classes_.tolist() if kind != "dates" else list(model.classes_)
    plain = [label.item() if isinstance(label, np.generic) else label for label in set(own)]
    assert len(classes) == len(plain) and {(type(a), a) for a in classes} == {(type(b), b) for b in plain}
    found = model.predict(toy.texts)
    assert {type(label) for label in found.tolist()} == {type(label) for label in plain} and set(found) <= set(own)
    folder = tmp_path / "saved"
    if kind not in IN_FOLDERS:
        with pytest.raises(InputError, match="come back as something else"):
            model.save_pretrained(folder)
        assert not folder.exists()
        return
    model.save_pretrained(folder)
    again = TextClassifier.from_pretrained(folder)
    assert [(type(label), label) for label in again.classes_.tolist()] == [(type(label), label) for label in classes]
    assert again.predict(toy.texts).tolist() == found.tolist()


NOTHING = [None, "", " ", "\t\n", float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, np.str_(" "), np.ma.masked]


def test_missing_labels_are_alike_and_others_stay_as_they_are() -> None:
    texts = [f"text {n}" for n in range(len(NOTHING) + 5)]
    labels = [*NOTHING, " pos", "pos ", np.str_("pos"), "NA", "nan"]
    assert python_inputs.checked(texts, labels)[1] == [None] * len(NOTHING) + labels[len(NOTHING) :]


def test_labels_that_mark_unlabeled_documents_elsewhere_are_told() -> None:
    told = "the labels 'NA' (2), 'nan' (1) are classes; if they mark unlabeled documents, give None for them"
    assert python_inputs.label_warnings(["NA", "b", "nan", "NA", None]) == [told]
    assert python_inputs.label_warnings([-1, 0, np.int64(1), -1])[0].startswith("the labels -1 (2) are classes")
    for fine in ([-1, 1], [0, 1], ["a", "b", None], [True, False], [0.5, -1.0], [], [-2, -1, 0]):
        assert python_inputs.label_warnings(fine) == []


def test_whole_and_broken_numbers_are_one_kind_and_scored(tiny_encoder: Path, toy: Toy) -> None:
    labels = [[1, 2, 3.0, 4][place] for place in toy.indices]
    model = TextClassifier(model=str(tiny_encoder), epochs=1, max_length=32, validation=0).fit(toy.texts, labels)
    assert model.classes_.dtype == np.float64 and 0 <= model.score(toy.texts, labels) <= 1


def test_blanks_around_a_label_do_not_make_the_score_wrong(tiny_encoder: Path, toy: Toy) -> None:
    labels = [f"{name} " if name == toy.labels[0] else name for name in toy.labels]
    model = TextClassifier(model=str(tiny_encoder), epochs=1, max_length=32, validation=0).fit(toy.texts, labels)
    right = np.mean([one == other for one, other in zip(model.predict(toy.texts), labels, strict=True)])
    assert f"{toy.labels[0]} " in model.classes_ and model.score(toy.texts, labels) == pytest.approx(right)


@pytest.mark.parametrize("make", [torch.tensor, lambda labels: list(torch.tensor(labels)), lambda labels: labels])
@pytest.mark.parametrize("labels", [[0, 1, 0, 7], [True, False, False, True], [0.5, 1.5, 0.5, 1.5]])
def test_labels_of_a_tensor_are_its_numbers(make: Callable[[list[Any]], Any], labels: list[Any]) -> None:
    assert python_inputs.checked(["a", "b", "c", "d"], make(labels))[1] == labels


@pytest.mark.parametrize(
    "wrong",
    [
        lambda texts: set(texts),
        lambda texts: frozenset(texts),
        lambda texts: dict.fromkeys(texts),
        lambda texts: dict.fromkeys(texts).keys(),
        lambda texts: " ".join(texts),
        lambda texts: " ".join(texts).encode(),
        lambda texts: iter(texts),
        lambda texts: (text for text in texts),
        lambda texts: map(str, texts),
        lambda texts: pd.DataFrame({"text": texts}),
        lambda texts: 7,
        lambda texts: None,
        lambda texts: np.array("text"),
        lambda texts: [texts],
        lambda texts: [text.encode() for text in texts],
        lambda texts: np.array([texts]),
    ],
)
def test_what_is_no_list_of_texts_is_refused(wrong: Callable[[list[str]], Any], toy: Toy) -> None:
    with pytest.raises(InputError, match="expected"):
        python_inputs.checked(wrong(toy.texts), toy.labels)


@pytest.mark.parametrize("right", [list, tuple, np.array, pd.Series, lambda texts: dict(enumerate(texts)).values()])
def test_what_is_a_list_of_texts_is_taken(right: Callable[[list[str]], Any], toy: Toy) -> None:
    assert python_inputs.checked(right(toy.texts), right(toy.labels)) == (toy.texts, toy.labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([True, 1, 0], "are equal"),
        ([1, 2, np.True_], "are equal"),
        ([["a"], ["b"], ["c"]], "expected one label"),
        ([{"a": 1}] * 3, "expected one label"),
        (torch.eye(3), "expected one label"),
        ([np.array([0, 1])] * 3, "expected one label"),
        ([float("inf"), 1.0, 2.0], "finite"),
    ],
)
def test_labels_without_sense_are_refused(labels: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        python_inputs.checked(["a", "b", "c"], labels)


def test_labels_of_several_kinds_are_refused() -> None:
    for labels in ({1, "1"}, {"a", None}, {(1,), "a"}, {Color.A, Topic.A}):
        with pytest.raises(InputError, match="of one kind"):
            python_inputs.sorted_labels(labels)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["pos", "neg", "Pos"], 1),
        (["credit card", "credit  card", "credit\u00a0card", "credit_card"], 1),
        (["caf\u00e9", "cafe\u0301"], 1),
        (["\uff50os", "pos"], 1),
        (["p\u043es", "pos", "n\u0435g", "neg"], 2),
        (["po\u200bs", "pos"], 1),
        (["o", "0", "1", "l"], 2),
        (["Stra\u00dfe", "STRASSE"], 1),
        (["a\u2013b", "a-b", "it\u2019s", "it's"], 2),
        (["positive", "negative", "neutral"], 0),
        (["-1", "1", "1.5", "15"], 0),
        (["C", "C++", "C#"], 0),
        (["caf\u00e9", "cafe"], 0),
    ],
)
def test_classes_that_a_person_takes_for_one_are_said(names: list[str], pairs: int) -> None:
    found = class_warnings(names, names)
    assert len(found) == (pairs > 0) and sum(line.count(" and ") for line in found) >= pairs
    assert all(ascii(name) in found[0] for name in names if [look(each) for each in names].count(look(name)) > 1)


def test_numbers_that_were_measured_are_said() -> None:
    g = np.random.default_rng(0)
    measured = [f"{value:.2f}" for value in g.normal(size=200)]
    for labels, odd in (
        (measured, True),
        ([str(value) for value in g.integers(0, 10**6, size=100)], True),
        ([str(value) for value in range(5)] * 20, False),
        ([str(value) for value in range(77)] * 20, False),
        ([f"{value / 2}" for value in range(8)] * 20, False),  # half stars
        ([*measured, "a name"], False),
    ):
        found = class_warnings(sorted(set(labels)), labels)
        assert bool(found) == odd and all("measured" in line or "stands once" in line for line in found)


def test_odd_classes_are_said_by_the_file_and_the_call(tiny_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    from graphloss.text.corpus import load_corpus

    labels = [f"{name.title() if number % 2 else name}" for number, name in enumerate(toy.labels)]
    file = tmp_path / "a.csv"
    pd.DataFrame({"text": toy.texts, "label": labels}).to_csv(file, index=False)
    assert "'Cooking' and 'cooking'" in " ".join(load_corpus(str(file)).warnings)
    model = TextClassifier(model=str(tiny_encoder), epochs=1, max_length=32, validation=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(toy.texts, labels)
    assert any("'Cooking' and 'cooking'" in str(each.message) for each in said)
