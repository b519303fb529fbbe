"""What a run folder tells of its user: no path of the machine, and no text where none is to be kept."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Call, Toy

from graphloss.text.data_sources import find_again, name_to_keep
from graphloss.text.encoder_source import about, fingerprint, resolve


@pytest.fixture
def place(tmp_path: Path, toy: Toy, tiny_encoder: Path) -> Path:
    """A folder with data and an encoder in folders of their own."""
    (tmp_path / "secret data").mkdir()
    rows = [*zip(toy.texts, toy.labels, strict=True)]
    for name, part in {"toy.csv": rows, "more.csv": [(text, "") for text, _ in rows[:9]]}.items():
        with (tmp_path / "secret data" / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *part])
    shutil.copytree(tiny_encoder, tmp_path / "models" / "tiny")
    return tmp_path


def quick(place: Path) -> list[Any]:
    return ["--model", place / "models" / "tiny", "--epochs", 1, "--max-length", 32]


def everything(run: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file())


def test_no_file_of_a_run_holds_a_path_of_this_machine(call: Call, place: Path) -> None:
    data, more = place / "secret data" / "toy.csv", place / "secret data" / "more.csv"
    code, _, error = call(
        "train", data, "--validation", 0.1, "--unlabeled", more, "--out", place / "runs" / "one", *quick(place)
    )
    assert code == 0, error
    found = everything(place / "runs" / "one")
    assert b"toy.csv" in found and b"more.csv" in found and len(found) > 1_000_000
    for path in (place, place.parent, Path.home(), Path(__file__).parent.parent):
        assert str(path).encode() not in found, path
    info = json.loads((place / "runs" / "one" / "graphloss.json").read_text())
    assert info["data"]["source"] == "../../secret data/toy.csv" and info["settings"]["model"] == "../../models/tiny"
    assert info["encoder"]["name"] == "tiny"
    for words in (
        ("evaluate", "--split", "validation"),
        ("audit",),
    ):  # the data is found again, wherever they are typed
        code, _, error = call(words[0], place / "runs" / "one", *words[1:])
        assert code == 0, error
    code, _, error = call("evaluate", place / "runs" / "one", data)
    assert code == 2 and "flatter" in error
    copy = place / "elsewhere" / "toy.csv"
    copy.parent.mkdir()
    shutil.copy(data, copy)
    data.rename(place / "gone.csv")
    code, _, error = call("evaluate", place / "runs" / "one", copy)  # another place, and the same documents
    assert code == 2 and "flatter" in error
    shutil.move(copy, place / "else.csv")
    code, _, error = call("evaluate", place / "runs" / "one", "--split", "validation")
    assert code == 2 and "toy.csv" in error and "name it" in error


def test_a_way_through_the_root_or_past_the_home_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "somebody"
    (home / "runs" / "one").mkdir(parents=True)
    (tmp_path / "home" / "other").mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    for file, kept in (
        (home / "data.csv", "../../data.csv"),
        (home / "runs" / "one" / "inside.csv", "inside.csv"),
        (tmp_path / "home" / "other" / "theirs.csv", "theirs.csv"),
        (Path("/etc/passwd"), "passwd"),
    ):
        if file.is_relative_to(tmp_path):
            file.touch()
        assert name_to_keep(str(file), home / "runs" / "one") == kept
        again = find_again(kept, home / "runs" / "one")
        assert again == kept or Path(str(again)).samefile(file)
    for name in ("builtin", "hub:owner/name", "owner/name", None):
        assert name_to_keep(name, home) == name == find_again(name, home)


def test_a_run_is_resumed_with_its_data_or_the_same_elsewhere_and_with_no_other(call: Call, place: Path) -> None:
    data, run = place / "secret data" / "toy.csv", place / "runs" / "one"
    assert call("train", data, "--out", run, *quick(place))[0] == 0
    info = json.loads((run / "graphloss.json").read_text())
    from graphloss.inference.run_folder import write_info

    write_info(run, info | {"status": "running"})
    assert call("train", "--resume", "--out", run)[0] == 0
    write_info(run, info | {"status": "running"})
    copy = place / "copy.csv"
    shutil.move(data, copy)
    code, _, error = call("train", "--resume", "--out", run)
    assert code == 2 and "toy.csv" in error and "name it" in error
    assert call("train", copy, "--resume", "--out", run)[0] == 0
    write_info(run, info | {"status": "running"})
    copy.write_text(copy.read_text() + "a new text,space\n")
    code, _, error = call("train", copy, "--resume", "--out", run)
    assert code == 2 and "other data" in error
    copy.write_text("\n".join(copy.read_text().splitlines()[:-1]) + "\n")
    weights = place / "models" / "tiny" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, _, error = call("train", copy, "--resume", "--out", run)
    assert code == 2 and "another encoder" in error


def test_without_texts_no_word_of_the_data_is_in_the_folder(call: Call, place: Path, toy: Toy) -> None:
    run, config = place / "runs" / "one", place / "settings.toml"
    config.write_text("no-texts = true\n")
    for number, words in enumerate((["--no-texts"], ["--config", config])):
        run = place / "runs" / str(number)
        code, _, error = call("train", place / "secret data" / "toy.csv", "--out", run, *words, *quick(place))
        assert code == 0, error
        found = everything(run)
        assert not [text for text in toy.texts if text.encode() in found]
        assert not (run / "support.parquet").exists() and "--no-texts" in (run / "README.md").read_text()
        assert call("verify", run)[0] == 0 and call("predict", run, "a pan")[0] == 0 and call("report", run)[0] == 0
        code, _, error = call("audit", run, "--json")  # judged by the data, which is still there; nothing is kept
        assert code == 0 and not (run / "audit.jsonl").exists(), error
        code, _, error = call("predict", run, "a pan", "--explain")
        assert code == 2 and "keeps no training texts" in error
    code, _, error = call("tune", "builtin", "--config", config)
    assert code == 2 and "no_texts" in error


def test_the_card_names_base_model_language_and_license(call: Call, place: Path) -> None:
    packaged = resolve(None)
    assert about(packaged) == {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "language": "en",
        "license": "apache-2.0",
    }
    assert fingerprint(packaged) is None
    tiny = place / "models" / "tiny"
    head = "---\nlanguage:\n- de\n- en\nlicense: mit\nbase_model: some/model\n---\n# A model\n"
    (tiny / "README.md").write_text(head)
    run = place / "runs" / "one"
    assert call("train", place / "secret data" / "toy.csv", "--out", run, *quick(place))[0] == 0
    card = (run / "README.md").read_text()
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.S).group(1))
    assert (front["language"], front["license"], front["base_model"]) == (["de", "en"], "mit", "some/model")
    assert "License of the base model: mit" in card and "Language: de, en" in card and "support.parquet" in card
    for broken in ("", "---\n[\n---\n", "---\n- a\n---\n", "---\na: &a [*a]\n---\n", "---\nlicense: {a: b}\n---\n"):
        (tiny / "README.md").write_text(broken)
        assert about(str(tiny)) == {}
