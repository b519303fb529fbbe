"""`TextClassifier` as somebody who knows scikit-learn would use it."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Toy
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags

import graphloss
from graphloss import TextClassifier
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.python_inputs import held_out
from graphloss.text.corpus import load_corpus
from graphloss.text.texts_and_labels import Documents

QUICK: dict[str, Any] = {"blend": 1.0, "epochs": 3, "batch_size": 16, "max_length": 32, "learning_rate": 1e-3}
BRIEF = QUICK | {"epochs": 1}  # where it does not matter what is learned


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


@pytest.mark.parametrize("predictor", ["head", "graph", "knn", "mix"])
def test_any_predictor_judges_a_text_by_itself(fitted: TextClassifier, toy: Toy, predictor: str) -> None:
    together = fitted.predict_proba(toy.texts[:12], predictor=predictor)
    alone = np.concatenate([fitted.predict_proba([text], predictor=predictor) for text in toy.texts[:12]])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert [fitted.predict([text], predictor=predictor)[0] for text in toy.texts[:12]] == list(
        fitted.predict(toy.texts[:12], predictor=predictor)
    )
    assert (
        fitted.predict(toy.texts, predictor=predictor) == np.array(toy.labels)
    ).mean() > 0.7  # of the graph of a tiny encoder, four in five


def test_predictors_differ_and_can_be_chosen_at_the_start(fitted: TextClassifier, tiny_encoder: Path, toy: Toy) -> None:
    head, graph = (fitted.predict_proba(toy.texts, predictor=kind) for kind in ("head", "graph"))
    assert np.abs(head - graph).max() > 0.01
    model = TextClassifier(model=str(tiny_encoder), predictor="graph", **QUICK).fit(toy.texts, toy.labels)
    np.testing.assert_array_equal(model.predict_proba(toy.texts), model.predict_proba(toy.texts, predictor="graph"))
    assert model.predictor_.kind == "graph"
    with pytest.raises(InputError, match="unknown predictor 'vote'"):
        fitted.predict(["a"], predictor="vote")
    with pytest.raises(InputError, match="predictor: expected one of"):
        TextClassifier(predictor="vote").fit(toy.texts, toy.labels)


def test_an_answer_is_explained_by_training_documents(fitted: TextClassifier, toy: Toy) -> None:
    texts = ["goal referee penalty", "onion garlic"]
    found, answers = fitted.explain(texts, k=3, predictor="graph"), fitted.predict(texts, predictor="graph")
    labels = dict(zip(toy.texts, toy.labels, strict=True))
    assert [len(each) for each in found] == [3, 3]
    for each, answer in zip(found, answers, strict=True):
        assert all(labels[row["text"]] == row["label"] == answer for row in each)
        assert 0 < sum(row["share"] for row in each) <= 1
    assert fitted.explain(texts, predictor="head") == [[], []]
    with pytest.raises(InputError, match="at least 1 document"):
        fitted.explain(texts, k=0)


def test_an_audit_finds_labels_that_were_made_wrong(fitted: TextClassifier, toy: Toy) -> None:
    labels: list[Any] = list(toy.labels)
    wrong = [3, 10, 20, 30]
    for row in wrong:
        labels[row] = next(name for name in toy.names if name != labels[row])
    labels[5] = None
    found = fitted.audit(toy.texts, labels, k=2)
    assert set(found[0]) == {"text", "label", "proposed", "score", "evidence"}
    assert {toy.texts[row] for row in wrong} <= {row["text"] for row in found[:6]}
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert all(each["label"] == row["proposed"] for row in found for each in row["evidence"])
    assert len(fitted.audit()) <= 10  # its own training documents, whose labels are right
    with pytest.raises(InputError, match="got one of them"):
        fitted.audit(toy.texts)
    with pytest.raises(InputError, match="at least two classes"):
        fitted.audit(["a", "b"], ["x", "x"])


def test_without_its_training_texts_a_model_predicts_but_shows_none(
    fitted: TextClassifier, toy: Toy, tmp_path: Path
) -> None:
    fitted.save_pretrained(tmp_path / "model")
    whole = TextClassifier.from_pretrained(tmp_path / "model")
    assert whole.texts_ == fitted.texts_ and len(whole.texts_ or []) == len(fitted.predictor_.support)
    assert whole.explain(toy.texts[:2], predictor="graph")[0][0]["text"] in toy.texts
    (tmp_path / "model" / "support.parquet").unlink()
    run_folder.seal(tmp_path / "model")
    again = TextClassifier.from_pretrained(tmp_path / "model")
    assert list(again.predict(toy.texts)) == list(fitted.predict(toy.texts))
    for ask in (lambda: again.explain(toy.texts), again.audit):
        with pytest.raises(InputError, match="saved without its training texts"):
            ask()


def test_a_folder_has_the_settings_of_the_fit(tiny_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    model = TextClassifier(model=str(tiny_encoder), epochs=1, seed=1, validation=0).fit(toy.texts, toy.labels)
    model.set_params(loss="ce", epochs=7, seed=99).save_pretrained(tmp_path / "model")
    again = TextClassifier.from_pretrained(tmp_path / "model")
    assert (again.loss, again.epochs, again.seed) == ("gloss", 1, 1)
    again.set_params(seed=5).save_pretrained(tmp_path / "again")
    assert run_folder.read_info(tmp_path / "again")["settings"]["seed"] == 1


def test_documents_count_once(tiny_encoder: Path, toy: Toy) -> None:
    half = len(toy.texts) // 2
    labels = [*toy.labels[:half], *[None] * (len(toy.texts) - half)]
    model = TextClassifier(model=str(tiny_encoder), epochs=1, validation=0).fit(toy.texts, labels, toy.texts)
    assert model.self_training_ is not None and model.self_training_.documents == len(toy.texts) - half


def test_odd_documents_are_warned_of(tiny_encoder: Path, toy: Toy) -> None:
    model = TextClassifier(model=str(tiny_encoder), epochs=1, validation=0)
    with pytest.warns(UserWarning, match=r"stand in texts more than once, with labels that contradict each other: 1"):
        model.fit([*toy.texts, toy.texts[0]], [*toy.labels, next(x for x in toy.labels if x != toy.labels[0])])
    first = [toy.labels.index(name) for name in sorted(set(toy.labels))]
    with pytest.warns(UserWarning, match="none could be set aside for validation"):
        model.set_params(validation=0.5).fit([toy.texts[row] for row in first], [toy.labels[row] for row in first])


def test_saved_and_read_again_it_says_the_same(fitted: TextClassifier, toy: Toy, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    again = TextClassifier.from_pretrained(tmp_path / "model")
    assert list(again.predict(toy.texts)) == list(fitted.predict(toy.texts))
    np.testing.assert_allclose(again.predict_proba(toy.texts), fitted.predict_proba(toy.texts), atol=1e-6)
    assert again.get_params() == fitted.get_params() | {"validation": None, "model": again.model}
    assert Path(str(again.model)).name == Path(str(fitted.model)).name  # and not where it lies
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


def test_unlabeled_documents_and_own_validation(tiny_encoder: Path, toy: Toy) -> None:
    labels = [None if row % 3 == 0 else label for row, label in enumerate(toy.labels[:48])]
    model = TextClassifier(model=str(tiny_encoder), **BRIEF).fit(
        toy.texts[:48], labels, unlabeled=["the moon then"], validation_data=(toy.texts[48:], toy.labels[48:])
    )
    assert model.predictor_.support.shape[0] == sum(label is not None for label in labels)
    assert model.self_training_ is not None and model.self_training_.documents == 17
    assert "macro_f1" in model.history_[0]


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        (["a", "b"], ["x"], "one label per text, got 2 texts and 1 labels"),
        (["a", "b"], ["x", "x"], "at least two classes, got 1"),
        (["a", "b"], [None, None], "at least two classes, got 0"),
        (["a", "  "], ["x", "y"], "text 1: expected a text that is not empty"),
        (["a", 3], ["x", "y"], "text 1: expected a text, got int: 3"),
        (["a", "b"], np.eye(2), "label 0: expected one label.* got ndarray"),
        (["a", "\ud83d broken"], ["x", "y"], "text 1: place 1 holds half a character"),
        (["a", "b"], ["x", "y\ud83d"], "label 1: place 2 holds half a character"),
        (["a", "b"], "xy", "expected one label per text, got one text: 'xy'; put it in a list"),
        (["a", "b"], {"x": 1, "y": 2}, "expected one label per text, got a dict, which holds several columns"),
        ({"a": 1, "b": 2}, ["x", "y"], "expected several texts, got a dict, .* give one of them"),
        (pa.table({"text": ["a", "b"]}), ["x"], "expected several texts, got a Table, which holds several columns"),
        (["a", "b"], pa.table({"p": [1, 2], "q": [3, 4]}), "expected one label per text, got a Table"),
        (["a", "b", "c"], [0.0, 1.0, float("inf")], "label 2: expected a text or a finite number, got inf"),
        (["a", "b"], np.array([-np.inf, 1], dtype=np.float32), "label 0: expected a text or a finite number, got -inf"),
    ],
)
def test_bad_documents_are_said_before_a_model_is_loaded(
    texts: list[Any], labels: list[Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=said):
        TextClassifier().fit(texts, labels)


def test_bad_settings_are_said_all_at_once(toy: Toy) -> None:
    with pytest.raises(InputError) as caught:
        TextClassifier(epochs=0, loss="focal").fit(toy.texts, toy.labels)
    assert "epochs" in str(caught.value) and "focal" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["mate"], ["chess"]), "chess"),
        (["a", "b", "c"], r"expected a pair \(texts, labels\), got list of 3"),
        (7, r"expected a pair \(texts, labels\), got int"),
        (([], []), "at least one text with a label"),
        ((["mate"], [None]), "at least one text with a label"),
    ],
)
def test_strange_validation_data(given: Any, said: str, tiny_encoder: Path, toy: Toy) -> None:
    with pytest.raises(InputError, match=said):
        TextClassifier(model=str(tiny_encoder)).fit(toy.texts, toy.labels, validation_data=given)


def test_validation_documents_without_a_label_are_left_out(tiny_encoder: Path, toy: Toy) -> None:
    def history(texts: list[str], labels: list[Any]) -> Any:
        model = TextClassifier(model=str(tiny_encoder), epochs=1)
        model.fit(toy.texts[8:], toy.labels[8:], validation_data=(texts, labels))
        return [{name: value for name, value in row.items() if "seconds" not in name} for row in model.history_]

    assert history(toy.texts[:8], [*toy.labels[:7], None]) == history(toy.texts[:7], toy.labels[:7])


def test_descriptions_of_any_mapping(tiny_encoder: Path, toy: Toy) -> None:
    pd = pytest.importorskip("pandas")
    lines = {name: f"about {name}" for name in set(toy.labels)}
    with pytest.raises(InputError, match="expected a dictionary of a line"):
        TextClassifier(model=str(tiny_encoder)).fit(toy.texts, toy.labels, descriptions=pd.Series(lines))
    with pytest.raises(InputError, match="expected at least one text; without labels, give the texts of a pile"):
        TextClassifier(model=str(tiny_encoder)).fit([], [], descriptions=lines)


def test_the_package_lists_its_names() -> None:
    assert {"GLoss", "TextClassifier"} <= set(dir(graphloss)) and "import_module" not in dir(graphloss)


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
        ({"validation": 5}, "validation: expected at most 0.9, got 5"),
        ({"validation": "a"}, "validation: expected a number, got 'a'"),
        ({"unlabeled": ["e", None]}, "unlabeled: text 1: expected a text, got NoneType"),
        ({"labels": ["a", 1, "a", 1]}, "one kind"),
        ({"texts": "abcd"}, "put it in a list"),
    ],
)
def test_other_mistakes_are_said(how: dict[str, Any], said: str) -> None:
    given = {"texts": ["a", "b", "c", "d"], "labels": ["x", "y", "x", "y"], "validation": 0.1} | how
    with pytest.raises(InputError, match=said):
        TextClassifier(validation=given["validation"]).fit(given["texts"], given["labels"], how.get("unlabeled"))


def test_one_text_is_not_a_list_of_letters(fitted: TextClassifier) -> None:
    with pytest.raises(InputError, match="put it in a list"):
        fitted.predict("abc")
    with pytest.raises(InputError, match="text 1: expected a text, got float"):
        fitted.predict(["abc", float("nan")])
    with pytest.raises(InputError, match="text 0: place 1 holds half a character"):
        fitted.predict(["\ud83d broken"])
    with pytest.raises(InputError, match="got a dict, which holds several columns; give one of them, as df"):
        fitted.predict({"text": ["a"]})


def test_what_a_random_search_gives_can_be_saved(tiny_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    settings = BRIEF | {"epochs": np.int64(1), "learning_rate": np.float32(1e-3), "seed": np.int64(3)}
    model = TextClassifier(model=str(tiny_encoder), **settings).fit(toy.texts, np.array(toy.indices, dtype=np.int16))
    model.save_pretrained(tmp_path / "model")
    again = TextClassifier.from_pretrained(tmp_path / "model")
    assert again.epochs == 1 and list(again.classes_) == [0, 1, 2, 3]
    assert list(again.predict(toy.texts)) == list(model.predict(toy.texts))


def test_the_same_documents_are_held_out_as_by_the_command(tmp_path: Path) -> None:
    names = sorted(f"k{letter}" for letter in ascii_lowercase)  # more than ten classes: 10 comes before 2 as a text
    labels = [names[row % 26] for row in range(260)]
    texts = [f"text {row}" for row in range(260)]
    _, held = held_out(Documents.named(texts, labels), 0.1, 0)
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True)))
    assert sorted(held.texts) == sorted(load_corpus(str(tmp_path / "a.csv"), validation=0.1).validation.texts)


def test_unlabeled_text_that_no_answer_hears_of_is_warned_of(tiny_encoder: Path, toy: Toy) -> None:
    model = TextClassifier(model=str(tiny_encoder), **(QUICK | {"epochs": 1, "corpus_graph": "off"}))
    with pytest.warns(UserWarning, match="1 unlabeled documents are not used"):
        model.fit(toy.texts, toy.labels, unlabeled=["the moon then"])


def test_the_tags_tell_scikit_learn_that_documents_are_strings() -> None:
    tags = get_tags(TextClassifier())
    assert tags.estimator_type == "classifier" and tags.classifier_tags is not None and tags.target_tags.required
    found = tags.input_tags
    assert (found.one_d_array, found.two_d_array, found.string) == (True, False, True)
