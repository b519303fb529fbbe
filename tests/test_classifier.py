"""`TextClassifier` as somebody who knows scikit-learn would use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Toy
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from graphloss import TextClassifier
from graphloss.errors import InputError

QUICK: dict[str, Any] = {"blend": 1.0, "epochs": 3, "batch_size": 16, "max_length": 32, "learning_rate": 1e-3}
BRIEF = QUICK | {"epochs": 1}  # where it does not matter what is learnt


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, toy: Toy) -> TextClassifier:
    return TextClassifier(model=str(tiny_encoder), **QUICK).fit(toy.texts, toy.labels)


def test_names_in_names_out(fitted: TextClassifier, toy: Toy) -> None:
    assert list(fitted.classes_) == toy.names
    assert fitted.score(toy.texts, toy.labels) > 0.9
    probabilities = fitted.predict_proba(toy.texts)
    assert probabilities.shape == (64, 4)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert list(fitted.classes_[probabilities.argmax(1)]) == list(fitted.predict(toy.texts))


def test_embeddings_have_unit_length(fitted: TextClassifier) -> None:
    z = fitted.encode(["goal", "onion"])
    assert z.shape == (2, 32) and z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)


def test_a_prediction_does_not_depend_on_the_other_texts(fitted: TextClassifier, toy: Toy) -> None:
    together = fitted.predict_proba(toy.texts[:20])
    alone = np.concatenate([fitted.predict_proba([text]) for text in toy.texts[:20]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_saved_and_read_again_it_says_the_same(fitted: TextClassifier, toy: Toy, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    again = TextClassifier.from_pretrained(tmp_path / "model")
    assert list(again.predict(toy.texts)) == list(fitted.predict(toy.texts))
    np.testing.assert_allclose(again.predict_proba(toy.texts), fitted.predict_proba(toy.texts), atol=1e-6)
    assert again.get_params() == fitted.get_params() | {"validation": 0.1}
    with pytest.raises(InputError, match="holds something already"):
        fitted.save_pretrained(tmp_path / "model")


@pytest.mark.parametrize("labels", [[3, 1, 7, 2], [True, False, True, False]])
def test_labels_of_any_kind_come_back_as_they_went_in(
    tiny_encoder: Path, toy: Toy, labels: list[Any], tmp_path: Path
) -> None:
    given = [labels[index] for index in toy.indices]
    model = TextClassifier(model=str(tiny_encoder), **QUICK).fit(toy.texts, given)
    assert list(model.classes_) == sorted(set(labels))
    assert set(model.predict(toy.texts)) <= set(labels) and model.score(toy.texts, given) > 0.8
    model.save_pretrained(tmp_path / "model")
    assert list(TextClassifier.from_pretrained(tmp_path / "model").classes_) == sorted(set(labels))


def test_scikit_learn_can_clone_and_cross_validate(tiny_encoder: Path, toy: Toy) -> None:
    model = TextClassifier(model=str(tiny_encoder), **QUICK)
    assert clone(model).get_params() == model.get_params()
    scores = cross_val_score(model, toy.texts, toy.labels, cv=2)
    assert len(scores) == 2 and scores.mean() > 0.5


def test_the_same_seed_gives_the_same_model(tiny_encoder: Path, toy: Toy) -> None:
    first, second, other = (
        TextClassifier(model=str(tiny_encoder), **BRIEF, seed=seed).fit(toy.texts, toy.labels).predict_proba(toy.texts)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_unlabelled_documents_and_own_validation(tiny_encoder: Path, toy: Toy) -> None:
    labels = [None if row % 3 == 0 else label for row, label in enumerate(toy.labels[:48])]
    model = TextClassifier(model=str(tiny_encoder), **BRIEF).fit(
        toy.texts[:48], labels, unlabeled=["the moon then"], validation_data=(toy.texts[48:], toy.labels[48:])
    )
    assert model.predictor_.support.shape[0] == sum(label is not None for label in labels)
    assert "macro_f1" in model.history_[0]


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        (["a", "b"], ["x"], "one label a text, got 2 texts and 1 labels"),
        (["a", "b"], ["x", "x"], "at least two classes, got 1"),
        (["a", "b"], [None, None], "at least two classes, got 0"),
        (["a", "  "], ["x", "y"], "text 1: expected a text that is not empty"),
        (["a", 3], ["x", "y"], "text 1: expected a text"),
    ],
)
def test_bad_documents_are_said_before_a_model_is_loaded(
    texts: list[Any], labels: list[Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=said):
        TextClassifier().fit(texts, labels)


def test_bad_settings_are_said_all_at_once(toy: Toy) -> None:
    with pytest.raises(InputError) as caught:
        TextClassifier(epochs=0, loss="focal").fit(toy.texts, toy.labels)
    assert "epochs" in str(caught.value) and "focal" in str(caught.value)


def test_strange_labels_in_the_validation_data(tiny_encoder: Path, toy: Toy) -> None:
    with pytest.raises(InputError, match="chess"):
        TextClassifier(model=str(tiny_encoder)).fit(toy.texts, toy.labels, validation_data=(["mate"], ["chess"]))


def test_before_fit_there_is_nothing_to_predict() -> None:
    with pytest.raises(NotFittedError, match="fit"):
        TextClassifier().predict(["a"])


def test_verbose_shows_a_line_an_epoch(tiny_encoder: Path, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    TextClassifier(model=str(tiny_encoder), **QUICK, verbose=True).fit(toy.texts, toy.labels)
    said = capsys.readouterr()
    assert (
        said.out == "" and "coverage" in said.err and len([line for line in said.err.splitlines() if "%" in line]) >= 3
    )


def test_cross_entropy_has_no_standalone_mode(toy: Toy) -> None:
    with pytest.raises(InputError, match="standalone"):
        TextClassifier(loss="ce", mode="standalone").fit(toy.texts, toy.labels)


def test_arrays_and_series_are_sequences_too(tiny_encoder: Path, toy: Toy) -> None:
    pd = pytest.importorskip("pandas")
    labels = pd.Series(toy.indices, dtype="Int64")
    labels[0] = pd.NA
    model = TextClassifier(model=str(tiny_encoder), **BRIEF)
    model.fit(pd.Series(toy.texts), labels, unlabeled=np.array(["the moon then", "a goal"]))
    assert list(model.classes_) == [0, 1, 2, 3] and model.predict(np.array(toy.texts[:3])).shape == (3,)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"validation": 5}, "validation"),
        ({"labels": ["a", 1, "a", 1]}, "one kind"),
        ({"texts": "abcd"}, "put it in a list"),
    ],
)
def test_other_mistakes_are_said(how: dict[str, Any], said: str) -> None:
    given = {"texts": ["a", "b", "c", "d"], "labels": ["x", "y", "x", "y"], "validation": 0.1} | how
    with pytest.raises(InputError, match=said):
        TextClassifier(validation=given["validation"]).fit(given["texts"], given["labels"])


def test_one_text_is_not_a_list_of_letters(fitted: TextClassifier) -> None:
    with pytest.raises(InputError, match="put it in a list"):
        fitted.predict("abc")
