"""Training: one pass, one graph a batch, the best epoch kept, an interrupted run that ends as if it had not been."""

from __future__ import annotations

import errno
import json
import logging
import random
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import Toy
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback
from transformers.trainer import safe_globals

from graphloss.errors import InputError
from graphloss.inference import run_folder, self_training
from graphloss.inference.graphs.corpus_graph import assortativity, corpus_graph
from graphloss.inference.linear_probe import Probe, linear_probe
from graphloss.inference.predictor import Predictor
from graphloss.inference.self_training import self_train_head
from graphloss.losses.functional import gloss
from graphloss.losses.graph import unit
from graphloss.losses.modules import Combined, GLoss
from graphloss.research.bench.curve import curve_of
from graphloss.text.encoder import encode, load
from graphloss.text.texts_and_labels import Documents
from graphloss.training import checkpoints, presets, size_defaults, trainer
from graphloss.training import fit as fit_module
from graphloss.training.checkpoints import complete, last_whole, step_of
from graphloss.training.fit import Fitted, fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.pseudo_labels import pooled, pseudo_labeled
from graphloss.training.settings import LOSSES, TrainSettings
from graphloss.training.size_defaults import (
    Sizes,
    batch_size_for,
    epochs_for,
    format_graphs,
    graph_size_for,
    steps_of_epoch,
)
from graphloss.training.trainable_model import GraphModel, start_model
from graphloss.training.weight_interpolation import Blend, untied

QUICK = {"blend": 1.0, "epochs": 3, "batch_size": 16, "max_length": 32, "learning_rate": 1e-3}


class Interrupt(TrainerCallback):
    """Stops the process, as Ctrl-C does, after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def parts(toy: Toy) -> tuple[Documents, Documents, list[str]]:
    return Documents(toy.texts[:48], toy.indices[:48]), Documents(toy.texts[48:], toy.indices[48:]), toy.names


def run(
    encoder: Path,
    parts: Any,
    folder: Path | None,
    callbacks: list[Any] | None = None,
    *,
    early: list[Any] | None = None,
    **settings: Any,
) -> Fitted:
    documents, validation, label_names = parts
    chosen = TrainSettings(**(QUICK | settings))
    loaded = load(str(encoder), max_length=chosen.max_length)
    checked = preflight(check_settings(chosen, documents, validation, label_names), loaded)
    return fit(loaded, checked, folder=folder, callbacks=callbacks, early_callbacks=early)


def same(a: Fitted, b: Fitted) -> None:
    """Bit for bit the same model and the same history, but for the clock."""
    for name in ("weight", "bias", "support", "support_labels"):
        assert torch.equal(getattr(a.model.predictor, name), getattr(b.model.predictor, name)), name
    assert (a.model.predictor.sigma, a.model.predictor.graph_share) == (
        b.model.predictor.sigma,
        b.model.predictor.graph_share,
    )
    for (name, x), y in zip(a.model.encoder.state_dict().items(), b.model.encoder.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    timeless = [
        [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in fitted.history] for fitted in (a, b)
    ]
    assert timeless[0] == timeless[1] and len(a.history) > 1


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"sigma": "learned"}, 4),
        ({"sigma": "root", "accumulate": 2}, 3),
        ({"mode": "standalone", "sigma": "mst"}, 7),
        ({"loss": "ce"}, 2),
        ({"freeze": 1}, 4),
        ({"class_weights": "balanced"}, 4),
        ({"memory": 4, "sigma": "learned"}, 4),
        ({"memory": 30, "mode": "standalone", "accumulate": 2}, 2),
        ({"graph_size": 24, "freeze": 1}, 3),
    ],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    tiny_encoder: Path, parts: Any, tmp_path: Path, settings: dict[str, Any], step: int
) -> None:
    whole = run(tiny_encoder, parts, tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(step)], **settings)
    same(whole, run(tiny_encoder, parts, tmp_path / "cut", **settings))


@pytest.fixture
def tied_encoder(bare_encoder: Path, tmp_path: Path) -> Path:
    """A T5 of one layer, whose word table has two names."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(bare_encoder)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"


def test_tied_weights_are_saved_once_blended_once_and_resumed(tied_encoder: Path, parts: Any, tmp_path: Path) -> None:
    encoder = load(str(tied_encoder))
    state = encoder.state_dict()
    assert len(untied(state)) < len(state)
    blend = Blend(encoder, 0.5)
    before = {name: x.clone() for name, x in untied(state).items()}
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    blend.keep()
    for name, x in untied(encoder.state_dict()).items():
        torch.testing.assert_close(x, before[name] + 0.5)

    whole = run(tied_encoder, parts, tmp_path / "whole", blend=0.5)
    with pytest.raises(KeyboardInterrupt):
        run(tied_encoder, parts, tmp_path / "cut", [Interrupt(4)], blend=0.5)
    same(whole, run(tied_encoder, parts, tmp_path / "cut", blend=0.5))


