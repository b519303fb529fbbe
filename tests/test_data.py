"""Every format gives the same documents, splits and shots keep their promises, and errors say the repair."""

import io
import json
import os
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphloss.errors import InputError
from graphloss.text.corpus import load_corpus, load_split
from graphloss.text.corpus_summary import describe
from graphloss.text.data_sources import goes_by_name, list_corpora
from graphloss.text.file_formats import IN_MEMORY, LISTED, column_names, rows
from graphloss.text.read_texts import read_texts
from graphloss.text.stratified_selection import few_shots, hold_out
from graphloss.text.texts_and_labels import Documents

SIZES = {  # class names are not asserted, numbers of documents are: train, validation, test, classes
    "mr": (6397, 711, 3554, 2),
    "r8": (4936, 549, 2189, 8),
    "r52": (5865, 667, 2568, 52),
    "ohsumed": (3021, 336, 4043, 23),
    "20ng": (10182, 1132, 7532, 20),
    "banking77": (9233, 770, 3080, 77),
}
TEXTS = ['a "quoted" word, a comma', "two\nlines", "Größe, naïve, 数", "plain", "more plain", "x" * 200_000]
LABELS = ["good", "bad", "good", "bad", "", "good"]


def write(path: Path, texts: list, labels: list | None, *, text: str = "text", label: str = "label") -> Path:
    columns = {text: texts} | ({label: labels} if labels is not None else {})
    listed = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix in (".csv", ".tsv"):
        import csv

        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns.keys(), *(row.values() for row in listed)])
    elif path.suffix == ".json":
        path.write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row) for row in listed) + "\n", encoding="utf-8")
    return path


def many(*sizes: int) -> tuple[list[str], list[str]]:
    """Different texts, so many a class."""
    labels = [f"class {c}" for c, size in enumerate(sizes) for _ in range(size)]
    return [f"document {i} of {label}" for i, label in enumerate(labels)], labels


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"])
def test_every_format_gives_the_same_documents(tmp_path, suffix):
    path = write(tmp_path / f"some{suffix}", TEXTS, LABELS)
    split = load_split(str(path))
    assert split.texts == [text for text, label in zip(TEXTS, LABELS, strict=True) if label]
    assert split.names == [label for label in LABELS if label]
    corpus = load_corpus(str(path), validation=0)
    assert corpus.train == Documents.named(TEXTS, ["good", "bad", "good", "bad", None, "good"])
    assert corpus.train.labels == [1, 0, 1, 0, -1, 1]
    assert (corpus.name, corpus.label_names, corpus.test, len(corpus.validation)) == ("some", ["bad", "good"], None, 0)
    assert [text for _, text in read_texts(path)] == TEXTS


def test_the_fingerprint_tells_corpora_apart_and_not_formats(tmp_path):
    prints = [load_corpus(str(write(tmp_path / f"a{end}", TEXTS, LABELS))).fingerprint for end in (".csv", ".parquet")]
    other = load_corpus(str(write(tmp_path / "b.csv", TEXTS, [*LABELS[:-1], "bad"]))).fingerprint
    assert len(prints[0]) == 64
    assert prints[0] == prints[1] != other


def test_byte_order_mark_semicolons_and_unquoted_tabs(tmp_path):
    (tmp_path / "a.csv").write_bytes("﻿text;label\nein Text, noch einer;gut\nzwei;schlecht\n".encode())
    assert load_corpus(str(tmp_path / "a.csv"), validation=0).train.texts == ["ein Text, noch einer", "zwei"]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"No," he said\tdrama\n6" of "snow\tweather\n', encoding="utf-8")
    assert load_corpus(str(tmp_path / "a.tsv"), validation=0).train.texts == ['"No," he said', '6" of "snow']


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.csv", "text\tlabel\nu, w\tx\nv\ty\n", ["u, w", "v"]),
        ("a.csv", "text;label\nu, w;x\nv;y\n", ["u, w", "v"]),
        ("a.csv", "text|label\nu|x\nv|y\n", ["u", "v"]),
        ("a.csv", "sep=;\ntext;label\nu, w;x\nv;y\n", ["u, w", "v"]),
        ("a.csv", '"sep=;"\ntext;label\nu;x\nv;y\n', ["u", "v"]),
        ("a.csv", '"text";"label";"note, or more"\nu;x;1\nv;y;2\n', ["u", "v"]),
        ("a.csv", '"text",label,"a;b;c"\nu;w,x,1\nv,y,2\n', ["u;w", "v"]),
        ("a.tsv", "text,label\nu,x\nv,y\n", ["u", "v"]),
        ("a.tsv", 'text\tlabel\n"u\tx\nv"\ty\n', ['"u', 'v"']),
        ("a.tsv", 'label\ttext\nx\t"u\ny\tv"\nx\tw\n', ['"u', 'v"', "w"]),
        ("a.tsv", 'text\tlabel\n"u ""w"""\tx\nv\ty\n', ['u "w"', "v"]),
        ("a.tsv", 'text\tlabel\n"two\nlines"\tx\nv\ty\n', ["two\nlines", "v"]),
    ],
)
def test_the_delimiter_is_seen_from_the_content(tmp_path, name, content, texts):
    (tmp_path / name).write_text(content, encoding="utf-8")
    corpus = load_corpus(str(tmp_path / name), validation=0)
    assert corpus.train.texts == texts and corpus.label_names == ["x", "y"]
    assert [text for _, text in read_texts(tmp_path / name)] == texts


