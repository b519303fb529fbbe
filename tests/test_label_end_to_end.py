"""`graphloss label` as a process: killed at any moment nothing is lost, and a browser's keyboard labels for `train`."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Call, Toy
from devtools import CHROMIUM, Page, browser

from graphloss.run.label_journal import Journal

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

GRAPHLOSS = Path(sys.executable).parent / "graphloss"

# The page over a pile of numbers, without an encoder: what a kill can hurt is all there, and it starts at once.
BARE = """
import sys
from pathlib import Path
from graphloss.run.label_journal import Journal
from graphloss.run.label_server import listening, serve
from graphloss.run.label_session import Desk, Session
from graphloss.text.tables import write_table

class Advisor:
    rounds, forecast = 0, ""
    def learn(self, labels, classes, count): return []
    def about(self, row): return {}
    def points(self, labels, classes, current): return {"points": []}

texts = [f"text {row}" for row in range(5000)]
out = Path(sys.argv[1])
session = Session(texts, [None] * 5000, range(5000), Journal(out.with_suffix(".journal"), {"texts": 5000}))
def write(labels): write_table(out, ["text", "label"], list(zip(texts, labels)))
desk = Desk(session, Advisor(), write, {"title": "t", "out": "o", "review": False}, {})
with listening(0) as listener:
    serve(desk, listener, lambda address: print(address, flush=True))
"""


def ask(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_20_kills_at_random_moments_lose_no_answer(tmp_path: Path) -> None:
    chance, out = random.Random(0), tmp_path / "labels.csv"
    kept: list[tuple[int, str]] = []  # answers that were confirmed, over all kills
    torn = inside = 0
    for kill in range(20):
        with subprocess.Popen([sys.executable, "-c", BARE, out], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            state = ask(address, "state")
            assert state["turn"] - len(kept) in (0, 1)  # one more may be on the disk than was confirmed
            inside += state["turn"] - len(kept)
            if state["turn"] > len(kept):
                kept.append((state["last"]["row"], state["last"]["label"]))
            threading.Timer(chance.uniform(0.0, 0.4), process.send_signal, [signal.SIGKILL]).start()
            with contextlib.suppress(OSError, http.client.HTTPException):  # cut off in the middle
                while True:
                    row, label = state["row"] - 1, f"class {chance.randrange(5)} of {kill}"
                    state = ask(address, "answer", {"turn": state["turn"], "answer": "label", "label": label})
                    kept.append((row, label))
        if out.exists():  # whole, whenever the kill came, and true as far as it goes
            with out.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            wrong = [row for row, label in kept if rows[row]["label"] not in ("", label)]
            assert len(rows) == 5000 and not wrong
        if (raw := out.with_suffix(".journal").read_bytes()) and not raw.endswith(b"\n"):
            torn += 1
    journal = Journal(out.with_suffix(".journal"), {"texts": 5000})
    found = [(entry["row"], entry["label"]) for entry in journal.entries[1:]]
    journal.close()
    assert found[: len(kept)] == kept and len(found) - len(kept) in (0, 1)
    assert [row for row, _ in kept] == list(range(len(kept))) and len(kept) > 100


def command(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([GRAPHLOSS, "label", *map(str, words), "--no-open"], stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[str]:
    """The address of a page, whose command is killed in the end if it is still there."""
    assert process.stdout is not None
    with process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def write_toy(path: Path, toy: Toy) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = [(f"t{row}", f"{text} <b>{row}</b>") for row, text in enumerate(toy.texts)]
        csv.writer(stream).writerows([("id", "text"), *rows])
    return path


def label_texts(page: Page, toy: Toy, count: int) -> None:
    """Label texts by the keyboard: a number where the class has one, else its name."""
    for _ in range(count):
        row, turn = page.value("[state.row - 1, state.turn]")
        assert page.value("document.getElementById('text').textContent") == f"{toy.texts[row]} <b>{row}</b>"
        names = page.value("state.classes.map((each) => each.name)")
        name = toy.labels[row]
        if name in names:
            page.press(str(names.index(name) + 1))
        else:
            page.press(*name, "Enter")
        page.wait(f"state.turn === {turn + 1} && !busy")


@pytest.mark.slow
@pytest.mark.xdist_group("label")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.skipif(not GRAPHLOSS.exists(), reason="the command is not installed beside this Python")
def test_label_20_texts_by_the_keyboard_kill_go_on_and_train(
    toy: Toy, tiny_encoder: Path, tmp_path: Path, call: Call
) -> None:
    pile, out = write_toy(tmp_path / "toy.csv", toy), tmp_path / "labels.csv"
    words = (pile, "--model", tiny_encoder, "--out", out)
    with browser(tmp_path / "chromium") as page:
        with killed(command(*words)) as address:
            page.open(address, "typeof state === 'object' && state !== null")
            assert page.value("document.querySelector('#text b')") is None  # a text is no markup
            label_texts(page, toy, 8)
            page.wait("state.round === 2 && !state.learning")  # since there is a second class
            page.press("0")
            page.wait("state.unsure === 1 && !busy")
            page.press("Backspace")
            page.wait("state.unsure === 0 && !busy")
            page.press("ArrowRight")
            page.wait("state.skipped === 1 && !busy")
            label_texts(page, toy, 2)
        page.press("1")  # nobody is there any more
        page.wait("!document.getElementById('problem').hidden")
        assert "on the disk" in page.value("document.getElementById('problem').textContent")
        process = command(*words)
        with killed(process) as address:
            page.open(address, "typeof state === 'object' && state !== null")
            assert page.value("state.labeled") == 10
            label_texts(page, toy, 10)
            page.wait("points?.points.length === 64 && points.points.filter((each) => each[2] >= 0).length === 20")
            assert page.value("state.guess[0].probability") > 0.25 and page.value("state.why.text")
            page.press("Enter")  # takes the guess
            page.wait("state.labeled === 21 && !busy")
            page.press("z")
            page.wait("state.labeled === 20 && !busy")
            process.send_signal(signal.SIGTERM)  # as Ctrl-C: the file is written
            assert process.wait(60) == 0
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [*rows[0]] == ["id", "text", "label", "row", "reason"] and len(rows) == 64
    labeled = [row for row in rows if row["label"]]
    assert len(labeled) == 20 and labeled == rows[:20]
    for row in labeled:
        place = int(row["row"]) - 1
        assert row["label"] == toy.labels[place] and row["id"] == f"t{place}"
    run = tmp_path / "run"
    code, _, said = call("train", out, "--model", tiny_encoder, "--epochs", 1, "--validation", 0, "--out", run)
    assert code == 0, said
    known = json.loads((run / "graphloss.json").read_text())
    assert set(known["labels"]) == {row["label"] for row in labeled} and known["self_training"]["documents"] == 44
