"""The search: only settings that exist, only documents that may be seen, one model at a time, the same again."""

from __future__ import annotations

import csv
import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
import tomllib
import weakref
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Toy

from graphloss.errors import InputError
from graphloss.research.tuning import cross_validation, folds, killed_trials, sampler
from graphloss.research.tuning import search as tuning
from graphloss.research.tuning.command import settings_file
from graphloss.research.tuning.cross_validation import Curve, final_score, score_so_far, try_settings
from graphloss.research.tuning.folds import FOLDS, as_metric, folds_of, objective_for
from graphloss.research.tuning.sampler import STARTUP, WARM_UP
from graphloss.research.tuning.search import Tuned, Watcher, tune
from graphloss.research.tuning.space import BOUNDS, Choices, Range, remaining, space_for, start_of
from graphloss.research.tuning.storage import open_storage
from graphloss.research.tuning.study import FailedTrialError, Study, Trial
from graphloss.text.texts_and_labels import Documents
from graphloss.training.settings import LOSSES, DataSettings, TrainSettings
from graphloss.training.settings_errors import problems, read_file
from graphloss.training.size_defaults import FEW_LABELS

QUICK = {"blend": 1.0, "epochs": 3, "batch_size": 16, "max_length": 32}
SPACE = {"learning_rate": Range(1e-4, 1e-2, log=True), "sigma": Range(0.1, 1.0, log=True)}


@pytest.fixture
def parts(toy: Toy) -> tuple[Documents, Documents]:
    hidden = [label if row % 5 else -1 for row, label in enumerate(toy.indices[:48])]
    return Documents(toy.texts[:48], hidden), Documents(toy.texts[48:], toy.indices[48:])


# Space


def test_every_setting_of_every_space_is_one_that_the_loss_has() -> None:
    seen = 0
    for loss, own in LOSSES.items():
        for mode in ("combined", "standalone"):
            if loss == "ce" and mode == "standalone":
                continue
            base = TrainSettings(loss=loss, mode=mode)
            space = space_for(loss, mode)
            assert "learning_rate" in space and set(space) <= {"learning_rate", *own}
            assert ("weight" in space) == (mode == "combined" and "weight" in own)
            for name, bounds in space.items():
                ends = (bounds.low, bounds.high) if isinstance(bounds, Range) else bounds.values
                for value in ends:
                    seen += 1
                    assert getattr(replace(base, **{name: value}), name) == value
                    assert value in bounds and not problems(TrainSettings, {name: value})
    assert seen >= 60
    assert set(BOUNDS) <= {item.name for item in fields(TrainSettings)}
    assert set(BOUNDS) - {"learning_rate"} <= {name for own in LOSSES.values() for name in own}


def test_a_memory_leaves_no_choice_of_alpha() -> None:
    assert set(space_for("gloss", "combined")) - set(space_for("gloss", "combined", memory=8)) == {"alpha"}


@pytest.mark.parametrize(
    ("loss", "mode", "names"),
    [
        ("gloss", "combined", {"learning_rate", "weight", "sigma", "alpha"}),
        ("gloss", "standalone", {"learning_rate", "sigma", "alpha"}),
        ("gloss-paper", "combined", {"learning_rate", "weight", "sigma", "gamma"}),
        ("ce", "combined", {"learning_rate"}),
        ("supcon", "standalone", {"learning_rate", "temperature"}),
        ("nca", "combined", {"learning_rate", "weight", "temperature"}),
        ("triplet", "combined", {"learning_rate", "weight", "margin"}),
        ("cosine", "combined", {"learning_rate", "weight"}),
    ],
)
def test_the_space_of_a_loss(loss: str, mode: str, names: set[str]) -> None:
    assert set(space_for(loss, mode)) == names


def test_given_settings_are_not_searched() -> None:
    space = space_for("gloss", "combined")
    assert set(remaining(space, ["sigma", "alpha", "epochs"])) == {"learning_rate", "weight"}
    with pytest.raises(InputError, match="no setting to search: learning_rate"):
        remaining(space, list(space))


