"""The run folder: anybody can read what is written, what is damaged is said, nothing half-written has a final name."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Call
from safetensors.torch import load_file, save_file

import graphloss
from graphloss.disk import whole, write_text
from graphloss.errors import InputError
from graphloss.inference import checksums, run_folder
from graphloss.inference.fitted_model import FittedModel
from graphloss.inference.predictor import Predictor
from graphloss.run import provenance
from graphloss.text.encoder import encode, load


@pytest.fixture
def run(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A finished run folder of three classes."""
    folder = tmp_path / "run"
    folder.mkdir()
    predictor = Predictor(torch.randn(3, 32), torch.randn(3), torch.randn(6, 32), torch.arange(6) % 3, 0.3, 0.5)
    run_folder.write_model(folder, FittedModel(load(str(tiny_encoder)), predictor, ["a", "b", "c"], list("uvwxyz")))
    info = {
        "status": "finished",
        "labels": ["a", "b", "c"],
        "settings": {},
        "predictor": {"kind": "knn", "sigma": 0.3, "graph_share": 0.5, "neighbor_weight": 0.0},
    }
    run_folder.write_info(folder, info)
    return folder


def test_what_is_written_is_read_again(run: Path, tiny_encoder: Path) -> None:
    info, model = run_folder.read_model(run)
    assert info["labels"] == ["a", "b", "c"] and info["format"] == checksums.FORMAT
    found = model.predictor
    assert found.weight.shape == (3, 32) and found.support.shape == (6, 32) and found.support.dtype == torch.float32
    assert (found.sigma, found.graph_share, found.kind) == (0.3, 0.5, "knn") and model.texts == list("uvwxyz")
    assert torch.equal(encode(model.encoder, ["goal"]), encode(load(str(tiny_encoder)), ["goal"]))


def test_the_encoder_loads_with_plain_sentence_transformers(run: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(run / "encoder"), device="cpu", local_files_only=True)
    torch.testing.assert_close(
        encoder.encode(["goal"], convert_to_tensor=True), encode(load(str(run / "encoder")), ["goal"])
    )


def test_no_pickle_and_no_hidden_file_stays(run: Path) -> None:
    names = [path.name for path in run.rglob("*") if path.is_file()]
    assert len(names) > 5
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".writing"))]


def test_writing_again_replaces_the_whole(run: Path, tiny_encoder: Path) -> None:
    predictor = Predictor(torch.zeros(3, 32), torch.zeros(3), torch.zeros(1, 32), torch.zeros(1).long(), 0.3, 0.5)
    run_folder.write_model(run, FittedModel(load(str(tiny_encoder)), predictor, ["a", "b", "c"]))
    with pytest.raises(InputError, match="damaged"):
        run_folder.read_model(run)
    run_folder.write_info(run, run_folder.read_info(run))
    assert run_folder.read_model(run)[1].predictor.weight.abs().max() == 0


def test_unlabeled_documents_are_kept_where_they_taught_the_head(run: Path, tiny_encoder: Path) -> None:
    info, model = run_folder.read_model(run)
    assert (
        model.predictor.unlabeled_support is None
        and model.predictor.neighbor_weight == 0
        and not (run / "unlabeled.safetensors").exists()
    )
    unlabeled = torch.randn(4, 32).half().float()
    taught = replace(model.predictor, unlabeled_support=unlabeled, neighbor_weight=0.4)
    run_folder.write_model(run, FittedModel(load(str(tiny_encoder)), taught, ["a", "b", "c"]))
    run_folder.write_info(run, info | {"predictor": info["predictor"] | {"neighbor_weight": 0.4}})
    found = run_folder.read_model(run)[1].predictor
    assert torch.equal(found.unlabeled_support, unlabeled) and found.neighbor_weight == 0.4
    z = torch.randn(3, 32)
    assert torch.equal(found.by("mix").probabilities(z), taught.by("mix").probabilities(z))
    (run / "unlabeled.safetensors").unlink()
    with pytest.raises(InputError, match=r"unlabeled\.safetensors: missing"):
        run_folder.read_model(run)


def test_unlabeled_support_of_before_does_not_stay(run: Path) -> None:
    _, model = run_folder.read_model(run)
    (run / "unlabeled.safetensors").write_bytes(b"of the training before")
    run_folder.write_model(run, model)
    assert not (run / "unlabeled.safetensors").exists()


