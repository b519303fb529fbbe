"""What SECURITY.md promises: no code from folders or data, and no network unless it is asked for."""

from __future__ import annotations

import contextlib
import csv
import json
import pickle
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Call, Toy

from graphloss.errors import InputError
from graphloss.text.encoder import load
from graphloss.training import checkpoints

ROOT = Path(__file__).parent.parent


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once code has run."""
    found = tmp_path / "code has run"
    pickle.loads(pickle.dumps(Payload(found)))
    assert found.exists()  # the payload works
    found.unlink()
    return found


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


@pytest.mark.parametrize("kind", ["subprocess.Popen", "os.system", "evil.Module", "sentence_transformers..os", "evil"])
def test_no_class_that_a_model_names_is_run(kind: str, tiny_encoder: Path, tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Module: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="no code"):
        load(str(folder))
    assert not marker.exists()


def test_no_code_beside_a_model_is_run(tiny_encoder: Path, tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Model: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        code = {"AutoModel": "evil.Model", "AutoConfig": "evil.Model", "AutoTokenizer": ["evil.Model", "evil.Model"]}
        (folder / name).write_text(json.dumps(config | {"auto_map": code}))
    with contextlib.suppress(InputError):
        load(str(folder))
    assert not marker.exists()


def test_no_pickle_of_a_model_is_run(tiny_encoder: Path, tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Payload(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_no_pickle_of_a_checkpoint_is_run(
    name: str, tiny_encoder: Path, toy: Toy, call: Call, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = write(tmp_path / "toy.csv", list(zip(toy.texts, toy.labels, strict=True))), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("graphloss.run.train._conclude", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        words = ("train", data, "--out", run, "--model", tiny_encoder, "--epochs", 2, "--max-length", 32)
        assert call(*words)[0] == 130
    last = checkpoints.complete(run / "checkpoints")[-1]
    state = json.loads((last / checkpoints.STATE).read_text())
    (last / checkpoints.STATE).write_text(json.dumps(state | {"max_steps": 100, "num_train_epochs": 50}))
    torch.save({"state": Payload(marker)}, last / name)
    checkpoints.seal(last, 1.0)  # by a forger: the checksums fit
    code, _, error = call("train", "--resume", "--out", run)
    assert not marker.exists()
    refused = name in ("optimizer.pt", "scheduler.pt")  # the library passes over random states that it cannot read
    assert (code, "something else than numbers" in error) == ((2, True) if refused else (0, False))


def test_no_code_of_data_is_run(tmp_path: Path, marker: Path) -> None:
    from graphloss.text.corpus import load_corpus
    from graphloss.training.settings_errors import read_file

    for suffix in (".csv", ".jsonl", ".json", ".parquet", ".txt", ".pkl"):
        path = tmp_path / f"data{suffix}"
        path.write_bytes(pickle.dumps(Payload(marker)))
        with pytest.raises(InputError):
            load_corpus(str(path))
    path = tmp_path / "settings.yaml"
    path.write_text(f"epochs: !!python/object/apply:pathlib.Path.touch [{str(marker)!r}]\n")
    with pytest.raises(InputError):
        read_file(path)
    assert not marker.exists()


def test_nothing_reaches_for_the_network(
    tiny_encoder: Path, toy: Toy, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = write(tmp_path / "toy.csv", list(zip(toy.texts, toy.labels, strict=True))), tmp_path / "run"
    tried: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: refuse(None, given))  # type: ignore[arg-type]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ("--model", tiny_encoder, "--epochs", 1, "--max-length", 32, "--validation", 0.1)
    done = [
        call("train", data, "--out", run, *words),
        call("predict", run, "a pan"),
        call("evaluate", run, "--split", "validation"),
        call("audit", run),
        call("report", run),
        call("verify", run),
        call("data", "show", data),
    ]
    assert [code for code, _, _ in done] == [0] * 7 and not tried


def test_every_promise_names_a_test_that_there_is() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", page)
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
    assert len(named) >= 12