def test_the_search_begins_with_the_settings_as_they_are() -> None:
    space = space_for("gloss", "combined")
    assert start_of(space, TrainSettings()) == {
        "learning_rate": TrainSettings().learning_rate,
        "weight": 0.5,
        "sigma": 0.3,
        "alpha": 1.0,
    }
    far = TrainSettings(learning_rate=1.0, sigma="root", alpha=0.95)
    assert start_of(space, far) == {"weight": 0.5, "learning_rate": 3e-4}  # as near as the bounds let it
    assert start_of(space_for("triplet", "combined"), TrainSettings(loss="triplet"))["margin"] == 2.0
    assert 0.5 in Choices((0.5, 1.0)) and 0.6 not in Choices((0.5, 1.0)) and "root" not in Range(0, 1)


# Folds


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_disjoint_stratified_and_keep_the_unlabeled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [int(label) for label in rng.choice([-1, 0, 1, 2, 3], size=130, p=[0.3, 0.4, 0.2, 0.08, 0.02])] + [4]
    train = Documents([f"train {row}" for row in range(131)], labels)
    held = Documents([f"held {row}" for row in range(20)], [int(label) for label in rng.integers(0, 3, 20)])
    made = folds_of(train, held, seed=seed)
    everything = dict(zip(train.texts + held.texts, train.labels + held.labels, strict=True))
    labeled = {text for text, label in everything.items() if label >= 0}
    lonely = {text for text, label in everything.items() if label >= 0 and [*everything.values()].count(label) == 1}
    assert len(made) == FOLDS and len(lonely) >= 1
    held_out = [text for fold in made for text in fold.held_out.texts]
    assert sorted(held_out) == sorted(labeled - lonely)  # each once
    for fold in made:
        trained, scored = {*fold.train.texts}, {*fold.held_out.texts}
        assert trained | scored == {*everything} and not trained & scored
        for part in (fold.train, fold.held_out):
            assert all(everything[text] == label for text, label in zip(part.texts, part.labels, strict=True))
        assert set(fold.held_out.labels) <= set(fold.train.labels)  # every scored class is trained on
        for label in range(4):
            count, whole = fold.held_out.labels.count(label), [*everything.values()].count(label)
            assert math.floor(whole / FOLDS) <= count <= math.ceil(whole / FOLDS)
    assert max(map(len, (f.held_out for f in made))) - min(map(len, (f.held_out for f in made))) <= 1
    assert folds_of(train, held, seed=seed) == made
    assert folds_of(train, held, seed=seed + 1) != made


def test_as_many_documents_are_held_out_as_needed() -> None:
    def of(count: int) -> Documents:
        return Documents([f"{count} {row}" for row in range(count)], [row % 3 for row in range(count)])

    train, many = of(300), of(folds.ENOUGH)
    assert folds_of(train, many, seed=0) == [folds.Fold(train, many)]
    assert [len(fold.held_out) for fold in folds_of(train, of(100), seed=0)] == [100, 100]
    assert [len(fold.held_out) for fold in folds_of(of(1000), of(0), seed=0)] == [250]
    assert len(folds_of(of(150), of(50), seed=0)) == FOLDS
    with pytest.raises(InputError, match="no class has two labeled documents"):
        folds_of(Documents(["a", "b", "c"], [0, 1, -1]), Documents([], []), seed=0)


# Worth


def literal_scores(curves: list[Curve]) -> tuple[float, float]:
    """One epoch for all folds, and each fold's own, document by document in plain Python."""
    shortest = min(len(curve.selection) for curve in curves)
    total = sum(curve.weight for curve in curves)
    means = [sum(curve.weight * curve.selection[e] for curve in curves) / total for e in range(shortest)]
    best = means.index(max(means))
    own = sum(c.weight * c.value[c.selection.index(max(c.selection))] for c in curves) / total
    return sum(curve.weight * curve.value[best] for curve in curves) / total, own


@pytest.mark.parametrize("seed", range(10))
def test_the_score_is_the_literal_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(int(rng.integers(1, 5))):
        length = int(rng.integers(1, 7))
        selection, value = rng.normal(size=(2, length)).tolist()
        curves.append(Curve(int(rng.integers(1, 40)), selection, value))
    together, own = literal_scores(curves)
    assert final_score(curves) == pytest.approx(together, rel=1e-12)
    assert score_so_far(curves) == pytest.approx(own, rel=1e-12)


