"""Data files as people, programs and accidents leave them: a name, how it is made, and what comes of it.

The outcome is the documents that are read, as (text, label) pairs, or a part of the one message that refuses the data.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Pairs = list[tuple[str, str | None]]
DOCUMENTS: Pairs = [
    ("the café, one «two»; three", "music"),
    ("一 日本 語 の 文", "space"),
    ("guitar | drum and chord", "music"),
    ("a rocket's orbit", "space"),
    ("онион и чеснок 一一", "cooking"),
    ("pan of garlic: salt", "cooking"),
    ("verse and chorus", "music"),
    ("moon 🌙 landing", "space"),
    ("simmer the flour", "cooking"),
]
ENCODINGS = {
    "UTF-8": "utf-8",
    "UTF-8 with a mark": "utf-8-sig",
    "UTF-16 with a mark": "utf-16",
    "UTF-16 little": "utf-16-le",
    "UTF-16 big": "utf-16-be",
    "UTF-32 with a mark": "utf-32",
    "UTF-32 little": "utf-32-le",
    "UTF-32 big": "utf-32-be",
}


class Case(NamedTuple):
    """How to make the data in a folder, the options it is read with, and what comes of it."""

    name: str
    make: Callable[[Path], Path]
    outcome: Pairs | str
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    warning: str = ""


def all_cases() -> list[Case]:
    """Every kind."""
    return [
        *_encodings(),
        *_foreign(),
        *_tables(),
        *_headers(),
        *_lines(),
        *_json(),
        *_labels(),
        *_folders(),
        *_saved(),
        *_splits(),
        *_broken(),
    ]


def random_cases(seed: int, count: int) -> Iterator[Case]:
    """Bytes of good files flipped, cut, doubled and mixed: whatever comes of it, it is documents or one message."""
    chance = random.Random(seed)
    suffixes = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet")
    for number in range(count):
        suffix = chance.choice(suffixes)
        content = bytearray(encoded(suffix, chance.choice(list(ENCODINGS.values()))))
        for _ in range(chance.randint(1, 6)):
            place, other = sorted((chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)))
            deed = chance.randrange(6)
            if deed == 0 and place < len(content):
                content[place] ^= 1 << chance.randrange(8)
            elif deed == 1:
                del content[place:other]
            elif deed == 2:
                content[place:place] = content[place:other]
            elif deed == 3:
                content[place:place] = chance.choice(
                    [b"\0", b'"', b"\t", b",", b"\r", b"\n", b"\xff", b"[", b"{", b"\\"]
                )
            elif deed == 4:
                content = content[: max(place, 1)]
            else:
                content[place:place] = chance.randbytes(chance.randint(1, 40))
            content = content or bytearray(b"x")
        yield Case(f"random {seed}.{number}", written(f"data{suffix}", bytes(content)), "")


def written(name: str, content: bytes | str) -> Callable[[Path], Path]:
    """A maker of one file."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def encoded(suffix: str, encoding: str = "utf-8", pairs: Pairs = DOCUMENTS) -> bytes:
    """The documents as a file of this ending."""
    if suffix in (".csv", ".tsv"):
        out = io.StringIO()
        table = csv.writer(out, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
        table.writerows([("text", "label"), *pairs])
        return out.getvalue().encode(encoding)
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(pa.table({"text": [t for t, _ in pairs], "label": [n for _, n in pairs]}), stream)
        return stream.getvalue()
    rows = [{"text": text, "label": label} for text, label in pairs]
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode(encoding)
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)
    return "".join(f"{label}\t{text}\n" for text, label in pairs).encode(encoding)


