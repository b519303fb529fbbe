"""The encoder's door: what it accepts, what it refuses at once, and embedding in chunks as if there were none."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from conftest import Toy

from graphloss.errors import InputError
from graphloss.losses.graph import unit
from graphloss.text.encoder import _beginning, embed, encode, load, tokenize
from graphloss.text.encoder_source import check_length, resolve
from graphloss.training.batches import collate

TEXTS = [
    "goal",
    "the keeper and the striker of the league then",
    "onion in the pan",
    "a rocket",
    "the the the the the moon",
]


def test_chunks_do_not_change_the_embedding_or_its_gradient(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    features = encoder.preprocess(TEXTS)
    results = []
    for chunk in (1, 2, 5):
        encoder.zero_grad()
        z = embed(encoder, features, chunk=chunk)
        (z * torch.arange(z.numel()).view_as(z)).sum().backward()
        grads = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
        assert grads.abs().max() > 0
        results.append((z.detach(), grads))
    for z, grads in results[1:]:
        torch.testing.assert_close(z, results[0][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grads, results[0][1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(results[0][0], encode(encoder, TEXTS), rtol=1e-5, atol=1e-6)
    assert results[0][0].norm(dim=1).sub(1).abs().max() < 1e-5


def test_words_are_looked_up_once_with_the_gradient_of_every_look(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    table = encoder[0].auto_model.get_input_embeddings()
    looked: list[int] = []
    table.register_forward_pre_hook(lambda module, args: looked.append(args[0].numel()))
    features = encoder.preprocess(TEXTS)
    weight = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(0))
    grads = []
    for text in (False, True):  # all together, and each text by itself as a reference
        encoder.zero_grad()
        parts = [encoder.preprocess([each]) for each in TEXTS] if text else [features]
        z = [unit(encoder(part)["sentence_embedding"]) for part in parts] if text else [embed(encoder, features)]
        (torch.cat(z) * weight).sum().backward()
        grads.append(table.weight.grad.clone())
    words = features["input_ids"].unique()
    assert looked[0] == len(words) < features["attention_mask"].sum() and len(looked) == 2 + len(TEXTS)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6)
    used = torch.zeros(len(table.weight), dtype=torch.bool).index_fill(0, words, True)
    used[table.padding_idx] = False
    assert (grads[0].norm(dim=1) > 0).equal(used)
    assert "forward" not in vars(table)


def test_a_table_that_does_more_than_look_up_is_asked_for_every_chunk(tiny_encoder: Path) -> None:
    class Louder(torch.nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return 3.0 * super().forward(ids)

    encoder = load(str(tiny_encoder)).eval()
    plain = embed(encoder, encoder.preprocess(TEXTS)).detach()
    old = encoder[0].auto_model.get_input_embeddings()
    louder = Louder(*old.weight.shape)
    with torch.no_grad():
        louder.weight.copy_(old.weight / 3.0)
    encoder[0].auto_model.set_input_embeddings(louder)
    torch.testing.assert_close(embed(encoder, encoder.preprocess(TEXTS)), plain, rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_is_cut_too(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    encoder.tokenizer.padding_side = "left"
    features = encoder.preprocess(TEXTS)
    assert features["attention_mask"][0, 0] == 0
    seen = []
    encoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]["input_ids"].shape[1]))
    embed(encoder, features, chunk=1)
    assert sorted(seen) == sorted(features["attention_mask"].sum(1).tolist())


def test_chunks_of_equal_length_texts_hold_no_pad_token(tiny_encoder: Path, toy: Toy) -> None:
    encoder = load(str(tiny_encoder)).eval()
    features = encoder.preprocess(toy.texts)
    computed = []
    encoder[0].register_forward_pre_hook(lambda module, args: computed.append(args[0]["input_ids"].numel()))
    embed(encoder, features, chunk=8)
    needed = int(features["attention_mask"].sum())
    assert needed <= sum(computed) < 1.15 * needed < features["input_ids"].numel()


def test_a_bare_transformer_is_pooled_at_cls(bare_encoder: Path) -> None:
    encoder = load(resolve(str(bare_encoder)))
    assert encoder[1].pooling_mode == "cls"


def test_a_model_keeps_its_own_pooling(tiny_encoder: Path) -> None:
    assert load(resolve(str(tiny_encoder)))[1].pooling_mode == "mean"


def test_encode_agrees_with_the_library_and_computes_fewer_pad_tokens(
    tiny_encoder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphloss.text.encoder.TEXTS_AT_ONCE", 40)  # several times, and once fewer
    encoder = load(str(tiny_encoder)).train()
    texts = ["simmer " * k for k in range(1, 9)] * 8 + [". " * k for k in range(1, 29)] + ["x" * 400, "\U0001f600"]
    assert len(texts) % 40 and len(texts) > 80
    computed: list[int] = []
    encoder[0].register_forward_pre_hook(lambda module, args: computed.append(args[0]["input_ids"].numel()))
    z = encode(encoder, texts)
    ours = sum(computed)
    computed.clear()
    torch.testing.assert_close(z, unit(encoder.encode(texts, convert_to_tensor=True).cpu()), rtol=1e-5, atol=1e-6)
    assert ours < sum(computed)
    assert not z.is_inference()  # a head can learn from them
    assert capsys.readouterr().err == ""
    encode(encoder, texts[:3], progress=True)
    assert "embedding" in capsys.readouterr().err


def test_what_a_text_has_once_goes_with_its_rows(bare_encoder: Path) -> None:
    """A recurrent encoder reads the lengths of its texts, one per text."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import LSTM, Pooling, WordEmbeddings
    from sentence_transformers.sentence_transformer.modules.tokenizer.whitespace import WhitespaceTokenizer

    words = sorted({word for text in TEXTS for word in text.split()})
    torch.manual_seed(0)
    table = WordEmbeddings(WhitespaceTokenizer(words), torch.randn(len(words), 8), update_embeddings=True)
    lstm = LSTM(8, 6)
    pooling = Pooling(lstm.get_embedding_dimension(), pooling_mode="mean")
    encoder = SentenceTransformer(modules=[table, lstm, pooling], device="cpu").eval()
    expected = unit(encoder.encode(TEXTS, convert_to_tensor=True))
    torch.testing.assert_close(encode(encoder, TEXTS, batch_size=2), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(embed(encoder, tokenize(encoder, TEXTS), chunk=1), expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_that_truncates_its_embeddings_does_so_here_too(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).eval()
    encoder.truncate_dim = 8
    expected = unit(encoder.encode(TEXTS, convert_to_tensor=True))
    torch.testing.assert_close(encode(encoder, TEXTS), expected)
    torch.testing.assert_close(embed(encoder, tokenize(encoder, TEXTS)), expected)
    assert encode(encoder, []).shape == (0, 8)


def test_encode_leaves_training_mode_as_it_was(tiny_encoder: Path) -> None:
    encoder = load(str(tiny_encoder)).train()
    encode(encoder, TEXTS)
    assert encoder.training


def test_no_texts_give_no_rows(tiny_encoder: Path) -> None:
    assert encode(load(str(tiny_encoder)), []).shape == (0, 32)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_hub_name_that_cannot_be_had_is_refused_at_once(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match="not in the local cache"):
        resolve(name)
    assert time.perf_counter() - began < 10


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    asked = []

    class Session:
        def head(self, url: str, *, timeout: float) -> None:
            asked.append((url, timeout))
            raise OSError("Network is unreachable")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    with pytest.raises(InputError, match=r"cannot be reached \(Network is unreachable\)"):
        resolve("nobody/no-such-model")
    assert asked == [(constants.ENDPOINT, 3.0)]  # the library's own session, so through its proxy


def test_a_hub_name_within_reach_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, url: str, *, timeout: float) -> None: ...

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    assert resolve("nobody/no-such-model") == "nobody/no-such-model"


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "~/no-such-folder"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        resolve(name)


def test_a_folder_that_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        resolve(str(tmp_path))


def test_damaged_weights_are_said_without_a_traceback(tiny_encoder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_encoder, broken)
    (broken / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(broken))


def without_tokenizer(folder: Path, copy: Path) -> Path:
    shutil.copytree(folder, copy)
    for file in copy.rglob("*"):
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            file.unlink()
    return copy


@pytest.mark.parametrize("kind", ["bare", "tiny", "inner", "settings alone"])
def test_a_transformer_without_a_tokenizer_is_refused(
    kind: str, bare_encoder: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = without_tokenizer(bare_encoder if kind == "bare" else tiny_encoder, tmp_path / "folder")
    if kind == "inner":
        move_inside(folder)
    if kind == "settings alone":
        shutil.copy(tiny_encoder / "tokenizer_config.json", folder)
    with pytest.raises(InputError, match="no tokenizer"):
        resolve(str(folder))


def move_inside(folder: Path) -> None:
    """The layout of older sentence-transformers: the transformer in a folder of its own."""
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "0_Transformer").mkdir()
    ours = ("modules.json", "config_sentence_transformers.json", "README.md")
    for file in [file for file in folder.iterdir() if file.is_file() and file.name not in ours]:
        file.rename(folder / "0_Transformer" / file.name)
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def test_a_transformer_in_a_folder_of_its_own(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "folder"))
    move_inside(folder)
    torch.testing.assert_close(encode(load(resolve(str(folder))), TEXTS), encode(load(str(tiny_encoder)), TEXTS))
    with pytest.raises(InputError, match="at most 64"):
        check_length(str(folder), 65)


