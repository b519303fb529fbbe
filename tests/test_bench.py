"""What a comparison is made of: the grid, the settings of its cells, the files of its folder, curves, neighbors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphloss.errors import InputError
from graphloss.research.bench import storage
from graphloss.research.bench.cell import neighbors
from graphloss.research.bench.curve import PROCESSOR, curve_of, near_best
from graphloss.research.bench.grid import Cell, Grid, format_shots, make_grid, slug
from graphloss.research.bench.tables import comparison_tables, markdown, p_value, score_tables
from graphloss.training.settings import LOSSES, names
from graphloss.training.size_defaults import batch_size_for, epochs_for

Ask = Callable[..., Grid]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"losses": ["ce,glos"]}, "there is no loss 'glos'.*Did you mean 'gloss'"),
        ({"modes": ["alone"]}, "there is no mode 'alone'; there are combined, standalone"),
        ({"shots": ["8,few"]}, "--shots: expected numbers from 1 on or `all`.*'few'"),
        ({"shots": ["0"]}, "--shots"),
        ({"seeds": 0}, "--seeds: expected a number from 1 to 1,000, got 0"),
        ({"seeds": 1001}, "--seeds"),
        ({"tune": -1}, "--tune"),
        ({"test_documents": 0}, "--test-documents"),
        ({"losses": ["ce,gloss"], "specified": {"temperature": 0.2}}, "none of the losses ce, gloss has.*supcon, nca"),
        ({"specified": {"temprature": 0.2}}, "unknown setting 'temprature': did you mean 'temperature'"),
        ({"specified": {"patience": 3}}, "trained for the same steps"),
        ({"specified": {"seed": 3}}, "give --seeds"),
        ({"specified": {"learning_rate": -1.0}}, "learning_rate: expected above 0"),
        ({"specified": {"validation": 2.0}}, "validation: expected at most 0.9"),
        ({"preset": "fast"}, "there is no preset 'fast'"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_grid(["builtin"], **options)


def test_no_data_is_refused() -> None:
    with pytest.raises(InputError, match="expected a data set"):
        make_grid([])


def test_lists_come_with_commas_or_one_by_one() -> None:
    grid = make_grid(
        ["builtin", "r8"], losses=["ce, gloss", "supcon"], modes=["standalone,combined"], shots=["8", "all,8"]
    )
    assert grid.losses == ("ce", "gloss", "supcon") and grid.shots == (8, None)
    assert grid.sources == ("builtin", "r8") and grid.seeds == 5


def test_cross_entropy_and_the_untouched_encoder_are_run_once_a_draw() -> None:
    grid = make_grid(["builtin"], losses=["gloss,ce,supcon"], modes=["combined,standalone"], shots=["8,all"], seeds=3)
    cells = list(grid.cells())
    assert len(cells) == len(set(cells)) == len({cell.name for cell in cells}) == 2 * 3 * (1 + 1 + 4)
    draw = [(cell.loss, cell.mode) for cell in cells if cell.seed == 1 and cell.shots == 8]
    assert draw[:2] == [("untouched", "none"), ("ce", "combined")]
    assert set(draw[2:]) == {(loss, mode) for loss in ("gloss", "supcon") for mode in ("combined", "standalone")}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)  # whole comparisons first


def test_every_loss_gets_the_same_chances_and_its_own_settings() -> None:
    given = {"temperature": 0.3, "margin": 1.5, "sigma": 0.4, "max_length": 32, "learning_rate": 3e-5}
    grid = make_grid(["builtin"], losses=[",".join(LOSSES)], modes=["combined,standalone"], seeds=1, specified=given)
    seen = 0
    shared = set(names(type(grid.settings_of(next(grid.cells()))))) - {"loss", "mode"}
    shared -= {name for own in LOSSES.values() for name in own}
    alike = set()
    for cell in grid.cells():
        if cell.loss == "untouched":
            continue
        settings = asdict(grid.settings_of(cell))
        for name in ("temperature", "margin", "sigma"):
            assert (settings[name] == given[name]) == (name in LOSSES[cell.loss]), f"{cell.loss} {name}"
        assert (settings["loss"], settings["mode"], settings["seed"]) == (cell.loss, cell.mode, cell.seed)
        alike.add(json.dumps({name: settings[name] for name in sorted(shared)}))
        steps = epochs_for(500, grid.settings_of(cell)), batch_size_for(500, grid.settings_of(cell))
        assert steps == (8, 64)
        assert settings["patience"] > 100_000  # evaluations: nothing stops early
        seen += 1
    assert seen == 1 + 2 * (len(LOSSES) - 1) and len(alike) == 1 and "max_length" in shared


def test_a_preset_fills_in_what_is_not_specified() -> None:
    grid = make_grid(["r8"], losses=["ce,gloss-paper,supcon"], preset="paper", specified={"epochs": 7}, seeds=1)
    found = {cell.loss: grid.settings_of(cell) for cell in grid.cells()}
    assert {settings.epochs for loss, settings in found.items() if loss != "untouched"} == {7}
    assert found["gloss-paper"].sigma == 0.253 and found["supcon"].weight == 0.9 and found["ce"].learning_rate == 5e-5
    assert {settings.max_length for settings in found.values()} == {128}


def test_what_a_study_found_wins_over_the_preset() -> None:
    grid = make_grid(["builtin"], losses=["gloss"], seeds=1)
    cell = Cell("builtin", None, "gloss", "combined", 0)
    assert grid.settings_of(cell, {"sigma": 0.77}).sigma == 0.77 != grid.settings_of(cell).sigma


def test_file_names_tell_sources_apart(tmp_path: Path) -> None:
    paths = [tmp_path / name / "data.csv" for name in ("a", "b")]
    found = {slug(str(path)) for path in paths} | {slug("r8"), slug("hub:OWNER/NAME"), slug("builtin")}
    assert len(found) == 5 and not any("/" in name or ":" in name for name in found)
    assert format_shots(None) == "all" and format_shots(8) == "8"


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Grid]:
    """A folder that was claimed for a grid."""
    grid = make_grid(["builtin"], losses=["ce,gloss"], seeds=2, shots=["8"], specified={"max_length": 32})
    storage.record_grid(tmp_path / "out", grid, {"builtin": "f" * 64})
    return tmp_path / "out", grid


def test_what_others_have_asked_for_by_now_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / storage.LOCKS).mkdir(parents=True)  # what a kill in the first moment leaves
    grids = [make_grid(["builtin"], losses=[loss], seeds=seeds) for loss, seeds in (("ce", 2), ("gloss", 1))]
    storage.record_grid(out, grids[0], {"builtin": "f" * 64})
    whole = storage.record_grid(out, grids[1], {"builtin": "f" * 64})  # read the folder before the first one wrote it
    assert whole.losses == ("ce", "gloss") and whole.seeds == 2
    assert storage.recorded(out) == (whole, {"builtin": "f" * 64})
    with pytest.raises(InputError, match="other documents of builtin"):
        storage.record_grid(out, grids[1], {"builtin": "e" * 64})
    with pytest.raises(InputError, match="contains a comparison with other settings"):
        storage.record_grid(out, make_grid(["builtin"], specified={"max_length": 32}), {"builtin": "f" * 64})


def test_files_are_kept_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pile.txt").write_text("a text\n")
    assert make_grid(["builtin"], specified={"unlabeled": "pile.txt"}).data == {"unlabeled": str(tmp_path / "pile.txt")}


def result(grid: Grid, cell: Cell) -> dict[str, Any]:
    """A result as `run_cell` makes it, in what is checked."""
    scores = {who: {"accuracy": 0.5, "macro_f1": 0.4, "ece": 0.1} for who in ("head", "probe", "knn")}
    return {
        "format": 1,
        "data": slug(cell.source),
        "shots": format_shots(cell.shots),
        "loss": cell.loss,
        "mode": cell.mode,
        "seed": cell.seed,
        "asked": storage.requested_settings(grid, cell),
        "scores": scores,
        "curve": [{"epoch": 1.0, "seconds": 2.0, "macro_f1": 0.4}],
        "versions": {},
        "environment": {},
        "split": "test",
        "documents": 10,
        "fingerprint": "",
        "training_seconds": 2.0,
        "to_99": None,
    }


def test_a_grid_is_read_as_it_was_written(kept: tuple[Path, Grid]) -> None:
    folder, grid = kept
    found = storage.recorded(folder)
    assert found is not None and found[0] == grid and found[1] == {"builtin": "f" * 64}


def test_a_grid_is_extended_and_never_changed(kept: tuple[Path, Grid]) -> None:
    folder, grid = kept
    more = make_grid(["r8"], losses=["supcon"], seeds=1, shots=["all"], specified={"max_length": 32})
    both = storage.extended(folder, grid, more)
    assert both.sources == ("builtin", "r8") and both.losses == ("ce", "gloss", "supcon") and both.seeds == 2
    assert both.shots == (8, None)
    for other in (replace(grid, settings={}), replace(grid, tune=3), replace(grid, test_documents=9)):
        with pytest.raises(InputError, match="contains a comparison with other settings"):
            storage.extended(folder, grid, other)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    assert storage.recorded(tmp_path / "new") is None and storage.recorded(tmp_path) is None
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="contains other files"):
        storage.recorded(tmp_path)
    with pytest.raises(InputError, match="there is no comparison"):
        storage.read_cells(tmp_path / "new")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', "null"])
def test_a_damaged_grid_is_told(kept: tuple[Path, Grid], text: str) -> None:
    (kept[0] / storage.GRID).write_text(text)
    with pytest.raises(InputError, match=r"bench\.json: damaged"):
        storage.recorded(kept[0])


def test_a_damaged_result_is_told_with_its_file_and_the_repair(kept: tuple[Path, Grid]) -> None:
    folder, grid = kept
    cell = Cell("builtin", 8, "gloss", "combined", 1)
    assert storage.read_cell(folder, grid, cell) is None
    whole = result(grid, cell)
    storage.write_json(storage.path_of(folder, cell), whole)
    assert storage.read_cell(folder, grid, cell, {}) == whole
    damages: list[Any] = [
        json.dumps(whole)[:-40],
        "[1, 2]",
        json.dumps({name: value for name, value in whole.items() if name != "scores"}),
        json.dumps(whole | {"scores": {"head": {"accuracy": 0.5, "macro_f1": 0.4}}}),
        json.dumps(whole | {"scores": whole["scores"] | {"knn": {"accuracy": float("nan"), "macro_f1": 0.1}}}),
        json.dumps(whole | {"seed": 0}),
        json.dumps(whole | {"curve": []}),
        json.dumps(whole | {"curve": [{"epoch": "one"}]}),
        json.dumps(whole | {"format": 99}),
        "\x00\x01",
    ]
    for text in damages:
        storage.path_of(folder, cell).write_text(text)
        with pytest.raises(InputError, match=r"builtin-8-gloss-combined-1\.json: damaged.*delete it"):
            storage.read_cell(folder, grid, cell)
    assert len(damages) == 10


def test_a_result_of_other_settings_is_told(kept: tuple[Path, Grid]) -> None:
    folder, grid = kept
    cell = Cell("builtin", 8, "gloss", "combined", 1)
    storage.write_json(storage.path_of(folder, cell), result(grid, cell))
    with pytest.raises(InputError, match=r"made with other settings \(sigma\).*delete it"):
        storage.read_cell(folder, grid, cell, {"sigma": 0.5})


def test_one_process_holds_a_lock_and_a_dead_one_none(kept: tuple[Path, Grid]) -> None:
    code = (
        "import sys, time; from pathlib import Path; from graphloss.research.bench.storage import locked\n"
        "with locked(Path(sys.argv[1]), 'cell') as mine: print(mine, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(kept[0])], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    with storage.locked(kept[0], "cell") as mine, storage.locked(kept[0], "another") as free:
        assert not mine and free
    other.kill()
    other.wait()
    other.stdout.close()
    with storage.locked(kept[0], "cell") as mine:
        assert mine


def test_a_curve_adds_up_its_seconds() -> None:
    history = [
        {"epoch": 1.0, "step": 4, "seconds": 10.0, "macro_f1": 0.5, "loss": 1.0, "coverage": 0.9},
        {"epoch": 2.0, "step": 8, "seconds": 10.0, "macro_f1": 0.895, "loss": 0.5},
        {"epoch": 3.0, "step": 12, "seconds": 10.5, "macro_f1": 0.9, "loss": 0.4},
    ]
    curve = curve_of(history)
    assert [row["seconds"] for row in curve] == [10.0, 20.0, 30.5]
    by_processor = [row | {"processor_seconds": row["seconds"] / 2} for row in history]
    assert [row["seconds"] for row in curve_of(by_processor, PROCESSOR)] == [5.0, 10.0, 15.25]
    assert near_best(curve) == {"epochs": 2.0, "seconds": 20.0}  # 0.895 >= 0.99 · 0.9
    assert near_best([row | {"macro_f1": None} for row in curve]) is None
    assert near_best([]) is None


def test_neighbors_are_those_of_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    support, z = (rng.normal(size=(n, 6)) for n in (30, 12))
    support, z = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (support, z))
    labels = [int(label) for label in rng.choice([0, 2, 3], 30)]
    found = neighbors(support, labels, z, 4)
    for row, document in enumerate(z):
        near = sorted((1 - float(document @ other), label) for other, label in zip(support, labels, strict=True))[:5]
        votes = np.zeros(4)
        for distance, label in near:
            votes[label] += 1 / distance
        assert found[row] == pytest.approx(votes / votes.sum(), rel=1e-5)
    assert not found[:, 1].any() and len(set(found.argmax(1))) > 1
    few = neighbors(support[:2], labels[:2], z, 4)
    assert few.sum(1) == pytest.approx(np.ones(12))


ROW = {"data": "r8", "shots": "8", "split": "test", "seeds": [0, 1]}
NUMBERS = {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": 2}


def test_tables_say_means_intervals_and_differences() -> None:
    from graphloss.research.bench.summary import COMPARED, SCORES

    against = {name: NUMBERS | {"mean": -0.012, "p": 0.03, "p_holm": 0.06, "comparisons": 2} for name in COMPARED}
    rows = [
        ROW | {"loss": "ce", "mode": "combined", "scores": dict.fromkeys(SCORES, NUMBERS), "against_ce": None},
        ROW
        | {
            "loss": "supcon",
            "mode": "standalone",
            "scores": dict.fromkeys(SCORES, NUMBERS | {"mean": 0.6, "low": None, "high": None}) | {"ece": None},
            "against_ce": against,
        },
    ]
    (table,), compared = score_tables(rows), comparison_tables(rows)
    assert table.title == "r8, 8 labels per class"
    assert [row[0] for row in table.rows] == ["cross-entropy", "supcon, standalone"]
    assert table.rows[0][1] == "50.0 ± 10.0" and table.rows[1][1] == "60.0"
    assert (1, 1) in table.strong and (0, 1) not in table.strong
    assert len(compared) == 7 and compared[0].rows[0][1:] == ["−1.20", "+40.00 to +60.00", "0.030", "0.060", "2"]
    text = markdown([table, *compared])
    assert "| supcon, standalone | **60.0** |" in text and text.count("\n## ") == 7
    assert p_value(None) == "–" and p_value(0.0004) == "<0.001"