def _encodings() -> Iterator[Case]:
    for suffix in (".csv", ".tsv", ".jsonl", ".json", ".txt"):
        for name, encoding in ENCODINGS.items():
            yield Case(f"{name} {suffix}", written(f"a{suffix}", encoded(suffix, encoding)), DOCUMENTS)
        for name, end in (("Windows lines", b"\r\n"), ("carriage returns", b"\r")):
            content = encoded(suffix).replace(b"\n", end)
            yield Case(f"{name} {suffix}", written(f"a{suffix}", content), DOCUMENTS)
        yield Case(
            f"carriage returns in UTF-16 {suffix}",
            written(f"a{suffix}", encoded(suffix).decode().replace("\n", "\r").encode("utf-16")),
            DOCUMENTS,
        )
        latin = encoded(suffix, pairs=DOCUMENTS[2:4] * 3).replace(b"guitar", b"caf\xe9")
        yield Case(f"Latin-1 {suffix}", written(f"a{suffix}", latin), "not UTF-8")
        yield Case(f"UTF-16 cut {suffix}", written(f"a{suffix}", encoded(suffix, "utf-16")[:-1]), "is not")
        nul = encoded(suffix).replace(b"orbit", b"or\0bit")
        yield Case(f"a NUL {suffix}", written(f"a{suffix}", nul), "NUL")