@pytest.mark.parametrize(
    ("file", "content"),
    [("vocab.txt", ""), ("spiece.model", ""), ("tokenizer_config.json", '{"tokenizer_class": "ByT5Tokenizer"}')],
)
def test_every_kind_of_vocabulary_is_known(bare_encoder: Path, tmp_path: Path, file: str, content: str) -> None:
    folder = without_tokenizer(bare_encoder, tmp_path / "folder")
    (folder / file).write_text(content)
    assert resolve(str(folder)) == str(folder)


@pytest.fixture
def static_encoder(bare_encoder: Path, tmp_path: Path) -> Path:
    """A table of word vectors: no transformer, no attention mask."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bare_encoder / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(str(tmp_path / "s"))
    return tmp_path / "s"


def test_a_table_of_word_vectors_is_embedded_in_one_pass(static_encoder: Path) -> None:
    encoder = load(resolve(str(static_encoder)))
    features = collate(encoder, [(text, 0, row) for row, text in enumerate(TEXTS)])["features"]
    assert "attention_mask" not in features
    z = embed(encoder, features, chunk=2)
    torch.testing.assert_close(z, encode(encoder, TEXTS))
    z[:, 0].sum().backward()
    assert encoder[0].embedding.weight.grad.abs().max() > 0
    check_length(str(static_encoder), 10_000)
    with pytest.raises(InputError, match="reads texts whole"):
        load(str(static_encoder), max_length=32)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_default_prompt_is_in_training_too(tiny_encoder: Path, include: bool, side: str) -> None:
    encoder = load(str(tiny_encoder)).eval()
    plain = encode(encoder, TEXTS)
    encoder.prompts, encoder.default_prompt_name = {"topic": "rocket of the onion "}, "topic"
    encoder.set_pooling_include_prompt(include)
    encoder.tokenizer.padding_side = side
    batch = collate(encoder, [(text, 0, row) for row, text in enumerate(TEXTS)])["features"]
    z = embed(encoder, batch, chunk=1)  # one by one: padding on the left would shift BERT's positions
    torch.testing.assert_close(z, encode(encoder, TEXTS, batch_size=1), rtol=1e-5, atol=1e-6)
    assert (z - plain).abs().max() > 1e-3
    encoder.default_prompt_name = None
    torch.testing.assert_close(embed(encoder, tokenize(encoder, TEXTS), chunk=1), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("source", ["bare", "tiny"])
def test_more_tokens_than_the_encoder_has_positions(source: str, bare_encoder: Path, tiny_encoder: Path) -> None:
    folder = str(bare_encoder if source == "bare" else tiny_encoder)
    for check in (check_length, lambda name, most: load(name, max_length=most)):
        with pytest.raises(InputError, match=r"max_length 65: .* at most 64"):
            check(folder, 65)
        check(folder, 64)
        check(folder, None)
    assert load(folder, max_length=64).max_seq_length == 64


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "t5"}, None),
        ({"model_type": "deberta", "max_position_embeddings": -1}, None),
    ],
)
def test_what_a_config_says_of_the_length(tmp_path: Path, config: dict[str, object], most: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_length(str(tmp_path), most or 100_000)
    if most:
        with pytest.raises(InputError, match=f"give --max-length {most} or less"):
            check_length(str(tmp_path), most + 1)


def test_a_config_that_cannot_be_read_is_left_to_loading(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    check_length(str(tmp_path), 100_000)
    check_length("nobody/no-such-model", 100_000)


def test_a_download_shows_its_bar_and_a_model_that_is_here_loads_in_silence(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sentence_transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    real = sentence_transformers.SentenceTransformer

    def noisy(*args: Any, **kwargs: Any) -> Any:
        print(f"bars {'off' if are_progress_bars_disabled() else 'on'}", file=sys.stderr)
        return real(*args, **kwargs)

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", noisy)
    load(str(tiny_encoder))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("graphloss.text.encoder.is_cached", lambda source: False)
    load(str(tiny_encoder))
    assert "bars on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "the onion and the garlic in a pan. " * 3_000,
        "onion" * 20_000 + " the garlic and a pan" * 50,  # a word that is one unknown token, and then words
        " " * 100_000 + "the garlic and a pan",
        "the\n\tgarlic\n" * 10_000,
        "鍋" * 50_000,
        "onion" * 20_000,
        "the garlic " * 40 + "x" * 50_000,
    ],
    ids=["words", "a long word first", "blanks first", "lines", "no blanks", "one word", "a long word behind"],
)
def test_a_long_text_is_cut_before_it_is_tokenized_and_has_the_same_tokens(tiny_encoder: Path, text: str) -> None:
    model = load(str(tiny_encoder))
    cut, whole = tokenize(model, [text]), model.preprocess([text])
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(cut[name], whole[name])
    assert _beginning(model, "short") == "short"
    if text.startswith("the onion"):
        assert len(_beginning(model, text)) < 10_000