def edit(run: Path, **changes: Any) -> None:
    """Change `graphloss.json` and its checksum with it."""
    info = json.loads((run / "graphloss.json").read_text())
    (run / "graphloss.json").write_text(json.dumps(checksums.sealed(info | changes) | changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"format": 3, "labels"', r"graphloss\.json: damaged"),
        (b'{"format": 4, "labels": []}', "its content is not what was written"),
        (b'{"format": 99}', "upgrade graphloss"),
        (b'{"format": 2}', "reads format 4; train again"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (b"[" * 100_000, r"graphloss\.json: damaged"),
        (None, "not a run folder"),
    ],
)
def test_an_info_that_cannot_be_read_is_said(run: Path, content: bytes | None, said: str) -> None:
    (run / "graphloss.json").unlink()
    if content is not None:
        (run / "graphloss.json").write_bytes(content)
    with pytest.raises(InputError, match=said):
        run_folder.read_model(run)


def test_an_unfinished_run_is_said(run: Path) -> None:
    edit(run, status="running", data={"source": "a", "fingerprint": "b"})
    with pytest.raises(InputError, match="--resume"):
        run_folder.read_model(run)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        run_folder.read_model(tmp_path / "nothing")


def test_a_folder_that_was_changed_on_purpose_is_sealed_again(run: Path, call: Call) -> None:
    assert call("verify", run)[0] == 0
    (run / "support.parquet").unlink()
    (run / "encoder" / "notes.txt").write_text("mine")
    code, _, said = call("verify", run)
    assert code == 2 and "support.parquet: missing" in said and "notes.txt: does not belong" in said
    code, said, _ = call("verify", run, "--json")
    assert code == 2 and len(json.loads(said)["faults"]) == 2 and json.loads(said)["whole"] is False
    with pytest.raises(InputError, match=r"support\.parquet: missing"):
        run_folder.read_model(run)
    assert call("verify", run, "--seal")[0] == 0
    assert run_folder.read_model(run)[1].texts is None
    (run / "head.safetensors").write_bytes(b"no")
    code, _, said = call("verify", run, "--seal")
    assert code == 2 and "head.safetensors: damaged" in said and call("verify", run)[0] == 2


def test_sealing_takes_values_that_were_edited_and_none_without_sense(run: Path, call: Call) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    (run / "graphloss.json").write_text(json.dumps(info | {"labels": ["x", "y", "z"]}))
    assert call("verify", run)[0] == 2 and call("verify", run, "--seal")[0] == 0
    assert run_folder.read_model(run)[1].labels == ["x", "y", "z"]
    (run / "graphloss.json").write_text(json.dumps(info | {"labels": ["x", "y"]}))
    code, _, said = call("verify", run, "--seal")
    assert code == 2 and "head.safetensors: damaged, 3 classes" in said


@pytest.mark.parametrize("broken", ["weights", "config", "support", "metrics"])
def test_sealing_takes_no_folder_that_could_not_be_used(broken: str, run: Path, call: Call) -> None:
    if broken == "weights":
        (run / "encoder" / "model.safetensors").unlink()
    elif broken == "config":
        (run / "encoder" / "config.json").write_text("{}")
    elif broken == "support":
        found = load_file(run / "support.safetensors")  # of another run
        save_file({name: value[1:].clone() for name, value in found.items()}, run / "support.safetensors")
    else:
        (run / "metrics.jsonl").write_text("junk\n")
    before = (run / "graphloss.json").read_bytes()
    code, _, said = call("verify", run, "--seal")
    assert code == 2 and said.startswith("error: ") and (run / "graphloss.json").read_bytes() == before


def test_sealing_does_not_say_that_nothing_was_changed(run: Path, call: Call) -> None:
    (run / "support.parquet").unlink()
    code, said, _ = call("verify", run, "--seal")
    assert code == 0 and said.endswith("whole, every file is recorded as it is now\n")
    assert call("verify", run)[1].endswith("whole, every file is as it was written\n")


def test_files_follow_the_umask_whatever_wrote_them(run: Path) -> None:
    mask = os.umask(0o027)
    try:
        _, model = run_folder.read_model(run)
        run_folder.write_model(run, model)
        run_folder.write_info(run, run_folder.read_info(run))
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.rglob("*") if path.is_file()}
    assert len(modes) > 7 and set(modes.values()) == {0o640}, modes


def test_a_writing_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def fail() -> None:
        with whole(path) as hidden:
            hidden.write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "before" and [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_one_line(number: int, run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr(run_folder, "write_text", full)
    code, _, said = call("verify", run, "--seal")
    assert code == 2 and said.startswith("error: x: nothing more can be written") and said.count("\n") == 1


def test_an_audit_that_could_judge_no_label_says_so(run: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "alone.csv").write_text("text,label\nthe goal,a\nthe pan,b\nthe moon,c\n")
    code, out, said = call("audit", run, "--data", tmp_path / "alone.csv")
    assert code == 0 and not out and "no label could be checked" in said and "contradicted" not in said
    (tmp_path / "pairs.csv").write_text("text,label\n" + "the goal,a\nthe pan,b\n" * 6)
    code, out, said = call("audit", run, "--data", tmp_path / "pairs.csv")
    assert code == 0 and not out and "none of 12 labels is contradicted" in said and "checked" not in said


def test_versions_are_known_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise provenance.PackageNotFoundError(name)

    installed = provenance.versions()
    monkeypatch.setattr(provenance, "version", missing)
    found = provenance.versions()
    assert found.pop("graphloss") == installed.pop("graphloss") == graphloss.__version__
    assert len(found) >= 6 and set(found) == set(installed) and set(found.values()) == {"unknown"}
    assert "unknown" not in installed.values()
