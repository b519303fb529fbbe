"""Several processes do what one does: the same losses, gradients, weights and answers, and one of them speaks."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import Toy
from test_training import QUICK, Interrupt
from together import together
from torch import nn
from transformers import TrainerCallback, TrainerState

from graphloss import InputError, TextClassifier, cli, distributed, free_memory
from graphloss.inference.graphs import nearest_neighbors
from graphloss.losses.modules import Combined
from graphloss.run import predict
from graphloss.text.encoder import encode, load
from graphloss.text.texts_and_labels import Documents
from graphloss.training import size_defaults
from graphloss.training.batches import ClassAwareBatchSampler
from graphloss.training.build_loss import build
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import LOSSES, TrainSettings
from graphloss.training.trainable_model import GraphModel

pytestmark = pytest.mark.xdist_group("processes")  # they share the process that imports

CUTS = {2: [(0, 7, 12), (0, 12, 12)], 3: [(0, 3, 8, 12), (0, 5, 5, 12)]}
"""How two batches of twelve documents are divided; the second leaves one process nothing."""


class Line(nn.Module):
    """An encoder of one matrix, and a matrix that no document passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.idle, self.device = nn.Linear(10, 6), nn.Linear(3, 3), torch.device("cpu")
        self.truncate_dim = None

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": torch.tanh(self.words(features["x"]))}

    def get_embedding_dimension(self) -> int:
        return 6


def objectives() -> dict[str, nn.Module]:
    """Every loss, alone and beside cross-entropy, and G-Loss in the forms that remember, learn or measure."""
    weights = torch.tensor([0.5, 1.0, 1.5])
    found: dict[str, nn.Module] = {}
    for name, given in [(name, {}) for name in LOSSES] + [
        ("gloss", {"sigma": "learned", "memory": 2}),
        ("gloss", {"sigma": "root", "memory": 3}),
    ]:
        settings = vars(TrainSettings(loss=name, **given))
        loss = build(name, settings, num_classes=3, dimensions=6, class_weights=weights)
        title = " ".join([name, *map(str, given.values())])
        found[f"{title} combined"] = Combined(loss, 0.5, weights)
        if loss is not None:
            found[f"{title} alone"] = copy.deepcopy(loss)
    return found