def test_a_quote_over_rows_of_tabs_is_refused(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"two\nlines"\tx\n"v\tx\nw"\ty\n')
    with pytest.raises(InputError, match="line 4 opens a quote that line 5 closes"):
        load_corpus(str(tmp_path / "a.tsv"))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 0, 2], ["1", "0", "2"]),
        ([1.0, 0.0, None], ["1", "0", None]),
        ([1.5, 2.0, float("nan")], ["1.5", "2", None]),
        ([True, False, None], ["True", "False", None]),
        ([" a", "b ", "  "], ["a", "b", None]),
        (["1.0", "v2.0", "1.10"], ["1.0", "v2.0", "1.10"]),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_labels_become_names(tmp_path, suffix, labels, names):
    path = write(tmp_path / f"a{suffix}", ["u", "v", "w"], labels)
    assert load_corpus(str(path), validation=0).train.names == names


def test_numbers_of_csv_lose_an_empty_fraction(tmp_path):
    path = write(tmp_path / "a.csv", list("uvwxy"), ["1.0", "2", "", "-3.0", "1.10"])
    assert load_corpus(str(path), validation=0).train.names == ["1", "2", None, "-3", "1.10"]


def test_names_stored_in_parquet_are_used(tmp_path):
    about = {"info": {"features": {"label": {"names": ["cold", "warm"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": list("uvw"), "label": [1, 0, -1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "a.parquet")
    assert load_corpus(str(tmp_path / "a.parquet"), validation=0).train.names == ["warm", "cold", None]


# -- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"), [("Sentence", "Class"), ("review", "sentiment"), ("Utterance ", "INTENT"), ("content", "target")]
)
def test_columns_are_guessed_by_name(tmp_path, text, label):
    path = write(tmp_path / "a.csv", ["u", "v"], ["x", "y"], text=text, label=label)
    assert load_corpus(str(path), validation=0).train == Documents.named(["u", "v"], ["x", "y"])


def test_columns_can_be_given_and_label_text_wins_over_numbers(tmp_path):
    rows = [{"label": i, "label_text": "ab"[i], "text": "uv"[i], "note": "no"} for i in (0, 1)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_corpus(str(tmp_path / "a.jsonl"), validation=0).train.names == ["a", "b"]
    assert load_corpus(str(tmp_path / "a.jsonl"), label="label", validation=0).train.names == ["0", "1"]


def test_a_label_may_be_missing_in_the_first_object(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "u"}\n\n{"text": "v", "label": "x"}\n{"label": "y", "text": "w"}\n')
    assert load_corpus(str(tmp_path / "a.jsonl"), validation=0).train.names == [None, "x", "y"]


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("txet,label", {}, r"columns 'txet', 'label'.*Did you mean 'txet'\?.*--text COLUMN"),
        ("text,kind", {}, r"has the columns 'text', 'kind': none is known to hold the labels.*--label COLUMN"),
        ("text,label", {"label": "text"}, r"has the columns 'text', 'label', and 'text' holds the texts"),
        ("text,kind", {"label": "knd"}, r"has the columns 'text', 'kind', and no 'knd'. Did you mean 'kind'"),
        ("text,labl", {}, r"Did you mean 'labl'\?.*--label COLUMN"),
        ("sentence,review,label", {}, r"several could hold the texts \('sentence', 'review'\)"),
        ("text,topic,intent", {}, r"several could hold the labels"),
        ("text,label", {"text": "Txt"}, r"no 'Txt'. Did you mean 'text'\?"),
        ("text,label", {"label": "klass"}, r"no 'klass'.*--label COLUMN"),
    ],
)
def test_a_column_that_cannot_be_told_is_an_error_with_a_guess(tmp_path, header, options, said):
    width = header.count(",") + 1
    (tmp_path / "a.csv").write_text(f"{header}\n{','.join('u' * width)}\n{','.join('v' * width)}\n")
    with pytest.raises(InputError, match=said):
        load_corpus(str(tmp_path / "a.csv"), **options)


SENTENCES = ["The council met late on Monday", "Nobody expected the rain to stop", "I paid twice for one ticket"]


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        (
            "ID,Target,Tweet,Stance",
            lambda i, s: [i, "abcde"[i % 5], s, ("for", "against")[i % 2]],
            "several could hold",
        ),
        ("ID,topic,post,verdict", lambda i, s: [i, "abcde"[i % 5], s, ("yes", "no")[i % 2]], "'verdict' are as likely"),
        ("tweets,label,comment", lambda i, s: [s, i % 2, "unsure" if i % 4 == 0 else ""], ("tweets", "label")),
        ("posting,label,comment", lambda i, s: [s, i % 2, "unsure" if i % 4 == 0 else ""], "'posting' are as likely"),
        ("question,answer,grade,class", lambda i, s: ["Why does the sky look blue?", s, i, i % 3], ("answer", "class")),
        ("text,reply,label", lambda i, s: ["Why does it rain?", s, i % 3], "'reply' are as likely"),
        ("question,answer,class", lambda i, s: [f"Why {i} then?" + s, s, i % 3], "several could hold the texts"),
        ("text,label,comment", lambda i, s: [s, i % 2, f"{s} because of {i} {s} {s} {s}"], "'comment' are as likely"),
        ("query,label,reply,body", lambda i, s: [s, i % 2, "", f"{s} {i} {s} {s} {s}"], "several could hold the texts"),
        ("id,keyword,text,target", lambda i, s: [i, "abcdef"[i % 6], s, i % 2], ("text", "target")),
        ("label,text,category", lambda i, s: [f"n{i}", s, i % 2], "several could hold|'category' are as likely"),
    ],
)
def test_the_cells_have_a_say_in_a_guess(tmp_path, header, cells, said):
    rows = [cells(i, f"{SENTENCES[i % 3]}, for the {i}th time") for i in range(40)]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(header.split(","), row, strict=True))) for row in rows)
    )
    if isinstance(said, tuple):
        assert load_corpus(str(tmp_path / "a.jsonl")).columns == (*said, ("text", "label"))
    else:
        with pytest.raises(InputError, match=rf"{said}.*--(text|label) COLUMN"):
            load_corpus(str(tmp_path / "a.jsonl"))


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", r"a\.csv is empty: its first line should name the columns"),
        ("a.csv", b"text,label\n", r"a\.csv holds no documents"),
        ("a.jsonl", b"\n", r"a\.jsonl holds no documents"),
        ("a.json", b"[]", r"a\.json holds no documents"),
        ("a.csv", b"text,label\nu,x\ncaf\xe9,y\n", r"a\.csv, line 3: byte 0xe9 at place 4 is not UTF-8.*iconv"),
        ("a.jsonl", b'{"text": "u"}\n{"text": "\xff"}\n', r"a\.jsonl, line 2: byte 0xff"),
        ("a.csv", b"text,label\nu,x\nv, w,y\n", r"line 3: 3 cells, and the first line names 2 columns.*double quotes"),
        ("a.csv", b'text,label\nu,x\n"v,y\n', r"line 3: malformed"),
        ("a.jsonl", b'{"text": "u", "label": "x"}\n{"text"\n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "u", "label": "x"}\n7\n', r"line 2: expected an object"),
        ("a.json", b"[1]", r"entry 1: expected an object"),
        ("a.json", b"[{", r"a\.json, line 1: not JSON"),
        ("a.jsonl", b'{"text": ["u"], "label": "x"}\n', r"line 1: expected a text, got list.*--text"),
        (
            "a.jsonl",
            b'{"text": "u", "label": ["x", "y"]}\n',
            r"line 1: expected one label per document, got list.*--label",
        ),
        (
            "a.jsonl",
            b'{"text": "u"}\n{"text": "v \\ud83d w", "label": "x"}\n',
            r"line 2: place 3 holds half a character",
        ),
        ("a.json", b'[{"text": "u", "label": "\\udc00"}]', r"line 1: place 1 holds half a character \('\\udc00'"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet cannot be read as Parquet"),
        ("a.xlsx", b"PK", r"ending '\.xlsx' is unknown.*\.csv"),
        ("a.csv", b"text,label\n ,x\n,y\n", r"all 2 texts are empty"),
        ("a.csv", b"text,label\nu,\nv,\n", r"no document has a label"),
        ("a.csv", b"text,label\nu,x\nv,x\n", r"all labels are 'x', and at least two classes"),
    ],
)
def test_bad_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_corpus(str(tmp_path / name))


