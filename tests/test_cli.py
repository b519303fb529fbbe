"""The command as it is typed: what it prints where, what it leaves on disk, and how it refuses."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Call, Toy
from rich.console import Console

from graphloss import TextClassifier, cli
from graphloss.cli.tables import _show_doubted
from graphloss.inference import run_folder
from graphloss.run import claim_folder
from graphloss.text import encoder
from graphloss.text.read_texts import read_texts
from graphloss.training.settings import DataSettings, TrainSettings

KEYS = {"accuracy", "macro_f1", "macro_silhouette", "micro_silhouette", "ece", "per_class"}


def write_csv(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def table(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "toy.csv", list(zip(toy.texts, toy.labels, strict=True)))


@pytest.fixture(scope="module")
def quick(tiny_encoder: Path) -> list[object]:
    """Options that make a training last half a second."""
    train = ["--epochs", 1, "--batch-size", 16, "--max-length", 32, "--learning-rate", 1e-3, "--validation", 0.1]
    return ["--model", tiny_encoder, *train]


class Typed(NamedTuple):
    """A finished training: its folder, and what the command printed where."""

    folder: Path
    out: str
    said: str


@pytest.fixture(scope="module")
def typed(table: Path, quick: list[object], tmp_path_factory: pytest.TempPathFactory) -> Typed:
    """A training of three epochs with a seed and a weight of its own, on a terminal of 80 columns."""
    folder, out, said = tmp_path_factory.mktemp("runs") / "run", io.StringIO(), io.StringIO()
    options = [*quick, "--epochs", 3, "--seed", 5, "--weight", 0.3, "--out", folder, "--json"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(said):
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", ["graphloss", "train", str(table), *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    return Typed(folder, out.getvalue(), said.getvalue())


@pytest.fixture(scope="module")
def run(typed: Typed) -> Path:
    """A finished run."""
    return typed.folder


def test_a_run_folder_holds_what_it_promises_and_no_pickle(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "encoder",
        "head.safetensors",
        "support.safetensors",
        "support.parquet",
        "graphloss.json",
        "metrics.jsonl",
        "predictions.parquet",
        "report.html",
        "README.md",
    }
    assert not [path for path in run.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    info = json.loads((run / "graphloss.json").read_text())
    assert info["status"] == "finished" and info["format"] == 4 and len(info["labels"]) == 4
    assert {"settings", "versions", "data", "environment", "metrics"} <= set(info)
    assert set(info["metrics"]["model"]) >= KEYS and set(info["metrics"]["probe"]) >= KEYS
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"loss", "coverage", "seconds", "macro_f1"} <= set(lines[0])


def test_training_says_what_it_will_do_then_how_it_goes_then_what_to_type(typed: Typed) -> None:
    order = [
        "58 labeled",
        "classes",
        "words on average",
        "cpu",
        "up to 3 epochs of 4 steps",
        "less than a minute",
        "coverage",
        "val F1",
    ]
    order += ["linear probe", "G-Loss", "report.html", "graphloss predict", "graphloss evaluate"]
    places = [typed.said.find(part) for part in order]
    assert -1 not in places and places == sorted(places)


def test_with_json_standard_output_holds_one_object_and_nothing_else(typed: Typed) -> None:
    assert len(typed.out.splitlines()) == 1 and json.loads(typed.out)["run"] == str(typed.folder)


def test_evaluate_gives_the_promised_keys(call: Call, run: Path, table: Path, tmp_path: Path) -> None:
    code, out, error = call("evaluate", run, shutil.copy(table, tmp_path / "other.csv"), "--json")
    learned = json.loads((run / "graphloss.json").read_text())["data"]["sizes"]["labeled"]
    assert f"{learned} of these 64 texts are among those learned from" in error and "contradict" not in error
    write_csv(tmp_path / "torn.csv", [("a new pan", "cooking"), ("a new pan", "music"), ("a goal", "football")])
    error = call("evaluate", run, tmp_path / "torn.csv")[2]
    assert (
        "texts that stand in test more than once, with labels that contradict each other: 1" in error
        and "learned" not in error
    )
    scores = json.loads(out)
    assert code == 0 and set(scores) >= KEYS and scores["documents"] == 64
    assert all(0 <= scores[name] <= 1 for name in ("accuracy", "macro_f1", "ece"))
    assert {row["label"] for row in scores["per_class"]} == {"cooking", "football", "music", "space"}
    code, out, _ = call("evaluate", run, "--split", "validation")
    assert code == 0 and "macro-F1" in out and "cooking" in out


@pytest.mark.parametrize("named", [False, True])
def test_evaluate_does_not_take_what_was_learned_for_a_test(
    call: Call, run: Path, table: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.chdir(table.parent)
    code, out, error = call("evaluate", run, *([table.name] if named else []))
    assert code == 2 and out == ""
    held = json.loads((run / "graphloss.json").read_text())["data"]["sizes"]["validation"]
    assert "no test split" in error and ("--split validation" in error) is (held > 0) and "DATA" in error


def test_evaluate_a_model_that_was_saved_without_its_data(call: Call, run: Path, table: Path, tmp_path: Path) -> None:
    TextClassifier.from_pretrained(run).save_pretrained(tmp_path / "saved")
    code, _, error = call("evaluate", tmp_path / "saved")
    assert code == 2 and "graphloss evaluate" in error and "DATA" in error
    code, out, _ = call("evaluate", tmp_path / "saved", table, "--json")
    assert code == 0 and json.loads(out)["documents"] == 64


def test_evaluate_repeats_the_figures_of_the_training(call: Call, run: Path) -> None:
    _, out, _ = call("evaluate", run, "--split", "validation", "--json")
    info = json.loads((run / "graphloss.json").read_text())
    assert json.loads(out)["macro_f1"] == pytest.approx(info["metrics"]["model"]["macro_f1"], abs=1e-6)


def test_predict_from_options_files_and_standard_input(
    call: Call, run: Path, table: Path, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [toy.texts[toy.labels.index(name)] for name in toy.names]
    code, out, _ = call("predict", run, *texts, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["text"] for row in rows] == texts
    assert sum(row["label"] == name for row, name in zip(rows, toy.names, strict=True)) >= 3
    assert set(rows[0]) == {"row", "text", "label", "probability"} and 0.25 < rows[0]["probability"] <= 1
    _, out, _ = call("predict", run, table)
    assert len(out.splitlines()) == 64 and len(out.splitlines()[0].split("\t")) == 3
    (tmp_path / "a.txt").write_text("the rocket\n\nmelody of the singer\n")
    _, out, _ = call("predict", run, tmp_path / "a.txt", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["the rocket", "melody of the singer"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "the goal"}\n{"text": "a pan"}\n')))
    _, out, _ = call("predict", run, "-", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["the goal", "a pan"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))
    code, out, error = call("predict", run, "-")  # its labels would be read as texts
    assert code == 2 and not out and "standard input: its first row names columns ('text', 'label')" in error
    code, out, error = call("predict", run, run)  # its model card would be read as a text
    assert code == 2 and not out and "graphloss.json: expected a text per file" in error


def test_a_settings_file_is_used_and_options_win(call: Call, table: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        f'model = "{tiny_encoder}"\nepochs = 9\nbatch-size = 16\nmax_length = 32\nshots = 5\nsigma = 0.2\n'
    )
    code, out, _ = call(
        "train", table, "--out", tmp_path / "run", "--config", tmp_path / "a.toml", "--epochs", 1, "--json", "-q"
    )
    info = json.loads(out)
    assert code == 0
    assert (info["settings"]["epochs"], info["settings"]["batch_size"], info["settings"]["sigma"]) == (1, 16, 0.2)
    assert info["data"]["shots"] == 5 and info["data"]["sizes"]["labeled"] == 20


def test_keep_unlabeled_keeps_the_texts(call: Call, table: Path, quick: list[object], tmp_path: Path) -> None:
    _, out, _ = call(
        "train", table, "--out", tmp_path / "run", "--shots", 3, "--keep-unlabeled", "--json", "-q", *quick
    )
    sizes = json.loads(out)["data"]["sizes"]
    assert sizes["labeled"] == 12 and sizes["train"] == 58


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corpus-graph", "off"], "46 unlabeled documents are not used"),
        (
            ["--predictor", "knn"],
            "46 unlabeled documents are used for the self-training of the head, which predictor 'knn' does not use",
        ),
    ],
)
def test_unused_unlabeled_text_is_reported(
    call: Call, table: Path, quick: list[object], tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, error = call("train", table, "--shots", 3, "--keep-unlabeled", "--out", tmp_path / "run", *options, *quick)
    assert code == 0 and f"warning: {said}" in error


def test_unlabeled_text_of_a_file_of_its_own(
    call: Call, table: Path, toy_maker: Any, quick: list[object], tmp_path: Path
) -> None:
    more = toy_maker({"cooking": 9, "football": 9, "music": 9, "space": 9}, seed=7).texts
    (tmp_path / "more.txt").write_text("\n".join(more))
    out = tmp_path / "run"
    code, said, told = call(
        "train", table, "--shots", 3, "--unlabeled", tmp_path / "more.txt", "--out", out, "--json", *quick
    )
    info = json.loads(said)
    assert code == 0 and "36 unlabeled" in told and "self-training on 36 unlabeled documents" in told
    assert info["data"]["sizes"] | {"validation": 0} == {"train": 48, "labeled": 12, "validation": 0, "test": 0}
    assert info["data"]["unlabeled"] == "../more.txt" and info["self_training"]["documents"] == 36
    assert set(info["self_training"]["shares"]) == {"cooking", "football", "music", "space"}
    assert "36 unlabeled documents" in (out / "README.md").read_text()
    assert "<b>36</b> unlabeled documents for self-training" in (out / "report.html").read_text()
    assert call("evaluate", out, "--split", "validation")[0] == 0
    model = TextClassifier.from_pretrained(out)
    assert model.self_training_ is not None and model.self_training_.documents == 36
    code, _, error = call("train", "--resume", "--out", out, "--unlabeled", table)
    assert code == 2 and "unlabeled" in error


@pytest.mark.parametrize(("name", "said"), [("none.csv", "no such file"), ("empty.txt", "holds no text")])
def test_unlabeled_text_that_cannot_be_used(
    call: Call, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "empty.txt").write_text("\n")
    code, _, error = call("train", table, "--unlabeled", tmp_path / name, "--out", tmp_path / "run")
    assert code == 2 and said in error and name in error and not (tmp_path / "run").exists()


def test_a_folder_of_splits_is_tested_on_its_test_split(
    call: Call, toy: Toy, quick: list[object], tmp_path: Path
) -> None:
    rows = list(zip(toy.texts, toy.labels, strict=True))
    data = tmp_path / "data"
    data.mkdir()
    for name, part in (("train", rows[:40]), ("validation", rows[40:52]), ("test", rows[52:])):
        write_csv(data / f"{name}.csv", part)
    _, out, _ = call("train", data, "--out", tmp_path / "run", "--json", "-q", *quick)
    info = json.loads(out)
    assert info["metrics"]["split"] == "test" and info["data"]["sizes"]["test"] == 12
    _, out, error = call("evaluate", tmp_path / "run", "--json")
    assert json.loads(out)["accuracy"] == pytest.approx(info["metrics"]["model"]["accuracy"])
    assert "changed since" not in error
    other = next(label for label in toy.labels if label != rows[-1][1])
    for change in (rows[52:-1], [*rows[52:-1], (rows[-1][0], other)]):  # a text less, another label
        write_csv(data / "test.csv", change)
        code, _, error = call("evaluate", tmp_path / "run")
        assert code == 0 and error.count("its test documents have changed since the training") == 1
    assert "changed since" not in call("evaluate", tmp_path / "run", data / "test.csv")[2]  # named: other data


def test_resuming_a_finished_run_changes_nothing(call: Call, run: Path, tmp_path: Path) -> None:
    before = (run / "graphloss.json").read_bytes()
    code, _, said = call("train", "--resume", "--out", run)
    assert code == 0 and "finished already" in said and (run / "graphloss.json").read_bytes() == before
    other = write_csv(tmp_path / "other.csv", [("a goal", "x"), ("a pan", "y")] * 4)
    code, out, said = call("train", other, "--resume", "--out", run)  # the scores there are not those of this data
    assert code == 2 and not out and "began with other data" in said


def test_every_setting_is_an_option(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = call("train", "--help")
    options = ["--" + item.name.replace("_", "-") for kind in (DataSettings, TrainSettings) for item in fields(kind)]
    assert code == 0 and len(options) >= 20 and not [option for option in options if option not in out]


def test_data_list_and_show(call: Call, table: Path) -> None:
    code, out, _ = call("data", "list", "--json")
    names = [json.loads(line)["name"] for line in out.splitlines()]
    assert code == 0 and names[0] == "builtin" and {"mr", "r8", "r52", "ohsumed", "20ng", "banking77"} <= set(names)
    code, out, _ = call("data", "show", table)
    assert code == 0 and "cooking" in out and "toy" in out
    code, out, _ = call("data", "show", table, "--json")
    assert json.loads(out)["documents"]["train"] == 64
    assert "builtin" in call("data", "list")[1]


ROWS = [("one text", "a"), ("two text", "b")] * 5


def _file(name: str, content: bytes) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / name).write_bytes(content)
        return ["train", folder / name]

    return make


def _strange_validation(folder: Path) -> list[object]:
    write_csv(folder / "train.csv", ROWS)
    write_csv(folder / "validation.csv", [("x", "c")])
    return ["train", folder]


def _with(*options: object) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        return ["train", write_csv(folder / "a.csv", ROWS), "--out", folder / "run", *options]

    return make


def _config(text: str) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / "a.toml").write_text(text)
        return [*_with()(folder), "--config", folder / "a.toml"]

    return make


RUNNING = {
    "status": "running",
    "settings": {},
    "labels": ["a", "b"],
    "data": {"source": "a.csv", "fingerprint": "ab"},
}


def _occupied(folder: Path) -> list[object]:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.txt").write_text("mine")
    return _with()(folder)


def _other_run(folder: Path) -> list[object]:
    (folder / "run").mkdir()
    run_folder.write_info(folder / "run", RUNNING)
    return _with()(folder)


def _newer(command: str) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / "graphloss.json").write_text('{"format": 99}')
        return [command, folder, *(["x"] if command == "predict" else [])]

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: ["train", folder / "missing.csv"], ["missing.csv"]),
        (_file("a.docx", b"text"), [".csv"]),
        (_file("a.csv", b"text,label\n"), ["a.csv"]),
        (_file("a.csv", b"titel,label\nx,y\n"), ["titel", "--text"]),
        (_file("a.csv", b"text,label\nx,\ny,\n"), ["label"]),
        (_file("a.csv", b"text,label\nx,a\ny,a\n"), ["class"]),
        (_file("a.csv", b"text,label\nx,a\n\xff\xfe,b\n"), ["a.csv", "3"]),
        (_file("a.csv", b"text,label\n,a\n ,b\n"), ["text"]),
        (_strange_validation, ["validation", "'c'"]),
        (lambda folder: ["train", "mrr"], ["mr"]),
        (lambda folder: ["train"], ["graphloss train DATA"]),
        (lambda folder: ["train", "--resume"], ["--out"]),
        (lambda folder: ["train", "--resume", "--out", folder / "none"], ["no such run folder"]),
        (_with("--loss", "focal"), ["loss", "gloss, gloss-paper, ce"]),
        (_with("--sigma", "rot"), ["sigma", "root"]),
        (_with("--loss", "ce", "--mode", "standalone"), ["standalone"]),
        (
            _with("--graph-size", "8", "--batch-size", "16"),
            ["graph_size 8", "--batch-size 8 or less"],
        ),
        (_with("--epochs", "0", "--weight", "2"), ["epochs", "weight"]),
        (_with("--model", "./nothing"), ["no such folder"]),
        (_with("--model", "my models/bert"), ["expected the folder of an encoder or a Hub name"]),
        (_with("--model", "nothing/"), ["no such folder"]),
        (_with("--unlabeled", "~nobody-by-this-name/pile.csv"), ["not a valid file name"]),
        (lambda folder: ["train", "a text " * 50], ["not a valid file name", "File name too long"]),
        (_with("--model", "nobody/nothing"), ["cache"]),
        (_config("epoch = 3\nbatch_size = 'x'\n"), ["did you mean 'epochs'", "batch_size"]),
        (_config("epochs = = 3"), ["TOML"]),
        (_occupied, ["holds other files"]),
        (_other_run, ["holds another run", "--resume"]),
        (lambda folder: ["evaluate", folder / "none"], ["no such run folder"]),
        (lambda folder: ["evaluate", folder], ["not a run folder"]),
        (_newer("evaluate"), ["upgrade"]),
        (_newer("predict"), ["upgrade"]),
        (lambda folder: ["predict", folder], ["FILE"]),
        (lambda folder: ["data", "show", folder / "no.csv"], ["no.csv"]),
        (lambda folder: ["evaluate", folder, "--predictor", "vote"], ["--predictor", "mix, head, graph, knn"]),
        (lambda folder: ["audit", folder, "--out", "/proc/none.csv"], ["--out /proc/none.csv: cannot be written"]),
    ],
)
def test_bad_input_is_refused_with_code_2_before_a_model_is_loaded(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], list[Any]], said: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.delenv("GRAPHLOSS_DATA", raising=False)
    folder = tmp_path / "input"
    folder.mkdir()
    code, out, error = call(*make(folder))
    assert code == 2 and out == "" and "Traceback" not in error
    assert error.startswith("error: ") and not [part for part in said if part not in error], error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "free", "said"),
    [
        (["--graph-size", "4096"], 10_000, "error: --graph-size 4096: the loss on a graph of"),
        (["--shots", "4", "--keep-unlabeled"], 1_000_000, "error: the corpus graph over"),
        (["--memory", "90000000"], 2**40, "error: --memory 90000000: a memory of 90,000,000 documents"),
    ],
)
def test_what_does_not_fit_into_memory_is_refused_before_a_folder_is_claimed(
    call: Call,
    table: Path,
    quick: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    free: int,
    said: str,
) -> None:
    monkeypatch.setattr("graphloss.training.memory_estimate.available", lambda device: free)
    code, out, error = call("train", table, "--out", tmp_path / "run", *quick, *options)
    assert code == 2 and out == "" and error.startswith(said), error
    assert not (tmp_path / "run").exists()


def test_predict_takes_the_columns_of_the_run_or_the_one_named(call: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence,words\nno,the goal\n")
    code, out, error = call("predict", run, tmp_path / "a.csv")
    assert (code, out) == (2, "") and "no 'text'" in error and "--text COLUMN" in error
    code, out, error = call("predict", run, tmp_path / "a.csv", "--text", "words")
    assert code == 0 and out.endswith("\tthe goal\n") and "texts from column 'words'" in error
    assert call("predict", run, "--input", tmp_path / "a.csv", "--text", "words", "--quiet")[2] == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", "the goal"], "leave out --text"),
        (["a pan", "--text", "the goal"], "leave out --text"),
        (["no.csv"], "no such file"),
        (["no.xlsx"], "no such file"),
        (["files/no"], "no such file"),
        (["a pan", "no.csv"], "expected one file and no more"),
        (["a pan", "--input", "-"], "one of them"),
        (["a pan", "--text", "a", "--text", "b"], "--text was given 2 times"),
    ],
)
def test_texts_and_columns_are_not_confused(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    code, out, error = call("predict", run, *words)
    assert (code, out) == (2, "") and said in error


def test_a_run_keeps_its_columns(call: Call, quick: list[object], toy: Toy, tmp_path: Path) -> None:
    rows = [(f"note {i}", text, label) for i, (text, label) in enumerate(zip(toy.texts, toy.labels, strict=True))]
    data, folder = tmp_path / "a.csv", tmp_path / "run"
    with data.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "utterances", "kind"), *rows])
    columns = ["--text", "utterances", "--label", "kind"]
    assert call("train", data, *columns, *quick, "--out", folder, "--quiet")[0] == 0
    kept = json.loads((folder / "graphloss.json").read_text())["data"]
    assert (kept["text"], kept["label"]) == ("utterances", "kind")
    other = shutil.copy(data, tmp_path / "b.csv")
    for words in (["evaluate", folder, other], ["audit", folder, "--data", other], ["predict", folder, other]):
        code, out, error = call(*words)
        assert code == 0 and "texts from column 'utterances'" in error
        assert words[0] == "audit" or "note 1\t" not in out
    (tmp_path / "c.csv").write_text("text,label\nu,cooking\nv,music\n")
    for words in (["evaluate", folder], ["audit", folder, "--data"], ["predict", folder]):
        code, out, error = call(*words, tmp_path / "c.csv")
        assert (code, out) == (2, "") and "no 'utterances'" in error and "--text COLUMN" in error


def test_guessed_columns_are_said_and_kept(call: Call, run: Path, typed: Typed, table: Path) -> None:
    assert "texts from column 'text' (guessed), labels from column 'label' (guessed)" in typed.said
    kept = json.loads((run / "graphloss.json").read_text())["data"]
    assert (kept["text"], kept["label"]) == ("text", "label")
    assert "'text' (guessed)" in call("data", "show", table)[1]
    shown = json.loads(call("data", "show", table, "--json")[1])["columns"]
    assert shown == {"text": "text", "label": "label", "guessed": ["text", "label"]}
    assert "given 2 times" in call("data", "show", table, "--label", "a", "--label", "b")[2]
    for flag in ("--unlabeled", "--describe", "--config", "--out"):  # of two files neither is dropped in silence
        code, _, error = call("train", table, flag, "a.txt", flag, "b.txt")
        assert code == 2 and f"{flag} was given 2 times; expected one" in error


def test_of_two_trainings_begun_together_each_has_its_folder(
    call: Call, table: Path, quick: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second training is claimed by another process while the first one loads its encoder."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "runs" / f"{table.stem}-gloss-combined-seed0"
    mine = tmp_path / "mine"
    load = encoder.load

    def meanwhile(*args: Any, **options: Any) -> Any:
        for folder in (other, mine):
            folder.mkdir(parents=True, exist_ok=True)
            run_folder.write_info(folder, RUNNING)
        return load(*args, **options)

    monkeypatch.setattr("graphloss.text.encoder.load", meanwhile)
    code, out, _ = call("train", table, "--json", "-q", *quick)
    assert code == 0 and Path(json.loads(out)["run"]).name == other.name + "-2"
    shutil.rmtree(mine)
    code, _, error = call("train", table, "--out", mine, *quick)
    assert code == 2 and "mine: holds another run" in error
    assert "running" in (mine / "graphloss.json").read_text() and "running" in (other / "graphloss.json").read_text()


def test_no_two_trainings_work_in_one_folder(call: Call, table: Path, quick: list[object], tmp_path: Path) -> None:
    """As where a run is resumed that still runs."""
    (folder := tmp_path / "run").mkdir()
    with claim_folder.alone(folder):
        code, _, error = call("train", table, "--out", folder, *quick)
    assert code == 2 and "another training is at work there" in error and not (folder / claim_folder.LOCK).exists()
    (killed := tmp_path / "killed").mkdir()
    (killed / claim_folder.LOCK).touch()
    claim_folder.check_free(killed, resume=False)
    assert call("train", table, "--out", folder, "--resume", *quick)[0] == 0


def test_a_run_that_held_nothing_out_has_no_validation_to_score(
    call: Call, toy: Toy, quick: list[object], tmp_path: Path
) -> None:
    rows = list(zip(toy.texts, toy.labels, strict=True))
    (tmp_path / "data").mkdir()
    for name, part in (("train", rows[:48]), ("test", rows[48:])):
        write_csv(tmp_path / "data" / f"{name}.csv", part)
    out = tmp_path / "run"
    assert call("train", tmp_path / "data", "--out", out, "-q", *quick[:-2], "--validation", 0)[0] == 0
    code, _, error = call("evaluate", out, "--split", "validation")
    assert code == 2 and "no document was held out for validation" in error and "--split test" in error
    alone = tmp_path / "alone"
    assert call("train", tmp_path / "data" / "train.csv", "--out", alone, "-q", *quick[:-2])[0] == 0
    for split in ("test", "validation"):  # there is neither: only other data can be scored on
        code, _, error = call("evaluate", alone, "--split", split)
        assert code == 2 and "--split" not in error and f"graphloss evaluate {alone} DATA" in error, error
    recorded = json.loads((out / "graphloss.json").read_text())
    (out / "support.parquet").unlink()
    run_folder.write_info(out, recorded)
    assert call("audit", out, "--json")[0] == 0


def test_half_precision_on_a_cpu_is_refused(call: Call, table: Path, quick: list[object], tmp_path: Path) -> None:
    code, _, error = call("train", table, "--out", tmp_path / "run", *quick, "--precision", "fp16")
    assert code == 2 and "fp16: needs a GPU" in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("suffix", "explain"), [(".csv", False), (".csv", True), (".jsonl", True)])
def test_predictions_are_written_whole_into_a_new_file(
    call: Call, run: Path, tmp_path: Path, suffix: str, explain: bool
) -> None:
    out = tmp_path / f"found{suffix}"
    texts, options = ["=1+1 goal referee", "onion\nsoup"], ["--explain", "--predictor", "graph"] if explain else []
    listed = [json.loads(line) for line in call("predict", run, *texts, "--json", *options)[1].splitlines()]
    code, printed, error = call("predict", run, *texts, "--out", out, *options)
    assert code == 0 and printed == "" and f"{out}: the predictions" in " ".join(error.split()), error
    if suffix == ".csv":
        rows = list(csv.DictReader(out.open(newline="")))
        assert rows[0]["text"] == "'=1+1 goal referee"  # no formula
        assert [(row["label"], float(row["probability"])) for row in rows] == [
            (row["label"], row["probability"]) for row in listed
        ]
        assert ("evidence" in rows[0]) is explain
        assert [text for _, text in read_texts(str(out))] == texts  # and read back as it was
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["text"] for row in rows] == texts and rows[0]["evidence"] == listed[0]["evidence"] != []
    before = out.read_bytes()
    code, _, error = call("predict", run, *texts, "--out", out)
    assert code == 2 and "is there already" in error and out.read_bytes() == before
    (tmp_path / "broken.jsonl").write_text(json.dumps({"text": "a goal"}) + "\n" + '{"text": 3')
    code, _, error = call("predict", run, tmp_path / "broken.jsonl", "--out", tmp_path / "half.csv")
    assert code == 2 and not (tmp_path / "half.csv").exists() and not list(tmp_path.glob(".*"))
    code, _, error = call("predict", run, "a", "--out", tmp_path / "found.xlsx")
    assert code == 2 and "expected a name that ends in .csv or .jsonl" in error


def test_predict_explains_by_training_documents(call: Call, run: Path, toy: Toy) -> None:
    words = ["predict", run, "goal referee penalty", "--explain"]
    code, out, _ = call(*words, "--json", "--predictor", "graph")
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(row["evidence"]) == 5 and row["head_share"] == 0
    for each in row["evidence"]:
        assert set(each) == {"text", "label", "share"} and each["text"] in toy.texts and each["label"] == row["label"]
    code, out, _ = call(*words, "--predictor", "mix")
    first, *rest = out.splitlines()
    assert code == 0 and first.startswith("football\t") and rest and all(line.startswith("    ") for line in rest)
    _, out, _ = call(*words, "--predictor", "head")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["100.0%", "(head)", "the", "linear", "classifier;", "--predictor", "graph", "names", "documents"]
    ]
    code, _, error = call(*words, "--predictor", "vote")
    assert code == 2 and "expected one of mix, head, graph, knn" in error


def test_evaluate_by_another_predictor(call: Call, run: Path) -> None:
    scores = [
        json.loads(call("evaluate", run, "--split", "validation", "--json", "--predictor", kind)[1])
        for kind in ("head", "graph")
    ]
    assert scores[0]["ece"] != scores[1]["ece"]


@pytest.fixture
def mislabeled(run: Path, toy: Toy, tmp_path: Path) -> tuple[Path, list[str]]:
    """A file in which some labels are wrong, and the texts that have them."""
    labels = list(toy.labels)
    wrong = [3, 10, 20, 30]
    for row in wrong:
        labels[row] = next(name for name in toy.names if name != labels[row])
    return write_csv(tmp_path / "wrong.csv", list(zip(toy.texts, labels, strict=True))), [toy.texts[i] for i in wrong]


def test_audit_of_other_data_lists_the_wrong_labels(
    call: Call, run: Path, mislabeled: tuple[Path, list[str]], tmp_path: Path
) -> None:
    data, wrong = mislabeled
    code, out, said = call("audit", run, "--data", data, "--json", "--out", tmp_path / "found.csv")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and set(wrong) <= {row["text"] for row in rows[:6]} and "found.csv" in said
    assert all(list(row) == ["row", "text", "label", "proposed", "score", "evidence"] for row in rows)
    assert all(each["label"] == row["proposed"] for row in rows for each in row["evidence"])
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [row["text"] for row in table] == [row["text"] for row in rows]
    assert float(table[0]["score"]) == rows[0]["score"] and rows[0]["evidence"][0]["text"] in table[0]["evidence"]
    assert not (run / "audit.jsonl").exists()
    original = data.read_text()
    lines = list(csv.DictReader(original.splitlines()))
    for row in table:
        assert all(row[name] == cell for name, cell in lines[int(row["row"]) - 1].items())
    assert call("audit", run, "--data", data, "--apply", data)[0] == 2 and data.read_text() == original
    copy = tmp_path / "corrected.csv"
    assert call("audit", run, "--data", data, "--apply", copy, "-q")[0] == 0 and data.read_text() == original
    corrected, changed = list(csv.DictReader(copy.open(newline=""))), {int(row["row"]): row for row in table}
    assert len(corrected) == len(lines) and len(changed) == len(table)
    for number, (new, old) in enumerate(zip(corrected, lines, strict=True), 1):
        proposed = changed[number]["proposed"] if number in changed else old["label"]
        assert new["text"] == old["text"] and new["label"] == proposed and int(new["row"]) == number
        assert new["former"] == (old["label"] if number in changed else "")
    before = copy.read_bytes()  # nothing that is there is overwritten, least of all somebody's labels
    for options in (["--out", copy], ["--out", tmp_path / "n.csv", "--apply", tmp_path / "n.csv"]):
        code, _, error = call("audit", run, "--data", data, *options)
        assert code == 2 and ("is there already" in error or "are one file" in error) and copy.read_bytes() == before
    code, out, said = call("audit", run, "--data", data, "--limit", 2)
    assert code == 0 and len([line for line in out.splitlines() if " -> " in line]) == 2 and "--json" in said


def test_audit_of_a_run_is_kept_and_reported(
    call: Call, quick: list[object], mislabeled: tuple[Path, list[str]], tmp_path: Path
) -> None:
    data, _ = mislabeled
    folder = tmp_path / "run"
    assert call("train", data, "--out", folder, *quick)[0] == 0
    data.unlink()  # the run folder keeps what it learned from
    code, out, said = call("audit", folder, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and rows and "report" in said
    assert [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()] == rows
    assert "Suspected label errors" in (folder / "report.html").read_text()
    assert call("report", folder)[0] == 0 and "Suspected label errors" in (folder / "report.html").read_text()
    (folder / "support.parquet").unlink()
    run_folder.seal(folder)
    code, _, error = call("audit", folder)
    assert code == 2 and "keeps no training texts" in error and "wrong.csv" in error and "--data DATA" in error
    code, _, error = call("audit", folder, "--data", data)
    assert code == 2 and "wrong.csv" in error


def test_a_training_weighs_labels_in_doubt_and_lists_the_contradicted(
    call: Call, quick: list[object], mislabeled: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = mislabeled
    original = data.read_bytes()
    monkeypatch.setattr("graphloss.inference.label_errors.WRONG", 0.0)
    monkeypatch.setattr("graphloss.inference.label_errors.SURE", 0.5)
    folders, said = {clean: tmp_path / clean for clean in ("auto", "off")}, {"auto": "", "off": ""}
    for clean, folder in folders.items():
        code, _, said[clean] = call("train", data, "--out", folder, "--clean", clean, *quick)
        assert code == 0, said[clean]
    doubted = run_folder.read_info(folders["auto"])["doubted_labels"]
    assert doubted and all(set(row) == {"text", "label", "proposed", "score"} for row in doubted)
    assert all(row["label"] != row["proposed"] and row["score"] > 0.5 for row in doubted)
    kept = [len(run_folder.read_model(folder)[1].known_texts()) for folder in folders.values()]
    assert kept[0] == kept[1] and run_folder.read_info(folders["off"])["doubted_labels"] == []
    assert data.read_bytes() == original
    listed = [line for line in said["auto"].splitlines() if " -> " in line]
    assert len(listed) == min(len(doubted), 10) and f"{doubted[0]['label']} -> {doubted[0]['proposed']}" in listed[0]
    assert (
        "each weighs as much as the others confirm it" in " ".join(said["auto"].split())
        and "clean  " not in said["off"]
    )
    titled = ["Labels in doubt" in (each / "report.html").read_text() for each in folders.values()]
    assert titled == [True, False]
    info = run_folder.read_info(folders["auto"])
    del info["doubted_labels"]  # as an earlier version wrote it
    run_folder.write_info(folders["auto"], info)
    code, _, said = call("train", "--resume", "--out", folders["auto"])
    assert code == 0 and "finished already" in said and "clean  " not in said


def test_labels_in_doubt_are_shown_up_to_ten_and_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"text": "a [b]text[/b]\x1b", "label": "[x]", "proposed": "y", "score": 0.9}
    for count, header, shown in (
        (0, "all labels weigh alike: few are contradicted, or the encoder knows too little", 0),
        (1, "1 label is contradicted; each weighs as much as the others confirm it:", 1),
        (11, "11 labels are contradicted; each weighs as much as the others confirm it:", 10),
    ):
        _show_doubted([row] * count, Console(width=120))
        out = capsys.readouterr().out
        assert f"clean       {header}" in out
        assert out.count("0.900  [x] -> y  a [b]text[/b]\\x1b") == shown and ("and 1 more" in out) == (count == 11)


def test_audit_reads_the_data_again_where_the_run_keeps_no_texts(
    call: Call, quick: list[object], mislabeled: tuple[Path, list[str]], tmp_path: Path
) -> None:
    data, _ = mislabeled
    folder = tmp_path / "run"
    call("train", data, "--out", folder, *quick)
    kept = call("audit", folder, "--json")[1]
    (folder / "support.parquet").unlink()
    run_folder.seal(folder)
    again = call("audit", folder, "--json")[1]
    texts = [[json.loads(line)["text"] for line in out.splitlines()] for out in (kept, again)]
    assert texts[0][:3] == texts[1][:3]
    data.write_text(data.read_text() + "the moon,space\n")
    code, _, error = call("audit", folder)
    assert code == 2 and "has changed since the training" in error
    data.unlink()
    code, out, error = call("audit", folder)
    assert code == 2 and out == "" and error.startswith("error: ")
    assert "its data cannot be read any more; name labeled documents: `graphloss audit" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "found.json"], "ends in .csv or .jsonl"),
        (["--out", "no/folder/found.csv"], "cannot be written"),
        (["--apply", "copy.xlsx"], "--apply copy.xlsx: expected a name that ends in .csv or .jsonl"),
        (["--data", "missing.csv"], "missing.csv"),
    ],
)
def test_audit_refuses_before_a_model_is_loaded(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch, options: list[object], said: str
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    code, out, error = call("audit", run, *options)
    assert code == 2 and out == "" and error.startswith("error: ") and said in error


def test_labels_that_the_run_does_not_know(call: Call, run: Path, tmp_path: Path) -> None:
    code, _, error = call("evaluate", run, write_csv(tmp_path / "a.csv", [("x", "chess"), ("y", "music")]))
    assert code == 2 and "chess" in error


def test_empty_texts_are_counted_and_dropped(call: Call, table: Path, quick: list[object], tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    data.write_text(table.read_text() + ",music\n  ,space\n")
    code, out, error = call("train", data, "--out", tmp_path / "run", "--json", *quick)
    assert code == 0 and "warning: " in error and "2" in error.split("warning: ")[1].splitlines()[0]
    assert json.loads(out)["data"]["sizes"]["train"] == 58


def test_the_closing_table_fits_a_terminal_of_80_columns(typed: Typed) -> None:
    metrics, table = json.loads(typed.out)["metrics"], typed.said.split("validation split")[-1]
    for scores in (metrics["model"], metrics["probe"]):
        for shown in (f"{scores['accuracy']:.1%}", f"{scores['macro_f1']:.1%}", f"{scores['ece']:.3f}"):
            assert shown in table
    assert "macro-F1" in typed.said and "…" not in table


def test_labels_in_square_brackets_are_labels(call: Call, toy: Toy, quick: list[object], tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", [(t, f"[/{n}]") for t, n in zip(toy.texts, toy.labels, strict=True)])
    assert "[/music]" in call("data", "show", data)[1]
    assert call("train", data, "--out", tmp_path / "[bold]", *quick)[0] == 0
    code, out, _ = call("evaluate", tmp_path / "[bold]", "--split", "validation")
    assert code == 0 and "[/music]" in out


def test_a_failed_start_leaves_no_run_behind(call: Call, table: Path, quick: list[object], tmp_path: Path) -> None:
    code, _, error = call("train", table, "--out", tmp_path / "run", *quick, "--max-length", 4000)
    assert code == 2 and "64" in error and not (tmp_path / "run").exists()
    code, out, _ = call("train", table, "--out", tmp_path / "run", *quick)
    assert code == 0 and out == ""  # without --json


@pytest.mark.parametrize("options", [["--seed", 0], ["--weight", 0.5], ["--shots", 3], ["--epochs", 7]])
def test_other_options_are_refused_on_resume(call: Call, run: Path, options: list[object]) -> None:
    code, _, error = call("train", "--resume", "--out", run, *options)
    assert code == 2 and str(options[0])[2:] in error


def test_a_model_of_numbers_is_evaluated_on_a_file_of_numbers(
    call: Call, tiny_encoder: Path, toy: Toy, tmp_path: Path
) -> None:
    from graphloss import TextClassifier

    model = TextClassifier(model=str(tiny_encoder), epochs=1, max_length=32).fit(toy.texts, toy.indices)
    model.save_pretrained(tmp_path / "saved")
    data = write_csv(tmp_path / "a.csv", [(t, str(i)) for t, i in zip(toy.texts, toy.indices, strict=True)])
    code, out, _ = call("evaluate", tmp_path / "saved", data, "--json")
    assert code == 0 and json.loads(out)["documents"] == 64
    code, _, error = call("train", "--resume", "--out", tmp_path / "saved")
    assert code == 2 and "no training to resume" in error


def test_changed_data_has_no_known_validation_split(call: Call, run: Path, table: Path) -> None:
    whole = table.read_bytes()
    try:
        table.write_bytes(whole + b"the moon,space\n")
        code, _, error = call("evaluate", run, "--split", "validation")
    finally:
        table.write_bytes(whole)
    assert code == 2 and "changed" in error


@pytest.mark.parametrize(
    "command",
    [
        "predict {} -",
        "evaluate {}",
        "audit {}",
        "report {}",
        "train builtin --out {}",
        "train builtin --config {}",
        "tune builtin --out {}",
        "bench builtin --out {}",
        "audit run --out {}.csv",
    ],
)
@pytest.mark.parametrize("fault", ["long", "closed"])
def test_a_path_that_cannot_be_looked_at_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    stat = Path.stat

    def closed(self: Path, **how: Any) -> Any:  # root may enter any folder, so that one is played
        if "closed" in self.parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return stat(self, **how)

    monkeypatch.setattr(Path, "stat", closed)
    (tmp_path / "closed").mkdir()
    name = {"long": "n" * 300, "closed": "closed"}[fault]
    code, out, error = call(*(command.format(name).replace("closed.csv", "closed/a.csv").split()))
    assert code == 2 and out == "" and error.startswith("error: ") and "Traceback" not in error
    assert {"long": "File name too long", "closed": "no permission"}[fault] in error


@pytest.mark.parametrize(
    "command",
    [
        "train closed/a.csv",
        "train closed",
        "train builtin --out closed",
        "tune builtin --out closed",
        "bench builtin --out closed",
        "data show closed",
    ],
)
def test_a_folder_that_can_be_entered_but_not_listed_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graphloss.text.encoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
    listed = Path.iterdir

    def closed(self: Path) -> Any:  # root may list any folder, so that one is played
        if self.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", closed)
    (tmp_path / "closed").mkdir()
    code, out, error = call(*command.split())
    assert code == 2 and out == "" and "Traceback" not in error
    assert error.startswith("error: ") and "closed: this user may not" in error and "Permission denied" in error


def test_report_in_a_folder_that_cannot_be_written(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("graphloss.report.page.write_report", refuse)
    code, out, error = call("report", run)
    assert code == 2 and out == "" and "the report cannot be written there (Permission denied)" in error


def test_a_run_that_cannot_be_read(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **how: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    code, _, error = call("report", run)
    assert code == 2 and "graphloss.json: cannot be read (Permission denied)" in error