def test_a_training_that_diverges_says_so(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "encode", lambda encoder, texts, **options: torch.full((len(texts), 32), torch.nan))
    with pytest.raises(InputError, match=r"diverged.*after step 3.*smaller --learning-rate"):
        run(tiny_encoder, parts, tmp_path / "run")


def test_a_training_with_trust_that_diverges_says_so(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.training.starting_point.doubtful", lambda *given: True)
    with pytest.raises(InputError, match=r"diverged.*smaller --learning-rate"):
        run(tiny_encoder, parts, tmp_path / "run", clean="auto", learning_rate=1e30)


def test_every_class_has_a_part_in_the_start_of_the_head(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "SAMPLE", 2)  # fewer than the four classes
    fitted = run(tiny_encoder, parts, tmp_path / "run", loss="ce")
    assert fitted.model.predictor.bias.min() > -100


def test_an_epoch_longer_than_the_patience_of_a_user_is_saved_within(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "EVALUATE_EVERY", 2)  # an epoch has 3 steps
    whole = run(tiny_encoder, parts, tmp_path / "whole")
    assert [row["step"] for row in whole.history] == [2, 4, 6, 8, 9]  # and once more at the end
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(6)])
    assert step_of(complete(tmp_path / "cut")[-1]) == 4  # in the middle of the second epoch
    same(whole, run(tiny_encoder, parts, tmp_path / "cut"))


def test_what_nobody_resumes_keeps_only_the_weights_of_the_best_epoch(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_encoder, parts, tmp_path / "whole")
    kept: list[set[str]] = []
    seal = checkpoints.seal

    def spy(checkpoint: Path, seconds: float) -> None:
        kept.append({path.name for path in checkpoint.iterdir()})
        seal(checkpoint, seconds)

    monkeypatch.setattr(checkpoints, "seal", spy)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    same(whole, run(tiny_encoder, parts, None))
    assert kept and all(names == {checkpoints.WEIGHTS, checkpoints.STATE} for names in kept)
    assert not any((tmp_path / "temporary").iterdir())


