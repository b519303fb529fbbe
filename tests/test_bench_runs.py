"""A comparison as it is run: cell by cell, the same chances for all, resumed after a kill, refused before it costs."""

from __future__ import annotations

import csv
import gc
import json
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Call

from graphloss.errors import InputError
from graphloss.research.bench import runner, storage, tuned_settings
from graphloss.research.bench.grid import Cell, Grid, make_grid
from graphloss.research.bench.notes import facts_of
from graphloss.research.bench.page import write_page
from graphloss.research.bench.runner import Outcome
from graphloss.research.bench.runner import run as run_bench
from graphloss.research.bench.storage import read_cells
from graphloss.research.bench.summary import summarize
from graphloss.research.bench.tables import score_tables
from graphloss.training.progress import Screen

QUIET = Screen(quiet=True)

pytestmark = pytest.mark.xdist_group("bench_runs")  # one process makes `run`


@pytest.fixture(scope="module")
def data(toy_maker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of splits, the test part drawn anew."""
    folder = tmp_path_factory.mktemp("data") / "topics"
    folder.mkdir()
    for seed, split in enumerate(("train", "test")):
        toy = toy_maker({"cooking": 16, "football": 14, "music": 12}, seed=seed)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, toy.labels, strict=True)])
    return folder


@pytest.fixture(scope="module")
def chosen(tiny_encoder: Path) -> dict[str, Any]:
    """Settings that make a training last a second."""
    return {
        "model": str(tiny_encoder),
        "epochs": 3,
        "batch_size": 12,
        "max_length": 16,
        "learning_rate": 2e-3,
        "blend": 1.0,
    }


@pytest.fixture(scope="module")
def brief(chosen: dict[str, Any]) -> dict[str, Any]:
    """The same for one epoch, where it does not matter what is learned."""
    return chosen | {"epochs": 1}


@pytest.fixture(scope="module")
def grid(data: Path, chosen: dict[str, Any]) -> Grid:
    """Cross-entropy and a loss in two modes, two seeds: eight cells with the untouched encoder's."""
    return make_grid(
        [str(data)], losses=["ce,supcon"], modes=["combined,standalone"], shots=["8"], seeds=2, specified=chosen
    )


@pytest.fixture(scope="module")
def run(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of the comparison, run once."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, run_bench(grid, out=out, screen=QUIET)


@pytest.fixture(scope="module")
def cells(run: tuple[Path, Outcome]) -> list[dict[str, Any]]:
    return read_cells(run[0])


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Cells that are begun; none may be."""
    begun: list[str] = []
    monkeypatch.setattr(runner, "run_cell", lambda task, asked: begun.append(task.cell.name))
    yield begun
    assert not begun


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / storage.CELLS).iterdir()}


def test_every_cell_leaves_a_whole_file(run: tuple[Path, Outcome], grid: Grid) -> None:
    out, outcome = run
    assert outcome.ran == 8 and not outcome.failed
    assert set(times(out)) == {f"{cell.name}.json" for cell in grid.kept_in(out).cells()}
    assert not list((out / storage.WORK).iterdir()) and not list(out.rglob(".*.writing"))


def test_all_losses_of_a_draw_learn_from_the_same_documents_in_the_same_steps(cells: list[dict[str, Any]]) -> None:
    for seed in range(2):
        mine = [cell for cell in cells if cell["seed"] == seed]
        assert len({cell["fingerprint"] for cell in mine}) == 1 and len(mine) == 4
        trained = [cell for cell in mine if cell["loss"] != "untouched"]
        assert {(cell["steps"], cell["epochs"], cell["batch_size"]) for cell in trained} == {(6, 3, 12)}
        assert {len(cell["curve"]) for cell in trained} == {2}  # nobody stopped early
        assert {cell["documents"] for cell in mine} == {42} and {cell["split"] for cell in mine} == {"test"}
    assert len({cell["fingerprint"] for cell in cells}) == 2  # another seed, other documents


def test_cells_differ_as_their_losses_do(cells: list[dict[str, Any]]) -> None:
    curves = {json.dumps([row["loss"] for row in cell["curve"]]) for cell in cells if cell["loss"] != "untouched"}
    assert len(curves) == 6
    for cell in cells:
        for who in ("head", "probe", "knn"):
            assert 0 < cell["scores"][who]["accuracy"] <= 1
        assert -1 < cell["macro_silhouette"] < 1
        if cell["loss"] != "untouched":
            assert cell["to_99"]["epochs"] in (1.0, 2.0, 3.0)
            assert 0 < cell["to_99"]["seconds"] <= cell["training_seconds"]
            assert cell["asked"]["patience"] > 100_000 and cell["asked"]["epochs"] == 3
        assert cell["versions"]["torch"] and cell["environment"]["cpus"]


def test_the_head_without_a_head_is_the_probe(cells: list[dict[str, Any]]) -> None:
    alike = [cell["scores"]["head"]["accuracy"] == cell["scores"]["probe"]["accuracy"] for cell in cells]
    bare = [cell["loss"] == "untouched" or cell["mode"] == "standalone" for cell in cells]
    assert sum(bare) == 4 and all(same for same, without in zip(alike, bare, strict=True) if without)


@pytest.fixture(scope="module")
def with_text(data: Path, chosen: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Three losses with two labels per class, and the other documents as unlabeled text."""
    out = tmp_path_factory.mktemp("bench") / "with_text"
    options = chosen | {"keep_unlabeled": True}
    run_bench(
        make_grid([str(data)], losses=["ce,supcon,gloss"], shots=["2"], seeds=1, specified=options),
        out=out,
        screen=QUIET,
    )
    return read_cells(out)


def test_every_loss_learns_from_unlabeled_text(
    with_text: list[dict[str, Any]], data: Path, chosen: dict[str, Any], tmp_path: Path
) -> None:
    """Head and default predictor are those after self-training; without it the same training has others."""
    assert [cell["loss"] for cell in with_text] == ["untouched", "ce", "supcon", "gloss"]
    options = chosen | {"keep_unlabeled": True, "corpus_graph": "off"}
    grid = make_grid([str(data)], losses=["ce,supcon,gloss"], shots=["2"], seeds=1, specified=options)
    run_bench(grid, out=tmp_path / "out", screen=QUIET)
    for mine, plain in zip(with_text, read_cells(tmp_path / "out"), strict=True):
        assert mine["sizes"]["train"] > 2 * mine["sizes"]["labeled"]
        same = [mine["scores"][who] == plain["scores"][who] for who in ("head", "default", "probe")]
        assert same == ([True] * 3 if mine["loss"] == "untouched" else [False, False, True])


def test_the_default_predictor_stands_beside_the_head(with_text: list[dict[str, Any]]) -> None:
    rows = summarize(with_text)
    heads = score_tables(rows)[0].heads
    assert heads.count("default") == 2 and rows[1]["scores"]["default_macro_f1"]["seeds"] == 1
    old = [cell | {"scores": {who: cell["scores"][who] for who in storage.SCORED}} for cell in with_text]
    assert "default" not in score_tables(summarize(old))[0].heads
    assert "default" in facts_of(with_text) and "default" not in facts_of(old)
    differ = [cell["scores"]["head"]["ece"] != cell["scores"]["default"]["ece"] for cell in with_text]
    assert differ == [False, True, True, True]


def test_the_untouched_encoder_is_scored_as_it_came(
    cells: list[dict[str, Any]], grid: Grid, data: Path, tiny_encoder: Path
) -> None:
    from sklearn.metrics import f1_score

    from graphloss.inference.linear_probe import linear_probe
    from graphloss.text.corpus import load_corpus
    from graphloss.text.encoder import encode, load

    corpus = load_corpus(str(data), shots=8, seed=1)
    encoder = load(str(tiny_encoder), max_length=16)
    probe = linear_probe(encode(encoder, corpus.train.texts), corpus.train.labels, 3)
    assert corpus.test is not None
    predicted = probe.probabilities(encode(encoder, corpus.test.texts)).numpy().argmax(1)
    (cell,) = [cell for cell in cells if cell["loss"] == "untouched" and cell["seed"] == 1]
    wanted = f1_score(corpus.test.labels, predicted, average="macro")
    assert cell["scores"]["probe"]["macro_f1"] == pytest.approx(wanted)


def test_maps_are_kept_for_the_first_seed_alone(cells: list[dict[str, Any]]) -> None:
    for cell in cells:
        assert (cell["map"] is not None) == (cell["seed"] == 0)
        if cell["map"]:
            assert np.ptp(np.array(cell["map"]["points"]), axis=0).min() > 0
            assert len(cell["map"]["points"]) == len(cell["map"]["truth"]) == 42
            assert ("texts" in cell["map"]) == (cell["loss"] == "untouched")


def test_tables_and_page_are_written(run: tuple[Path, Outcome]) -> None:
    out, outcome = run
    rows = json.loads((out / storage.ROWS).read_text())
    assert rows == json.loads(json.dumps(outcome.rows)) and len(rows) == 4
    assert [row["against_ce"] is None for row in rows] == [False, True, False, False]
    text = (out / storage.MARKDOWN).read_text()
    assert text.count("| cross-entropy |") == 1 and "Holm" in text and "supcon, standalone" in text
    page = (out / storage.REPORT).read_text()
    for said in ("Learning curves", "Embedding maps", "Against cross-entropy", "Method", "Plotly"):
        assert said in page
    assert page.count('data-figure="') == 1 + 2 + 4 and "<script src" not in page and "<link" not in page


def test_a_second_call_trains_nothing(run: tuple[Path, Outcome], grid: Grid, no_training: list[str]) -> None:
    out, first = run
    before = times(out)
    again = run_bench(None, out=out, screen=QUIET)
    assert again.ran == 0 and times(out) == before
    assert json.dumps(again.rows) == json.dumps(first.rows)
    assert run_bench(grid, out=out, screen=QUIET).ran == 0


def test_a_page_cannot_be_broken_by_texts_and_labels(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    (tmp_path / storage.LOCKS).mkdir()
    spoilt = json.loads(json.dumps(cells).replace("cooking", evil.replace('"', "")))
    for cell in spoilt:
        cell["data"] = evil
    write_page(tmp_path, spoilt)
    page = (tmp_path / storage.REPORT).read_text()
    assert evil not in page and "&lt;/script&gt;" in page
    assert evil not in (tmp_path / storage.MARKDOWN).read_text()


def test_a_larger_grid_runs_the_new_cells_alone(data: Path, brief: dict[str, Any], tmp_path: Path) -> None:
    options = {"shots": ["8"], "specified": brief}
    first = run_bench(make_grid([str(data)], losses=["ce"], seeds=1, **options), out=tmp_path / "out", screen=QUIET)
    before = times(tmp_path / "out")
    more = make_grid([str(data)], losses=["ce,nca"], seeds=2, **options)
    second = run_bench(more, out=tmp_path / "out", screen=QUIET)
    after = times(tmp_path / "out")
    assert first.ran == 2 and second.ran == 4 and {name: after[name] for name in before} == before
    assert not any(row["against_ce"] for row in first.rows if row["loss"] == "ce")
    assert [row["seeds"] for row in second.rows] == [[0, 1]] * 3


def test_the_folder_keeps_no_absolute_path_and_is_resumed_where_it_was_moved_to(
    data: Path, tiny_encoder: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(data, before / "topics")
    shutil.copytree(tiny_encoder, before / "encoder")
    for name, text in (
        ("pile.txt", "onion soup\nkick off\n"),
        ("lines.csv", "cooking,soup\nfootball,goal\nmusic,song\n"),
    ):
        (before / name).write_text(text)
    files = {"model": "encoder", "unlabeled": "pile.txt", "describe": "lines.csv"}
    specified = brief | {name: str(before / value) for name, value in files.items()}
    grid = make_grid([str(before / "topics")], losses=["ce"], shots=["2"], seeds=1, specified=specified, tune=2)
    assert run_bench(grid, out=before / "out", screen=QUIET).ran == 2
    written = [path for path in (before / "out").rglob("*") if path.is_file()]
    assert {"bench.json", "results.json", "report.html"} <= {path.name for path in written} and len(written) >= 7
    assert not [path for path in written if str(tmp_path).encode() in path.read_bytes()]
    before.rename(after)
    monkeypatch.setattr(runner, "run_cell", lambda task, asked: pytest.fail("a cell is run again"))
    assert run_bench(None, out=after / "out", screen=QUIET).ran == 0
    again = make_grid(
        [str(after / "topics")],
        losses=["ce"],
        shots=["2"],
        seeds=1,
        specified=brief | {name: str(after / value) for name, value in files.items()},
        tune=2,
    )
    assert run_bench(again, out=after / "out", screen=QUIET).ran == 0
    (after / "encoder" / "notes.txt").write_text("another one under that name")
    for requested in (None, again):
        with pytest.raises(InputError, match=r"other settings:\n  - encoder: there .*, here .*\ngive the same"):
            run_bench(requested, out=after / "out", screen=QUIET)


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("text,label\na,b\n")
    grid = make_grid([str(tmp_path / name / "data.csv") for name in ("one", "two")])
    assert [len(grid.kept_in(tmp_path / "out").sources), len({*grid.kept_in(tmp_path / "out").sources})] == [2, 2]
    with pytest.raises(InputError, match=r"two data sets have the name data\.csv"):
        grid.kept_in(Path("/elsewhere/out"))  # the way from there leads through the root


def test_without_a_test_split_validation_is_scored_and_it_is_said(
    data: Path, brief: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = make_grid([str(data / "train.csv")], losses=["ce"], seeds=1, specified=brief | {"validation": 0.3})
    outcome = run_bench(grid, out=tmp_path / "out", screen=QUIET)
    assert {row["split"] for row in outcome.rows} == {"validation"}
    assert "no test split, so the validation documents are scored" in " ".join(capsys.readouterr().err.split())
    assert "There is no test split" in (tmp_path / "out" / storage.MARKDOWN).read_text()


def test_a_sample_of_the_test_documents_is_the_same_for_every_draw(data: Path) -> None:
    from graphloss.research.bench.label_draws import corpus_of

    grid = make_grid([str(data)], test_documents=20)
    tests = [corpus_of(grid, str(data), shots, seed).test for shots, seed in ((8, 0), (8, 1), (None, 2))]
    assert all(test is not None and len(test) == 20 for test in tests) and tests[0] == tests[1] == tests[2]


def test_a_cell_that_fails_stops_no_other_and_is_tried_again(
    data: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    real = runner.run_cell

    def fragile(task: Any, asked: Any) -> Any:
        if task.cell.loss == "ce":
            raise ValueError("the loss is NaN\nat step 3")
        if task.cell.loss == "nca":
            raise InputError("the loss needs about 3 GiB, and 1 GiB are free")
        return real(task, asked)

    monkeypatch.setattr(runner, "run_cell", fragile)
    grid = make_grid([str(data)], losses=["ce,nca,supcon"], shots=["8"], seeds=1, specified=brief)
    outcome = run_bench(grid, out=tmp_path / "out", screen=QUIET)
    assert outcome.ran == 2 and len(outcome.failed) == 2
    assert sorted(outcome.failed.values())[1] == "ValueError: the loss is NaN"
    assert "3 GiB" in min(outcome.failed.values())
    code, out, err = call("bench", "--out", tmp_path / "out", "--json", "--quiet")
    assert code == 1 and "2 failed" in err and len(out.splitlines()) == 2
    monkeypatch.setattr(runner, "run_cell", real)
    assert call("bench", "--out", tmp_path / "out", "--json", "--quiet")[0] == 0
    assert len(times(tmp_path / "out")) == 4


def test_where_every_loss_fails_the_untouched_encoder_is_left(
    data: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    real = runner.run_cell

    def fails(task: Any, asked: Any) -> Any:
        if task.cell.loss != "untouched":
            raise ValueError("the loss is NaN")
        return real(task, asked)

    monkeypatch.setattr(runner, "run_cell", fails)
    outcome = run_bench(
        make_grid([str(data)], losses=["ce"], shots=["8"], seeds=1, specified=brief), out=tmp_path / "out", screen=QUIET
    )
    assert outcome.ran == 1 and len(outcome.failed) == 1 and (tmp_path / "out" / "results.md").is_file()


def test_one_encoder_is_in_memory_at_a_time(
    data: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphloss.text import encoder

    real, alive, most = encoder.load, [], []

    def watched(*args: Any, **kwargs: Any) -> Any:
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        loaded = real(*args, **kwargs)
        alive.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(encoder, "load", watched)
    grid = make_grid([str(data)], losses=["ce,nca"], modes=["standalone"], shots=["8"], seeds=1, specified=brief)
    assert run_bench(grid, out=tmp_path / "out", screen=QUIET).ran == 3
    assert len(most) == 4 and max(most) == 0  # three cells, and one for the checks and the plan's time


def test_settings_that_a_study_found_are_those_of_every_seed(
    data: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies: list[Cell] = []

    def search(folder: Path, grid: Grid, cell: Cell, encoder: str, watcher: Any = None) -> dict[str, Any]:
        studies.append(tuned_settings.drawn(cell))
        best = {"temperature": 0.33}
        asked = storage.requested_settings(grid, tuned_settings.drawn(cell))
        kept = {"best": best, "asked": asked, "trials": grid.tune}
        storage.write_json(folder / storage.STUDIES / f"{cell.study}.json", kept)
        return best

    monkeypatch.setattr(tuned_settings, "search", search)
    grid = make_grid([str(data)], losses=["ce,supcon"], shots=["8"], seeds=2, specified=brief, tune=3)
    out = tmp_path / "out"
    run_bench(grid, out=out, screen=QUIET)
    assert [(cell.loss, cell.seed) for cell in studies] == [("supcon", 1000)]  # ce has nothing left to search
    found = [cell for cell in read_cells(out) if cell["loss"] == "supcon"]
    assert [cell["asked"]["temperature"] for cell in found] == [0.33, 0.33]
    assert [cell["tuned"] for cell in found] == [{"temperature": 0.33}] * 2
    (out / storage.STUDIES / f"{studies[0].study}.json").write_text('{"best": {"temperature": -1}, "asked": {}}')
    with pytest.raises(InputError, match="delete it"):
        run_bench(None, out=out, screen=QUIET)


@pytest.mark.slow
def test_a_real_search_comes_before_the_cells(
    data: Path, brief: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr("graphloss.research.tuning.folds.FOLDS", 2)
    searched = {name: value for name, value in brief.items() if name != "learning_rate"}
    grid = make_grid([str(data)], losses=["ce,nca"], shots=["8"], seeds=1, specified=searched, tune=2)
    run_bench(grid, out=tmp_path / "out", screen=QUIET)
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "out" / storage.STUDIES).glob("*.json"))]
    assert [set(one["best"]) for one in kept] == [{"learning_rate"}, {"learning_rate", "weight", "temperature"}]
    assert all(one["trials"] == one["complete"] + one["pruned"] == 2 for one in kept)
    for cell in read_cells(tmp_path / "out"):
        if cell["loss"] != "untouched":
            assert cell["tuned"] and cell["tuned"].items() <= cell["asked"].items()
            assert cell["fingerprint"] != kept[0]["fingerprint"]  # tuned on a draw that is not scored


def test_the_command_prints_a_table_or_a_line_a_row(run: tuple[Path, Outcome], call: Call) -> None:
    code, out, err = call("bench", "--out", run[0])
    assert code == 0 and "supcon, standalone" in out and "against cross-entropy" in out
    assert "all 8 cells are complete" in err and "report.html" in err
    code, out, _ = call("bench", "--out", run[0], "--json", "--quiet")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["loss"] for row in rows] == ["untouched", "ce", "supcon", "supcon"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DATA", "--losses", "ce,glos"], "there is no loss 'glos'"),
        (["nowhere.csv"], "nowhere.csv"),
        (["DATA", "nothing-by-this-name"], "no data set known by name"),
        (["DATA", "--temperature", "0.2"], "none of the losses"),
        (["DATA", "--model", "./nowhere"], "no such folder"),
        (["DATA", "--model", "MODEL", "--max-length", "9999"], "reads at most"),
        (["DATA", "--model", "MODEL", "--freeze", "9"], "freeze 9: this encoder has"),
        (["DATA", "--model", "MODEL", "--precision", "fp16"], "fp16: needs a GPU"),
        (["DATA", "--model", "my models/bert"], "expected the folder of an encoder or a Hub name"),
        (["DATA", "--modes", "sideways"], "there is no mode"),
        (["DATA", "--shots", "x"], "--shots"),
        (["--losses", "ce"], "expected DATA beside these options"),
        ([], "there is no comparison"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_trained(
    words: list[str], said: str, data: Path, tiny_encoder: Path, tmp_path: Path, call: Call, no_training: list[str]
) -> None:
    typed = [{"DATA": str(data), "MODEL": str(tiny_encoder)}.get(word, word) for word in words]
    code, out, err = call("bench", *typed, "--out", tmp_path / "out")
    assert code == 2 and err.startswith("error: ") and said in err and not out
    assert not (tmp_path / "out").exists()


def test_a_damaged_result_is_refused_before_anything_is_trained(
    run: tuple[Path, Outcome], grid: Grid, call: Call, no_training: list[str]
) -> None:
    path = sorted((run[0] / storage.CELLS).iterdir())[2]
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        code, _, err = call("bench", "--out", run[0])
    finally:
        path.write_bytes(whole)
    assert code == 2 and f"{path}: damaged" in err and "delete it" in err


def test_data_that_has_changed_is_refused(
    run: tuple[Path, Outcome], data: Path, call: Call, no_training: list[str]
) -> None:
    path = data / "train.csv"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole + b"one more onion,cooking\n")
        code, _, err = call("bench", "--out", run[0])
    finally:
        path.write_bytes(whole)
    assert code == 2 and "have changed since this comparison began" in err


def test_an_interrupted_call_says_how_to_go_on(
    data: Path, tiny_encoder: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(task: Any, asked: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_cell", interrupt)
    code, _, err = call("bench", data, "--model", tiny_encoder, "--seeds", 1, "--out", tmp_path / "out")
    assert code == 130 and f"graphloss bench --out {tmp_path / 'out'}" in " ".join(err.split())


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_stopped(
    data: Path, tiny_encoder: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "out"
    options = ["--shots", 8, "--seeds", 2, "--epochs", 2, "--batch-size", 12, "--losses", "ce,nca"]
    words = ["bench", data, "--model", tiny_encoder, *options, "--out", out, "--json"]
    command = [sys.executable, "-c", "from graphloss.cli import main; main()", *map(str, words)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list(out.glob("cells/*.json"))) < 2 and killed.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = times(out)
    assert 2 <= len([name for name in before if name.endswith(".json") and name[0] != "."]) < 6
    code, printed, error = call(*words)
    assert code == 0, error
    after = times(out)
    kept = [name for name in before if not name.startswith(".")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [row["seeds"] for row in rows] == [[0, 1]] * 3
    assert len([name for name in after if not name.startswith(".")]) == 6
    assert not list((out / storage.WORK).iterdir())