def test_missing_files_and_names(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHLOSS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "reviews.csv", ["u"], ["x"])
    (tmp_path / "data" / "own").mkdir(parents=True)
    write(tmp_path / "data" / "own" / "train.csv", ["u", "v"], ["x", "y"])
    with pytest.raises(InputError, match=r"no such file. Did you mean 'reviews.csv'\?"):
        load_corpus(str(tmp_path / "review.csv"))
    with pytest.raises(InputError, match=r"no such file, and no folder"):
        load_corpus(str(tmp_path / "nowhere" / "a.csv"))
    with pytest.raises(InputError, match=r"no data for 'r8': looked in .*there: own. Set .*GRAPHLOSS_DATA .*r8/train"):
        load_corpus("r8")
    with pytest.raises(InputError, match=r"'bankin77' is no file.*banking77.*Did you mean 'banking77'\?"):
        load_corpus("bankin77")
    assert load_corpus("own").label_names == ["x", "y"]
    listed = {entry.name: entry for entry in list_corpora()}
    assert listed["own"].available
    assert not listed["r8"].available
    assert listed["builtin"].available


def test_empty_texts_are_counted_and_dropped(tmp_path):
    corpus = load_corpus(str(write(tmp_path / "a.csv", ["u", " ", "", "v"], ["x", "x", "y", "y"])), validation=0)
    assert corpus.train.texts == ["u", "v"]
    assert any("2 empty texts were dropped" in warning for warning in corpus.warnings)