def test_without_validation_documents_little_is_written(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    unscored = (parts[0], Documents([], []), parts[2])  # an epoch has 3 steps
    saved: list[int] = []

    class Saved(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            saved.append(state.global_step)

    whole = run(tiny_encoder, unscored, tmp_path, [Saved()], epochs=5)
    assert saved == [6, 12, 15]
    saved.clear()
    same(whole, run(tiny_encoder, unscored, None, [Saved()], epochs=5))
    assert not saved


def test_a_run_that_was_killed_after_its_last_step_is_not_trained_further(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_defaults, "FEW_LABELS", 0)  # judged by F1, which stands still
    whole = run(tiny_encoder, parts, tmp_path, patience=1, learning_rate=1e-9)  # nothing gets better: it stops early
    assert len(whole.history) == 2
    same(whole, run(tiny_encoder, parts, tmp_path, patience=1, learning_rate=1e-9))


def test_a_checkpoint_is_whole_and_holds_no_pickle_of_ours(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    run(tiny_encoder, parts, tmp_path)
    found = complete(tmp_path)
    assert 1 <= len(found) <= 2  # the last and the best
    assert not list(tmp_path.glob("**/training_args.bin")) and not list(tmp_path.glob(".writing*"))
    for path in found:
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            with safe_globals():  # numpy's arrays, which the trainer allows as well
                torch.load(path / name, weights_only=True)


def test_the_seconds_of_an_epoch_are_without_the_writing_of_checkpoints(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, seal = [0.0], checkpoints.seal

    def slow(checkpoint: Path, seconds: float) -> None:
        clock[0] += 100.0
        seal(checkpoint, seconds)

    monkeypatch.setattr(trainer, "time", Mock(perf_counter=lambda: clock[0], process_time=lambda: clock[0]))
    monkeypatch.setattr(checkpoints, "seal", slow)
    history = run(tiny_encoder, parts, tmp_path).history
    assert clock[0] == 100.0 * len(history) > 100.0
    assert {row["seconds"] + row["processor_seconds"] for row in history} == {0.0}


def test_half_a_checkpoint_is_passed_over(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path, [Interrupt(7)])
    (tmp_path / ".writing" / "checkpoint-9").mkdir(parents=True)  # what a kill while writing leaves
    (tmp_path / "checkpoint-9").mkdir()
    assert [step_of(path) for path in complete(tmp_path)][-1] == 6
    assert len(run(tiny_encoder, parts, tmp_path).history) == 3


def test_training_learns_and_keeps_the_best_epoch(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    fitted = run(tiny_encoder, parts, tmp_path, epochs=6)
    scores = {row["epoch"]: row["macro_f1"] for row in fitted.history}
    assert scores[fitted.best_epoch] == max(scores.values()) > 0.9
    documents, validation, _ = parts
    found = fitted.model.predictor.head(encode(fitted.model.encoder, validation.texts)).argmax(1)
    assert (found == torch.tensor(validation.labels)).float().mean() == next(
        row["accuracy"] for row in fitted.history if row["epoch"] == fitted.best_epoch
    )
    assert fitted.model.predictor.support.shape == (len(documents), 32)


def test_the_standalone_mode_has_no_head_and_is_judged_by_silhouette(
    tiny_encoder: Path, parts: Any, tmp_path: Path
) -> None:
    fitted = run(tiny_encoder, parts, tmp_path, mode="standalone", epochs=5)
    silhouettes = [row["macro_silhouette"] for row in fitted.history]
    assert silhouettes[-1] > silhouettes[0] and "ce" not in fitted.history[0]
    assert fitted.history[-1]["macro_f1"] > 0.9


def test_without_validation_the_last_epoch_is_kept(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    documents, _, label_names = parts
    fitted = run(tiny_encoder, (documents, Documents([], []), label_names), tmp_path)
    assert fitted.best_epoch == 3 and "macro_f1" not in fitted.history[-1]


@pytest.fixture
def half(parts: Any) -> Any:
    """Every other training document without its label."""
    documents, validation, label_names = parts
    labels = [label if row % 2 else -1 for row, label in enumerate(documents.labels)]
    return Documents(documents.texts, labels), validation, label_names


def test_unlabeled_documents_teach_the_head(
    tiny_encoder: Path, half: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_defaults, "LABELS", 0)  # the training is as without them
    documents, *rest = half
    taught = run(tiny_encoder, half, tmp_path / "taught")
    untaught = run(tiny_encoder, half, tmp_path / "off", corpus_graph="off")
    alone = run(tiny_encoder, (documents.labeled(), *rest), tmp_path / "alone")
    same(untaught, alone)
    assert alone.self_training is None and untaught.self_training is None and taught.self_training is not None
    z = encode(taught.model.encoder, documents.unlabeled().texts)
    own = alone.model.predictor
    predictor, what = self_train_head(own, z, fallback=Probe(own.weight, own.bias))
    assert taught.self_training == what and torch.equal(taught.model.predictor.weight, predictor.weight)
    assert what.documents == 24 and what.trust == pytest.approx(24 / 224)
    assert sum(what.shares) == pytest.approx(1, abs=1e-5)
    assert torch.equal(taught.model.predictor.support, alone.model.predictor.support)
    assert not torch.allclose(taught.model.predictor.weight, alone.model.predictor.weight)
    assert alone.model.predictor.unlabeled_support is None and alone.model.predictor.neighbor_weight == 0
    assert torch.equal(taught.model.predictor.unlabeled_support, z.half().float())
    everyone = unit(torch.cat([taught.model.predictor.support, z]))
    labels = torch.tensor(documents.labeled().labels + [-1] * 24)
    said = torch.where(labels >= 0, labels, taught.model.predictor.head(everyone).argmax(1))
    r = assortativity(corpus_graph(everyone), said)
    assert r > 0 and taught.model.predictor.neighbor_weight == pytest.approx(
        self_training.LARGEST_NEIGHBOR_WEIGHT * what.trust * r**2, rel=1e-4
    )
    assert taught.model.predictor.graph_share == pytest.approx((1 - what.trust) * alone.model.predictor.graph_share)


def test_of_many_unlabeled_documents_some_are_kept_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_training, "KEPT_DOCUMENTS", 5)
    z = unit(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))
    alone = Predictor(z[:4] * 4, torch.zeros(4), z[:4], torch.arange(4), 0.3, 0.5)
    few, what = self_train_head(alone, torch.cat([z[4:], z[4:]]))
    kept = few.unlabeled_support
    assert what.documents == 24 and what.trust == pytest.approx(24 / 224)
    assert sum(what.shares) == pytest.approx(1, abs=1e-5)
    places = [int((row - torch.cat([z[4:], z[4:]])).abs().sum(1).argmin()) for row in kept]
    assert places != list(range(5)) and torch.equal(
        kept, self_train_head(alone, torch.cat([z[4:], z[4:]]))[0].unlabeled_support
    )


def test_unlabeled_documents_change_nothing_of_the_fine_tuning(tiny_encoder: Path, half: Any, tmp_path: Path) -> None:
    """They serve self-training alone: encoder, loss and every figure are those of the labeled documents."""
    documents, validation, label_names = half
    plain = run(tiny_encoder, half, tmp_path / "plain", corpus_graph="off", memory=3)
    alone = run(tiny_encoder, (documents.labeled(), validation, label_names), tmp_path / "alone", memory=3)
    assert 0 < documents.labeled_count < len(documents) and plain.history[-1]["graph"] > 0
    same(plain, alone)


@pytest.mark.parametrize("objective", ["combined", "standalone"])
def test_one_pass_over_the_encoder_and_one_graph_over_the_batch(tiny_encoder: Path, toy: Toy, objective: str) -> None:
    encoder = load(str(tiny_encoder)).eval()
    graph = GLoss(sigma=0.3)
    head = torch.nn.Linear(32, 4)
    model = GraphModel(encoder, *((head, Combined(graph, 0.5)) if objective == "combined" else (None, graph)))
    passed: list[int] = []
    encoder[0].register_forward_pre_hook(lambda module, args: passed.append(args[0]["input_ids"].shape[0]))
    labels = torch.tensor(toy.indices)
    loss = model(encoder.preprocess(toy.texts), labels)["loss"]
    assert sum(passed) == len(toy.texts)
    z = encode(encoder, toy.texts)
    expected = gloss(z, labels, sigma=0.3).loss
    if objective == "combined":
        expected = 0.5 * expected + 0.5 * torch.nn.functional.cross_entropy(head(z), labels)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().max() > 0
        for p in encoder[0].parameters()
        if p.ndim > 1 and p.grad is not None
    )
    assert sum(p.grad is not None for p in encoder.parameters()) > 10


def test_mixed_precision_trains(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    fitted = run(tiny_encoder, parts, tmp_path, precision="bf16")
    assert fitted.history[-1]["macro_f1"] > 0.5 and fitted.model.predictor.weight.dtype == torch.float32


@pytest.mark.parametrize(("count", "least", "most"), [(16, 60, 60), (616, 6, 30), (10_000, 1, 5), (100_000, 1, 5)])
def test_the_number_of_epochs_suits_the_number_of_documents(count: int, least: int, most: int) -> None:
    assert least <= epochs_for(count, TrainSettings()) <= most
    assert epochs_for(count, TrainSettings(epochs=7)) == 7


@pytest.mark.parametrize(
    ("sizes", "batch", "graph", "steps"),
    [
        ({}, 128, 128, 79),
        ({"batch_size": 100}, 100, 100, 100),
        ({"graph_size": 4096}, 128, 4096, 3),
        ({"graph_size": 4096, "accumulate": 2}, 128, 4096, 2),
        ({"graph_size": 64}, 64, 64, 157),
        ({"graph_size": 64, "batch_size": 16}, 16, 64, 157),
        ({"graph_size": 20_000, "batch_size": 512}, 512, 20_000, 1),
    ],
)
def test_the_graph_decides_about_steps_and_the_batch_about_memory(
    sizes: dict[str, int], batch: int, graph: int, steps: int
) -> None:
    settings = TrainSettings(**sizes)
    assert (batch_size_for(10_000, settings), graph_size_for(10_000, settings)) == (batch, graph)
    assert steps_of_epoch(10_000, settings) == steps


def test_a_graph_of_several_batches_is_said() -> None:
    assert format_graphs(128, 128) == "graphs of 128"
    assert format_graphs(4096, 128) == "graphs of 4,096 in batches of 128"


def test_a_sample_is_balanced_over_the_classes() -> None:
    labels = [0] * 90 + [1] * 9 + [2] + [-1] * 50
    sample = Documents([str(row) for row in range(150)], labels).labeled(12, seed=1)
    assert sorted(sample.labels) == [0] * 6 + [1] * 5 + [2] or sorted(sample.labels) == [0] * 5 + [1] * 6 + [2]
    assert all(labels[int(text)] == label for text, label in zip(sample.texts, sample.labels, strict=True))


def test_a_checkpoint_holds_encoder_head_and_loss(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    run(tiny_encoder, parts, tmp_path, sigma="root")
    state = json.loads((complete(tmp_path)[-1] / "trainer_state.json").read_text())
    from safetensors.torch import load_file

    tensors = load_file(complete(tmp_path)[-1] / "model.safetensors")
    assert {"head.weight", "objective.graph_loss.sigma_value"} <= set(tensors)
    assert state["global_step"] == step_of(complete(tmp_path)[-1])


def test_the_encoder_is_blended_with_the_untouched_one(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    parts = (parts[0], Documents([], []), parts[2])  # without validation both keep their last epoch
    untouched = load(str(tiny_encoder)).state_dict()
    whole = run(tiny_encoder, parts, tmp_path / "a", blend=1.0).model.encoder.state_dict()
    half = run(tiny_encoder, parts, tmp_path / "b", blend=0.5).model.encoder.state_dict()
    moved = 0
    for name, tensor in half.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (whole[name] + untouched[name]) / 2)
            moved += bool((whole[name] != untouched[name]).any())
    assert moved > 10


class TestPseudoLabels:
    @pytest.mark.parametrize(
        ("labeled", "unlabeled", "pseudo", "copies"),
        [(8, 0, 0, 1), (8, 99, 0, 1), (8, 100, 25, 3), (6, 2000, 494, 8), (100, 1_000_000, 400, 4), (600, 4000, 0, 1)],
    )
    def test_labels_are_repeated_beside_them_and_never_more_than_they(
        self, labeled: int, unlabeled: int, pseudo: int, copies: int
    ) -> None:
        sizes = Sizes.of(labeled, TrainSettings(), unlabeled)
        assert (sizes.pseudo_labels, sizes.copies, sizes.documents) == (pseudo, copies, labeled * copies + pseudo)
        assert Sizes.of(labeled, TrainSettings(corpus_graph="off"), unlabeled) == Sizes.of(labeled, TrainSettings())

    def test_the_surest_of_every_class_in_its_share(self) -> None:
        rng = np.random.default_rng(0)
        p = rng.dirichlet(np.ones(3), 400) * [3.0, 1.0, 0.2]  # the third class is rare
        p /= p.sum(axis=1, keepdims=True)
        texts = [str(row) for row in range(400)]
        found, best = pseudo_labeled(texts, p, 100), p.argmax(axis=1)
        rows = [int(text) for text in found.texts]
        assert len(set(rows)) == 100 and found.labels == best[rows].tolist()
        for label in range(3):
            mine, chosen = np.flatnonzero(best == label), [row for row in rows if best[row] == label]
            assert len(chosen) == pytest.approx(len(mine) / 4, abs=1) and len(chosen) >= 1
            assert p[chosen].max(axis=1).min() >= np.sort(p[mine].max(axis=1))[-len(chosen)]

    def test_two_teachers_count_by_their_agreement(self) -> None:
        rng = np.random.default_rng(1)
        truth = rng.integers(3, size=600)
        one, other = (rng.dirichlet(np.ones(3), 600) for _ in range(2))
        for p, share in ((one, 0.6), (other, 0.8)):  # so many of its texts are surely right
            right = rng.random(600) < share
            p[right] = 0.05 + 0.85 * np.eye(3)[truth[right]]
        first, second = one.argmax(axis=1), other.argmax(axis=1)
        observed = (first == second).mean()
        by_chance = sum((first == label).mean() * (second == label).mean() for label in range(3))
        kappa = (observed - by_chance) / (1.0 - by_chance)
        assert 0.2 < kappa < 0.8
        literal = np.array(
            [
                [a ** (kappa**4) * b ** (1.0 - kappa**4) for a, b in zip(rows, others, strict=True)]
                for rows, others in zip(one, other, strict=True)
            ]
        )
        np.testing.assert_allclose(pooled(one, other), literal / literal.sum(axis=1, keepdims=True), atol=1e-12)

    def test_teachers_that_agree_are_the_untouched_one_and_those_that_do_not_the_trained_one(self) -> None:
        rng = np.random.default_rng(2)
        one = rng.dirichlet(np.ones(4), 200)
        sharper = one**3 / (one**3).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(pooled(one, sharper), one, atol=1e-12)
        np.testing.assert_allclose(pooled(one, np.roll(one, 1, axis=1)), np.roll(one, 1, axis=1), atol=1e-6)
        single = np.tile([0.7, 0.3], (5, 1))  # of one class alone kappa is not defined
        np.testing.assert_allclose(pooled(single, single[:, [0, 1]] ** 2 / 0.58), single, atol=1e-12)
        certain = np.array([[1.0, 0.0], [0.0, 1.0]])
        assert np.isfinite(pooled(certain, certain[::-1])).all()

    def test_the_training_takes_them_and_the_model_does_not_keep_them(
        self, tiny_encoder: Path, half: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(size_defaults, "FEWEST_PSEUDO_LABELS", 1)
        seen: list[Documents] = []
        starts: list[dict[str, torch.Tensor]] = []
        real = fit_module.GraphTrainer

        def watched(model: Any, *args: Any, checked: Any, **others: Any) -> Any:
            seen.append(checked.documents)
            starts.append({name: x.clone() for name, x in model.encoder.state_dict().items()})
            return real(model, *args, checked=checked, **others)

        monkeypatch.setattr(fit_module, "GraphTrainer", watched)
        documents = half[0]
        fitted = run(tiny_encoder, half, tmp_path)
        own, rest = documents.labeled(), set(documents.unlabeled().texts)
        assert len(own) == 24 and (seen[0].texts, seen[0].labels) == (own.texts, own.labels)  # first the labels alone
        assert seen[1].texts[:24] == own.texts and seen[1].labels[:24] == own.labels
        assert len(seen[1]) == 30 and set(seen[1].texts[24:]) < rest and min(seen[1].labels) >= 0
        untouched = load(str(tiny_encoder)).state_dict()
        trained = fitted.model.encoder.state_dict()
        assert len(seen) == 2 and all(torch.equal(start[name], x) for start in starts for name, x in untouched.items())
        assert sum(not torch.equal(trained[name], x) for name, x in untouched.items()) > 10
        assert fitted.model.texts == own.texts and len(fitted.model.predictor.support) == 24
        curve = curve_of(fitted.history, early=fitted.early_history)  # its seconds are those of both trainings
        assert fitted.early_history and fitted.early_history[-1]["step"] == 6
        spent = sum(row["seconds"] for row in fitted.early_history + fitted.history)
        assert curve[-1]["seconds"] == pytest.approx(spent) and len(curve) == len(fitted.history)

    @pytest.mark.parametrize(
        ("early", "step", "before"), [(True, 3, 0), (True, 6, 1_000), (False, 1, 1_000), (False, 5, 2_000)]
    )
    def test_a_training_resumes_alike_from_either_of_its_parts(
        self,
        tiny_encoder: Path,
        half: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        early: bool,
        step: int,
        before: int,
    ) -> None:
        """It tells the time of all of them, too."""
        monkeypatch.setattr(size_defaults, "FEWEST_PSEUDO_LABELS", 1)
        whole = run(tiny_encoder, half, tmp_path / "whole")
        stop: list[Any] = [Interrupt(step)]
        with pytest.raises(KeyboardInterrupt):
            run(tiny_encoder, half, tmp_path / "cut", [] if early else stop, early=stop if early else [])
        for path in complete(tmp_path / "cut" / fit_module.LABELS_ALONE):
            checkpoints.seal(path, 1_000.0)
        for path in complete(tmp_path / "cut"):
            checkpoints.seal(path, 2_000.0)  # both parts together
        resumed = run(tiny_encoder, half, tmp_path / "cut")
        same(whole, resumed)
        assert resumed.seconds is not None and before < resumed.seconds < before + 100

    def test_a_damaged_checkpoint_of_the_first_training_is_passed_over(
        self, tiny_encoder: Path, half: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(size_defaults, "FEWEST_PSEUDO_LABELS", 1)
        whole = run(tiny_encoder, half, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(tiny_encoder, half, tmp_path / "cut", [Interrupt(1)])
        last = complete(tmp_path / "cut" / fit_module.LABELS_ALONE)[-1]
        kept = (last / "model.safetensors").read_bytes()
        (last / "model.safetensors").write_bytes(kept[: len(kept) // 2])
        assert checkpoints.damaged(last.parent) == [last]
        same(whole, run(tiny_encoder, half, tmp_path / "cut"))


def test_a_resumed_run_knows_how_long_it_has_waited(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    # rates so small that no weight changes, so that no epoch is better than the first: an end at the fourth
    settings = {
        "epochs": 9,
        "patience": 3,
        "learning_rate": 1e-30,
        "head_learning_rate": 1e-30,
        "batch_size": 16,
        "seed": 7,
    }
    whole = run(tiny_encoder, parts, tmp_path / "whole", **settings)
    assert whole.best_epoch is not None and whole.best_epoch + 3 == len(whole.history) < 9
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(3 * len(whole.history) - 1)], **settings)
    same(whole, run(tiny_encoder, parts, tmp_path / "cut", **settings))


def test_a_blended_run_resumes_alike(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    whole = run(tiny_encoder, parts, tmp_path / "whole", blend=0.5)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(5)], blend=0.5)
    same(whole, run(tiny_encoder, parts, tmp_path / "cut", blend=0.5))


@pytest.mark.parametrize("loss", ["gloss", "ce", "supcon"])
def test_a_training_that_doubts_resumes_alike(
    loss: str, tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.inference.label_errors.WRONG", -1.0)
    monkeypatch.setattr("graphloss.inference.label_errors.KNOWN", -1.0)
    whole = run(tiny_encoder, parts, tmp_path / "whole", loss=loss, clean="auto")
    plain = run(tiny_encoder, parts, tmp_path / "plain", loss=loss)
    assert whole.doubted and not plain.doubted
    assert whole.history[-1]["loss"] != plain.history[-1]["loss"]
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(5)], loss=loss, clean="auto")
    same(whole, run(tiny_encoder, parts, tmp_path / "cut", loss=loss, clean="auto"))


def test_a_damaged_checkpoint_costs_an_epoch_and_not_the_run(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    whole = run(tiny_encoder, parts, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(7)])
    last = complete(tmp_path / "cut")[-1]
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors", "trainer_state.json"):
        kept = (last / name).read_bytes()
        (last / name).write_bytes(kept[: len(kept) // 2])
        assert last_whole(tmp_path / "cut") != last
        for share in (0.1, 0.5, 0.99):  # one bit of the numbers, which any reader takes for others
            place = int(share * len(kept))
            (last / name).write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
            assert last_whole(tmp_path / "cut") != last and checkpoints.damaged(tmp_path / "cut") == [last]
        (last / name).unlink()
        assert last_whole(tmp_path / "cut") != last
        (last / name).write_bytes(kept)
    assert last_whole(tmp_path / "cut") == last and not checkpoints.damaged(tmp_path / "cut")
    (last / "rng_state.pth").unlink()
    same(whole, run(tiny_encoder, parts, tmp_path / "cut"))


def test_a_resumed_run_tells_the_time_of_all_its_parts(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path, [Interrupt(7)])
    for path in complete(tmp_path):
        checkpoints.seal(path, 1_000.0)
    seconds = run(tiny_encoder, parts, tmp_path).seconds
    assert seconds is not None and 1_000 < seconds < 1_100


def test_a_disk_that_fills_under_a_checkpoint_is_an_error_of_the_disk(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = (OSError(28, "No space left on device"), SafetensorError("I/O error"), RuntimeError("inline_container.cc"))
    for number, error in enumerate(errors):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_save_checkpoint", Mock(side_effect=error))
            with pytest.raises(OSError, match=str(folder)) as full:
                run(tiny_encoder, parts, folder)
        assert full.value.errno in (errno.ENOSPC, errno.EIO) and not complete(folder)
    monkeypatch.setattr(Trainer, "_save_checkpoint", Mock(side_effect=RuntimeError("of something else")))
    with pytest.raises(RuntimeError, match="of something else"):
        run(tiny_encoder, parts, tmp_path / "else")


def test_without_a_silhouette_the_standalone_mode_is_judged_by_f1(
    tiny_encoder: Path, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [toy.labels.index(name) for name in toy.names]  # one validation document per class: no silhouette
    held = Documents([toy.texts[row] for row in rows], list(range(4)))
    rest = [row for row in range(64) if row not in rows]
    train = Documents([toy.texts[row] for row in rest], [toy.indices[row] for row in rest])
    monkeypatch.setattr(size_defaults, "FEW_LABELS", 0)
    fitted = run(tiny_encoder, (train, held, toy.names), tmp_path, mode="standalone")
    assert [row["score"] for row in fitted.history] == [row["macro_f1"] for row in fitted.history]


def test_every_loss_trains_the_encoder_in_both_modes(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    documents, validation, label_names = parts
    hidden = Documents(documents.texts, [-1 if row % 6 == 0 else label for row, label in enumerate(documents.labels)])
    untouched, tried = load(str(tiny_encoder)).state_dict(), 0
    for loss in LOSSES:
        for mode in ("combined", "standalone")[: 1 if loss == "ce" else 2]:
            shown, asked = (hidden, validation, label_names), {"loss": loss, "mode": mode, "epochs": 1}
            fitted = run(tiny_encoder, shown, tmp_path / f"{loss}-{mode}", **asked)
            assert all(np.isfinite(row["loss"]) for row in fitted.history), (loss, mode)
            assert loss == "ce" or all(0.2 < row["coverage"] <= 1 for row in fitted.history), (loss, mode)
            assert ("ce" in fitted.history[0]) == (mode == "combined")
            moved = [
                name for name, x in fitted.model.encoder.state_dict().items() if not torch.equal(x, untouched[name])
            ]
            assert len(moved) > 10, (loss, mode)
            tried += 1
    assert tried == 13


@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_published_settings_train_every_loss(tiny_encoder: Path, parts: Any, tmp_path: Path, loss: str) -> None:
    given = presets.settings("paper", "r8", loss) | {"epochs": 1, "max_length": 32, "batch_size": 16}
    fitted = run(tiny_encoder, parts, tmp_path, **given)
    assert given["class_weights"] == "balanced" and len(fitted.history) == 1
    assert np.isfinite(fitted.history[0]["loss"]) and fitted.model.predictor.weight.abs().sum() > 0


def test_one_step_moves_the_encoder_by_every_schedule(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    schedules = next(item for item in fields(TrainSettings) if item.name == "schedule").metadata["choices"]
    untouched = load(str(tiny_encoder)).state_dict()
    for schedule in schedules:
        options = {"epochs": 1, "batch_size": 48, "weight_decay": 0.0, "schedule": schedule}
        fitted = run(tiny_encoder, parts, tmp_path / schedule, **options)
        assert fitted.history[-1]["step"] == 1
        moved = [not torch.equal(x, untouched[name]) for name, x in fitted.model.encoder.state_dict().items()]
        assert sum(moved) > 20, schedule
    assert len(schedules) == 2


def test_the_published_schedule_steps_down_once_and_resumes_alike(
    tiny_encoder: Path, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STEP_DOWN_EPOCH", 1)
    rates: list[list[float]] = []

    class Rates(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rates[-1].append(kwargs["lr_scheduler"].get_last_lr()[0])

    rates.append([])
    whole = run(tiny_encoder, parts, tmp_path / "whole", [Rates()], schedule="step", weight_decay=0.0)
    # the rate of the next step, as the callback sees it: 3 steps per epoch
    np.testing.assert_allclose(rates[0], [1e-3] * 2 + [1e-4] * 7)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, parts, tmp_path / "cut", [Interrupt(4)], schedule="step", weight_decay=0.0)
    same(whole, run(tiny_encoder, parts, tmp_path / "cut", schedule="step", weight_decay=0.0))


def test_the_head_begins_as_a_probe_or_at_random(tiny_encoder: Path, parts: Any) -> None:
    documents, _, label_names = parts
    encoder = load(str(tiny_encoder))
    start, heads = encode(encoder, documents.texts), {}
    for head_start in ("probe", "random"):
        torch.manual_seed(0)
        settings = TrainSettings(head_start=head_start)
        head = start_model(encoder, start, documents, documents, len(label_names), settings).head
        assert head is not None
        heads[head_start] = head.weight.detach()
    probe = linear_probe(start, documents.labels, len(label_names))
    torch.testing.assert_close(heads["probe"], probe.weight)
    assert (heads["random"] - probe.weight).abs().max() > 0.1


def test_a_checkpoint_holds_the_memory_and_every_document_once(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    documents, _, _ = parts
    hidden = Documents(documents.texts, [-1 if row % 6 == 0 else label for row, label in enumerate(documents.labels)])
    fitted = run(tiny_encoder, (hidden, *parts[1:]), tmp_path, memory=30, corpus_graph="off")
    tensors = load_file(complete(tmp_path)[-1] / "model.safetensors")
    found = tensors["objective.graph_loss.memory.documents"]
    known = hidden.labeled().labels
    for label, ring in enumerate(found):
        assert sorted(ring[ring >= 0].tolist()) == [row for row, own in enumerate(known) if own == label]
    plain = run(tiny_encoder, (hidden, *parts[1:]), tmp_path / "plain", corpus_graph="off")
    assert [row["coverage"] for row in fitted.history][1:] == [1.0, 1.0]
    assert fitted.history[-1]["graph"] != plain.history[-1]["graph"]


def test_too_large_a_memory_is_refused_before_any_work(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--memory 3000000: .* remember at most 2,097,152 documents per class"):
        run(tiny_encoder, parts, tmp_path, memory=3_000_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bars", [True, False])
def test_the_callers_log_levels_and_bars_stay_as_they_were(
    tiny_encoder: Path, parts: Any, tmp_path: Path, bars: bool
) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as of_transformers

    names = ("sentence_transformers", "transformers", "datasets", "huggingface_hub", "accelerate")

    def state() -> list[Any]:
        levels = [logging.getLogger(name).level for name in names]
        return [*levels, of_transformers.is_progress_bar_enabled(), are_progress_bars_disabled()]

    before = state()
    try:
        for place, name in enumerate(names):
            logging.getLogger(name).setLevel(11 + place)
        (of_transformers.enable_progress_bar if bars else of_transformers.disable_progress_bar)()
        mine = state()
        assert mine == [11, 12, 13, 14, 15, bars, not bars]
        fitted = run(tiny_encoder, parts, tmp_path / "checkpoints", epochs=1)
        run_folder.write_model(tmp_path, fitted.model)
        load(str(tmp_path / run_folder.ENCODER))
        assert state() == mine
    finally:
        for name, level in zip(names, before, strict=False):
            logging.getLogger(name).setLevel(level)
        (of_transformers.enable_progress_bar if before[5] else of_transformers.disable_progress_bar)()


def test_the_callers_random_states_stay_as_they_were(tiny_encoder: Path, parts: Any, tmp_path: Path) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    documents, validation, label_names = parts
    encoder = load(str(tiny_encoder), max_length=32)
    settings = TrainSettings(epochs=1, batch_size=12, loss="gloss-paper", head_start="random")
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    before = states()
    checked = preflight(check_settings(settings, documents, validation, label_names), encoder)
    fit(encoder, checked, folder=tmp_path)
    assert states() == before
