"""Serving: every answer says which text it is for, and nothing is loaded when there is nothing to classify."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.run import predict


class Stub:
    """A model that calls a text by the number of its words."""

    labels = ("short", "long")

    def encode(self, texts: list[str], *, shared: bool) -> torch.Tensor:
        return torch.tensor([[len(text.split())] for text in texts])

    def probabilities(self, words: torch.Tensor, *, predictor: str | None = None) -> torch.Tensor:
        return torch.tensor([[0.25, 0.75] if int(n) > 2 else [0.9, 0.1] for n in words])

    def explain(self, words: torch.Tensor, *, predictor: str | None = None) -> tuple[list[Any], list[float]]:
        return [[{"text": f"{int(n)} words", "label": "long", "share": 0.5}] for n in words], [0.25] * len(words)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a model was loaded from."""
    folders: list[Path] = []

    def read_model(folder: Path) -> tuple[dict[str, Any], Stub]:
        folders.append(folder)
        return {}, Stub()

    monkeypatch.setattr(run_folder, "read_info", lambda folder: {"status": "finished"})
    monkeypatch.setattr(run_folder, "read_model", read_model)
    return folders


def test_answers_carry_the_number_of_their_text(loaded: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  \none two three\n")
    assert list(predict.predict(tmp_path, str(tmp_path / "a.txt"))) == [
        {"row": 1, "text": "one", "label": "short", "probability": 0.9},
        {"row": 4, "text": "one two three", "label": "long", "probability": 0.75},
    ]
    assert [answer["row"] for answer in predict.predict(tmp_path, ["", "u", " ", "v"])] == [2, 4]
    (tmp_path / "a.csv").write_text("text,note\n,no\nu,yes\n")
    assert [answer["row"] for answer in predict.predict(tmp_path, str(tmp_path / "a.csv"))] == [2]


def test_rows_stay_with_their_texts_over_many_batches(loaded: list[Path], tmp_path: Path) -> None:
    texts = [f"text {i}" if i % 3 else "" for i in range(3 * predict.PREDICT_AT_ONCE)]
    answers = list(predict.predict(tmp_path, texts))
    assert [(answer["row"], answer["text"]) for answer in answers] == [
        (number, text) for number, text in enumerate(texts, 1) if text
    ]
    assert loaded == [tmp_path]


@pytest.mark.parametrize("kind", ["nothing", "blank", "file", "standard input"])
def test_without_a_text_no_model_is_loaded(
    kind: str, loaded: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    source = {"nothing": [], "blank": ["", " "], "file": str(tmp_path / "a.txt"), "standard input": "-"}[kind]
    with pytest.raises(InputError, match=r"(the command line|a\.txt|standard input) holds no text"):
        list(predict.predict(tmp_path, source))
    assert not loaded


def test_an_error_comes_after_the_answers_before_it(loaded: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "u"}\n{"text": "\\ud800"}\n')
    answers = predict.predict(tmp_path, str(tmp_path / "a.jsonl"))
    assert next(answers)["row"] == 1
    with pytest.raises(InputError, match="line 2: place 1 holds half a character"):
        next(answers)


def test_reasons_stand_beside_their_answer(loaded: list[Path], tmp_path: Path) -> None:
    (tmp_path / run_folder.TEXTS).touch()
    answers = list(predict.predict(tmp_path, ["u v w", "x"], predictor="mix", explain=True))
    assert [answer["evidence"][0]["text"] for answer in answers] == ["3 words", "1 words"]
    assert [answer["head_share"] for answer in answers] == [0.25, 0.25] and answers[1]["label"] == "short"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"predictor": "vote"}, "expected one of mix, head, graph, knn, got 'vote'"),
        ({"explain": True}, "support.parquet"),
    ],
)
def test_what_cannot_be_answered_is_said_before_a_model_is_loaded(
    how: dict[str, Any], said: str, loaded: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        list(predict.predict(tmp_path, ["u"], **how))
    assert not loaded


WAITING = """
import sys
from pathlib import Path

from graphloss.inference import run_folder
from graphloss.run import predict

class Stub:
    labels = ["short"]
    encode = lambda self, texts, shared: __import__("torch").ones(len(texts), 1)
    probabilities = lambda self, z, predictor: z

run_folder.read_info = lambda folder: {}
run_folder.read_model = lambda folder: ({}, Stub())
answers = predict.predict(Path(), "-")
print(next(answers)["text"], flush=True)
__import__("time").sleep(0.3)  # by then the next line is waited for
"""


def test_the_program_may_end_while_it_waits_for_a_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()  # and is left open
        assert process.stdout.readline() == b"one\n"
        code, said = process.wait(timeout=60), process.stderr.read()
    assert code == 0 and b"Fatal" not in said, said
