"""The run folder: anybody can read what is written, what is damaged is said, nothing half-written has a final name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import graphloss
from graphloss.errors import InputError
from graphloss.inference import storage
from graphloss.inference.model import FittedModel
from graphloss.inference.predictor import Predictor
from graphloss.run import provenance
from graphloss.text.encoder import encode, load


@pytest.fixture
def run(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A finished run folder of three classes."""
    folder = tmp_path / "run"
    folder.mkdir()
    predictor = Predictor(torch.randn(3, 32), torch.randn(3), torch.randn(6, 32), torch.arange(6) % 3, 0.3, 0.5)
    storage.write_model(folder, FittedModel(load(str(tiny_encoder)), predictor, ["a", "b", "c"], list("uvwxyz")))
    info = {
        "status": "finished",
        "labels": ["a", "b", "c"],
        "settings": {},
        "predictor": {"kind": "knn", "sigma": 0.3, "graph_share": 0.5},
    }
    storage.write_info(folder, info)
    return folder


def test_what_is_written_is_read_again(run: Path, tiny_encoder: Path) -> None:
    info, model = storage.read_model(run)
    assert info["labels"] == ["a", "b", "c"] and info["format"] == storage.FORMAT
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
    predictor = Predictor(torch.zeros(3, 32), torch.zeros(3), torch.zeros(1, 32), torch.zeros(1), 0.3, 0.5)
    storage.write_model(run, FittedModel(load(str(tiny_encoder)), predictor, ["a", "b", "c"]))
    assert storage.read_model(run)[1].predictor.weight.abs().max() == 0


def test_unlabeled_documents_are_kept_where_they_taught_the_head(run: Path, tiny_encoder: Path) -> None:
    info, model = storage.read_model(run)
    assert (
        model.predictor.pile is None
        and model.predictor.neighbor_weight == 0
        and not (run / "pile.safetensors").exists()
    )
    pile = torch.randn(4, 32).half().float()
    taught = replace(model.predictor, pile=pile, neighbor_weight=0.4)
    storage.write_model(run, FittedModel(load(str(tiny_encoder)), taught, ["a", "b", "c"]))
    storage.write_info(run, info | {"predictor": info["predictor"] | {"neighbor_weight": 0.4}})
    found = storage.read_model(run)[1].predictor
    assert torch.equal(found.pile, pile) and found.neighbor_weight == 0.4
    z = torch.randn(3, 32)
    assert torch.equal(found.by("mix").probabilities(z), taught.by("mix").probabilities(z))
    (run / "pile.safetensors").unlink()
    with pytest.raises(InputError, match=r"pile\.safetensors missing"):
        storage.read_model(run)


def test_a_run_that_an_older_graphloss_began_ends_in_todays_format(run: Path) -> None:
    info, _ = storage.read_model(run)
    storage.write_info(run, info | {"format": 1})
    assert json.loads((run / "graphloss.json").read_text())["format"] == storage.FORMAT == 2


def test_a_pile_of_before_does_not_stay(run: Path, tiny_encoder: Path) -> None:
    (run / "pile.safetensors").write_bytes(b"of the training before")
    storage.write_model(
        run, FittedModel(load(str(tiny_encoder)), storage.read_model(run)[1].predictor, ["a", "b", "c"])
    )
    assert not (run / "pile.safetensors").exists()


def damage_info(run: Path) -> None:
    (run / "graphloss.json").write_text('{"format": 1, "labels"')


def drop_key(run: Path) -> None:
    (run / "graphloss.json").write_text('{"format": 1, "labels": []}')


def newer(run: Path) -> None:
    (run / "graphloss.json").write_text('{"format": 99}')


def unfinished(run: Path) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    (run / "graphloss.json").write_text(json.dumps(info | {"status": "running", "data": {}}))


def cut_head(run: Path) -> None:
    (run / "head.safetensors").write_bytes((run / "head.safetensors").read_bytes()[:20])


def drop_head(run: Path) -> None:
    (run / "head.safetensors").unlink()


def other_labels(run: Path) -> None:
    info = json.loads((run / "graphloss.json").read_text())
    (run / "graphloss.json").write_text(json.dumps(info | {"labels": ["a", "b"]}))


def damage_encoder(run: Path) -> None:
    (run / "encoder" / "model.safetensors").write_bytes(b"no")


def no_info(run: Path) -> None:
    (run / "graphloss.json").unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_info, "damaged"),
        (drop_key, "damaged"),
        (newer, "upgrade graphloss"),
        (unfinished, "--resume"),
        (cut_head, "damaged"),
        (drop_head, "head.safetensors missing"),
        (other_labels, "3 classes"),
        (damage_encoder, "cannot be loaded"),
        (no_info, "not a run folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_said_with_the_repair(run: Path, harm: Any, said: str) -> None:
    harm(run)
    with pytest.raises(InputError, match=said):
        storage.read_model(run)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        storage.read_model(tmp_path / "nothing")


def test_a_run_of_before_has_no_texts_and_mixes(run: Path) -> None:
    (run / "support.parquet").unlink()
    info = json.loads((run / "graphloss.json").read_text())
    info["predictor"].pop("kind")
    (run / "graphloss.json").write_text(json.dumps(info))
    _, model = storage.read_model(run)
    assert model.texts is None and model.predictor.kind == "mix"


@pytest.mark.parametrize("damage", ["half", "fewer"])
def test_damaged_training_texts_are_said(damage: str, run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / "support.parquet"
    if damage == "half":
        path.write_bytes(path.read_bytes()[:40])
    else:
        pq.write_table(pa.table({"text": ["u"]}), path)
    with pytest.raises(InputError, match=r"support\.parquet: damaged"):
        storage.read_model(run)


def test_versions_are_known_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise provenance.PackageNotFoundError(name)

    installed = provenance.versions()
    monkeypatch.setattr(provenance, "version", missing)
    found = provenance.versions()
    assert found.pop("graphloss") == installed.pop("graphloss") == graphloss.__version__
    assert len(found) >= 6 and set(found) == set(installed) and set(found.values()) == {"unknown"}
    assert "unknown" not in installed.values()