def test_one_epoch_for_all_folds_does_not_reward_noise() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):  # every epoch has a true value of 0
        noise = rng.normal(size=(4, 10)).tolist()
        curves = [Curve(10, row, row) for row in noise]
        gains.append((final_score(curves), score_so_far(curves)))
    shared, own = np.mean(gains, axis=0)
    assert 0 < shared < 0.6 * own


def test_few_labels_are_compared_by_log_loss() -> None:
    assert objective_for(FEW_LABELS) == "log_loss" and objective_for(FEW_LABELS + 1) == "macro_f1"
    assert as_metric("log_loss", -0.5) == 0.5 and as_metric("macro_f1", 0.5) == 0.5


# Trials


def settings_of(encoder: Path, **values: Any) -> TrainSettings:
    return TrainSettings(**(QUICK | {"model": str(encoder)} | values))


def go(parts: tuple[Documents, Documents], toy: Toy, encoder: Path, trials: int, **options: Any) -> Tuned:
    settings, space = options.pop("settings", settings_of(encoder)), options.pop("space", SPACE)
    return tune(*parts, toy.names, settings, space, encoder_source=str(encoder), trials=trials, **options)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folds, and no more random trials than it takes to leave them behind."""
    monkeypatch.setattr(folds, "FOLDS", 2)
    monkeypatch.setattr(sampler, "STARTUP", 2)


def test_a_training_is_scored_after_every_epoch_and_leaves_nothing(
    parts: Any, toy: Toy, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[tuple[int, int, float]] = []

    def report(fold: int, evaluation: int, reached: float) -> bool:
        assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.pt"))
        seen.append((fold, evaluation, reached))
        return False

    made = folds_of(*parts, seed=0)[:3]
    options = {"encoder_source": str(tiny_encoder), "objective": "log_loss"}
    # scored by log-loss, which hardly ever ties
    settings = settings_of(tiny_encoder, head_start="random", blend=0.5, epochs=2)
    found = try_settings(settings, made, toy.names, report=report, **options)
    assert [(fold, evaluation) for fold, evaluation, _ in seen] == [(f, e) for f in range(3) for e in range(2)]
    assert found is not None and -3 < found < 0 and len({reached for *_, reached in seen}) > 4
    assert not list(tmp_path.iterdir())
    seen.clear()

    def stop(fold: int, evaluation: int, reached: float) -> bool:
        seen.append((fold, evaluation, reached))
        return (fold, evaluation) == (1, 0)

    assert try_settings(settings, made, toy.names, report=stop, **options) is None
    assert [(fold, evaluation) for fold, evaluation, _ in seen] == [(0, 0), (0, 1), (1, 0)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("loss", "mode"), [("gloss", "standalone"), ("ce", "combined"), ("nca", "standalone")])
def test_the_curve_is_that_of_a_plain_training(
    parts: Any, toy: Toy, tiny_encoder: Path, tmp_path: Path, loss: str, mode: str
) -> None:
    from graphloss.text.encoder import load
    from graphloss.training.fit import fit
    from graphloss.training.preflight import check_settings, preflight

    settings = settings_of(tiny_encoder, loss=loss, mode=mode, learning_rate=1e-3)
    made = folds_of(*parts, seed=0)[:2]
    curves = []
    for number, fold in enumerate(made):
        encoder = load(str(tiny_encoder), max_length=32)
        checked = preflight(check_settings(settings, fold.train, fold.held_out, toy.names), encoder)
        history = fit(encoder, checked, folder=tmp_path / str(number)).history
        curves.append(
            Curve(len(fold.held_out), [row["score"] for row in history], [-row["log_loss"] for row in history])
        )
    found = try_settings(settings, made, toy.names, encoder_source=str(tiny_encoder), objective="log_loss")
    assert found == final_score(curves)


@pytest.mark.usefixtures("small")
def test_one_model_is_in_memory_at_a_time(
    parts: Any, toy: Toy, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    real = cross_validation.load

    def spy(*args: Any, **kwargs: Any) -> Any:
        assert [ref for ref in loaded if ref() is not None] == [], "an earlier model is still held"
        encoder = real(*args, **kwargs)
        loaded.append(weakref.ref(encoder))
        return encoder

    failing = iter([False, True])
    real_fit = cross_validation.fit

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        if len(loaded) > 2 and next(failing, False):
            kwargs["callbacks"].append(Explode())
        return real_fit(*args, **kwargs)

    monkeypatch.setattr(cross_validation, "load", spy)
    monkeypatch.setattr(cross_validation, "fit", sometimes)
    tuned = go(parts, toy, tiny_encoder, 3, settings=settings_of(tiny_encoder, epochs=2))
    gc.collect()
    assert len(loaded) >= 5 and all(ref() is None for ref in loaded)
    assert tuned.count("fail") == 1 and tuned.count("complete") + tuned.count("pruned") == 3
    assert "RuntimeError: out of memory" in str([row.error for row in tuned.rows])


class Explode(cross_validation.TrainerCallback):
    """A training that fails."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")


