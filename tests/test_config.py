"""Settings: one door, every fault at once, the same names everywhere."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from graphloss.classifier import TextClassifier
from graphloss.errors import InputError
from graphloss.training.settings import LOSSES, DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make, read_file


def test_defaults_are_themselves_allowed() -> None:
    for kind in (DataSettings, TrainSettings):
        assert make(kind, asdict(kind())) == kind()


def test_every_fault_is_said_at_once_with_its_repair() -> None:
    with pytest.raises(InputError) as caught:
        make(
            TrainSettings, {"epoch": 3, "batch_size": "many", "weight": 1.5, "loss": "glos", "sigma": -1, "seed": True}
        )
    said = str(caught.value)
    for part in (
        "unknown setting 'epoch': did you mean 'epochs'?",
        "batch_size: expected a whole number, got 'many'",
        "weight: expected at most 1, got 1.5",
        "loss: expected one of gloss, gloss-paper, ce, supcon, triplet, cosine, nca, got 'glos'",
        "sigma: expected at least 0.001, got -1",
        "seed: expected a whole number, got True",
    ):
        assert part in said


@pytest.mark.parametrize("value", [0.3, 1, "auto", "root", "mst", "learned"])
def test_sigma_is_a_number_or_a_rule(value: float | str) -> None:
    assert make(TrainSettings, {"sigma": value}).sigma == value


@pytest.mark.parametrize("value", ["rot", float("nan"), float("inf"), 0, None, [0.3]])
def test_sigma_is_nothing_else(value: object) -> None:
    with pytest.raises(InputError, match="sigma"):
        make(TrainSettings, {"sigma": value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'epochs = 3\nsigma = "root"\nshots = 8\n'),
        ("a.yaml", "epochs: 3\nsigma: root\nshots: 8\n"),
        ("b.yml", "{epochs: 3, sigma: root, shots: 8}"),
        ("a.json", '{"epochs": 3, "sigma": "root", "shots": 8}'),
    ],
)
def test_a_file_holds_the_same_names(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_file(tmp_path / name) == ({"shots": 8}, {"epochs": 3, "sigma": "root"})


def test_numbers_of_yaml_may_have_an_exponent_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("learning_rate: 2e-4\nsigma: 3E-1\nmodel: e5-2e4\n")
    assert read_file(tmp_path / "a.yaml")[1] == {"learning_rate": 2e-4, "sigma": 0.3, "model": "e5-2e4"}


def test_a_file_may_write_names_like_options(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("batch-size = 64\nkeep-unlabeled = true\n")
    assert read_file(tmp_path / "a.toml") == ({"keep_unlabeled": True}, {"batch_size": 64})


def test_files_are_seen_from_the_settings_file_or_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for place in (there, here):
        place.mkdir()
        (place / "both.txt").write_text("a text\n")
    (there / "near.txt").write_text("a text\n")
    (here / "encoder").mkdir()
    monkeypatch.chdir(here)
    settings = there / "a.toml"
    settings.write_text('unlabeled = "near.txt"\ndescribe = "../here/both.txt"\nmodel = "encoder"\n')
    data, model = read_file(settings)
    assert (data["unlabeled"], model["model"]) == (str(there / "near.txt"), "encoder")
    assert Path(data["describe"]).samefile(here / "both.txt")
    settings.write_text(f'unlabeled = "{there / "both.txt"}"\nmodel = "owner/name"\ndescribe = "off"\n')
    assert read_file(settings) == ({"unlabeled": str(there / "both.txt"), "describe": "off"}, {"model": "owner/name"})
    settings.write_text('unlabeled = "both.txt"\n')
    with pytest.raises(InputError, match=r"'both.txt' may be .*here/both.txt or .*there/both.txt; write the whole"):
        read_file(settings)


def test_all_faults_of_a_file_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('epochs = "three"\nshots = 0\nlearning_rat = 1e-5\n')
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / "a.toml")
    said = str(caught.value)
    assert "epochs: expected a whole number, got 'three'" in said
    assert "shots: expected at least 1, got 0" in said
    assert "unknown setting 'learning_rat': did you mean 'learning_rate'?" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "epochs = = 3", "not readable as TOML"),
        ("a.yaml", "- 1\n- 2\n", "expected names and values"),
        ("a.ini", "epochs=3", "must end in .toml"),
        ("missing.toml", None, "no such settings file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_file(tmp_path / name)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_file(tmp_path)


def test_the_classifier_takes_every_setting_with_its_default() -> None:
    taken = inspect.signature(TextClassifier).parameters
    assert len(names(TrainSettings)) >= 15
    for name in names(TrainSettings):
        assert taken[name].default == getattr(TrainSettings(), name)
    assert set(taken) - set(names(TrainSettings)) == {"validation", "verbose"}


def test_numbers_of_numpy_are_numbers() -> None:
    made = make(TrainSettings, {"epochs": np.int64(3), "learning_rate": np.float32(0.5)})
    assert made.epochs == 3 and type(made.epochs) is int and type(made.learning_rate) is float
    with pytest.raises(InputError, match="seed"):
        make(TrainSettings, {"seed": 2**32})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": "ce", "sigma": 0.2}, "loss 'ce' has no setting 'sigma', which belongs to gloss, gloss-paper"),
        ({"loss": "gloss", "temperature": 0.2}, "loss 'gloss' has no setting 'temperature'"),
        ({"loss": "triplet", "gamma": 0.5}, "loss 'triplet' has no setting 'gamma', which belongs to gloss-paper"),
        ({"loss": "ce", "weight": 0.2}, "loss 'ce' has no setting 'weight'"),
        ({"loss": "supcon", "mode": "standalone", "clean": "auto"}, "loss 'supcon' standalone has neither"),
    ],
)
def test_a_loss_takes_no_setting_of_another(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(TrainSettings, values)


def test_every_setting_of_a_loss_is_a_setting() -> None:
    assert len(LOSSES) == 7
    for loss, own in LOSSES.items():
        assert set(own) <= set(names(TrainSettings))
        assert make(TrainSettings, {"loss": loss}).loss == loss


def test_a_share_of_shown_labels_lies_between_none_and_all() -> None:
    with pytest.raises(InputError, match="gamma: expected below 1, got 1"):
        make(TrainSettings, {"loss": "gloss-paper", "gamma": 1})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"memory": 8, "alpha": 0.9}, "a memory needs alpha 1 and no k, got alpha 0.9 and k None"),
        ({"memory": 8, "k": 5}, "a memory needs alpha 1 and no k"),
        ({"memory": -1}, "memory: expected at least 0, got -1"),
        ({"loss": "supcon", "memory": 8}, "loss 'supcon' has no setting 'memory', which belongs to gloss"),
    ],
)
def test_a_memory_and_what_it_does_not_go_with(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(TrainSettings, values)
    assert make(TrainSettings, {"memory": 8, "sigma": "learned"}).memory == 8