def _foreign() -> Iterator[Case]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    plain = encoded(".csv")
    for kind, content, said in (
        ("gzip", gzip.compress(plain), "gunzip"),
        ("bzip2", bz2.compress(plain), "bunzip2"),
        ("xz", lzma.compress(plain), "unxz"),
        ("xlsx", packed.getvalue(), "workbook"),
        ("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "old workbook"),
        ("pdf", b"%PDF-1.7\n" + bytes(range(256)), "PDF"),
        ("sqlite", b"SQLite format 3\0" + bytes(84), "SQLite"),
        ("pickle", b"\x80\x04\x95\x1c\0\0\0\0\0\0\0cos\nsystem\n", "pickle"),
        ("rtf", b"{\\rtf1\\ansi text}", "rich-text"),
        ("picture", b"\x89PNG\r\n\x1a\n" + bytes(50), "picture"),
        ("old pickle", b"\x80\x02]q\x00(U\x01aU\x01be.", "pickle"),
        ("page", b"\n<!DOCTYPE html>\n<html><body>text, label</body></html>\n", "web page"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS"),
    ):
        for suffix in (".csv", f".csv.{kind}", ".jsonl", ".txt"):
            yield Case(f"{kind} called {suffix}", written(f"a{suffix}", content), said)
    for suffix in (".csv", ".txt", ".tsv", ".jsonl"):
        yield Case(f"bytes of no text {suffix}", written(f"a{suffix}", b"\x1f\x9d\x90\x03\x05\xff\n"), "of no text")
    yield Case("a pointer called .parquet", written("a.parquet", b"version https://git-lfs.github"), "Git LFS")
    yield Case("an XML table", written("a.csv", "\ufeff<?xml version='1.0'?>\n<rows><row/></rows>\n"), "XML")
    yield Case("Parquet called .csv", written("a.csv", encoded(".parquet")), "ends in .parquet")
    yield Case("CSV called .parquet", written("a.parquet", plain), "cannot be read as Parquet")
    yield Case("Parquet", written("a.parquet", encoded(".parquet")), DOCUMENTS)
    yield Case("Parquet cut", written("a.parquet", encoded(".parquet")[:-20]), "cannot be read as Parquet")
    for suffix in (".csv", ".txt"):
        for name, end in (("line feeds first", "\n"), ("carriage returns first", "\r")):
            first, *rest = encoded(suffix).decode().splitlines()
            content = end.join([first, *rest[:3]]) + end + "\n\r"[end == "\n"].join(rest[3:]) + "\n"
            yield Case(f"{name} {suffix}", written(f"a{suffix}", content), "some lines end with carriage returns")
    yield Case("one line of a thousand cells", written("a.csv", "a\x85," * 999), "and 979 more")
    yield Case("an unknown ending", written("a.docx", b"text"), "unknown")


def _table(delimiter: str, rows: list[Any], header: tuple[str, ...] = ("text", "label"), before: str = "") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return before + out.getvalue()


def _tables() -> Iterator[Case]:
    for name, mark in zip(["semicolons", "tabs", "bars", "carets", "tildes", "units"], ";\t|^~\x1f", strict=True):
        yield Case(f"{name} in .csv", written("a.csv", _table(mark, DOCUMENTS)), DOCUMENTS)
        said = _table(mark, DOCUMENTS, before=f"sep={mark}\n")
        yield Case(f"sep= and {name}", written("a.csv", said), DOCUMENTS)
    quoted, other = (
        _table(mark, [(text, "x", label) for text, label in DOCUMENTS], ("text", "a, b; c\td", "label"))
        for mark in ",;"
    )
    yield Case("marks in a quoted header", written("a.csv", quoted), DOCUMENTS)
    yield Case("marks in a quoted header, by ';'", written("a.csv", other), DOCUMENTS)
    apart = [", ".join('"{}"'.format(cell.replace('"', '""')) for cell in row) + "\n" for row in DOCUMENTS]
    for name, header in {"": '"text", "label"\n', " below the header": "text, label\n"}.items():
        yield Case(f"blanks before quotes{name}", written("a.csv", header + "".join(apart)), DOCUMENTS)
    for mark in ",;|":
        merged = f"open\nspace{mark}moon\nmusic{mark}close"
        content = f'label{mark}text\nspace{mark}stars\nmusic{mark}"{merged}"\n'
        pairs: Pairs = [("stars", "space"), (merged, "music")]
        yield Case(f"a quote over rows, by {mark!r}", written("a.csv", content), pairs, {}, "a row of its own")
    for total in ("Total,45\n", '"Grand total","45"\n', "sum,3.5\n"):
        text, label = next(csv.reader([total]))
        content = encoded(".csv", pairs=DOCUMENTS * 2) + total.encode()
        told = f"all others at least 6 times: {label!r}"
        yield Case(f"a row of sums {total[:-1]}", written("a.csv", content), [*DOCUMENTS * 2, (text, label)], {}, told)
    odd = [("a\rreturn, quoted", "music"), (' "quoted" at the beginning', "music"), (" blank", "space"), *DOCUMENTS[1:]]
    yield Case("returns, blanks and quotes in cells", written("a.csv", _table(",", odd)), odd)
    lines = [("two\nlines, and\ta tab", "music"), *DOCUMENTS[1:]]
    yield Case("line breaks in cells", written("a.csv", _table(",", lines)), lines)
    yield Case("blank lines between", written("a.csv", encoded(".csv").replace(b"\n", b"\n\n")), DOCUMENTS)
    yield Case("an unclosed quote", written("a.csv", 'text,label\n"u,x\nv,y\n'), "malformed")
    yield Case("a cell too many", written("a.csv", "text,label\nu,x\nv,w,y\n"), "line 3: 3 cells")
    empty = "".join(f"{text}{{}}\n" for text in _table(",", DOCUMENTS).splitlines())
    for name, content in {
        "under the header": empty.replace("{}", "", 1).format(*[",,"] * len(DOCUMENTS)),
        "on every line": empty.format(*[",,,"] * (len(DOCUMENTS) + 1)),
        "in the header": empty.replace("{}", ",", 1).format(*[""] * len(DOCUMENTS)),
        "above the table": ",,\n , ,\n" + empty.format(*[","] * (len(DOCUMENTS) + 1)),
    }.items():
        yield Case(f"empty cells {name}", written("a.csv", content), DOCUMENTS)
    content = empty.format(*[",,", *[",,"] * len(DOCUMENTS)]) + "one, two, three,\n"
    yield Case("empty cells, and a comma in a text", written("a.csv", content), "line 11: 3 cells")
    yield Case("quotes with a backslash", written("a.csv", 'text,label\n"a \\"b\\" c",x\nv,y\n'), "is written twice")
    yield Case("a cell too few", written("a.csv", "text,label\nu,x\nv\n"), "line 3: 1 cells")
    yield Case("two columns of one name", written("a.csv", "text,text,label\nu,v,x\nw,z,y\n"), "are called 'text'")
    yield Case(
        "a mark of the BOM in the header", written("a.csv", b"\xef\xbb\xbf\xef\xbb\xbftext,label\nu,x\n"), "text"
    )
    long = [("word " * 60_000 + "end", "music"), *DOCUMENTS[1:]]
    yield Case("a text of 300,000 letters", written("a.csv", _table(",", long)), long)


def _headers() -> Iterator[Case]:
    again = ": the names of the columns again"
    for mark, suffix in ((",", ".csv"), ("\t", ".tsv"), (";", ".csv")):
        table = _table(mark, DOCUMENTS)
        for case, more in (("", table), (" in other case", table.replace("text", "Text", 1))):
            yield Case(f"two files in one{case}, by {mark!r} {suffix}", written(f"a{suffix}", table + more), again)
        told = "give it a name that ends in .tsv" if mark == "\t" else "give it a name that ends in .csv"
        yield Case(f"a table by {mark!r} as .txt", written("a.txt", table), told)
    each = [(f"{text} {n}", f"id {n}") for n, (text, _) in enumerate(DOCUMENTS * 4)]
    yield Case("a label for each text", written("a.csv", _table(",", each)), each, warning="is another column meant")
    for mark in ("-", "?", "--", "...", "''", "()"):
        pairs = [(text, label if n else mark) for n, (text, label) in enumerate(DOCUMENTS)]
        yield Case(f"the class {mark!r}", written("a.csv", _table(",", pairs)), pairs, warning="has no letter")
    for kind, names in {
        "leading zeros": ("07", "7"),
        "several in one": ("a;b", "a"),
        "several by bars": ("a|b", "b|c"),
    }.items():
        pairs = [(text, names[n % 2]) for n, (text, _) in enumerate(DOCUMENTS)]
        told = "leading zeros" if "zeros" in kind else "may be several in one"
        yield Case(f"labels: {kind}", written("a.csv", _table(",", pairs)), pairs, warning=told)
    for suffix in (".csv", ".tsv"):
        content = encoded(suffix).split(b"\n", 1)[1] * 3
        yield Case(f"no header {suffix}", written(f"a{suffix}", content), DOCUMENTS * 3, {"no_header": True})
        yield Case(f"no header, not told {suffix}", written(f"a{suffix}", content), "--no-header")
    swapped = _table(",", [(label, text) for text, label in DOCUMENTS] * 3, ("x", "y")).split("\n", 1)[1]
    yield Case("no header, label first", written("a.csv", swapped), DOCUMENTS * 3, {"no_header": True})
    named = {"no_header": True, "text": "2", "label": "1"}
    numbered = _table(",", [(text, f"id{n}") for n, (text, _) in enumerate(DOCUMENTS * 3)]).split("\n", 1)[1]
    yield Case(
        "no header, numbers of rows", written("a.csv", numbered), "clearly the labels", {"no_header": True, "text": "1"}
    )
    yield Case("no header, columns named", written("a.csv", swapped), DOCUMENTS * 3, named)
    three = _table(",", [(text, text[::-1], label) for text, label in DOCUMENTS] * 3, ("", "", "")).split("\n", 1)[1]
    yield Case("no header, two texts", written("a.csv", three), "no one of 3 is clearly the texts", {"no_header": True})
    named_row = "its first row names columns"
    yield Case("a header, told there is none", written("a.csv", encoded(".csv")), named_row, {"no_header": True})
    header = "label\ttext\n" + "".join(f"{n}\t{t}\n" for t, n in DOCUMENTS * 3)
    yield Case("a header in .txt", written("a.txt", header), named_row)
    pairs = json.dumps([["text", "label"], *([t, n] for t, n in DOCUMENTS * 3)])
    yield Case("a header in pairs", written("a.json", pairs), named_row)
    wrong = {"no_header": True, "text": "text"}
    yield Case("no header, a name", written("a.csv", swapped), "and no 'text'", wrong)


def _lines() -> Iterator[Case]:
    yield Case("label last", written("a.txt", "".join(f"{t}\t{n}\n" for t, n in DOCUMENTS)), DOCUMENTS)
    marked = "".join(f"__label__{n} {t}\n" for t, n in DOCUMENTS)
    yield Case("__label__", written("a.txt", marked), DOCUMENTS)
    tabs = marked.replace("__label__music ", "__label__music\t")
    yield Case("__label__ and a tab", written("a.txt", tabs), DOCUMENTS)
    some = [*DOCUMENTS[:-1], (DOCUMENTS[-1][0], None)]
    yield Case("__label__ but for one", written("a.txt", marked.replace("__label__cooking simmer", "simmer")), some)
    yield Case("__label__ twice", written("a.txt", marked + "__label__a __label__b text\n"), "two labels")
    yield Case("texts alone", written("a.txt", "".join(f"{t}\n" for t, _ in DOCUMENTS)), "no label")
    columns = "".join(f"{t}\t{t[::-1]}\n" for t, _ in DOCUMENTS)
    yield Case("tabs and no labels", written("a.txt", columns), "no label")
    late = "".join(f"{n}\t{t}\n" for t, n in DOCUMENTS) * 300
    yield Case("a late line without a tab", written("a.txt", late + "a text alone\n"), "line 2701: no tab")
    pairs = [(t.replace(" ", "\t", 1), n) for t, n in DOCUMENTS]
    yield Case("tabs in texts", written("a.txt", "".join(f"{n}\t{t}\n" for t, n in pairs)), pairs)


def _json() -> Iterator[Case]:
    rows = [{"text": t, "label": n} for t, n in DOCUMENTS]
    by_label: dict[str, list[str]] = {}
    for text, label in DOCUMENTS:
        by_label.setdefault(str(label), []).append(text)
    grouped: Pairs = [(text, label) for label, texts in by_label.items() for text in texts]
    columns = {"text": [t for t, _ in DOCUMENTS], "label": [n for _, n in DOCUMENTS]}
    pretty = "\n".join(json.dumps(row, indent=2) for row in rows)
    shapes: dict[str, tuple[Any, Pairs]] = {
        "a list": (rows, DOCUMENTS),
        "pairs": ([[t, n] for t, n in DOCUMENTS] * 3, DOCUMENTS * 3),
        "pairs, label first": ([[n, t] for t, n in DOCUMENTS] * 3, DOCUMENTS * 3),
        "data": ({"data": rows}, DOCUMENTS),
        "data and a version": ({"version": 2, "data": rows, "note": "x"}, DOCUMENTS),
        "data of pairs": ({"data": [[t, n] for t, n in DOCUMENTS] * 3}, DOCUMENTS * 3),
        "texts by label": (by_label, grouped),
        "columns": (columns, DOCUMENTS),
        "columns by row": ({k: dict(enumerate(v)) for k, v in columns.items()}, DOCUMENTS),
        "rows by number": (dict(enumerate(rows)), DOCUMENTS),
    }
    mixed = '{"text": "u", "label": "x"}\n{"content": "v", "category": "y"}\n'
    other = "line 2: has 'content', 'category', and no 'text' or 'label'"
    yield Case("rows of two kinds", written("a.jsonl", mixed), other)
    for own in ({"text": "u", "category": "music"}, {"body": "u", "label": "music"}):
        missing, name = ({"text", "label"} - own.keys()).pop(), (own.keys() - {"text", "label"}).pop()
        said = f"has '{name}' and no '{missing}', which other rows have"
        yield Case(f"a row with {name}", written("a.jsonl", encoded(".jsonl") + json.dumps(own).encode()), said)
    for name, (value, found) in shapes.items():
        for indent in (None, 2):
            content = json.dumps(value, indent=indent)
            yield Case(f"JSON {name}, indent {indent}", written("a.json", content), found)
    for suffix in (".json", ".jsonl"):
        yield Case(f"objects on many lines {suffix}", written(f"a{suffix}", pretty), DOCUMENTS)
        yield Case(f"a list a line {suffix}", written(f"a{suffix}", json.dumps(rows)), DOCUMENTS)
    pairs = "".join(json.dumps([t, n]) + "\n" for t, n in DOCUMENTS * 3)
    yield Case("pairs a line", written("a.jsonl", pairs), DOCUMENTS * 3)
    yield Case("JSON Lines called .json", written("a.json", encoded(".jsonl")), DOCUMENTS)
    for name, content, said in (
        ("several lists", json.dumps({"train": rows, "test": rows}), "several lists"),
        ("uneven columns", json.dumps({"text": ["a", "b"], "label": ["x"]}), "different lengths"),
        ("a name twice", '{"text": "a", "text": "b", "label": "x"}\n', "twice"),
        ("a name twice in a list", '[{"text": "a", "label": "x", "label": "y"}]', "twice"),
        ("texts alone", json.dumps(["a", "b"]), "none is known to hold the labels"),
        ("a number", "7", "Expected one object"),
        ("a text", '"text"', "Expected one object"),
        ("null", "null", "Expected one object"),
        ("an empty list", "[]", "no documents"),
        ("deep", "[" * 100_000, "not JSON"),
        ("half", '[{"text": "a"', "not JSON"),
        ("a comma too many", '[{"text": "a", "label": "x"},]', "not JSON"),
        ("single quotes", "[{'text': 'a'}]", "not JSON"),
        ("an object in a text", '[{"text": {"a": 1}, "label": "x"}]', "expected a text"),
        ("half a character", '[{"text": "\\ud800", "label": "x"}]', "half a character"),
        ("mixed rows", '[{"text": "a", "label": "x"}, 7]', "entry 2: expected an object"),
    ):
        yield Case(f"JSON {name}", written("a.json", content), said)


def _labels() -> Iterator[Case]:
    for mark in (
        "NA",
        "n/a",
        "<NA>",
        "#N/A",
        "#REF!",
        "#name?",
        "#Div/0!",
        "NULL",
        "None",
        "nan",
        "NaN",
        " na ",
        "NaT",
        "#NA",
        "\\N",
        "none",
    ):
        pairs: Pairs = [*DOCUMENTS, ("unknown", mark)]
        for suffix in (".csv", ".jsonl", ".parquet"):
            told = f"{mark.strip()!r} (1)"
            unlabeled = [*DOCUMENTS, ("unknown", None)]
            make = written(f"a{suffix}", encoded(suffix, pairs=pairs))
            yield Case(f"the mark {mark!r} {suffix}", make, unlabeled, warning=told)
        kept = [*DOCUMENTS, ("unknown", mark.strip())]
        yield Case(f"the mark {mark!r} kept", written("a.csv", encoded(".csv", pairs=pairs)), kept, {"keep_na": True})
    for name, cells, found in (
        ("one in a list", [["x"], ["y"]], ["x", "y"]),
        ("none in a list", [["x"], ["y"], []], ["x", "y", None]),
        ("blanks around", [" x", "x ", "y\t"], ["x", "x", "y"]),
        ("numbers", [1, 2.0, 1.0], ["1", "2", "1"]),
        ("truth", [True, False], ["True", "False"]),
        ("nothing", ["x", "y", None, ""], ["x", "y", None, None]),
    ):
        rows = "".join(json.dumps({"text": f"text {n}", "label": cell}) + "\n" for n, cell in enumerate(cells))
        yield Case(f"labels: {name}", written("a.jsonl", rows), [(f"text {n}", each) for n, each in enumerate(found)])
    for name, cell in (("two in a list", ["x", "y"]), ("an object", {"a": 1})):
        row = json.dumps({"text": "t", "label": cell})
        yield Case(f"labels: {name}", written("a.jsonl", row + "\n"), "expected one label")
    yield Case(
        "labels: NaN",
        written("a.json", '[{"text":"a","label":NaN},{"text":"b","label":"x"},{"text":"c","label":"y"}]'),
        [("a", None), ("b", "x"), ("c", "y")],
    )
    yield Case("labels all alike", written("a.csv", "text,label\nu,x\nv,x\n"), "all labels are 'x'")
    yield Case("labels all missing", written("a.csv", "text,label\nu,\nv,NA\n"), "no document has a label")


def _folders() -> Iterator[Case]:
    ordered: Pairs = sorted(DOCUMENTS, key=lambda pair: (str(pair[1]), DOCUMENTS.index(pair)))

    def tree(folder: Path, root: str = "corpus", suffix: str = ".txt") -> Path:
        for number, (text, label) in enumerate(DOCUMENTS):
            written(f"{root}/{label}/{number}{suffix}", text)(folder)
        return folder / root.split("/")[0]

    yield Case("a folder per class", tree, ordered)
    yield Case("a folder per class, no ending", lambda folder: tree(folder, suffix=""), ordered)
    yield Case("a folder per class in train", lambda folder: tree(folder, "corpus/train"), ordered)

    def with_file(name: str, content: bytes) -> Callable[[Path], Path]:
        return lambda folder: (tree(folder), written(f"corpus/{name}", content)(folder))[0]

    yield Case("hidden files", with_file("music/.DS_Store", b"\0\1"), ordered)
    yield Case("a file beside", with_file("README.txt", b"about"), ordered)
    yield Case("unlabeled texts", with_file("unsup/1.txt", b"more"), [*ordered, ("more", None)])
    yield Case("a picture", with_file("music/cover.png", b"\x89PNG"), "expected a text per file")
    yield Case("a folder inside", with_file("music/deep/1.txt", b"text"), "expected a text per file")
    yield Case(
        "a text in UTF-16", with_file("space/9.txt", "ein Wort".encode("utf-16")), [*ordered, ("ein Wort", "space")]
    )
    yield Case("a text in Latin-1", with_file("space/9.txt", b"caf\xe9"), "not UTF-8")
    yield Case(
        "one class", lambda folder: written("corpus/music/1.txt", "text")(folder).parent.parent, "all labels are"
    )
    yield Case("an empty folder", lambda folder: (folder / "corpus").mkdir() or folder / "corpus", "no train file")


def _saved() -> Iterator[Case]:
    def save(folder: Path, *, splits: bool = False, named: bool = False) -> Path:
        import datasets

        names = sorted({str(label) for _, label in DOCUMENTS})
        features = None
        labels: list[Any] = [label for _, label in DOCUMENTS]
        if named:
            features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
            labels = [names.index(label) for label in labels]
        table = datasets.Dataset.from_dict({"text": [t for t, _ in DOCUMENTS], "label": labels}, features)
        datasets.disable_progress_bars()
        try:
            (datasets.DatasetDict({"train": table}) if splits else table).save_to_disk(str(folder / "saved"))
        finally:
            datasets.enable_progress_bars()
        return folder / "saved"

    yield Case("saved data set", save, DOCUMENTS)
    yield Case("saved splits", lambda folder: save(folder, splits=True), DOCUMENTS)
    yield Case("saved names of classes", lambda folder: save(folder, named=True), DOCUMENTS)

    def damaged(folder: Path) -> Path:
        path = save(folder)
        next(path.glob("*.arrow")).write_bytes(b"no arrow")
        return path

    yield Case("saved and damaged", damaged, "cannot be read as a data set")


def _splits() -> Iterator[Case]:
    def both(test: str, name: str = "test.csv") -> Callable[[Path], Path]:
        return lambda folder: (
            (
                written("d/train.csv", encoded(".csv"))(folder),
                written(f"d/{name}", test)(folder),
            )[0].parent
        )

    yield Case("a test split", both("text,label\nu,music\n"), DOCUMENTS)
    yield Case("a test split of other names", both("text,category\nu,music\n"), DOCUMENTS, warning="no column 'label'")
    yield Case("a test split without labels", both("text\nu\n"), DOCUMENTS, warning="no column 'label'")
    yield Case("labels by a name nobody knows", both("text,klass\nu,music\n"), DOCUMENTS, warning="but 'text', 'klass'")
    yield Case("a test split of a strange class", both("text,label\nu,jazz\n"), "does not know: 'jazz'")
    yield Case("texts beside a table", both("u\n", "train.txt"), DOCUMENTS)
    yield Case("two train files", both("text,label\nu,music\n", "train.tsv"), "all claim to be the train split")


def _broken() -> Iterator[Case]:
    for suffix in (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet"):
        yield Case(f"empty {suffix}", written(f"a{suffix}", b""), f"a{suffix}")
        yield Case(f"blanks {suffix}", written(f"a{suffix}", b" \n\n \n"), f"a{suffix}")
    yield Case("a header alone", written("a.csv", "text,label\n"), "no documents")
    yield Case("empty texts", written("a.csv", "text,label\n ,x\n,y\n"), "texts are empty")
    yield Case(
        "some empty texts", written("a.csv", "text,label\n ,x\na,x\nb,y\n"), [("a", "x"), ("b", "y")], {}, "1 empty"
    )
    yield Case("nothing there", lambda folder: folder / "none.csv", "no such file")
    yield Case(
        "a near name", lambda folder: written("data.csv", "")(folder).with_name("dta.csv"), "Did you mean 'data.csv'"
    )
