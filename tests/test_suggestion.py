"""Which texts to label: facility location against an exhaustive oracle, and the door of the command and of Python."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch

import graphloss
from graphloss import TextClassifier
from graphloss.errors import InputError
from graphloss.inference.graphs import facility_location
from graphloss.inference.graphs.facility_location import directions, greedy_cover
from graphloss.inference.learning_curve import LearningCurve, learning_curve
from graphloss.inference.suggestion import Labeled, Predictions, rows_to_label
from graphloss.text.corpus import load_corpus
from graphloss.text.delimited import disarm
from graphloss.text.tables import read_whole, write_table

Call = Callable[..., tuple[int, str, str]]


def pile(sizes: tuple[int, ...], *, noise: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings around one direction a group, and their groups."""
    g = torch.Generator().manual_seed(seed)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    centers = torch.randn(len(sizes), 24, generator=g)
    return centers[groups] + noise * torch.randn(len(groups), 24, generator=g), groups


class TestCover:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("known", [0, 1, 7])
    def test_is_the_exhaustive_greedy_choice(self, seed: int, known: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(facility_location, "BLOCK", 16)
        monkeypatch.setattr(facility_location, "TOGETHER", 3)
        z, _ = pile((20, 15, 10, 5), seed=seed)
        x, w = directions(z, z[:0]), torch.rand(50, generator=torch.Generator().manual_seed(seed)) + 0.1
        weights = w if known else None
        found = greedy_cover(x, x[:known], 12, weights=weights)
        chosen, stands_for = oracles.covering(x.double(), list(range(known)), 12, weights)
        assert found.chosen == chosen and found.stands_for == stands_for and len(set(chosen)) == 12

    def test_every_beginning_is_the_choice_of_fewer(self) -> None:
        x = directions(*2 * (pile((30, 20, 10))[0],))[:60]
        assert all(greedy_cover(x, x[:0], m).chosen == greedy_cover(x, x[:0], 9).chosen[:m] for m in range(1, 9))

    def test_of_equals_the_first_is_chosen_and_once(self) -> None:
        z, _ = pile((12, 8))
        twice = torch.cat([z, z, z[:4] + 1e-3])
        x = directions(twice, z[:0])
        found = greedy_cover(x, x[:0], 44)
        assert found == greedy_cover(x, x[:0], 44)
        assert len(found.chosen) == len({row % 20 for row in found.chosen}) == 20 and max(found.chosen) < 20

    def test_small_groups_come_early(self) -> None:
        z, groups = pile((60, 30, 12, 6))
        x = directions(z, z[:0])
        assert set(groups[greedy_cover(x, x[:0], 6).chosen].tolist()) == {0, 1, 2, 3}

    def test_a_large_pile_is_covered_by_a_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        z, _ = pile((300, 200, 100, 50, 25))
        x = directions(z, z[:0])
        exact = greedy_cover(x, x[:0], 20)
        monkeypatch.setattr(facility_location, "EXACT_TEXTS", 200)
        monkeypatch.setattr(facility_location, "SAMPLE", 200)
        found = greedy_cover(x, x[:0], 20)
        assert found == greedy_cover(x, x[:0], 20) != greedy_cover(x, x[:0], 20, seed=1)
        value = [float((x @ x[one.chosen].T).amax(dim=1).clamp_min(0).mean()) for one in (exact, found)]
        assert value[1] > 0.95 * value[0] and sum(found.stands_for) > 300

    def test_duplicates_zeros_and_a_single_text(self) -> None:
        for z in (torch.zeros(5, 4), torch.ones(5, 4), torch.randn(1, 4)):
            x = directions(z, z[:0])
            assert greedy_cover(x, x[:0], 3).chosen[0] == 0


class TestReasons:
    def test_say_what_a_text_stands_for_and_probably_is(self) -> None:
        z, groups = pile((60, 20, 8), noise=0.3)
        labels: list[Any] = [None] * 88
        labels[:6] = ["a"] * 6
        p = torch.nn.functional.one_hot(groups, 3).float() * 0.8 + 0.2 / 3
        p[60:80] = torch.tensor([0.48, 0.45, 0.07])
        found = rows_to_label(z, labels, 8, predictions=Predictions(p, ["a", "b", "c"]))
        assert [sorted(each) for each in found] == [sorted(["row", "reason", "stands_for", "guess", "probability"])] * 8
        for each in found:
            assert each["row"] >= 6 and each["reason"].startswith(f"stands for {each['stands_for']} text")
            group = int(groups[each["row"]])
            assert ("near the border of a and b" in each["reason"]) == (group == 1)
            assert ("probably c, of which there are few" in each["reason"]) == (group == 2)
            assert each["guess"] == "aac"[group] and each["probability"] == [0.8667, 0.48, 0.8667][group]
        assert {int(groups[each["row"]]) for each in found} == {0, 1, 2}
        assert any("nothing like it is labeled" in each["reason"] for each in found)

    def test_texts_labeled_elsewhere_are_not_suggested(self) -> None:
        z, _ = pile((20, 10))
        found = rows_to_label(z, [None] * 30, 30, beside=Labeled(z[:12], ["a"] * 12))
        assert sorted(each["row"] for each in found) == list(range(12, 30))


@pytest.fixture
def texts_file(toy: Any, tmp_path: Path) -> Path:
    path = tmp_path / "pile.csv"
    rows = [(f"id{row}", text, "") for row, text in enumerate(toy.texts)]
    rows[3], rows[5] = ("id3", " ", ""), ("id5", "=SUM(A1) goal striker referee", "")
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("key", "text", "note"), *rows])
    return path


class TestCommand:
    def test_a_round_of_labeling(
        self, call: Call, toy: Any, texts_file: Path, tiny_encoder: Path, tmp_path: Path
    ) -> None:
        """Suggest, label, add more, train on what was written, suggest with the run."""
        out, run = tmp_path / "labels.csv", tmp_path / "run"
        words = ("suggest", texts_file, "--model", tiny_encoder, "-q")
        code, said, error = call(*words, "-n", 28, "--out", out, "--json")
        assert code == 0, error
        listed = [json.loads(line) for line in said.splitlines()]
        rows = list(csv.DictReader(out.open()))
        assert len(rows) == len(listed) == 28 and list(rows[0]) == ["key", "text", "note", "label", "row", "reason"]
        for row, each in zip(rows, listed, strict=True):
            assert row["key"] == f"id{int(row['row']) - 1}" and row["label"] == "" and row["reason"] == each["reason"]
            assert row["text"] == disarm(each["text"]) and each["row"] == int(row["row"]) != 4
        label_of = dict(zip(toy.texts, toy.labels, strict=True)) | {"'=SUM(A1) goal striker referee": "football"}
        for row in rows[:26]:
            row["label"] = label_of[row["text"]]
        write_table(out, list(rows[0]), [list(row.values()) for row in rows])
        assert call(*words, "-n", 4, "--out", out)[0] == 2  # nothing labeled is overwritten
        code, _, error = call(*words, "-n", 4, "--out", out, "--add")
        assert code == 0, error
        more = list(csv.DictReader(out.open()))
        assert len(more) == 32 and [row["label"] for row in more[:28]] == [row["label"] for row in rows]
        assert len({row["row"] for row in more}) == 32 and {row["label"] for row in more[28:]} == {""}
        assert all(row["guess"] in toy.names for row in more[28:])
        train = ("train", out, "--out", run, "--model", tiny_encoder, "--epochs", 1, "--validation", 0.3)
        code, _, error = call(*train)
        assert code == 0 and re.search(r"forecast +\d+ more labels: [+-]\d+ to [+-]\d+ points of macro-F1,", error), (
            error
        )
        code, said, error = call("suggest", run, texts_file, "-n", 5, "--json")
        found = [json.loads(line) for line in said.splitlines()]
        assert "forecast for this run: 5 more labels" in error
        assert code == 0 and len(found) == 5 and all(each["guess"] in toy.names for each in found)
        assert not {str(each["row"]) for each in found} & {row["row"] for row in more if row["label"]}

    def test_a_pile_without_a_header(self, call: Call, toy: Any, tiny_encoder: Path, tmp_path: Path) -> None:
        """From a table without a header to a training on the labels and the pile."""
        pile, out, run = tmp_path / "pile.csv", tmp_path / "labels.csv", tmp_path / "run"
        with pile.open("w", newline="") as stream:
            csv.writer(stream).writerows([(f"id{row}", text) for row, text in enumerate(toy.texts)])
        words = ("suggest", pile, "--no-header", "-n", 60, "--model", tiny_encoder, "--out", out)
        code, _, error = call(*words)
        assert code == 0 and "texts from column '2'" in error, error
        rows = list(csv.DictReader(out.open()))
        assert len(rows) == 60 and list(rows[0]) == ["1", "2", "label", "row", "reason"]
        label_of = dict(zip(toy.texts, toy.labels, strict=True))
        write_table(out, list(rows[0]), [[*list(row.values())[:2], label_of[row["2"]], row["row"], ""] for row in rows])
        typed = shlex.split(error.rpartition("graphloss ")[2])
        code, _, error = call(*typed, "--out", run, "--model", tiny_encoder, "--epochs", 1)
        assert code == 0 and f"{pile}: 60 of 64 texts are in {out} too, and count once" in " ".join(error.split()), (
            error
        )
        assert json.loads((run / "graphloss.json").read_text())["data"]["sizes"]["labeled"] >= 50
        code, out_, error = call("suggest", run, pile, "--no-header", "-n", 3, "--json")
        assert code == 0 and {json.loads(line)["text"] for line in out_.splitlines()} <= set(toy.texts[:1] + toy.texts)

    def test_descriptions_are_a_model_from_the_start(
        self, call: Call, toy: Any, texts_file: Path, tiny_encoder: Path, tmp_path: Path
    ) -> None:
        lines = tmp_path / "classes.toml"
        lines.write_text("".join(f'{name} = "{name}"\n' for name in toy.names))
        words = ("suggest", texts_file, "-n", 6, "--model", tiny_encoder, "--describe", lines)
        code, said, error = call(*words, "--json")
        assert code == 0 and "texts from column 'text'" in error
        assert all(json.loads(line)["guess"] in toy.names for line in said.splitlines()) and said.count("\n") == 6
        assert call(*words)[1].count("stands for") == 6

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["nowhere.csv"], "nowhere.csv: there is no such file"),
            (["pile.csv", "-n", "64"], "63 of 64 texts can be suggested; give -n from 1 to 63"),
            (["pile.csv", "-n", "0"], "give -n from 1 to 63"),
            (["blank.txt"], "0 of 2 texts can be suggested; nothing is left to label"),
            (
                ["full.csv"],
                "labels from column 'label' (guessed)): 0 of 2 texts",
            ),
            (["pile.csv", "--out", "labels.xlsx"], "expected a name that ends in .csv or .jsonl"),
            (["pile.csv", "--out", "pile.csv"], "pile.csv: is there already, and may hold labels"),
            (["pile.csv", "--add"], "--add: needs the file to add to"),
            (["pile.csv", "--describe", "none.toml"], "none.toml: no such file"),
            (["pile.csv", "--label", "kind"], "no 'kind'"),
            (["empty", "pile.csv"], "not a run folder"),
            (["none", "pile.csv"], "none: no such run folder"),
            (["empty"], "empty is a folder; expected a file of texts"),
            (["a", "b", "c"], "expected a file of texts, or a run and a file of texts, got 3 names"),
            (["pile.csv", "--model", "nowhere/model"], "nowhere/model"),
        ],
    )
    def test_what_cannot_be_used_is_said_before_the_encoder_is_loaded(
        self, words: list[str], expected: str, call: Call, texts_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(texts_file.parent)
        Path("blank.txt").write_text(" \n\n")
        Path("full.csv").write_text("text,label\na b,x\nc d,y\n")
        Path("empty").mkdir()
        monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("the encoder was loaded"))
        code, out, error = call("suggest", *words)
        assert code == 2 and out == "" and expected in error and "Traceback" not in error


class TestPython:
    def test_the_function_and_the_classifier(self, toy: Any, tiny_encoder: Path) -> None:
        found = graphloss.suggest(toy.texts, 8, model=str(tiny_encoder))
        assert [each["text"] for each in found] == [toy.texts[each["row"]] for each in found] and len(found) == 8
        assert found == graphloss.suggest(toy.texts, 8, model=str(tiny_encoder))
        model = TextClassifier(model=str(tiny_encoder), epochs=1, validation=0).fit(toy.texts[:40], toy.labels[:40])
        more = model.suggest(toy.texts, 8)
        assert all(each["row"] >= 40 and each["guess"] in toy.names for each in more) and len(more) == 8
        lines = dict.fromkeys(toy.names, "a line")
        assert len(model.suggest(toy.texts, 4, [*toy.labels[:50], *[None] * 14], descriptions=lines)) == 4

    @pytest.mark.parametrize(
        ("texts", "count", "labels", "expected"),
        [
            ([], 1, None, "expected a pile of texts, got none"),
            ("one text", 1, None, "put it in a list"),
            (["a", "b"], 3, None, "expected 1 to 2 texts"),
            (["a", "b"], 1, ["x", "y"], "every text has a label already"),
            (["a", "b"], 1, ["x"], "got 2 texts and 1 labels"),
            (["a", " "], 1, None, "text 1: expected a text that is not empty"),
        ],
    )
    def test_bad_input(self, texts: Any, count: int, labels: Any, expected: str) -> None:
        with pytest.raises(InputError, match=expected):
            graphloss.suggest(texts, count, labels=labels)


