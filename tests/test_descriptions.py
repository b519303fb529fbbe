"""Descriptions: read with the line at fault, gated by the labels, a prior of the head, and enough without any label."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from graphloss import TextClassifier
from graphloss.errors import InputError
from graphloss.inference.description_prior import (
    SCALES,
    STRENGTH,
    class_weights,
    cross_fitted,
    directions,
    gate,
    hits_over_chance,
    informed_probe,
)
from graphloss.inference.linear_probe import FOLDS, soft_probe
from graphloss.losses.graph import unit
from graphloss.text.corpus import load_corpus
from graphloss.text.read_descriptions import match_classes, names_as_descriptions, read_descriptions
from graphloss.text.stratified_selection import deal
from graphloss.training import size_defaults
from graphloss.training.preflight import check_settings

Call = Callable[..., tuple[int, str, str]]


def topics(each: int, *, classes: int = 4, noise: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Documents around one direction a class, and a line near that direction."""
    g = torch.Generator().manual_seed(seed)
    centers = unit(torch.randn(classes, 24, generator=g))
    y = torch.arange(classes).repeat_interleave(each)
    z = unit(centers[y] + noise * torch.randn(len(y), 24, generator=g) / math.sqrt(24) * 3)
    lines = unit(centers + 0.1 * torch.randn(classes, 24, generator=g))
    return z, y, lines, torch.arange(classes)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.toml", 'b = "beans"\n"a c" = ["one", " two  words "]\n'),
            ("a.yaml", "b: beans\na c:\n  - one\n  - two words\n"),
            ("a.json", '{"b": "beans", "a c": ["one", "two words"]}'),
        ],
    )
    def test_shapes_that_are_read(self, name: str, text: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(text)
        assert read_descriptions(tmp_path / name) == {"b": ["beans"], "a c": ["one", "two words"]}

    @pytest.mark.parametrize("head", ["", "class,description\n", "\ufefflabel,text\n", "topic,line\n", "Intent,what\n"])
    def test_tables(self, head: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(head + 'b,beans\na,"one, two"\n', encoding="utf-8")
        assert read_descriptions(tmp_path / "a.csv") == {"b": ["beans"], "a": ["one, two"]}

    @pytest.mark.parametrize(
        "text",
        ["description,class\nbeans,b\nto eat,a\n", "class;line\nb;beans\na;to eat\n", "sep=;\nb;beans\na;to eat\n"],
    )
    def test_columns_in_either_order_and_other_delimiters(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(text)
        assert read_descriptions(tmp_path / "a.csv") == {"b": ["beans"], "a": ["to eat"]}

    def test_a_first_row_that_may_be_a_header_is_no_class_in_silence(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("Klasse,Beschreibung\nb,green beans\na,to eat\n")
        with pytest.raises(InputError, match=r"line 1: is 'Klasse', 'Beschreibung' a header, or a class"):
            read_descriptions(tmp_path / "a.csv")

    def test_a_class_whose_name_marks_missing_labels_is_told_of(self) -> None:
        with pytest.raises(InputError, match=r"'None' in a table marks an unlabeled document; .* --keep-na"):
            match_classes({"None": ["x"]}, ["ham", "eggs"], known_from="x.csv", add=False)

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("a.toml", 'a = "x"\nb = ""\n', r"line 2: class 'b': expected a line of words, got an empty one"),
            ("a.toml", "a = 'x'\na = 'y'\n", "not readable as TOML"),
            ("a.toml", "[mr]\na = 'x'\n", "is this a file of several data sets"),
            ("a.toml", "", "no class is described"),
            ("a.json", '{"a": "x",\n "a": "y"}', r"line 2: class 'a' is described a second time \(first in line 1\)"),
            ("a.json", '["a"]', "got 'a list'"),
            ("a.yaml", "a: x\na: y\n", r"line 2: class 'a' is described a second time"),
            ("a.yaml", "a: &p x\nb: *p\n", "aliases"),
            ("a.yaml", "a: 3\n", r"expected a line or a list of lines, got 3"),
            ("a.csv", "a,x\nb\n", r"line 2: expected two cells, class and line, got 1"),
            ("a.csv", "a,x\na,y\n", r"line 2: class 'a' is described a second time"),
            ("a.csv", "a,\n", r"line 1: class 'a': expected a line of words"),
            ("a.doc", "a", "ends in .toml"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, name: str, text: str, said: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=said):
            read_descriptions(tmp_path / name)

    def test_a_class_that_nobody_has_is_refused_unless_it_is_to_be_added(self) -> None:
        with pytest.raises(InputError, match=r"'spam' is described, and no document of x.csv .* --add-classes"):
            match_classes({"spam": ["x"]}, ["ham", "eggs"], known_from="x.csv", add=False)
        match_classes({"spam": ["x"]}, ["ham", "eggs"], known_from="x.csv", add=True)

    def test_names_in_words(self) -> None:
        found = names_as_descriptions(["card_arrival", "moneyFx", "sci.space"], 12)
        assert list(found.values()) == [["card arrival"], ["money Fx"], ["sci space"]]
        assert names_as_descriptions([0, 1], 2) == {} == names_as_descriptions(["card_arrival", "7"], 2)
        assert names_as_descriptions(["cooking", "music"], 9) == {}  # over four labels per class


class TestGate:
    @pytest.mark.parametrize(("each", "noise"), [(1, 0.5), (2, 1.0), (3, 0.5)])
    def test_the_literal_evidence(self, each: int, noise: float) -> None:
        z, y, lines, classes = topics(each, noise=noise)
        y[0] = -1  # no label, but a part of the center
        lines, classes = lines[:3], classes[:3]  # the fourth class has no description, so that it takes no part
        x = unit(z.double()) - unit(z.double()).mean(0)
        e = [line - lines.double().mean(0) for line in lines.double()]
        e = [row / row.norm() for row in e]
        rows = [i for i in range(len(z)) if 0 <= y[i] < 3]
        chance = sum(
            math.log(softmax([STRENGTH * float(x[i] @ row) for row in e])[int(y[i])]) + math.log(3) for i in rows
        )

        def left_out(s: float, v: float) -> float:
            total = 0.0
            for i in rows:
                if sum(y[j] == y[i] for j in rows) < 2:
                    continue
                logits = []
                for c in {int(y[j]) for j in rows}:
                    others = [x[j] for j in rows if j != i and y[j] == c] + ([v * e[c]] if v else [])
                    logits.append(s * float(x[i] @ (sum(others) / len(others))) if others else 0.0)
                total += math.log(softmax(logits)[int(y[i])])
            return total

        found = gate(z, y, lines, classes, 4)
        odds, labels = chance, max(left_out(s, 1.0) for s in SCALES) - max(left_out(s, 0.0) for s in SCALES)
        if each > 1:
            odds = min(chance, labels)
            assert found.unlabeled_weight == pytest.approx(1 / (1 + math.exp(-2 * chance)), rel=1e-3)
            assert found.over_labels == pytest.approx(labels, abs=1e-3) and abs(labels) > 0.01
        else:
            assert found.over_labels is None and found.unchecked == (odds >= 0)
        assert found.over_chance == pytest.approx(chance, abs=1e-3)
        assert found.weight == pytest.approx(1 / (1 + math.exp(-2 * odds)), rel=1e-3)
        near = [int(np.argmax([float(x[i] @ row) for row in e])) for i in rows]
        assert (found.right, found.checked) == (sum(a == int(y[i]) for a, i in zip(near, rows, strict=True)), len(rows))

    def test_good_descriptions_pass_and_shuffled_ones_do_not(self) -> None:
        for seed in range(5):
            z, y, lines, classes = topics(4, seed=seed)
            good, shuffled = gate(z, y, lines, classes, 4), gate(z, y, lines, classes.roll(1), 4)
            assert good.weight > 0.7 and good.informs and shuffled.weight < 0.01 and not shuffled.informs
            assert not good.unchecked and not shuffled.unchecked

    def test_without_evidence_they_are_believed(self) -> None:
        z, y, lines, classes = topics(2)
        for known in ((z, torch.full_like(y, -1)), (z[:0], y[:0])):
            found = gate(*known, lines, classes, 4)
            assert found.weight == 1.0 and found.informs and found.checked == 0 and not found.unchecked
        assert gate(z, y, lines[:0], classes[:0], 4).weight == 0.0

    def test_a_class_without_a_label_is_weighed_by_the_others_chance(self) -> None:
        z, y, lines, classes = topics(6)
        found = gate(z[y != 3], y[y != 3], lines, classes, 4)
        w = class_weights(found, y[y != 3], 4)
        assert w[:3].tolist() == pytest.approx([found.weight] * 3) and w[3].item() == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("right", "checked", "classes"), [(0, 7, 7), (2, 64, 64), (5, 8, 8), (40, 64, 64), (3, 900, 9)]
    )
    def test_hits_are_the_literal_integral(self, right: int, checked: int, classes: int) -> None:
        def likelihood(rate: float) -> float:
            return rate**right * (1 - rate) ** (checked - right)

        chance = 1 / classes
        mean = quad(likelihood, chance, 1, epsabs=0, limit=200)[0] / (1 - chance)
        found = hits_over_chance(right, checked, classes)
        assert found == pytest.approx(math.log(mean / likelihood(chance)), rel=1e-6)
        assert (found > 0) == (right / checked > 0.1 and right > 1)

    def test_lines_beside_related_classes_do_not_pass(self) -> None:
        """Each line off by one, as of a column that slipped: nearer to its texts than most, nearest to hardly any."""
        generator = torch.Generator().manual_seed(0)
        axes = torch.randn(31, 64, generator=generator)
        centers = axes[:30] + 0.9 * axes[1:]  # each class shares something with the next one
        z = unit(centers + 0.8 * torch.randn(30, 64, generator=generator))
        y = torch.arange(30)
        assert gate(z, y, centers, y, 30).weight > 0.99
        slipped = gate(z, y, centers, y.roll(1), 30)
        assert slipped.over_chance > 2 and slipped.weight < 0.05 and slipped.unlabeled_weight < 0.05

    def test_a_label_of_few_classes_checks_nothing(self) -> None:
        z, y, lines, classes = topics(1, classes=4, noise=0.1)
        found = gate(z, y, lines, classes, 4)
        assert found.unchecked and str(found).endswith("; these are too few to check them by")
        z, y, lines, classes = topics(1, classes=9, noise=0.1)
        assert gate(z, y, lines, classes, 9).informs and not gate(z, y, lines, classes, 9).unchecked


def softmax(logits: list[float]) -> list[float]:
    """Without any library."""
    parts = [math.exp(each) for each in logits]
    return [each / sum(parts) for each in parts]


class TestHead:
    def test_weight_zero_is_the_regression(self) -> None:
        z, y, lines, classes = topics(3)
        ours = informed_probe(z, y, lines, classes, 4, weight=torch.zeros(4))
        theirs = soft_probe(z, torch.eye(4)[y], torch.ones(len(y)))
        torch.testing.assert_close(ours.probabilities(z), theirs.probabilities(z), atol=2e-3, rtol=0)

    def test_the_literal_objective_has_its_minimum_there(self) -> None:
        z, y, lines, classes = topics(2, classes=3)
        w = 0.7
        head = informed_probe(z, y, lines, classes, 3, weight=torch.full((3,), w))
        m = directions(lines, classes, 3).double()
        assert torch.allclose(m.norm(dim=1), torch.ones(3).double(), atol=1e-5)

        def objective(weight: torch.Tensor, bias: torch.Tensor) -> float:
            total = 0.0
            for rows, labels, each in ((z, y, 1.0), (lines, classes, w)):
                for x, label in zip(rows.double(), labels, strict=True):
                    logits = weight @ x + bias
                    total -= each * float(logits[label] - logits.logsumexp(0))
            return total + float((weight - w * STRENGTH * m).square().sum()) / (2 * 10.0)

        at = objective(head.weight.double(), head.bias.double())
        g = torch.Generator().manual_seed(0)
        for _ in range(20):
            step = 0.05 * torch.randn(3, 24, generator=g, dtype=torch.double)
            assert objective(head.weight.double() + step, head.bias.double()) > at - 1e-3

    def test_permuting_the_classes_permutes_the_answer(self) -> None:
        z, y, lines, classes = topics(2)
        order = torch.tensor([2, 0, 3, 1])
        one = informed_probe(z, y, lines, classes, 4).probabilities(z)
        other = informed_probe(z, order[y], lines, order[classes], 4).probabilities(z)
        torch.testing.assert_close(other[:, order], one, atol=2e-3, rtol=0)

    def test_a_class_without_label_and_several_lines_a_class(self) -> None:
        z, y, lines, classes = topics(6)
        known = y != 3
        head = informed_probe(z[known], y[known], torch.cat([lines, lines]), classes.repeat(2), 4)
        assert (head.probabilities(z).argmax(1) == y)[y == 3].float().mean() > 0.6

    def test_no_label_at_all(self) -> None:
        z, y, lines, classes = topics(10)
        head = informed_probe(z, torch.full_like(y, -1), lines, classes, 4)
        assert (head.probabilities(z).argmax(1) == y).float().mean() > 0.8

    def test_cross_fitted_really_leaves_out(self) -> None:
        z, y, lines, classes = topics(3, noise=0.8)
        found = cross_fitted(z, y, lines, classes, 4)
        fold = deal(y.numpy(), FOLDS, np.random.default_rng([0, 4]))
        assert set(fold) == set(range(FOLDS))
        for number in range(FOLDS):
            inside = torch.from_numpy(fold == number)
            head = informed_probe(z[~inside], y[~inside], lines, classes, 4)
            torch.testing.assert_close(found[inside], head.probabilities(z[inside]))
        seen = informed_probe(z, y, lines, classes, 4).probabilities(z)
        assert (found - seen).abs().max() > 0.01


QUICK: dict[str, Any] = {"epochs": 1, "max_length": 16, "batch_size": 12, "validation": 0.0}


def test_the_classifier_learns_with_and_without_labels(tiny_encoder: Path, toy: Any, tmp_path: Path) -> None:
    names = sorted(set(toy.labels))
    pairs = list(zip(toy.texts, toy.labels, strict=True))
    lines = {name: [text for text, label in pairs if label == name][:3] for name in names}
    few = [label if row % 6 == 0 else None for row, label in enumerate(toy.labels)]
    model = TextClassifier(model=str(tiny_encoder), **QUICK).fit(toy.texts, few, descriptions=lines, add_classes=True)
    found = model.fitted_.descriptions
    assert found is not None and found.checked == sum(label is not None for label in few)
    assert model.fitted_.model.descriptions == (3 * len(names) if found.informs else 0)
    pile = TextClassifier(model=str(tiny_encoder), **QUICK).fit(toy.texts, [None] * len(toy.texts), descriptions=lines)
    assert list(pile.classes_) == names and pile.fitted_.model.descriptions == 3 * len(names)
    assert (pile.predict(toy.texts) == np.array(toy.labels)).mean() > 0.5
    reasons = [each for row in pile.explain(toy.texts[:6]) for each in row]
    assert all(each["description"] for each in reasons)
    pile.save_pretrained(tmp_path / "run")
    again = TextClassifier.from_pretrained(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(toy.texts), pile.predict_proba(toy.texts))
    assert again.fitted_.model.descriptions == 3 * len(names)


@pytest.mark.parametrize("fewest", [16, 17])
def test_the_command_makes_a_model_of_a_pile(
    tiny_encoder: Path, toy: Any, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewest: int
) -> None:
    monkeypatch.setattr(size_defaults, "FEWEST_PSEUDO_LABELS", fewest)  # there are 16
    (tmp_path / "pile.txt").write_text("\n".join(toy.texts), encoding="utf-8")
    names = sorted(set(toy.labels))
    lines = {name: next(t for t, label in zip(toy.texts, toy.labels, strict=True) if label == name) for name in names}
    (tmp_path / "classes.json").write_text(json.dumps(lines), encoding="utf-8")
    quick = ["--model", tiny_encoder, "--max-length", 16, "--epochs", 1]
    out = tmp_path / "run"
    code, _, said = call("train", tmp_path / "pile.txt", "--describe", tmp_path / "classes.json", "--out", out, *quick)
    assert code == 0, said
    assert "Nothing was verified" in said and "least sure" in said
    assert ("16 of them pseudo-labeled" in said and "gloss combined, up to 1 epoch of" in said) == (fewest == 16)
    assert ("no label: the encoder is not trained" in said and "epochs of" not in said) == (fewest == 17)
    assert "no label to check them by" in said and "probability" not in said
    info = json.loads((out / "graphloss.json").read_text(encoding="utf-8"))
    assert info["labels"] == names and info["metrics"]["model"]["accuracy"] is None
    assert len(info["least_sure"]) == 10 and info["described"]["lines"] == len(names)
    assert "No scores: no document has a label" in (out / "report.html").read_text(encoding="utf-8")


def test_a_table_without_a_column_of_labels_is_a_pile_where_classes_are_described(
    tiny_encoder: Path, toy: Any, call: Call, tmp_path: Path
) -> None:
    rows = "".join(f'{row},"{text}",by mail\n' for row, text in enumerate(toy.texts))
    (tmp_path / "pile.csv").write_text(f"id,text,note\n{rows}")
    (tmp_path / "classes.json").write_text(json.dumps({name: toy.texts[toy.labels.index(name)] for name in toy.names}))
    out = tmp_path / "run"
    train = ("train", tmp_path / "pile.csv", "--model", tiny_encoder, "--out", out, "--max-length", 16)
    code, _, error = call(*train)
    assert code == 2 and "none is known to hold the labels" in error  # without descriptions it is no training data
    code, _, error = call(*train, "--describe", tmp_path / "classes.json", "--label", "note")
    assert code == 2 and "is described, and no document" in error  # a column that was named holds labels
    code, _, error = call(*train, "--describe", tmp_path / "classes.json")
    assert code == 0 and "no column is known to hold labels" in error and "name it with --label" in error
    assert json.loads((out / "graphloss.json").read_text())["data"]["sizes"]["labeled"] == 0
    code, said, error = call("audit", out)
    assert code == 0 and said == "" and "no label could be checked" in error
    code, said, error = call("predict", out, "")
    assert code == 2 and said == "" and "one of them is empty" in error


def test_one_label_a_class_trains_without_anything_set_aside(tiny_encoder: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,label\na goal in the match,football\na song and a tune,music\n")
    out = tmp_path / "run"
    quick = ["--model", tiny_encoder, "--max-length", 16, "--epochs", 1]
    code, _, said = call("train", tmp_path / "few.csv", "--out", out, *quick)
    assert code == 0, said
    assert "2, 1 labeled document each" in said and "up to 1 epoch of 1 step," in said
    assert "cross-fitted" in said and "2 of 2 classes have one label" in said
    metrics = json.loads((out / "graphloss.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["split"] == "cross-fitted" and metrics["model"]["accuracy"] is not None
    assert set(metrics["intervals"]) == {"accuracy", "macro_f1"} and "intervals over documents, cross-fitted" in said
    for name in ("report.html", "README.md"):
        assert "95% intervals over documents, cross-fitted: accuracy" in (out / name).read_text("utf-8")
    assert "Fine-tuning raises" not in (report := (out / "report.html").read_text("utf-8"))
    assert "Cross-fitted on the training labels" in report and "<h3>Validation</h3>" not in report
    assert "cannot check the descriptions of so few classes" in said


def test_a_description_of_an_unknown_class_is_refused_before_the_encoder_loads(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "few.csv").write_text("text,label\na goal in the match,football\na song and a tune,music\n")
    (tmp_path / "d.toml").write_text('footbal = "the goal"\n')
    code, _, said = call("train", tmp_path / "few.csv", "--describe", tmp_path / "d.toml", "--out", tmp_path / "run")
    assert code == 2 and "class 'footbal' is described" in said and "Did you mean 'football'?" in said
    assert "Traceback" not in said


def test_other_descriptions_are_another_corpus(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,label\na goal,football\na match,football\na song,music\na tune,music\n")
    found = []
    for line in ("the goal", "the ball"):
        (tmp_path / "d.toml").write_text(f'football = "{line}"\n')
        found.append(load_corpus(str(tmp_path / "few.csv"), describe=str(tmp_path / "d.toml")).fingerprint)
    assert len(set(found)) == 2


def test_trials_and_comparisons_take_descriptions(
    tiny_encoder: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"a {a} and a {b},{c}\n" for c, w in WORDS.items() for a in w for b in w if a != b)
    (tmp_path / "few.csv").write_text("text,label\n" + rows)
    (tmp_path / "d.toml").write_text('football = "the ball in the match"\nmusic = "a song in a concert"\n')
    seen: list[tuple[list[str], bool]] = []

    def noted(settings: Any, documents: Any, validation: Any, names: Any, descriptions: Any = None) -> Any:
        seen.append((descriptions.texts, settings.loss == "ce"))
        return check_settings(settings, documents, validation, names, descriptions)

    for module in ("research.bench.cell", "research.tuning.cross_validation"):
        monkeypatch.setattr("graphloss.training.preflight.check_settings", noted)
        monkeypatch.setattr(f"graphloss.{module}.check_settings", noted, raising=False)
    quick = ["--describe", tmp_path / "d.toml", "--model", tiny_encoder, "--max-length", 16, "--epochs", 1]
    code, _, told = call("tune", tmp_path / "few.csv", "--trials", 1, "--out", tmp_path / "tune", *quick)
    assert code == 0, told
    tuned = len(seen)
    given = ["--seeds", 1, "--losses", "ce,gloss", "--validation", 0.3]
    code, _, told = call("bench", tmp_path / "few.csv", "--out", tmp_path / "bench", *given, *quick)
    assert code == 0, told
    assert tuned >= 2 and {ce for _, ce in seen[tuned:]} == {True, False}
    assert all(lines == ["the ball in the match", "a song in a concert"] for lines, _ in seen)
    (tmp_path / "d.toml").write_text('football = "other words"\n')
    code, _, told = call("bench", "--out", tmp_path / "bench")
    assert code == 2 and "have changed" in told


WORDS = {"football": ("goal", "match", "ball", "league"), "music": ("song", "tune", "concert", "drum")}
