"""A damaged run folder never answers, and the message names the file: every kind in `damage`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import documented
from damage import all_damages

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.fitted_model import FittedModel
from graphloss.inference.predictor import Predictor
from graphloss.text.encoder import load
from graphloss.training.fit_result import Fitted
from graphloss.training.settings import TrainSettings


def make_run(folder: Path, encoder: Any, seed: int) -> Path:
    """A finished run of three classes with all that a trained one has but a report."""
    folder.mkdir()
    g = torch.Generator().manual_seed(seed)
    weight, support = torch.randn(3, 32, generator=g), torch.randn(6, 32, generator=g)
    predictor = Predictor(weight, torch.randn(3, generator=g), support, torch.arange(6) % 3, 0.3, 0.5)
    model = FittedModel(encoder, predictor, ["a", "b", "c"], [f"{seed} {letter}" for letter in "uvwxyz"])
    run_folder.write_metrics(folder, [{"epoch": 1.0, "loss": 0.5}])
    run_folder.write_model(folder, model)
    run_folder.write_info(folder, Fitted(model).info(TrainSettings(), folder) | {"status": "finished"})
    return folder


def test_no_damaged_folder_answers(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(str(tiny_encoder))
    whole, other = make_run(tmp_path / "whole", encoder, 0), make_run(tmp_path / "other", encoder, 1)
    damages, run, wrong = all_damages(whole), tmp_path / "run", []
    run_folder.read_model(whole)

    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("graphloss.text.encoder.load", loaded)
    for damage in damages:
        shutil.copytree(whole, run)
        damage.do(run, other)
        try:
            run_folder.read_model(run)
            wrong.append(f"{damage.name}: an answer")
        except InputError as error:
            if damage.file not in str(error):
                wrong.append(f"{damage.name}: {damage.file} is not named in: {error}")
        except Exception as error:
            wrong.append(f"{damage.name}: {type(error).__name__}: {error}")
        shutil.rmtree(run)
    assert 0 <= len(damages) - documented("damage.py") < 100
    assert len({damage.name for damage in damages}) == len(damages)
    assert not wrong, f"{len(wrong)} of {len(damages)}:\n" + "\n".join(wrong[:40])