class TestTables:
    def test_formulas_are_disarmed_and_read_back(self, tmp_path: Path) -> None:
        path, armed = tmp_path / "a.csv", ["=1+1", "+cmd", "-x", "@a", "'=1", "plain"]
        for added in (("row", "reason"), ("row", "reason", "guess", "probability")):
            write_table(path, ["text", *added], [(cell, *[None] * len(added)) for cell in armed])
            cells = [row[0] for row in csv.reader(path.open(newline=""))][1:]
            assert cells == [*(f"'{cell}" for cell in armed[:5]), "plain"]
            assert read_whole(path).texts == armed
            moved = ["note", *reversed(added), "text", "more"]  # as people rearrange a table
            rows = [["n", *[None] * len(added), f"'{cell}" if cell != "plain" else cell, "m"] for cell in armed]
            with path.open("w", newline="") as stream:
                csv.writer(stream).writerows([moved, *rows])
            assert read_whole(path).texts == armed
        write_table(path, ["row", "text", "row_", "reason"], [(3, cell, 1, None) for cell in armed])
        assert read_whole(path).texts == armed

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("delimiter", [",", ";"])
    def test_a_table_opens_in_the_program_that_wrote_the_pile(
        self, mark: str, delimiter: str, call: Call, toy: Any, tiny_encoder: Path, tmp_path: Path
    ) -> None:
        pile, out = tmp_path / "pile.csv", tmp_path / "out.csv"
        lines = [f"{row}{delimiter}ü {text}" for row, text in enumerate(toy.texts[:20])]
        pile.write_text("\n".join([f"{mark}id{delimiter}text", *lines]), encoding="utf-8")
        for added in ((), ("--add",)):
            assert call("suggest", pile, "-n", 4, "--model", tiny_encoder, "--out", out, *added)[0] == 0
            written = out.read_text(encoding="utf-8")
            assert written.startswith(f"{mark}id{delimiter}text{delimiter}label{delimiter}row")
            assert read_whole(out).columns[:3] == ["id", "text", "label"]
        assert len(read_whole(out).texts) == 8 and set(read_whole(out).texts) <= set(read_whole(pile).texts)

    def test_a_table_that_lost_our_columns_is_told_of(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("text,label\n'=1+1,a\n'-x,b\nplain,a\nyes,b\n")
        corpus = load_corpus(str(path))
        told = [line for line in corpus.warnings if "with an apostrophe before =, +, - or @: 2" in line]
        assert len(told) == 1 and "keep its columns (row, reason)" in told[0] and "'=1+1" in corpus.train.texts

    def test_jsonl_keeps_every_value(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        write_table(path, ["text", "n"], [("=1", 2), ("ü", None)])
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
            {"text": "=1", "n": 2},
            {"text": "ü", "n": None},
        ]
        assert read_whole(path).rows == [("=1", 2), ("ü", None)] and read_whole(path).labels == [None, None]


class TestLearningCurve:
    def test_is_an_inverse_power_law_through_the_error(self) -> None:
        curve = LearningCurve(40, 10, 0.5)
        c = -math.log2(1 - 1 / (3 * math.log2(6)))
        for more in (10, 40, 400):
            gain, least, most = curve.gain(more)
            assert gain == pytest.approx(0.5 - 0.5 * (1 + more / 40) ** -c)
            assert (gain - least, most - gain) == pytest.approx((0.44 / 40**0.5, 0.94 / 40**0.5))
        assert LearningCurve(16, 2, 0.0).gain(16) == (0.0, -0.11, 0.0)  # no more than all can come right
        assert LearningCurve(16, 2, 0.95).gain(16)[1] >= -0.05
        assert curve.gain(40)[0] == pytest.approx(0.5 / (3 * math.log2(6))) and curve.error_at(40) == 0.5
        source = ", by the cross-fitted error on {} labels"
        assert curve.sentence(40) == "40 more labels: -1 to +21 points of macro-F1, four times in five" + source.format(
            40
        )
        assert LearningCurve(80, 2, 0.3).sentence(
            80
        ) == "80 more labels: about +2 points of macro-F1 (-3 to +12)" + source.format(80)
        assert "about" not in LearningCurve(79, 2, 0.3).sentence(80) + LearningCurve(79, 2, 0.01).sentence(80)
        assert "look at wrong labels" in LearningCurve(400, 4, 0.05).sentence(32)

    def test_the_error_is_that_of_labels_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        z, groups = pile((40, 30, 20, 10), noise=0.2)
        noise = torch.randint(4, (100,), generator=torch.Generator().manual_seed(0))
        found, chance = learning_curve(z, groups), learning_curve(z, noise)
        assert found is not None and chance is not None and found.error < 0.05 and 0.6 < chance.error < 0.9
        assert (found.labels, found.classes) == (100, 4)
        some = learning_curve(z, torch.where(torch.arange(100) % 2 == 0, groups, -1))
        assert some is not None and some.labels == 50
        monkeypatch.setattr("graphloss.inference.learning_curve.MOST", 60)
        fewer = learning_curve(z, noise)
        assert fewer is not None and fewer.labels == 100 and fewer.error < 0.9

    @pytest.mark.parametrize("labels", [[0, 1] * 7, [0] * 20, [], [-1] * 30])
    def test_too_few_labels_or_classes_have_no_forecast(self, labels: list[int]) -> None:
        assert learning_curve(torch.randn(len(labels), 4), torch.tensor(labels, dtype=torch.long)) is None


def test_a_pile_of_one_text_is_suggested_once() -> None:
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)).expand(30, 8)
    found = rows_to_label(z, [None] * 30, 4)
    assert [(each["row"], each["stands_for"]) for each in found] == [(0, 30)]
    other = torch.randn(1, 8, generator=torch.Generator().manual_seed(1))
    assert rows_to_label(z, [None] * 30, 4, beside=Labeled(z[:1], ["a"])) == []
    assert len(rows_to_label(z, [None] * 30, 4, beside=Labeled(other, ["a"]))) == 1
