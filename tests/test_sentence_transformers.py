"""The losses inside the trainer of sentence-transformers: they train, and say what they want."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import torch
from conftest import Toy
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from torch import Tensor, nn

import graphloss
from graphloss import sentence_transformers as drop_in
from graphloss.losses.baselines import SupCon
from graphloss.losses.memory_bank import Memory
from graphloss.sentence_transformers import (
    BatchLoss,
    CombinedLoss,
    CosineLoss,
    CrossEntropyLoss,
    GLoss,
    NCALoss,
    PaperGLoss,
    SupConLoss,
    TripletLoss,
)

Make = Callable[[SentenceTransformer], BatchLoss]
MAKE: dict[str, Make] = {
    "GLoss": lambda model: GLoss(model, sigma=0.5),
    "GLoss, learned": lambda model: GLoss(model, sigma="learned"),
    "GLoss, spreading": lambda model: GLoss(model, sigma="root", alpha=0.9),
    "PaperGLoss": lambda model: PaperGLoss(model, num_labels=4, sigma=0.5),
    "SupConLoss": SupConLoss,
    "NCALoss": NCALoss,
    "TripletLoss": lambda model: TripletLoss(model, margin=0.5),
    "CosineLoss": CosineLoss,
    "CrossEntropyLoss": lambda model: CrossEntropyLoss(model, num_labels=4),
    "CombinedLoss": lambda model: CombinedLoss(model, num_labels=4),
    "CombinedLoss, learned": lambda model: CombinedLoss(model, 4, loss=GLoss(model, sigma="learned"), weight=0.8),
    "CombinedLoss, SupCon": lambda model: CombinedLoss(model, num_labels=4, loss=SupConLoss(model)),
}
CLASSES = {name: getattr(drop_in, name) for name in drop_in.__all__ if name != "BatchLoss"}


@pytest.fixture
def model(tiny_encoder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_encoder), device="cpu")


@pytest.fixture(scope="session")
def dataset(toy: Toy) -> Dataset:
    return Dataset.from_dict({"text": toy.texts, "label": toy.indices})


@pytest.fixture(autouse=True)
def same_dropout() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def trainer_of(
    model: SentenceTransformer, loss: Any, dataset: Dataset, folder: Path, **options: Any
) -> SentenceTransformerTrainer:
    given: dict[str, Any] = {
        "max_steps": 12,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    arguments = SentenceTransformerTrainingArguments(output_dir=str(folder), **given | options)
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=dataset, eval_dataset=dataset, loss=loss
    )


def own(loss: nn.Module) -> dict[str, Tensor]:
    """Parameters of a loss that are not its encoder's."""
    return {name: p for name, p in loss.named_parameters() if not name.startswith("model.")}


def features(model: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    return model.preprocess(texts)


OPTIONS: dict[type[BatchLoss], dict[str, Any]] = {
    PaperGLoss: {"num_labels": 4, "sigma": 0.5},
    TripletLoss: {"margin": 0.5},
    CrossEntropyLoss: {"num_labels": 4},
    CombinedLoss: {"num_labels": 4},
}


@pytest.mark.parametrize("name", list(CLASSES))
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(model: SentenceTransformer, toy: Toy, name: str) -> None:
    model.double().eval()
    tokens, labels = features(model, toy.texts[:16]), torch.tensor(toy.indices[:16])
    labels[3] = -1
    made = CLASSES[name]
    whole = made(model, **OPTIONS.get(made, {})).double()
    pieces = made(model, **OPTIONS.get(made, {}), mini_batch_size=5).double()
    pieces.load_state_dict(whole.state_dict())
    calls: list[int] = []
    model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0]["input_ids"])))
    found = []
    for loss in (whole, pieces):
        loss.zero_grad()
        value = loss([dict(tokens)], labels)
        value.backward()
        found.append((value.detach(), [p.grad.clone() for p in loss.parameters() if p.grad is not None]))
    assert calls == [16, 5, 5, 5, 1, 1, 5, 5, 5]  # forth, and once more on the way back, the last piece first
    assert sum(float(grad.norm()) for grad in found[0][1]) > 0 and len(found[0][1]) > 10
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
    assert pieces.get_config_dict()["mini_batch_size"] == 5 and "mini_batch_size" not in whole.get_config_dict()


def test_a_combination_takes_the_pieces_of_the_loss_in_it(model: SentenceTransformer) -> None:
    assert CombinedLoss(model, 4, loss=SupConLoss(model, mini_batch_size=8)).mini_batch_size == 8
    assert CombinedLoss(model, 4, loss=SupConLoss(model, mini_batch_size=8), mini_batch_size=4).mini_batch_size == 4
    with pytest.raises(ValueError, match="mini_batch_size must be at least 1 text, got 0"):
        GLoss(model, mini_batch_size=0)


def test_a_batch_that_teaches_nothing_is_warned_of_once(model: SentenceTransformer, toy: Toy) -> None:
    loss, tokens = GLoss(model), features(model, toy.texts[:3])
    model.train()
    with pytest.warns(UserWarning, match=r"in a batch of 3, no document has another of its class.*GROUP_BY_LABEL"):
        loss([tokens], torch.tensor([0, 1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss([tokens], torch.tensor([0, 1, 2]))
        for each in (GLoss(model), SupConLoss(model), CrossEntropyLoss(model, num_labels=4)):
            each([tokens], torch.tensor([0, 0, 1]))
        model.eval()
        GLoss(model)([tokens], torch.tensor([0, 1, 2]))


def test_every_class_is_seen() -> None:
    assert set(CLASSES) == {name.split(",")[0] for name in MAKE} and len(CLASSES) == 8
    assert all(issubclass(kind, BatchLoss) for kind in CLASSES.values())


class TestTraining:
    @pytest.mark.parametrize("name", MAKE)
    def test_it_trains(self, name: str, model: SentenceTransformer, dataset: Dataset, tmp_path: Path) -> None:
        loss = MAKE[name](model)
        assert isinstance(loss, CLASSES[name.split(",")[0]]) and loss.model is model
        before = {key: p.detach().clone() for key, p in loss.named_parameters()}
        trainer = trainer_of(model, loss, dataset, tmp_path, batch_sampler=BatchSamplers.GROUP_BY_LABEL)
        first = trainer.evaluate()["eval_loss"]
        trainer.train()
        last = trainer.evaluate()["eval_loss"]
        assert 0 < last < 0.95 * first
        moved = {key for key, p in loss.named_parameters() if not torch.equal(p, before[key])}
        idle = {key for key in before if key not in moved}
        assert all("pooler" in key for key in idle), idle  # which mean pooling does not use
        expected = {"head.weight", "head.bias"} if "Entropy" in name or "Combined" in name else set()
        if "learned" in name:
            expected |= {"objective.graph_loss.log_sigma" if "Combined" in name else "objective.log_sigma"}
        assert set(own(loss)) == expected <= moved
        assert sum(key.startswith("model.") for key in moved) >= 30
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert len(losses) == 12 and all(math.isfinite(value) for value in losses)

    @pytest.mark.parametrize("name", ["GLoss", "CombinedLoss"])
    def test_the_default_batches_will_do(
        self, name: str, model: SentenceTransformer, dataset: Dataset, tmp_path: Path
    ) -> None:
        trainer = trainer_of(model, MAKE[name](model), dataset, tmp_path)
        first = trainer.evaluate()["eval_loss"]
        trainer.train()
        assert trainer.evaluate()["eval_loss"] < 0.95 * first

    def test_the_head_and_sigma_can_have_a_rate_of_their_own(
        self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path
    ) -> None:
        loss = MAKE["CombinedLoss, learned"](model)
        trainer = trainer_of(
            model, loss, dataset, tmp_path, learning_rate=2e-5, learning_rate_mapping={"^(head|objective)": 1e-2}
        )
        before = {key: p.detach().clone() for key, p in loss.named_parameters()}
        trainer.train()
        step = {key: float((p.detach() - before[key]).abs().max()) for key, p in loss.named_parameters()}
        assert min(step[key] for key in own(loss)) > 1e-2
        assert 0 < max(change for key, change in step.items() if key.startswith("model.")) < 1e-3

    @pytest.mark.parametrize("name", MAKE)
    def test_a_wrapper_of_the_model_is_put_in_its_place(
        self, name: str, model: SentenceTransformer, dataset: Dataset, toy: Toy, tmp_path: Path
    ) -> None:
        """As the trainer does with the distributed one; without it the processes' gradients would stay apart."""

        class Wrapper(nn.Module):
            def __init__(self, inside: nn.Module) -> None:
                super().__init__()
                self.inside, self.calls = inside, 0

            def forward(self, *given: Any) -> Any:
                self.calls += 1
                return self.inside(*given)

        wrapper = Wrapper(model)
        trainer = trainer_of(model, MAKE[name](model), dataset, tmp_path)
        loss = trainer.override_model_in_loss(trainer.loss, wrapper)
        assert loss.model is wrapper and model not in [p for key, p in loss.named_children()]
        loss([features(model, toy.texts[:16])], torch.tensor(toy.indices[:16])).backward()
        assert wrapper.calls == 1  # one pass, whatever the loss combines
        assert not [key for key, _ in loss.named_parameters() if key.startswith("model.") and "inside" not in key]

    def test_a_loss_made_by_the_trainer(self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path) -> None:
        trainer = trainer_of(model, SupConLoss, dataset, tmp_path, max_steps=1)
        trainer.train()
        assert isinstance(trainer.loss, SupConLoss) and trainer.loss.model is model

    def test_a_checkpoint_holds_the_encoder_alone(
        self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path
    ) -> None:
        from safetensors.torch import load_file

        loss = MAKE["CombinedLoss, learned"](model)
        trainer_of(model, loss, dataset, tmp_path, max_steps=1, save_strategy="steps", save_steps=1).train()
        saved = [key for file in (tmp_path / "checkpoint-1").rglob("*.safetensors") for key in load_file(file)]
        assert len(saved) >= 30 and not [key for key in saved if "head" in key or "sigma" in key]
        card = (tmp_path / "checkpoint-1" / "README.md").read_text()
        for part in ("CombinedLoss", '"loss": "GLoss(sigma=\'learned\')"', '"weight": 0.8', "eprint={2604.25853}"):
            assert part in card

    def test_evaluation_leaves_the_random_split_alone(
        self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path
    ) -> None:
        loss = MAKE["PaperGLoss"](model)
        trainer = trainer_of(model, loss, dataset, tmp_path, max_steps=1)
        state = loss.objective.rng_state.clone()
        assert trainer.evaluate()["eval_loss"] == trainer.evaluate()["eval_loss"]
        assert torch.equal(loss.objective.rng_state, state)
        trainer.train()
        assert not torch.equal(loss.objective.rng_state, state)


class TestWhatIsComputed:
    @pytest.mark.parametrize("name", MAKE)
    def test_it_is_the_loss_of_the_embeddings(self, name: str, model: SentenceTransformer, toy: Toy) -> None:
        model.eval()
        loss = MAKE[name](model)
        labels = torch.tensor(toy.indices[:24])
        found = loss([features(model, toy.texts[:24])], labels)
        z = model(features(model, toy.texts[:24]))["sentence_embedding"]
        loss.eval()
        if isinstance(loss, CrossEntropyLoss):
            ce = nn.functional.cross_entropy(loss.head(z), labels)
            graph, weight = loss.objective.graph_loss, loss.objective.weight
            assert (graph is None) == (name == "CrossEntropyLoss") == (weight == 0)
            expected = ce if graph is None else (1 - weight) * ce + weight * graph(z, labels)
        else:
            expected = loss.objective(z, labels)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)

    def test_unlabeled_texts(self, model: SentenceTransformer, toy: Toy) -> None:
        model.eval()
        labels = torch.tensor(toy.indices[:24])
        labels[:8] = -1
        whole, part = features(model, toy.texts[:24]), features(model, toy.texts[8:24])
        graphs = 0
        for loss in [GLoss(model, sigma=0.02), *(make(model) for make in MAKE.values())]:
            both, alone = (float(loss([dict(x)], y).detach()) for x, y in ((whole, labels), (part, labels[8:])))
            if not any(isinstance(inside, graphloss.GLoss) for inside in loss.modules()):
                assert both == pytest.approx(alone, rel=1e-4)
            elif not graphs:  # the first: on an untrained encoder only a small sigma tells neighbors apart
                assert both != pytest.approx(alone, rel=1e-2)
            graphs += any(isinstance(inside, graphloss.GLoss) for inside in loss.modules())
        assert graphs == 7

    def test_combined_takes_any_loss_of_embeddings(self, model: SentenceTransformer) -> None:
        by_module = CombinedLoss(model, 4, loss=SupCon(0.2), weight=0.3)
        by_loss = CombinedLoss(model, 4, loss=SupConLoss(model, 0.2), weight=0.3)
        assert isinstance(by_module.objective.graph_loss, SupCon) and isinstance(by_loss.objective.graph_loss, SupCon)
        assert by_module.get_config_dict()["loss"] == "SupCon"
        assert by_loss.get_config_dict()["loss"] == "SupConLoss(temperature=0.2)"
        assert "khosla" in by_loss.citation and "2604.25853" in by_module.citation
        assert set(own(by_loss)) == {"head.weight", "head.bias"}

    def test_small_precision(self, model: SentenceTransformer, toy: Toy) -> None:
        labels = torch.tensor(toy.indices[:16])
        for name in MAKE:
            loss = MAKE[name](model)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss([features(model, toy.texts[:16])], labels)
            value.backward()
            assert value.dtype == torch.float32 and torch.isfinite(value)
            assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)
        model.bfloat16()
        value = CombinedLoss(model, 4)([features(model, toy.texts[:16])], labels)
        assert value.dtype == torch.float32 and torch.isfinite(value)

    def test_the_card_can_be_written(self, model: SentenceTransformer) -> None:
        weights = torch.tensor([1.0, 2.0, 0.5, 1.0])
        for loss in [
            *(make(model) for make in MAKE.values()),
            CrossEntropyLoss(model, 4, class_weights=weights),
            GLoss(model, class_weights=weights, k=3),
        ]:
            said = json.dumps(loss.get_config_dict())
            assert "tensor" not in said
            assert loss.citation.strip().startswith("@") and loss.citation.count("{") == loss.citation.count("}")
        assert json.loads(said) == {"sigma": "auto", "class_weights": [1.0, 2.0, 0.5, 1.0], "k": 3}


class TestRefusals:
    @pytest.mark.parametrize("kind", [GLoss, SupConLoss])
    def test_two_columns_of_texts(
        self, kind: Make, model: SentenceTransformer, dataset: Dataset, toy: Toy, tmp_path: Path
    ) -> None:
        two = dataset.add_column("other", toy.texts).select_columns(["text", "other", "label"])
        said = rf"{kind.__name__} expects one column of texts and one of labels, got 2 columns of texts; keep one"
        with pytest.raises(ValueError, match=said):
            trainer_of(model, kind(model), two, tmp_path, max_steps=1).train()

    def test_no_labels(self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="GLoss expects a column `label` of class indices, and there is none"):
            trainer_of(model, GLoss(model), dataset.select_columns(["text"]), tmp_path, max_steps=1).train()

    def test_scores_in_place_of_labels(self, model: SentenceTransformer, dataset: Dataset, tmp_path: Path) -> None:
        scored = dataset.rename_column("label", "score").map(lambda row: {"score": row["score"] / 3})
        with pytest.raises(ValueError, match=r"one class index per text, -1 for unlabeled, got torch\.float32"):
            trainer_of(model, GLoss(model), scored, tmp_path, max_steps=1).train()

    @pytest.mark.parametrize("inner", [CrossEntropyLoss, CombinedLoss])
    def test_two_heads(self, inner: Callable[..., BatchLoss], model: SentenceTransformer) -> None:
        with pytest.raises(ValueError, match=f"its own cross-entropy, and {inner.__name__} has one too"):
            CombinedLoss(model, 4, loss=inner(model, 4))

    def test_a_memory(self, model: SentenceTransformer) -> None:
        with pytest.raises(ValueError, match="a memory needs the number of each document"):
            GLoss(model, memory=Memory(4, 8, 32))

    def test_settings_out_of_bounds(self, model: SentenceTransformer) -> None:
        for make in (
            lambda: GLoss(model, sigma=-1.0),
            lambda: PaperGLoss(model, 4, gamma=1.0),
            lambda: SupConLoss(model, 0.0),
            lambda: TripletLoss(model, margin=-1.0),
            lambda: CombinedLoss(model, 4, weight=2.0),
        ):
            with pytest.raises(ValueError, match="must"):
                make()


def test_the_library_keeps_its_name(tmp_path: Path) -> None:
    """Inside graphloss/sentence_transformers.py and after it, `sentence_transformers` is the library."""
    code = """
import graphloss.sentence_transformers, importlib.util, sys
assert "sentence_transformers" not in sys.modules, "it is loaded before it is used"
print(importlib.util.find_spec("sentence_transformers").origin)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == Path(sentence_transformers.__file__)


def test_the_examples_of_the_page_run(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of docs/reference/losses.md, with the tiny encoder in place of the one named there."""
    page = (Path(graphloss.__file__).parents[2] / "docs" / "reference" / "losses.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    name = '"sentence-transformers/all-MiniLM-L6-v2"'
    assert len(blocks) == 2 and sum(name in block for block in blocks) == 1
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block.replace(name, repr(str(tiny_encoder))), {"__name__": "example"})
    assert (tmp_path / "tuned" / "modules.json").is_file()
