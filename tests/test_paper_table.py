"""The paper's tables cell by cell: two cells with a tiny encoder, resumed after a loss of rows, and their page."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TIMES = ("created", "seconds", "step_seconds", "processor_seconds")
Paper = Callable[..., tuple[int, str, str]]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy_maker: Any) -> Paper:
    """Type a command of `benchmarks/paper.py`, with a small mr in place of the real one; get exit code and output."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import paper
    import paper_plan

    folder = tmp_path / "data" / "mr"
    folder.mkdir(parents=True)
    for seed, (split, size) in enumerate({"train": 20, "validation": 8, "test": 12}.items()):
        toy = toy_maker({"cooking": size, "football": size}, seed=seed)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, toy.labels, strict=True)])
    monkeypatch.setenv("GRAPHLOSS_DATA", str(folder.parent))
    monkeypatch.setattr(paper_plan, "BATCH", 10)
    monkeypatch.setattr(paper, "WORK", tmp_path / "work")

    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["paper.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            paper.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return typed


def timeless(text: str) -> list[Any]:
    """The rows of a file without what the clock says."""
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        for point in row["trace"]:
            del point["seconds"]
        for name in TIMES:
            row.pop(name, None)
    return rows


def test_two_cells_resumed_and_their_page(paper: Paper, tiny_encoder: Path, tmp_path: Path) -> None:
    file, page = tmp_path / "cells.jsonl", tmp_path / "page.md"
    part = ["--encoder", tiny_encoder, "--freeze", 1, "--max-length", 16, "--epochs", 2, "--data", "mr"]
    part += ["--losses", "ce", "gloss", "--modes", "combined", "--seeds", 1, "--results", file]

    code, out, err = paper("estimate", *part)
    assert code == 0, err
    assert "mr: 16 tokens, 2 epochs; 2 cells of " in out and "minutes, 8 trials of " in out and not file.exists()
    code, out, _ = paper("run", *part)
    assert code == 0 and out.count(" trial mr-combined-") == 8 and out.count(" cell mr-combined-") == 2
    first = file.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in first.splitlines()]
    assert [(row["kind"], row["name"]) for row in rows[:2]] == [
        ("cell", "mr-combined-ce-0"),
        ("cell", "mr-combined-gloss-0"),
    ]
    assert [point["epoch"] for point in rows[1]["trace"]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert rows[0]["scores"] != rows[1]["scores"] and rows[1]["asked"]["freeze"] == 1
    assert not [path for path in (tmp_path / "work").iterdir() if path.suffix != ".lock"]

    code, out, _ = paper("run", *part)
    assert code == 0 and "2 of 2 cells are there" in out and file.read_text(encoding="utf-8") == first
    kept = [line for line in first.splitlines(keepends=True) if json.loads(line)["name"] != "mr-combined-gloss-0"]
    assert len(kept) == len(rows) - 2  # the cell and a trial of it
    file.write_text("".join(kept), encoding="utf-8")
    assert "1 of 2 cells are there" in paper("estimate", *part)[1]
    code, out, _ = paper("run", *part, "--no-estimate")
    assert code == 0 and "cells are there" not in out and out.count("mr-combined-gloss-") == 2
    again = file.read_text(encoding="utf-8")
    assert timeless(again) == timeless(first) and again.splitlines()[0] == first.splitlines()[0]

    code, _, err = paper("run", *part, "--epochs", 3)
    assert code == 2 and "was trained with another epochs" in err and file.read_text(encoding="utf-8") == again

    assert paper("page", "--results", file, "--page", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    score = 100 * rows[1]["scores"]["head"]["accuracy"]
    assert "2 of 169 cells are there; seed 0: mr." in text
    assert "tiny, frozen layers: 1, precision auto; mr 16 tokens and 2 epochs" in text
    assert f"| G-Loss, ours | – | – | 1 | {score:.2f} |" in text and "| cross-entropy | 85.64±.81 |" in text
    gap = score - 100 * rows[0]["scores"]["head"]["accuracy"]
    assert f"| G-Loss, ours − cross-entropy | {gap:+.2f} |" in text and "## Table 3" not in text


def test_what_cannot_be_used_is_one_line_before_any_work(paper: Paper, tmp_path: Path) -> None:
    file = tmp_path / "cells.jsonl"
    for wrong, said in ((["--encoder", tmp_path], "is not an encoder"), (["--freeze", 9], "freeze 9")):
        code, _, err = paper("run", "--data", "mr", "--results", file, *wrong)
        assert code == 2 and err.startswith("error: ") and said in err
    assert not file.exists()


def test_the_plan_has_every_loss_with_four_trials_and_a_useful_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from paper_plan import LONGEST, Budget, Cell, cells, trials

    found = cells()
    assert len(found) == len(set(found)) == 169
    assert [cell.arm for cell in found[:7]] == [
        "ce",
        "supcon",
        "triplet",
        "cosine",
        "gloss-root",
        "gloss-search",
        "gloss",
    ]
    assert {(cell.data, cell.mode, cell.number) for cell in found[:7]} == {("mr", "combined", 0)}
    firsts = [cell for cell in found if cell.number == 0]
    assert found[: len(firsts)] == firsts and {cell.data for cell in firsts[-13:]} == {LONGEST}
    assert {len(trials(cell)) for cell in found if cell.data == "mr"} == {4}
    assert {len(trials(cell)) for cell in found if cell.data == "r52"} == {8}
    tried = {trial for cell in found for trial in trials(cell)}
    assert len(tried) == 104
    assert {(budget.seed, budget.epochs) for budget in map(Budget(epochs=7).settings, tried)} == {(1_000, 2)}
    assert Budget(epochs=7).settings(Cell("r8", "combined", "gloss-root", 2)).class_weights == "balanced"


def test_a_winner_and_a_stop_follow_their_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from paper_page import stop
    from paper_training import winner

    def rows(*values: float) -> list[dict[str, Any]]:
        return [{"macro_f1": value, "log_loss": 1.0} for value in values]

    assert winner(rows(0.1, 0.4, 0.3, 0.2)) == 1
    tied = rows(0.5, 0.5, 0.1, 0.1)
    tied[1]["log_loss"] = 0.9
    assert winner(tied) == 1
    assert winner(rows(0.4, 0.3, 0.2, 0.1) + rows(0.1, 0.3, 0.2, 0.4)) == 1  # ranks 3, 2, 4 and 3; worse ranks 3, 1
    curve = [
        {"epoch": k / 2, "seconds": float(k), "macro_silhouette": s}
        for k, s in enumerate((0.1, 0.2, 0.204, None, 0.19))
    ]
    assert stop(curve) == {"epoch": 0.5, "seconds": 1.0, "open": False}
    curve[-1]["macro_silhouette"] = 0.206
    assert stop(curve) == {"epoch": 2.0, "seconds": 4.0, "open": True}


def test_claims_are_answered_when_all_data_sets_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from paper_page import page
    from paper_plan import cells

    def row(data: str, arm: str, mode: str, seed: int, place: int) -> dict[str, Any]:
        gain = 0.02 if arm == "gloss" else 0.0
        head = {
            "accuracy": 0.7 + gain + 0.001 * (seed + place) * (arm == "gloss"),  # ahead everywhere
            "macro_f1": 0.7 - gain + 0.001 * seed * (arm == "gloss") - 0.001 * place * (arm == "gloss"),  # behind
            "ece": 0.05 - gain + 0.001 * place * (arm == "gloss"),  # less is better
        }
        curve = [{"epoch": e, "seconds": e, "macro_silhouette": e / 10, "macro_f1": 0.5} for e in (0.0, 1.0)]
        middle = 0.2 + (-1) ** place * 0.01 * (arm == "gloss")  # once up, once down
        return {
            **{"kind": "cell", "name": f"{data}-{mode}-{arm}-{seed}", "data": data, "mode": mode, "arm": arm},
            **{"seed": seed, "scores": {"head": head}, "macro_silhouette": middle, "best_epoch": 1.0, "trace": curve},
            **{"step_seconds": 1.0, "tuned": {"learning_rate": 1e-4}},
            "asked": {"model": None, "freeze": 3, "precision": "auto", "max_length": 48, "epochs": 3},
        }

    places = ["mr", "r8", "r52", "ohsumed", "20ng"]
    asked = [(c.data, c.arm, c.mode, c.number) for c in cells(losses=["ce", "gloss"], modes=["combined"], seeds=2)]
    rows = [row(*each, place=places.index(each[0])) for each in asked]
    assert len(rows) == 20
    claims = next(line for line in page(rows).splitlines() if line.startswith("| G-Loss, ours − cross-entropy | +2.25"))
    assert claims == (
        "| G-Loss, ours − cross-entropy | +2.25 ± 0.20 (p 0.00): yes | -2.15 ± 0.20 (p 0.00): behind "
        "| +0.002 ± 0.014 (p 0.70): level within ±0.016 | -1.8 ± 0.2 (p 0.00): yes "
        "| +0.0 ± 0.0 (p 1.00): level within ±0.0 | +0 ± 0 (p 1.00): level within ±0 |"
    )
    fewer = page([row for row in rows if row["data"] != "20ng"])
    assert "): yes |" in page(rows) and "): yes |" not in fewer and fewer.count("): open") == 6