def test_repeated_texts_are_told(tmp_path):
    write(tmp_path / "train.csv", ["u", "u ", "v", "w", "w"], ["x", "y", "x", "y", "y"])
    write(tmp_path / "valid.csv", ["a", "b"], ["x", "y"])
    write(tmp_path / "test.csv", ["v", "c", "d"], ["x", "x", "y"])
    warnings = " ".join(load_corpus(str(tmp_path)).warnings)
    assert "texts that stand in train more than once, with labels that contradict each other: 1" in warnings
    assert "1 of 3 test texts stand in train too" in warnings
    assert "validation texts" not in warnings


# -- folders and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Training", "dev", "testing"), ("train", "val", "test")]
)
def test_a_folder_of_splits(tmp_path, names):
    for end, name in zip((".csv", ".jsonl", ".parquet"), names, strict=True):
        write(tmp_path / f"{name}{end}", [f"{name} u", f"{name} v"], ["x", "y"])
    (tmp_path / "notes.md").write_text("not data")
    corpus = load_corpus(str(tmp_path))
    assert corpus.test is not None
    assert [part.texts[0].split()[0] for part in (corpus.train, corpus.validation, corpus.test)] == list(names)
    assert load_split(str(tmp_path), "validation").texts == corpus.validation.texts


def test_numbered_pieces_are_one_split(tmp_path):
    for piece in (0, 1):
        write(tmp_path / f"train-0000{piece}-of-00002.parquet", [f"u{piece}", f"v{piece}"], ["x", "y"])
    assert load_corpus(str(tmp_path), validation=0).train.texts == ["u0", "v0", "u1", "v1"]