def two_steps(cuts: list[tuple[int, ...]] | None) -> dict[str, Any]:
    """Losses, gradients, weights and memory of two steps with each objective, by the documents of this process."""
    found = {}
    for title, objective in objectives().items():
        torch.manual_seed(3)
        encoder, head = Line(), nn.Linear(6, 3) if isinstance(objective, Combined) else None
        model = GraphModel(encoder, head, objective)  # type: ignore[arg-type]
        wrapped: nn.Module = model
        if cuts is not None:
            wrap = nn.parallel.DistributedDataParallel
            wrap._set_params_and_buffers_to_ignore_for_model(model, list(dict(model.named_buffers())))
            wrapped = wrap(model, find_unused_parameters=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        steps = []
        for step in range(2):
            x, labels = torch.randn(12, 10), torch.arange(12) % 4 % 3 - (torch.arange(12) == 5).long() * 9
            labels, documents = labels.clamp_min(-1), (torch.randperm(20)[:12])
            mine = slice(0, 12) if cuts is None else slice(*cuts[step][distributed.rank() :][:2])
            optimizer.zero_grad()
            loss = wrapped({"x": x[mine]}, labels[mine], documents[mine])["loss"]
            loss.backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            steps.append({"loss": loss.detach(), **gradients})
            optimizer.step()
        found[title] = [*steps, {name: x.clone() for name, x in model.state_dict().items()}]
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_every_loss_has_the_gradients_and_weights_of_one_process(count: int, tmp_path: Path) -> None:
    alone, found = two_steps(None), together(count, two_steps, tmp_path, CUTS[count])
    assert len(alone) == 17
    for title, expected in alone.items():
        moved = 0
        for place in range(3):  # two steps, then what is left
            for name, x in expected[place].items():
                for other in found:
                    torch.testing.assert_close(
                        other[title][place][name], x, rtol=2e-5, atol=2e-6, msg=f"{title} {name}"
                    )
                if ".memory." in name or place == 0:
                    assert all(torch.equal(other[title][place][name], found[0][title][place][name]) for other in found)
            moved += sum(bool(x.abs().max() > 1e-4) for name, x in expected[place].items() if "words" in name)
        assert moved >= 6, title


REMEMBERING: dict[str, Any] = {"sigma": "learned", "memory": 3, "accumulate": 2, "corpus_graph": "off"}
RUNS: dict[str, dict[str, Any]] = {
    "learned sigma, memory, accumulated": REMEMBERING | {"epochs": 3},
    "alone, cached, frozen": {"mode": "standalone", "graph_size": 24, "batch_size": 5, "freeze": 1, "epochs": 2},
    "drawn": {"loss": "gloss-paper", "epochs": 2},
}
FIRST = next(iter(RUNS))


@pytest.fixture(scope="module")
def still_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder without dropout, whose random numbers belong to a process."""
    folder = tmp_path_factory.mktemp("encoders") / "still"
    shutil.copytree(tiny_encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["hidden_dropout_prob"] > 0
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.0}))
    return folder


def parts_of(toy: Toy) -> tuple[Documents, Documents, list[str]]:
    """47 training documents, eight of them unlabeled, for ragged batches, and 17 to judge by."""
    labels = [-1 if row % 6 == 0 else label for row, label in enumerate(toy.indices)]
    return Documents(toy.texts[:47], labels[:47]), Documents(toy.texts[47:], toy.indices[47:]), toy.names


def trained(encoder: Path, toy: Toy, folder: Path, callbacks: list[Any] | None = None, **given: Any) -> dict[str, Any]:
    """What a training leaves, as plain tensors and numbers."""
    settings = TrainSettings(**(QUICK | {"predictor": "mix"} | given))
    loaded = load(str(encoder), max_length=settings.max_length, device="cpu")
    checked = preflight(check_settings(settings, *parts_of(toy)), loaded)
    fitted = fit(loaded, checked, folder=folder, callbacks=callbacks)
    solved = (
        settings.mode == "standalone" or settings.corpus_graph == "auto"
    )  # a head fitted after training, to a tolerance
    names = ("support", "support_labels", *(() if solved else ("weight", "bias")))
    history = [{key: x for key, x in row.items() if not key.endswith("seconds")} for row in fitted.history]
    return {
        "history": history,
        "weights": {name: x.clone() for name, x in fitted.model.encoder.state_dict().items()},
        "predictor": {name: getattr(fitted.model.predictor, name) for name in names},
        "answers": fitted.model.predictor.probabilities(fitted.model.predictor.support),
        "sigma": fitted.model.predictor.sigma,
    }


class Steps(TrainerCallback):
    """Notes the first optimizer step that a training takes."""

    first: int | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Note it."""
        self.first = self.first or state.global_step


def everything(encoder: Path, toy: Toy, folder: Path) -> dict[str, Any]:
    """Trainings; shared encoding and search; trainings cut and resumed, one by more processes; what is refused."""
    found: dict[str, Any] = {title: trained(encoder, toy, folder / title, **given) for title, given in RUNS.items()}
    found["left"] = sorted(path.name for path in (folder / FIRST).iterdir())
    loaded = load(str(encoder), device="cpu")
    found["encoded"] = [encode(loaded, toy.texts[:count], shared=True) for count in (0, 1, 2, 3, 10)]
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(2500, 6), dim=1)  # three blocks of rows
    found["near"] = tuple(nearest_neighbors.nearest(z, 4, shared=True))
    if distributed.world() < 3:
        model = TextClassifier(model=str(encoder), epochs=1, batch_size=16).fit(toy.texts, toy.labels)
        found["classifier"] = model.predict_proba(toy.texts[:5])
        with patch.object(size_defaults, "FEWEST_PSEUDO_LABELS", 1):
            model = TextClassifier(model=str(encoder), epochs=2, batch_size=16)
            model.fit(toy.texts[:24], toy.labels[:24], unlabeled=toy.texts[24:])
        found["pseudo-labels"] = model.predict_proba(toy.texts[:5])
    if distributed.world() < 3:
        with pytest.raises(KeyboardInterrupt):
            trained(encoder, toy, folder / "cut", [Interrupt(5)], **RUNS[FIRST])
    if distributed.world() == 2:
        steps = Steps()
        found["taken over"] = trained(encoder, toy, folder / "begun", [steps], **RUNS[FIRST])
        found["first step"] = steps.first
        found["resumed"] = trained(encoder, toy, folder / "cut", **RUNS[FIRST])
        with pytest.raises(ZeroDivisionError) as broken:
            distributed.on_first(lambda: 1 // int(not distributed.first()))
        found["elsewhere"] = getattr(broken.value, "elsewhere", None)
    if distributed.world() == 3:
        with pytest.raises(
            InputError, match=r"3 processes cannot share graphs of 2 labeled documents.* --graph-size 3 or more"
        ):
            trained(encoder, toy, folder / "starved", batch_size=2)
        assert not (folder / "starved").exists()
    return found


@pytest.fixture(scope="module")
def alone(still_encoder: Path, toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same work in one process."""
    folder = tmp_path_factory.mktemp("alone")
    return everything(still_encoder, toy, folder) | {"cut": folder / "cut"}


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_training_ends_as_in_one_process(
    count: int, alone: dict[str, Any], still_encoder: Path, toy: Toy, tmp_path: Path
) -> None:
    shutil.copytree(alone["cut"], tmp_path / "runs" / "begun")
    found = together(count, everything, tmp_path, still_encoder, toy, tmp_path / "runs")
    untouched = load(str(still_encoder), device="cpu").state_dict()
    for title in (*RUNS, "taken over")[: len(RUNS) + (count == 2)]:
        expected = alone[FIRST if title == "taken over" else title]
        for one in (each[title] for each in found):
            for part in ("weights", "predictor"):
                for name, x in expected[part].items():
                    assert torch.allclose(one[part][name], x, rtol=1e-3, atol=2e-4), (title, name)
            far = (one["answers"] - expected["answers"]).abs().max()
            assert far < 2e-3, title
            assert one["sigma"] == pytest.approx(expected["sigma"], rel=1e-4)
            assert len(one["history"]) == len(expected["history"]) > 0
            for row, wanted in zip(one["history"], expected["history"], strict=True):
                assert row == pytest.approx(wanted, rel=1e-3, abs=1e-3), title
        moved = [x for name, x in expected["weights"].items() if (x - untouched[name]).abs().max() > 1e-3]
        assert len(moved) > 4, title
    for each in found:
        assert each["left"] == alone["left"] and len(each["left"]) in (1, 2)
        for x, wanted in zip(each["encoded"], alone["encoded"], strict=True):
            torch.testing.assert_close(x, wanted, rtol=1e-5, atol=1e-6)
        assert all(torch.equal(x, wanted) for x, wanted in zip(each["near"], alone["near"], strict=True))
        if count > 2:
            continue
        for name, x in each["resumed"]["weights"].items():  # to the bit: the same processes do the same
            assert torch.equal(x, found[0][FIRST]["weights"][name]), name
        assert each["resumed"]["history"] == found[0][FIRST]["history"]
        for name in ("classifier", "pseudo-labels"):
            np.testing.assert_allclose(each[name], alone[name], atol=1e-3)
    if count == 2:
        assert [each["first step"] for each in found] == [5, 5]
        assert [each["elsewhere"] for each in found] == [False, True]


def test_no_two_processes_embed_the_same_document(toy: Toy) -> None:
    for count, size in ((2, 16), (3, 10), (4, 3)):
        whole = [list(ClassAwareBatchSampler(toy.indices, size, seed=1))]
        parts = [list(ClassAwareBatchSampler(toy.indices, size, seed=1, part=(i, count))) for i in range(count)]
        for batch, *shares in zip(*whole, *parts, strict=True):
            assert [document for share in shares for document in share] == batch
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(ValueError, match="part"):
        ClassAwareBatchSampler([0, 1], 2, part=(2, 2))


def typed(lines: list[list[str]], folder: Path) -> list[tuple[int, str, str]]:
    """Exit code and what was said, of each command."""
    os.chdir(folder)
    leave, distributed.leave = distributed.leave, lambda: None  # the next command finds the same processes
    said = []
    for words in lines:
        sys.argv = ["graphloss", *words]
        out, err = io.StringIO(), io.StringIO()
        if words[0] == "scarce":  # from now on the others find no memory free, which is the first one's to judge
            if not distributed.first():
                free_memory.free = lambda: 1
            continue
        if words[0] == "glance":  # at the first answer, as `| head -1` does
            rows = predict.predict(Path(words[1]), words[2], text=None)
            said.append((0, str(next(rows, {}).get("row", "")), ""))
            rows.close()
            continue
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
        said.append((code, out.getvalue(), err.getvalue()))
    distributed.leave = leave
    return said


@pytest.mark.slow
def test_the_command_speaks_and_writes_once(still_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    data, more = tmp_path / "toy.csv", tmp_path / "more.csv"
    for path, rows in ((data, slice(0, 48)), (more, slice(48, 64))):
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *zip(toy.texts[rows], toy.labels[rows], strict=True)])
    settings = ["--model", str(still_encoder), "--epochs", "2", "--batch-size", "15", "--learning-rate", "1e-3"]
    lines = [
        ["train", str(data), *settings, "--json"],  # into the first free folder under runs/
        ["train", str(data), *settings, "--out", "runs/toy-gloss-combined-seed0"],
        ["predict", "runs/toy-gloss-combined-seed0", str(more), "--json"],
        ["predict", "runs/toy-gloss-combined-seed0", "nowhere.csv"],
        ["glance", "runs/toy-gloss-combined-seed0", str(more)],
        ["evaluate", "runs/toy-gloss-combined-seed0", str(more), "--split", "test", "--json"],
        ["report", "runs/toy-gloss-combined-seed0"],
    ]
    (tmp_path / "two").mkdir()
    first, second = together(2, typed, tmp_path, lines, tmp_path / "two")
    assert [code for code, _, _ in first] == [code for code, _, _ in second] == [0, 2, 0, 2, 0, 0, 2], first
    assert {(out, err) for _, out, err in second} == {("", "")}, second
    assert "shared by 2 processes" in first[0][2] and json.loads(first[0][1])["status"] == "finished"
    assert first[4][1] == "1"
    assert "holds another run" in first[1][2] and "nowhere" in first[3][2] and "runs in one process" in first[6][2]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["runs"]
    assert [path.name for path in (tmp_path / "two" / "runs").iterdir()] == ["toy-gloss-combined-seed0"]

    scarce = [["scarce"], ["train", str(data), *settings, "--out", "scarce"]]
    said = [found[0] for found in together(2, typed, tmp_path, scarce, tmp_path / "two")]
    assert [code for code, _, _ in said] == [0, 0], said
    shutil.rmtree(tmp_path / "two" / "scarce")

    starved = ["train", str(data), *settings, "--batch-size", "2", "--out", "starved"]
    said = [found[0] for found in together(3, typed, tmp_path, [starved], tmp_path / "two")]
    assert [code for code, _, _ in said] == [2, 2, 2] and said[1][2] == said[2][2] == ""
    assert "3 processes cannot share graphs of 2 labeled documents" in said[0][2]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["runs"]

    (tmp_path / "one").mkdir()
    alone = together(1, typed, tmp_path, [lines[0], lines[2], lines[5]], tmp_path / "one")[0]
    assert [code for code, _, _ in alone] == [0, 0, 0], alone
    rows = [[json.loads(line) for line in said[1].splitlines()] for said in (first[2], alone[1])]
    assert len(rows[0]) == 16 and [row["row"] for row in rows[0]] == list(range(1, 17))
    for row, wanted in zip(*rows, strict=True):
        assert row["text"] == wanted["text"] and row["label"] == wanted["label"]
        assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-3)
    scores = [json.loads(said[1]) for said in (first[5], alone[2])]
    assert scores[0]["accuracy"] == scores[1]["accuracy"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate", "mpirun"])
def test_launchers_start_it(launcher: str, still_encoder: Path, toy: Toy, tmp_path: Path) -> None:
    """`mpirun`, which `accelerate launch --cpu` calls, is not at hand: what it gives each process is."""
    data, run = tmp_path / "toy.csv", tmp_path / "run"
    with data.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(toy.texts, toy.labels, strict=True)])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    torchrun = "torch.distributed.run --standalone --nproc-per-node 2 -m graphloss"
    accelerate = "accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0 -m graphloss"
    starts: dict[str, list[tuple[str, dict[str, str]]]] = {
        "torchrun": [(torchrun, {})],
        "accelerate": [(accelerate, {})],
        "mpirun": [("graphloss", place | {"PMI_SIZE": "2", "PMI_RANK": rank}) for rank in "01"],
    }
    train = ["train", data, "--model", still_encoder, "--epochs", "1", "--out", run, "--json"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *command.split(), *train],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        )
        for command, environment in starts[launcher]
    ]
    said = [process.communicate(timeout=600) for process in started]
    assert {process.returncode for process in started} == {0}, said
    answer, progress = ("".join(parts) for parts in zip(*said, strict=True))
    assert json.loads(answer)["run"] == str(run)
    assert progress.count("trains on") == 1 and "shared by 2 processes" in progress


@pytest.mark.parametrize("mpi", range(3))
def test_mpi_numbers_the_processes(mpi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in distributed.OF_MPI:
        monkeypatch.setenv(name, "")  # remembered, so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASTER_PORT", "1")
    for names, value in zip(distributed.OF_MPI.values(), ("0", "1", "0", "1"), strict=True):
        monkeypatch.setenv(names[mpi], value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    distributed.join()
    assert "RANK" not in os.environ
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    distributed.join()
    assert {name: os.environ[name] for name in distributed.OF_MPI} == {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }
