"""What all tests share: no network, a calm CPU, repeatable hypothesis, and an encoder that trains in seconds."""

from __future__ import annotations

import gc
import os
import re

# Read when the libraries are first imported, so they must be set before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers with two threads each would wait for one another

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "graphloss", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "graphloss"))


def pytest_collection_finish() -> None:
    spare_the_collector()


def spare_the_collector() -> None:
    """Take what the imported libraries keep for ever out of its sight: every training calls it, at 0.3 s per call."""
    gc.collect()
    gc.freeze()


TOPICS = {
    "cooking": "onion garlic pan oven butter recipe simmer flour spoon taste boil salt",
    "football": "goal striker referee match penalty league keeper pitch corner kick coach offside",
    "music": "guitar melody chord drum concert singer rhythm album piano tune verse chorus",
    "space": "rocket orbit planet moon launch telescope comet gravity crew star satellite probe",
}
Call = Callable[..., tuple[int, str, str]]
COMMON = "the a of and with to in on we they it was is this that very then after before again today"


def documented(script: str) -> int:
    """How many inputs `docs/research/how-we-test.md` says that a script has."""
    page = Path(__file__).parent.parent / "docs" / "research" / "how-we-test.md"
    rows = [line.split("|") for line in page.read_text(encoding="utf-8").splitlines() if f"| `{script}` |" in line]
    (count,) = [found[1] for row in rows if (found := re.match(r" (?:over )?(\d+) $", row[2]))]
    return int(count)


@dataclass(frozen=True)
class Toy:
    """A corpus whose classes have words of their own, so that a model can learn it."""

    texts: list[str]
    labels: list[str]

    @property
    def names(self) -> list[str]:
        """The label names, sorted."""
        return sorted(set(self.labels))

    @property
    def indices(self) -> list[int]:
        """The class index of each document, by the order of `names`."""
        return [self.names.index(label) for label in self.labels]


def make_toy(sizes: dict[str, int], *, seed: int = 0) -> Toy:
    """Documents of 6 to 12 words, a third of them from the class's own dozen; `sizes` counts documents per class."""
    rng = np.random.default_rng(seed)
    common = COMMON.split()
    documents = []
    for label, size in sizes.items():
        own = TOPICS[label].split()
        for _ in range(size):
            words = [rng.choice(own) if rng.random() < 0.35 else rng.choice(common) for _ in range(rng.integers(6, 13))]
            words[rng.integers(len(words))] = rng.choice(own)  # at least one word tells the class
            documents.append((" ".join(map(str, words)), label))
    order = rng.permutation(len(documents))
    return Toy([documents[i][0] for i in order], [documents[i][1] for i in order])


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Type a command; get its exit code, standard output and standard error."""
    from graphloss import cli

    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphloss", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return typed


@pytest.fixture(scope="session")
def toy() -> Toy:
    """64 documents of 4 classes of unequal size."""
    return make_toy({"cooking": 24, "football": 18, "music": 14, "space": 8})


@pytest.fixture(scope="session")
def toy_maker() -> Callable[..., Toy]:
    """`make_toy`, for tests that need other sizes or seeds."""
    return make_toy


@pytest.fixture(scope="session")
def bare_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers and 32 dimensions as transformers saves it: without any file of sentence-transformers."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "bare"
    words = sorted({word for text in [COMMON, *TOPICS.values()] for word in text.split()})
    letters = [prefix + letter for prefix in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*letters, *".,!?'", *words])]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=64)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(bare_encoder: Path) -> Path:
    """The same encoder as a sentence-transformers model: mean pooling, then unit length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    folder = bare_encoder.parent / "tiny"
    transformer = modules.Transformer(str(bare_encoder), max_seq_length=32)
    pooling = modules.Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling, modules.Normalize()], device="cpu").save(str(folder))
    spare_the_collector()  # a run of one file may have imported the library just now
    return folder