@pytest.mark.usefixtures("small")
def test_a_hopeless_trial_is_really_cut_short(
    parts: Any, toy: Toy, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Count(cross_validation.TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            steps[-1] += 1

    real = cross_validation.fit
    monkeypatch.setattr(
        cross_validation, "fit", lambda *a, callbacks, **k: real(*a, callbacks=[Count(), *callbacks], **k)
    )

    class Begin(Watcher):
        def begun(self, number: int, values: dict[str, Any]) -> None:
            steps.append(0)

    real_propose, rates = Trial.propose, iter([3e-3, 2e-3, 1e-6, 3e-3])
    monkeypatch.setattr(
        Trial, "propose", lambda self, space: real_propose(self, space) | {"learning_rate": next(rates)}
    )
    # a random head and no help from the probe: what is not learned is not known
    settings = settings_of(tiny_encoder, head_start="random", head_learning_rate=1e-4, epochs=4)
    tuned = go(parts, toy, tiny_encoder, 4, settings=settings, watcher=Begin())
    assert [row.state for row in tuned.rows[:3]] == ["complete", "complete", "pruned"]
    per_epoch = steps[0] // (2 * 4)  # folds, epochs
    least = 2 * WARM_UP * per_epoch  # an epoch of two steps is not judged alone
    assert per_epoch == 2 and steps[:3] == [2 * 4 * per_epoch, 2 * 4 * per_epoch, least]
    assert tuned.rows[2].steps == WARM_UP


@pytest.mark.usefixtures("small")
def test_a_study_can_be_repeated(parts: Any, toy: Toy, tiny_encoder: Path) -> None:
    settings = settings_of(tiny_encoder, epochs=2)
    first, again = (go(parts, toy, tiny_encoder, 4, settings=settings) for _ in range(2))  # two random, two proposed
    other = go(parts, toy, tiny_encoder, 2, settings=settings_of(tiny_encoder, epochs=1, seed=1))

    def timeless(tuned: Tuned) -> list[dict[str, Any]]:
        return [asdict(row) | {"seconds": None} for row in tuned.rows]

    assert timeless(first) == timeless(again)
    assert (
        len({row.settings["sigma"] for row in first.rows}) == 4
        and first.rows[0].settings["learning_rate"] == TrainSettings().learning_rate
    )
    assert (first.best, first.value) == (again.best, again.value)
    assert other.rows[1].settings != first.rows[1].settings
    assert first.settings == replace(settings, **first.best)
    complete = [row for row in first.rows if row.state == "complete"]
    assert first.value == -max(row.score for row in complete if row.score is not None) > 0


def test_an_empty_space_or_failures_without_end_are_refused(
    parts: Any, toy: Toy, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="the space is empty"):
        go(parts, toy, tiny_encoder, 3, space={})

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("expected finite train_embeddings")

    monkeypatch.setattr(cross_validation, "fit", broken)
    with pytest.raises(InputError, match="3 trials in a row have failed, the last of ValueError: expected finite"):
        go(parts, toy, tiny_encoder, 5)


# Studies


def quick_study(storage: Any, name: str = "s", seed: int = 0, **identity: Any) -> Study:
    return Study(storage, name, seed=seed, identity=identity, start={})


def parabola(trial: Trial) -> float | None:
    x = trial.propose({"learning_rate": Range(0.0, 1.0)})["learning_rate"]
    for step in range(4):
        if trial.report(step, -((x - 0.7) ** 2) - 0.1 / (step + 1)):
            return None
    return -((x - 0.7) ** 2)


def test_processes_that_share_a_study_never_draw_the_same(tmp_path: Path) -> None:
    """Both began when it was empty, which gives two samplers of one seed the same numbers."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    a, b = (quick_study(open_storage(url)) for _ in range(2))
    rows = [each.run(parabola) for _ in range(12) for each in (a, b)]
    drawn = [row.settings["learning_rate"] for row in rows if row]
    assert len(set(drawn)) == 24 and [row.number for row in rows if row] == list(range(24))
    alone = quick_study(None)
    assert [alone.run(parabola) for _ in range(STARTUP)] and [r.settings for r in alone.rows()] == [
        r.settings for r in a.rows()[:STARTUP]
    ]
    resumed = quick_study(open_storage(url))
    row = resumed.run(parabola)
    assert row is not None and row.settings["learning_rate"] not in drawn
    assert np.mean(np.abs(np.array(drawn[-8:]) - 0.7)) < np.mean(np.abs(np.array(drawn[:5]) - 0.7))  # it learns


def test_the_median_rule_compares_at_the_same_step() -> None:
    """An easy first part, as a first fold may be, excuses nothing afterward."""
    shared = quick_study(None)

    def trial(values: list[float]) -> Callable[[Trial], float | None]:
        def run(trial: Trial) -> float | None:
            return None if any(trial.report(step, value) for step, value in enumerate(values)) else values[-1]

        return run

    for offset in range(STARTUP):
        assert shared.run(trial([0.9 + offset / 100, 0.9, 0.5 + offset / 100])).state == "complete"  # type: ignore[union-attr]
    bad, early, good = (shared.run(trial(v)) for v in ([0.99, 0.99, 0.4, 0.4], [0.0, 0.0, 0.6], [0.9, 0.95, 0.6]))
    assert bad is not None and (bad.state, bad.steps, bad.score) == ("pruned", 3, 0.4)
    assert early is not None and (early.state, early.steps) == ("pruned", WARM_UP)
    assert good is not None and good.state == "complete"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_trials_are_counted_over_all_processes_and_killed_ones_are_not(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed on this machine they are noticed at once, elsewhere when the heartbeats stay away."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    code = f"""
import graphloss.research.tuning.killed_trials as k, time
if {elsewhere}:
    k._machine = lambda: "elsewhere"
from graphloss.research.tuning.storage import open_storage
from graphloss.research.tuning.study import Study
from graphloss.research.tuning.space import Range
study = Study(open_storage({url!r}), "s", seed=0, identity={{}}, start={{}})
def hang(trial):
    trial.propose({{"learning_rate": Range(0.0, 1.0)}})
    print("begun", flush=True)
    time.sleep(60)
study.run(hang)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    here = quick_study(open_storage(url))
    assert here.missing(3) == (2, 1)
    assert all(here.run(parabola) for _ in range(2))
    assert here.missing(3) == (0, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if elsewhere:
        assert here.missing(3) == (0, 1)
        monkeypatch.setattr(killed_trials, "GRACE", 1)
        here = quick_study(open_storage(url))
        time.sleep(3)  # clocks of the data base are whole seconds
    assert here.missing(3) == (1, 0)
    row = here.run(parabola)
    assert row is not None and row.number == 3 and here.missing(3) == (0, 0) and here.missing(2) == (0, 0)
    assert [row.state for row in here.rows()] == ["fail", "complete", "complete", "complete"]
    alone = quick_study(None)
    drawn = [each.settings for each in (alone.run(parabola) for _ in range(4)) if each]
    assert [each.settings for each in here.rows()] == [drawn[0], drawn[1], drawn[2], drawn[0]]  # begun again
    after = here.run(parabola)
    assert after is not None and after.settings == drawn[3]


def killed_at(moment: str, alone: Study) -> None:
    """A trial whose process ended there: before it was claimed, before or after its settings were drawn, at Ctrl-C."""
    trial = alone.study.ask()
    if moment != "created":
        gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
        trial.set_user_attr(killed_trials.OWNER, [killed_trials._machine(), int(gone.stdout)])
    if moment == "half drawn":
        trial.suggest_float("learning_rate", 0.0, 1.0)
    if moment in ("drawn", "interrupted"):
        Trial(trial).propose(TWO)
    if moment == "interrupted":
        alone.study.tell(trial, state=alone.optuna.trial.TrialState.FAIL)


TWO = {"learning_rate": Range(0.0, 1.0), "sigma": Range(0.0, 1.0)}


@pytest.mark.parametrize("moment", ["created", "claimed", "half drawn", "drawn", "interrupted"])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_killed_study_runs_the_trials_of_an_undisturbed_one(
    moment: str, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the same order, the first one and those after the random ones too, wherever the kill comes."""
    monkeypatch.setattr(sampler, "STARTUP", 2)
    first = {"learning_rate": 0.25, "sigma": 0.5}

    def score(trial: Trial) -> float:
        values = trial.propose(TWO)
        return -((values["learning_rate"] - 0.7) ** 2) - values["sigma"]

    whole, killed = (Study(None, "s", seed=0, identity={}, start=first) for _ in range(2))
    for _ in range(before):
        killed.run(score)
    killed_at(moment, killed)
    resumed = killed
    if moment == "created":
        assert killed.missing(9) == (0, 1)  # it may be alive, and is waited for
        monkeypatch.setattr(killed_trials, "GRACE", 0)
    if moment == "interrupted":
        with monkeypatch.context() as patch:
            patch.setattr(killed.optuna, "create_study", lambda **how: killed.study)
            resumed = Study(None, "s", seed=0, identity={}, start=first)
    assert resumed.missing(5) == (5 - before, 0)
    while resumed.missing(5)[0]:
        resumed.run(score)
    rows = [(row.settings, row.score) for row in resumed.rows() if row.state != "fail"]
    assert rows == [(row.settings, row.score) for row in (whole.run(score) for _ in range(5)) if row]
    assert len(rows) == 5 and rows[0][0] == first
    assert [row.state for row in resumed.rows()].count("fail") == 1


def test_a_trial_that_kills_its_process_is_given_up() -> None:
    """A process that lives keeps its trial, and a trial is begun four times at most."""
    alone = Study(None, "s", seed=0, identity={}, start={})
    for begun in range(1, 6):
        killed_at("drawn", alone)
        assert alone.missing(1) == (1, 0)
        waiting = [each for each in alone.study.get_trials() if each.state.name == "WAITING"]
        assert len(waiting) == (begun % 4 != 0)
    assert len({json.dumps(row.settings) for row in alone.rows()[:4]}) == 1
    assert alone.rows()[4].settings != alone.rows()[3].settings
    killed_trials.claim(alone.study.ask())
    assert alone.missing(1) == (0, 1)
    alone.study.ask().set_user_attr(killed_trials.OWNER, ["another machine", 1])
    assert alone.missing(2) == (0, 2)


def test_a_trial_that_others_have_given_up_is_passed_over() -> None:
    shared = quick_study(None)

    def slept(trial: Trial) -> float:
        shared.study.tell(trial.number, state=shared.optuna.trial.TrialState.FAIL)
        try:
            trial.report(0, 0.5)
        except RuntimeError as error:
            raise FailedTrialError(str(error)) from None
        return 0.5

    assert shared.run(slept) is None
    assert [row.state for row in shared.rows()] == ["fail"]

    def defect(trial: Trial) -> float:
        raise KeyError("a defect of ours")

    with pytest.raises(KeyError, match="a defect"):
        shared.run(defect)


@pytest.mark.usefixtures("small")
def test_another_study_of_that_name_is_refused(parts: Any, toy: Toy, tiny_encoder: Path, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 's.db'}")
    settings = settings_of(tiny_encoder, epochs=1)
    once = go(parts, toy, tiny_encoder, 1, storage=storage, settings=settings)
    more = go(parts, toy, tiny_encoder, 2, storage=storage, settings=settings)
    assert [row.number for row in more.rows] == [0, 1] and more.rows[0] == once.rows[0]
    with pytest.raises(InputError, match=r"begun with other settings \(epochs\); use the same"):
        go(parts, toy, tiny_encoder, 3, storage=storage, settings=settings_of(tiny_encoder, epochs=2))
    with pytest.raises(InputError, match="begun with other data;"):
        go((parts[1], parts[0].labeled()), toy, tiny_encoder, 3, storage=storage, settings=settings)
    with pytest.raises(InputError, match=r"bounds \(sigma\) and settings \(sigma\)"):
        go(
            parts,
            toy,
            tiny_encoder,
            3,
            storage=storage,
            settings=settings,
            space={"learning_rate": SPACE["learning_rate"]},
        )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("study.db", "expected the URL of a persistent database"),
        ("sqlite:///:memory:", "expected the URL of a persistent database"),
        ("sqlite:////no/such/folder/study.db", "cannot be used .*unable to open database file"),
        ("nosuch://host/name", "cannot be used .*nosuch"),
        ("postgresql+nosuchdriver://me:secret@host/name", "cannot be used|needs the Python package"),
        ("mysql+mysqlconnector://me:secret@127.0.0.1:1/name", "needs the Python package of mysql"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the sign of life fails too
def test_a_storage_that_is_lost_is_one_message(tmp_path: Path) -> None:
    lost = quick_study(open_storage(f"sqlite:///{tmp_path / 's.db'}"))

    def lose(trial: Trial) -> float | None:
        (tmp_path / "s.db").write_bytes(b"not a data base any more" * 1000)
        return parabola(trial)

    with pytest.raises(InputError, match=r"the storage is no longer available .* run the same command again"):
        lost.run(lose)


def test_processes_begun_together_open_one_new_storage(tmp_path: Path) -> None:
    code = "import sys; from graphloss.research.tuning.storage import open_storage; open_storage(sys.argv[1])"
    for attempt in range(2):
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        begun = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(3)]
        said = [each.communicate(timeout=120)[1] for each in begun]
        assert [each.returncode for each in begun] == [0, 0, 0], said


def test_settings_are_written_as_toml_reads_them(tmp_path: Path) -> None:
    data = DataSettings(text='a 😀 "column"', unlabeled="C:\\piles\\ä.txt")
    found = {"settings": TrainSettings(sigma="root"), "best": {"weight": 0.25}, "objective": "log_loss", "value": 0.5}
    tuned: Any = SimpleNamespace(count=lambda state: 1, **found)
    corpus: Any = SimpleNamespace(label_names=["a", "b"])
    (tmp_path / "best.toml").write_text(settings_file(tuned, corpus, "x.csv", data, tmp_path), encoding="utf-8")
    assert read_file(tmp_path / "best.toml") == (
        {"text": data.text, "unlabeled": data.unlabeled},
        {"sigma": "root", "weight": 0.25},
    )


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'graphloss\[tune\]'"):
        open_storage("sqlite:///study.db")


# Command


@pytest.fixture
def data(toy: Toy, tmp_path: Path) -> Path:
    """A folder with a test split whose texts are marked."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", range(48)), ("test", range(48, 64))):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            marked = [
                (toy.texts[row] + (" offside secret" if split == "test" else ""), toy.labels[row]) for row in rows
            ]
            csv.writer(stream).writerows([("text", "label"), *marked])
    return folder


def words(encoder: Path) -> list[object]:
    return ["--model", encoder, "--epochs", 2, "--batch-size", 16, "--max-length", 32, "--blend", 1, "--alpha", 1]


@pytest.mark.usefixtures("small")
def test_the_command_leaves_settings_that_train_takes(
    data: Path, tiny_encoder: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    seen: set[str] = set()
    for name in ("encode", "preprocess"):
        real = getattr(SentenceTransformer, name)

        def spy(self: Any, texts: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            seen.update([texts] if isinstance(texts, str) else texts)
            return real(self, texts, *args, **kwargs)

        monkeypatch.setattr(SentenceTransformer, name, spy)
    out = tmp_path / "tuned"
    code, said, error = call("tune", data, "--trials", 2, "--out", out, "--json", *words(tiny_encoder))
    assert code == 0, error
    assert len(seen) >= 48 and not [text for text in seen if "secret" in text]
    found = json.loads(said)
    assert found["trials"] == 2 and found["pruned"] == 0 and found["out"] == str(out)
    assert set(found["best"]) == {"learning_rate", "weight", "sigma"} and found["objective"] == "log_loss"
    assert error.count("\n") > 5 and "Next:" in error and "pruned" not in error
    assert {path.name for path in out.iterdir()} == {"best.toml", "trials.jsonl", "study.html", "study.db"}
    rows = [json.loads(line) for line in (out / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["number"] for row in rows] == [0, 1] and -max(row["score"] for row in rows) == found["value"]
    text = (out / "best.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == found["best"] | {
        **{"model": os.path.relpath(tiny_encoder, out), "epochs": 2, "batch_size": 16, "max_length": 32}
    }
    assert f"{found['value']:.4f}" in text and "graphloss train ../data --config best.toml" in text
    assert "2 trials" in text and not [path for path in out.iterdir() if str(data).encode() in path.read_bytes()]
    _, settings = read_file(out / "best.toml")
    assert Path(settings["model"]).samefile(tiny_encoder)
    assert {name: settings[name] for name in found["best"]} == found["best"]
    page = (out / "study.html").read_text(encoding="utf-8")
    assert "log-loss" in page and "learning_rate" in page and "default-src 'none'" in page and "<script src" not in page

    before = (out / "trials.jsonl").read_bytes()
    code, said, _ = call("tune", data, "--trials", 2, "--out", out, "--json", "--quiet", *words(tiny_encoder))
    assert code == 0 and json.loads(said) == found and (out / "trials.jsonl").read_bytes() == before
    code, _, error = call("tune", data, "--trials", 3, "--out", out, *words(tiny_encoder)[:-2])
    assert code == 2 and "begun with other bounds (alpha) and settings (alpha)" in error
    code, _, error = call("train", data, "--config", out / "best.toml", "--out", tmp_path / "run", "--quiet")
    assert code == 0, error
    kept = json.loads((tmp_path / "run" / "graphloss.json").read_text(encoding="utf-8"))["settings"]
    assert {name: kept[name] for name in found["best"]} == found["best"]


@pytest.mark.usefixtures("small")
def test_ctrl_c_leaves_the_best_so_far(
    data: Path, tiny_encoder: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "tuned", cross_validation.try_settings

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if (out / "best.toml").exists():
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(cross_validation, "try_settings", interrupted)
    command = ("tune", data, "--trials", 2, "--out", out, "--json", *words(tiny_encoder))
    code, said, error = call(*command)
    assert (
        code == 130 and said == "" and f"the best so far is in {out / 'best.toml'}; run the same command again" in error
    )
    assert (
        tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))["learning_rate"] == TrainSettings().learning_rate
    )
    monkeypatch.setattr(cross_validation, "try_settings", real)
    code, said, _ = call(*command)
    assert code == 0 and json.loads(said)["trials"] == 2 and json.loads(said)["failed"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--learning-rate", 2e-4, "--weight", 0.5, "--sigma", 0.3, "--alpha", 1], "no setting to search"),
        (["--storage", "study.db"], "expected the URL of a persistent database"),
        (["--temperature", 0.5], "loss 'gloss' has no setting 'temperature'"),
        (["--model", "/no/such/encoder"], "no such folder"),
        (["--preset", "papper"], "no preset 'papper'"),
        (["--out", "."], "contains other files"),
        (["--precision", "fp16", "--out", "tuned"], "fp16: needs a GPU"),
        (["--freeze", 9, "--out", "tuned"], "freeze 9: this encoder has"),
    ],
)
def test_wrong_input_is_refused_before_a_model_is_loaded(
    data: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    call: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: list[object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cross_validation, "load", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    code, _, error = call("tune", data, "--model", tiny_encoder, *options)
    assert code == 2 and said in error and error.startswith("error: ")
    assert not (tmp_path / "tuned").exists() and not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("small")
def test_an_attempt_needs_no_label_of_validation(toy: Toy, tiny_encoder: Path) -> None:
    settings = settings_of(tiny_encoder, epochs=1)
    tuned = go((Documents(toy.texts, toy.indices), Documents([], [])), toy, tiny_encoder, 1, settings=settings)
    assert tuned.value > 0 and tuned.objective == "log_loss" and torch.isfinite(torch.tensor(tuned.value))


@pytest.mark.usefixtures("small")
def test_a_timeout_lets_one_trial_run(parts: Any, toy: Toy, tiny_encoder: Path) -> None:
    settings = settings_of(tiny_encoder, epochs=1)
    assert len(go(parts, toy, tiny_encoder, 9, timeout=0.0, settings=settings).rows) == 1
    assert tuning.FAILURES > 1
