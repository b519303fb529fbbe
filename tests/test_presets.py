"""Presets: what was published, only where the user says nothing, and only settings that the loss has."""

from __future__ import annotations

import pytest

from graphloss.errors import InputError
from graphloss.training import presets
from graphloss.training.settings import LOSSES, TrainSettings
from graphloss.training.settings_errors import make


def test_the_default_preset_says_nothing() -> None:
    assert presets.settings("default", "mr") == {}


def test_the_paper_preset_has_the_values_tuned_on_each_data_set() -> None:
    r8, ohsumed = presets.settings("paper", "r8"), presets.settings("paper", "ohsumed")
    assert (r8["loss"], r8["learning_rate"], r8["gamma"], r8["sigma"]) == ("gloss-paper", 5e-5, 0.5, 0.253)
    assert (ohsumed["gamma"], ohsumed["sigma"]) == (0.7, 0.3)
    assert (r8["epochs"], r8["batch_size"], r8["max_length"], r8["patience"]) == (200, 128, 128, 10)
    other = presets.settings("paper", "somebody's own.csv")
    assert (other["learning_rate"], other["sigma"]) == (2e-5, "root")


def test_each_loss_gets_settings_that_it_has() -> None:
    tried = 0
    for loss in LOSSES:
        for data in (*presets.TUNED, "builtin"):
            made = make(TrainSettings, presets.settings("paper", data, loss))
            assert made.loss == loss and made.schedule == "step"
            tried += 1
    assert tried == 7 * 6
    assert presets.settings("paper", "mr", "supcon")["weight"] == 0.9


def test_an_unknown_preset() -> None:
    with pytest.raises(InputError, match="there is no preset 'papre'; there are default, paper"):
        presets.settings("papre", "mr")
