"""What reaches a screen or a pipe: no character that a terminal obeys, one line per answer, and an end in peace."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Call
from hypothesis import example, given
from hypothesis import strategies as st
from test_damage import make_run

from graphloss.run.audit import write_list
from graphloss.terminal import OBEYED, one_line, printable, sentence
from graphloss.text import file_formats
from graphloss.text.delimited import disarm
from graphloss.text.encoder import load

EVIL = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp \r\n\tend"
COMMAND = [sys.executable, "-m", "graphloss"]


@pytest.fixture(scope="module")
def evil_run(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose labels and training texts hold what a terminal obeys."""
    import graphloss.inference.run_folder as storage

    folder = make_run(tmp_path_factory.mktemp("evil") / "run", load(str(tiny_encoder)), 0)
    info = storage.read_info(folder)
    labels = [f"{EVIL} {letter}" for letter in "abc"]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": pa.array([f"{EVIL} {n}" for n in range(6)], pa.string())}), folder / storage.TEXTS)
    storage.write_info(folder, info | {"labels": labels})
    return folder


def raw(said: str) -> set[str]:
    """The characters in an output that a terminal would obey."""
    return set(OBEYED.findall(said.replace("\n", "").replace("\t", "")))


def test_every_control_character_is_written_out() -> None:
    controls = [chr(code) for code in (*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028)]
    assert len(controls) == 68 and not raw("".join(map(one_line, controls)))
    assert one_line("a\tb\nc") == "a\\tb\\nc" and printable("a\nb\x1b") == "a\nb\\x1b"
    assert sentence(" a\t b\n") == "a b" and one_line("Grüße 👩‍👩‍👧 日本") == "Grüße 👩‍👩‍👧 日本"


def test_answers_are_one_line_each_and_hold_no_escape(evil_run: Path, call: Call) -> None:
    texts = [EVIL, "plain"]
    code, out, err = call("predict", evil_run, *texts)
    assert code == 0 and len(out.splitlines()) == 2 and not raw(out + err)
    assert all(len(line.split("\t")) == 3 for line in out.splitlines())
    code, out, err = call("predict", evil_run, *texts, "--json", "--explain")
    assert code == 0 and not raw(out + err)
    assert [json.loads(line)["text"] for line in out.splitlines()] == texts
    code, out, err = call("predict", evil_run, *texts, "--explain", "--predictor", "graph")
    assert code == 0 and not raw(out + err)
    code, out, err = call("audit", evil_run)
    assert code == 0 and not raw(out + err)


def test_no_escape_of_a_file_reaches_the_screen(tmp_path: Path, evil_run: Path, call: Call) -> None:
    rows = [(f"text {n} {EVIL}", f"{EVIL} {n % 2}") for n in range(20)]
    file = tmp_path / "\x1b[31mred\u202e.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    for words in (
        ("data", "show", file),
        ("data", "show", file, "--json"),
        ("data", "show", file, "--label", EVIL),
        ("train", file, "--model", "no\x1b[31msuch"),
        ("train", f"{file}x"),
        ("evaluate", evil_run, file),
        ("audit", evil_run, "--data", file),
        ("predict", f"{evil_run}\x1b[31m", "a text"),
        ("train", "builtin", "--config", f"{file}.toml"),
    ):
        code, out, err = call(*words)
        assert code in (0, 2) and not raw(out + err), words
    shown = json.loads(call("data", "show", file, "--json")[1])
    assert {row["label"] for row in shown["classes"]} == {f"{EVIL} {n}".strip() for n in range(2)}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        env=os.environ | {"G": " ".join(COMMAND)} | environment,
        timeout=120,
    )


def test_the_end_of_a_pipe_a_full_disk_and_a_closed_output_are_one_line(tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    many.write_text("text,label\n" + "".join(f"text {n},class {n % 90} {'x' * 900}\n" for n in range(400)))
    done = shell(f"$G data show {many} --json | head -c 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell("$G train --help | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")
    for line, said in (
        ("$G data show nowhere.csv 2> /dev/full", ""),
        (f"$G data show {many} > /dev/full", "No space left"),
        ("$G --help > /dev/full", ""),
        (f"$G data show {many} >&-", "standard output is closed"),
        ("$G data list >&- 2>&-", ""),
    ):
        done = shell(line)
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) <= 1, (line, done.stderr)


def test_a_name_with_a_line_break_stays_in_its_line(tmp_path: Path) -> None:
    words = [*COMMAND, "predict", str(tmp_path / "no\nrun"), "a text"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no\\nrun: no such run folder" in done.stderr


def test_a_screen_of_ascii_shows_what_it_cannot_show_as_escapes(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("text,label\n" + "".join(f"text {n},{'äß'[n % 2]}\n" for n in range(20)), encoding="utf-8")
    done = shell(f"$G data show {file}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "\\xe4" in done.stdout, done.stderr
    done = shell(f"$G data show {file} --json", PYTHONIOENCODING="ascii")
    assert {row["label"] for row in json.loads(done.stdout)["classes"]} == {"ä", "ß"}


def test_tables_stay_whole_on_a_narrow_screen(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("text,label\n" + "".join(f"text {n},a class of some length {n % 2}\n" for n in range(20)))
    narrow, wide = (shell(f"$G data show {file}", COLUMNS=columns).stdout for columns in ("20", "80"))
    assert narrow == wide and "a class of some length 1" in narrow


def test_the_bar_counts_epochs_to_the_last_and_fits_a_narrow_screen() -> None:
    from types import SimpleNamespace

    from rich.console import Console

    from graphloss.training.progress import Screen

    for width, marks in ((20, "steps"), (100, "")):
        screen: Any = Screen()
        screen.console = Console(width=width, force_terminal=True, file=io.StringIO(), soft_wrap=True)
        watch, args, said = screen.watch(), SimpleNamespace(num_train_epochs=2), []
        watch.on_train_begin(args, SimpleNamespace(max_steps=4, global_step=0), None)
        for step in range(1, 5):
            watch.on_step_end(args, SimpleNamespace(epoch=step / 2, global_step=step), None)
            said.append(watch.bar.tasks[0].description.strip())
        watch.on_train_end(args, None, None)
        assert said == ["epoch 1", "epoch 1", "epoch 2", "epoch 2"]
        columns = [getattr(column, "text_format", "") for column in watch.bar.columns]
        assert ("steps" in columns) == (not marks)


CELLS = st.text(st.sampled_from("=+-@'\t\r\n\"; a1(é＝"), min_size=1).filter(str.strip)


@example([("1", " \r1")])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_no_cell_is_a_formula_and_each_is_read_back(pairs: list[tuple[str, str]]) -> None:
    rows = [
        {
            "text": text,
            "label": label,
            "row": None,
            "proposed": text,
            "score": 0.9,
            "evidence": [{"share": 1, "label": label, "text": text}],
        }
        for text, label in pairs
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.csv"
        write_list(file, rows, None)
        with file.open(newline="", encoding="utf-8") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        found = [row for _, row in file_formats.rows(file, ["text", "label"])]
    assert not [cell for cell in cells if cell.lstrip(" ")[:1] in tuple("=+-@\t\r＝")]
    assert found == pairs
    assert disarm("plain") == "plain" and disarm("=1+1") == "'=1+1" and disarm("'=1") == "''=1"
