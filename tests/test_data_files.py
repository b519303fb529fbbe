"""Every kind of data file is read right or refused in one message: the kinds of `data_files`."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import documented
from data_files import Case, all_cases, random_cases, written

from graphloss.errors import InputError
from graphloss.text.corpus import load_corpus
from graphloss.text.read_texts import read_texts

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_data_file_is_read_right_or_refused(case: Case, tmp_path: Path) -> None:
    source = case.make(tmp_path)
    if isinstance(case.outcome, str):
        with pytest.raises(InputError) as refused:
            load_corpus(str(source), validation=0, describe="off", **case.options)
        assert case.outcome in str(refused.value)
        assert source.name in str(refused.value) and len(str(refused.value)) < 1_500
        return
    corpus = load_corpus(str(source), validation=0, describe="off", **case.options)
    assert list(zip(corpus.train.texts, corpus.train.names, strict=True)) == case.outcome
    assert case.warning in " ".join(corpus.warnings)
    header = not case.options.get("no_header", False)
    texts = [text for _, text in read_texts(source, text=case.options.get("text"), header=header)]
    if not any((source / f"test{suffix}").exists() for suffix in (".csv", ".txt")):
        assert texts == [text for text, _ in case.outcome]  # predict reads the same, and no label among them


@pytest.mark.parametrize("mark", [":", "$", "#", "，", "||"])
def test_a_table_divided_by_an_unknown_mark_is_not_one_column(mark: str, tmp_path: Path) -> None:
    content = "".join(f"a text of words{mark}music\n" for _ in range(9))
    path = written("a.csv", f"text{mark}label\n{content}")(tmp_path)
    if mark == "||":  # which is one that is known, twice
        assert {text for _, text in read_texts(path)} == {"a text of words"}
        return
    for read in (read_texts, load_corpus):
        with pytest.raises(InputError, match=r"looks like several names|has the columns"):
            list(read(str(path)))  # type: ignore[operator]
    assert [text for _, text in read_texts(path, text=f"text{mark}label")] == [f"a text of words{mark}music"] * 9


@pytest.mark.parametrize("line", ["<!DOCTYPE html>", "[", '[{"text": "u"}]', '["u", "v"]', "text~label"])
def test_what_is_no_text_a_line_is_refused_on_standard_input(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphloss.text.read_texts._as_they_come", lambda: iter([line.encode(), b"\na text\n"]))
    with pytest.raises(InputError, match="standard input"):
        list(read_texts("-"))


def test_there_are_many_kinds() -> None:
    assert len(CASES) == documented("data_files.py") and len({case.name for case in CASES}) == len(CASES)
    assert sum(isinstance(case.outcome, str) for case in CASES) > 70


def test_random_bytes_are_documents_or_one_message(tmp_path: Path) -> None:
    read = refused = 0
    for number, case in enumerate(random_cases(0, 150)):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = case.make(folder)
        try:
            corpus = load_corpus(str(source), validation=0, describe="off")
            assert all(text.strip() and "\0" not in text for text in corpus.train.texts), case.name
            read += 1
        except InputError as error:
            refused += source.name in str(error)
    assert read > 5 and refused > 50 and read + refused == 150