def test_the_columns_of_train_hold_for_the_other_files(tmp_path):
    write(tmp_path / "train.csv", ["u", "v"], ["x", "y"], text="review", label="class")
    rows = [{"text": "id 7", "review": "w", "class": "x", "label": "z"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_corpus(str(tmp_path)).test == Documents.named(["w"], ["x"], ["x", "y"])


def test_folders_that_cannot_be_used(tmp_path):
    write(tmp_path / "test.csv", ["u", "v"], ["x", "y"])
    with pytest.raises(InputError, match=r"no train file.*there is test\.csv"):
        load_corpus(str(tmp_path))
    write(tmp_path / "train.csv", ["u", "v"], ["x", "y"])
    with pytest.raises(InputError, match="has no validation split"):
        load_split(str(tmp_path), "validation")
    with pytest.raises(InputError, match=r"expected a split out of train, validation, test, got 'tset'"):
        load_split(str(tmp_path), "tset")
    write(tmp_path / "train.jsonl", ["u", "v"], ["x", "y"])
    with pytest.raises(InputError, match=r"train\.csv, train\.jsonl all claim to be the train split"):
        load_corpus(str(tmp_path))


def test_labels_that_train_lacks(tmp_path):
    write(tmp_path / "train.csv", *many(3, 3))
    for split in ("validation", "test"):
        path = write(tmp_path / f"{split}.csv", ["u", "v", "w"], ["class 0", "klass 1", "klass 1"])
        with pytest.raises(
            InputError, match=rf"{split} split has labels that the train split.*'klass 1' \(2\).*'class 0'"
        ):
            load_corpus(str(tmp_path))
        with pytest.raises(InputError, match=r"the model does not know"):
            load_split(str(path), label_names=["class 0"])
        path.unlink()
    write(tmp_path / "validation.csv", ["u"], ["class 1"])  # fewer classes than train are fine
    assert len(load_corpus(str(tmp_path)).validation) == 1


def test_documents_without_a_label_cannot_judge(tmp_path):
    write(tmp_path / "train.csv", *many(3, 3))
    write(tmp_path / "test.csv", ["u", "v"], ["", "class 1"])
    corpus = load_corpus(str(tmp_path))
    assert corpus.test == Documents.named(["v"], ["class 1"], corpus.label_names)
    assert any("test split has 1 unlabeled documents" in warning for warning in corpus.warnings)
    write(tmp_path / "test.csv", ["u", "v"], None)
    corpus = load_corpus(str(tmp_path))
    assert corpus.test is None
    assert any("test split has no labels" in warning for warning in corpus.warnings)


def test_a_known_name_is_no_path(tmp_path, monkeypatch):
    (tmp_path / "data" / "mr").mkdir(parents=True)
    (tmp_path / "mr").mkdir()
    write(tmp_path / "data" / "mr" / "train.csv", ["named u", "named v"], ["x", "y"])
    write(tmp_path / "mr" / "train.csv", ["own u", "own v"], ["x", "y"])
    monkeypatch.setenv("GRAPHLOSS_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert load_corpus("mr", validation=0).train.texts[0] == "named u"
    assert load_corpus("./mr", validation=0).train.texts[0] == "own u"
    assert goes_by_name("mr") and goes_by_name("hub:a/b") and not goes_by_name("./mr") and not goes_by_name("data")


def test_a_folder_in_disorder_spoils_no_other(tmp_path, monkeypatch):
    for name, files in (("fine", ["train.csv"]), ("torn", ["train.csv", "train.jsonl"])):
        (tmp_path / name).mkdir()
        for file in files:
            write(tmp_path / name / file, ["u", "v"], ["x", "y"])
    monkeypatch.setenv("GRAPHLOSS_DATA", str(tmp_path))
    names = [entry.name for entry in list_corpora()]
    assert "fine" in names and "torn" not in names
    with pytest.raises(InputError, match=r"torn.* all claim to be the train split"):
        load_corpus("torn")


# -- splits and shots -------------------------------------------------------------------------------------------------

labels = st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=60)


@given(labels, st.floats(0.01, 0.9), st.integers(0, 5))
def test_what_is_held_out(names, share, seed):
    held = hold_out(names, share, seed)
    assert held == sorted(set(held)) == hold_out(names, share, seed)
    before, chosen = Counter(names), Counter(names[place] for place in held)
    assert None not in chosen
    largest = max((count for name, count in before.items() if name), default=0)
    for name, count in before.items():
        if name is not None:
            assert before[name] - chosen[name] >= min(count, 2 if largest > 2 else 1)  # company stays behind
            if count > 2 or (count == largest == 2):
                assert chosen[name] >= 1
                assert chosen[name] <= max(1, round(share * count))


@given(labels, st.integers(1, 9), st.integers(0, 5))
def test_few_shots(names, shots, seed):
    kept = few_shots(names, shots, seed)
    assert Counter(names[i] for i in kept) == {n: min(c, shots) for n, c in Counter(names).items() if n is not None}
    assert set(kept) <= set(few_shots(names, shots + 1, seed))


def test_shots_of_a_corpus(tmp_path):
    texts, names = many(30, 12, 2)
    path = str(write(tmp_path / "a.csv", [*texts, "nobody knows"], [*names, ""]))
    whole, few = load_corpus(path, validation=0.2), load_corpus(path, shots=4, validation=0.2)
    assert Counter(whole.validation.names) == {"class 0": 6, "class 1": 2}
    assert Counter(few.train.names) == {"class 0": 4, "class 1": 4, "class 2": 2}
    assert Counter(few.validation.names) == {"class 0": 4, "class 1": 2}
    kept = load_corpus(path, shots=4, validation=0.2, keep_unlabeled=True)
    assert len(kept.train) == len(whole.train) == 45 - 8
    assert Counter(kept.train.names)[None] == 37 - 10
    assert kept.validation == few.validation
    assert not set(few.validation.texts) & set(kept.train.texts)
    labeled = {text for text, name in zip(kept.train.texts, kept.train.names, strict=True) if name is not None}
    assert labeled == set(few.train.texts)
    assert load_corpus(path, shots=4, seed=1).fingerprint != load_corpus(path, shots=4).fingerprint


def test_further_documents_without_labels(tmp_path):
    path = str(write(tmp_path / "a.csv", TEXTS, LABELS))
    plain = load_corpus(path, shots=1)
    (tmp_path / "lines.txt").write_text("one more\n\nand another\n")
    (tmp_path / "table.csv").write_text("complaint,label\none more,good\nand another,\n")
    for name, options in (("lines.txt", {}), ("table.csv", {"text": "complaint"})):
        labeled = write(tmp_path / "b.csv", TEXTS, LABELS, text=options.get("text", "text"))
        corpus = load_corpus(str(labeled), shots=1, unlabeled=str(tmp_path / name), **options)
        assert corpus.train.texts == [*plain.train.texts, "one more", "and another"]
        assert corpus.train.names == [*plain.train.names, None, None] and corpus.validation == plain.validation
        assert corpus.fingerprint != plain.fingerprint and corpus.train.labeled_count == len(plain.train)
    same = ["one more", f" {plain.train.texts[0]} ", plain.validation.texts[0]]
    (tmp_path / "same.json").write_text(json.dumps([{"text": each} for each in same]))
    corpus = load_corpus(path, shots=1, unlabeled=str(tmp_path / "same.json"))
    assert corpus.train.texts == [*plain.train.texts, "one more"]
    assert [line for line in corpus.warnings if f"2 of 3 texts are in {path} too, and count once" in line]
    (tmp_path / "numbered.csv").write_text("7,first\n8,second\n")
    numbered = write(tmp_path / "d.csv", TEXTS, LABELS, text="2")
    assert load_corpus(str(numbered), text="2", unlabeled=str(tmp_path / "numbered.csv")).train.texts[-2:] == [
        "first",
        "second",
    ]
    other = write(tmp_path / "c.csv", TEXTS, LABELS, text="body")  # named for the labeled data alone
    (tmp_path / "table.csv").write_text("sentence\none more\n")
    assert load_corpus(str(other), text="body", unlabeled=str(tmp_path / "table.csv")).train.texts[-1] == "one more"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "no such file"),
        ("a.docx", "x", "the ending '.docx' is unknown"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.csv", "text\n", "holds no text"),
        ("a.csv", "", "is empty"),
        ("a.csv", "foo,bar\n1,2\n", "none is known to hold the texts. Rename the one that does to 'text'"),
        ("a.jsonl", '{"text": 3', "line 1: not JSON"),
    ],
)
def test_further_documents_that_cannot_be_read(tmp_path, monkeypatch, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        load_corpus("builtin", unlabeled=str(tmp_path / name))


@pytest.mark.parametrize("options", [{"shots": 0}, {"validation": 1.0}, {"validation": -0.1}])
def test_impossible_settings(options):
    with pytest.raises(InputError, match="expected 0 <= validation < 1 and shots >= 1"):
        load_corpus("builtin", **options)


def test_one_document_a_class_leaves_nothing_for_validation(tmp_path):
    for share in (0.1, None):
        corpus = load_corpus(str(write(tmp_path / "a.csv", ["u", "v"], ["x", "y"])), validation=share)
        assert len(corpus.train) == 2
        assert not corpus.validation
        assert any("none could be set aside" in warning for warning in corpus.warnings) == (share is not None)


def test_nothing_is_set_aside_of_few_labels(tmp_path):
    for count, held in ((499, 0), (500, 50)):
        rows = [f"text {row}" for row in range(count)], ["xy"[row % 2] for row in range(count)]
        assert len(load_corpus(str(write(tmp_path / "a.csv", *rows))).validation) == held
    assert len(load_corpus(str(tmp_path / "a.csv"), shots=4).validation) == 8  # of labels that would not be kept


# -- texts to predict on ----------------------------------------------------------------------------------------------


def test_read_texts_numbers_rows_and_skips_blank_ones(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\nthree\r\n{four", encoding="utf-8")
    assert list(read_texts(tmp_path / "a.txt")) == [(1, "one"), (3, "three"), (4, "{four")]
    assert list(read_texts(["u", " ", "w"])) == [(1, "u"), (3, "w")]
    (tmp_path / "only.csv").write_text("complaint\nu\nv\n")
    assert list(read_texts(str(tmp_path / "only.csv"))) == [(1, "u"), (2, "v")]


class Pipe(io.BytesIO):
    """Standard input that remembers how many lines were asked for."""

    asked = 0

    def readline(self, size: int | None = -1) -> bytes:
        self.asked += 1
        return super().readline(size)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"u\n\nv, w\n", {}),
        (b'{"text": "u"}\n\n{"text": "v, w", "label": "x"}\n', {}),
        (b'{"a": "u", "text": 1}\n\n{"text": 2, "a": "v, w"}', {"text": "a"}),
    ],
)
def test_standard_input_is_read_as_it_comes(monkeypatch, content, options):
    pipe = Pipe(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
    texts = read_texts("-", **options)
    assert next(texts) == (1, "u")
    assert pipe.asked == 1
    assert list(texts) == [(3, "v, w")]


def test_bad_texts_are_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):  # at once, not when the first text is asked for
        read_texts(tmp_path / "none.csv")
    with pytest.raises(InputError, match="--text COLUMN"):
        read_texts(write(tmp_path / "a.csv", ["u"], ["x"], text="a", label="b"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n")))
    with pytest.raises(InputError, match="standard input, line 2: byte 0xff"):
        list(read_texts("-"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "u"}\nv\n')))
    with pytest.raises(InputError, match="standard input, line 2: not JSON"):
        list(read_texts("-"))
    half = json.dumps({"text": "caf\udce9"}).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "\\ud83d\\ude00"}\n' + half)))
    texts = read_texts("-")
    assert next(texts) == (1, "😀")
    with pytest.raises(InputError, match="standard input, line 2: place 4 holds half a character"):
        next(texts)
    with pytest.raises(InputError, match="text 2: place 1 holds half a character"):
        list(read_texts(["u", "\udcff"]))


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_description(tmp_path):
    write(tmp_path / "train.csv", ["one two", "three", "four five six", "seven", "eight"], ["x", "x", "x", "y", ""])
    write(tmp_path / "validation.csv", ["three", "nine"], ["x", "y"])
    about = describe(load_corpus(str(tmp_path)))
    assert about.documents == {"train": 5, "validation": 2}
    assert [(c.label, c.train, c.validation, c.test) for c in about.classes] == [("x", 3, 1, 0), ("y", 1, 1, 0)]
    assert (about.unlabeled, about.repeated, about.words.longest) == (1, {"validation": 1}, 3)
    assert about.words.mean == pytest.approx(8 / 5)
    json.dumps(about.__dict__, default=vars)


def test_the_hub_is_given_up_at_once():
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"hub:nobody/nothing cannot be loaded.*OWNER/NAME"):
        load_corpus("hub:nobody/nothing")
    assert time.perf_counter() - start < 20  # the time is the library's import


def test_a_data_set_of_the_hub(monkeypatch):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})

    def load_dataset(name, configuration):
        assert (name, configuration) == ("owner/name", "config")
        given = {"train": [0, 1, 0, 1, -1], "dev": [0, 1], "test": [-1, -1]}
        tables = {split: {"text": [f"{split} {i}" for i in range(len(k))], "label": k} for split, k in given.items()}
        return datasets.DatasetDict({split: datasets.Dataset.from_dict(t, features) for split, t in tables.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus("hub:owner/name:config")
    assert corpus.name == "name"
    assert corpus.train.names == ["no", "yes", "no", "yes", None]
    assert corpus.validation.texts == ["dev 0", "dev 1"]
    assert corpus.test is None


def test_a_data_set_of_the_hub_that_does_not_fit_is_not_read(monkeypatch):
    import datasets

    table = datasets.Dataset.from_dict({"text": ["a text"] * 2000, "label": ["x", "y"] * 1000})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: datasets.DatasetDict({"train": table}))
    assert len(load_corpus("hub:owner/name").train.texts) > 1000
    monkeypatch.setattr("graphloss.free_memory.free", lambda: 8_000)
    with pytest.raises(InputError, match=r"hub:owner/name, train split: .* in memory, and 0.0 GiB are free"):
        load_corpus("hub:owner/name")


def test_a_split_of_the_hub_without_labels_is_left_out(monkeypatch):
    import datasets

    columns = {"train": {"body": ["u", "v"], "kind": ["x", "y"]}, "test": {"body": ["w"]}}
    tables = {split: datasets.Dataset.from_dict(table) for split, table in columns.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: datasets.DatasetDict(tables))
    corpus = load_corpus("hub:owner/name", label="kind")
    assert corpus.train.names + corpus.validation.names == ["x", "y"]
    assert corpus.test is None
    assert any("the test split has no labels, so it is not used" in warning for warning in corpus.warnings)
    with pytest.raises(InputError, match=r"test split has the columns 'body', and no 'kind'"):
        load_split("hub:owner/name", label="kind")
    with pytest.raises(InputError, match=r"train split has the columns 'body', 'kind': none is known"):
        load_corpus("hub:owner/name")


@pytest.fixture(scope="module")
def large():
    """Texts and label names of 100,000 documents."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(1000)])
    texts = [" ".join(row) for row in words[rng.integers(0, 1000, (100_000, 20))]]
    return texts, [f"class {c}" for c in rng.integers(0, 77, 100_000)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_hundred_thousand_rows_load_in_seconds(tmp_path, suffix, large):
    path = write(tmp_path / f"large{suffix}", *large)
    start = time.process_time()
    corpus = load_corpus(str(path))
    assert time.process_time() - start < 10
    assert len(corpus.train) + len(corpus.validation) == 100_000


def test_a_table_is_read_row_by_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nu,x\n" + b"\xff\n" * 3)
    assert column_names(path) == ["text", "label"]
    assert next(rows(path, ["label", "text"])) == (2, ("x", "u"))  # the bad bytes of line 3 are not reached


@pytest.mark.skipif(not os.environ.get("GRAPHLOSS_DATA"), reason="GRAPHLOSS_DATA names no folder of research data")
@pytest.mark.parametrize("name", SIZES)
def test_the_known_data_sets_have_their_published_sizes(name):
    corpus = load_corpus(name)
    assert corpus.test is not None
    sizes = (len(corpus.train), len(corpus.validation), len(corpus.test), len(corpus.label_names))
    assert sizes == SIZES[name]
    listed = {entry.name: entry for entry in list_corpora()}[name]
    assert tuple(listed.documents.values()) == SIZES[name][:3]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"texts{suffix}"
    table = pa.table({"text": [f"document {row}" for row in range(500)], "label": ["a", "b"] * 250})
    (pacsv.write_csv if suffix == ".csv" else pq.write_table)(table, path)
    monkeypatch.setattr("graphloss.free_memory.free", lambda: 8_000)
    monkeypatch.setattr("graphloss.text.read_splits.rows", lambda *_: pytest.fail("it was read"))
    with pytest.raises(InputError, match=rf"texts{suffix}: .* in memory, and 0.0 GiB are free; give a part of it"):
        load_corpus(str(path))


def test_unlabeled_lines_that_do_not_fit_into_memory_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.csv").write_text("text,label\n" + "one,a\ntwo,b\n" * 9)
    (tmp_path / "more.txt").write_text("a line of text\n" * 5000)
    monkeypatch.setattr("graphloss.free_memory.free", lambda: 8_000)
    with pytest.raises(InputError, match=r"more.txt: .* in memory"):
        load_corpus(str(tmp_path / "few.csv"), unlabeled=str(tmp_path / "more.txt"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_the_room_asked_for_is_what_reading_takes(tmp_path: Path, suffix: str) -> None:
    chosen = np.random.default_rng(0).choice(["garlic", "rocket", "verse", "goal", "harvest", "the"], (3000, 12))
    path = write(
        tmp_path / f"a{suffix}", [f"{row} {' '.join(words)}" for row, words in enumerate(chosen)], ["x", "y"] * 1500
    )
    size = path.stat().st_size if suffix != ".parquet" else pq.read_metadata(path).row_group(0).total_byte_size
    load_corpus(str(path))  # what is imported and kept for ever is not of the file
    tracemalloc.start()
    try:
        load_corpus(str(path))
        peak = tracemalloc.get_traced_memory()[1] / size
    finally:
        tracemalloc.stop()
    factor = LISTED if suffix == ".json" else IN_MEMORY
    assert factor / 2 < peak < factor


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_whose_name_stands_twice_is_not_chosen(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    table = pa.table([["u", "v"], ["x", "y"], ["1", "2"], ["3", "4"]], names=["text", "label", "note", "note"])
    (pacsv.write_csv if suffix == ".csv" else pq.write_table)(table, path)
    assert load_corpus(str(path), validation=0).train.texts == ["u", "v"]
    with pytest.raises(InputError, match=r"2 are called 'note'.* Rename the others"):
        load_corpus(str(path), label="note")
    with pytest.raises(InputError, match="2 are called 'note'"):
        list(read_texts(path, text="note"))
    twice = table.rename_columns(["text", "label", "text", "note"])
    (pacsv.write_csv if suffix == ".csv" else pq.write_table)(twice, path)
    with pytest.raises(InputError, match="2 are called 'text'"):
        load_corpus(str(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path, name: str) -> None:
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / name).write_text(f"[{deep}]" if name == "a.json" else deep)
    with pytest.raises(InputError, match=f"{name}.*: not JSON .*recursion"):
        load_corpus(str(tmp_path / name))


def test_a_pipe_is_no_source_of_a_corpus(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for read in (load_corpus, read_texts):
        with pytest.raises(InputError, match=r"pipe\.csv is a pipe or a device.* write it to a file first"):
            read(str(tmp_path / "pipe.csv"))


def test_standard_input_is_read_past_the_buffer_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    with os.fdopen(reads) as pipe, os.fdopen(writes, "wb", buffering=0) as mouth:
        monkeypatch.setattr(sys, "stdin", pipe)
        texts = read_texts("-")
        mouth.write(b"one\n\nth")
        assert next(texts) == (1, "one")
        mouth.write("ré\nlast".encode())
        assert next(texts) == (3, "thré")
        mouth.close()
        assert list(texts) == [(4, "last")]


def test_closed_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        list(read_texts("-"))
