"""Settings files as people and editors leave them: name, ending, content, and what comes of it.

The outcome is the settings that are read, or a part of the one message that refuses the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

TOML, YAML, JSON = "epochs = 3\n", "epochs: 3\n", '{"epochs": 3}\n'
THREE = {"epochs": 3}


class Case(NamedTuple):
    """A file, and the settings in it or a part of the message."""

    name: str
    suffix: str
    content: bytes
    outcome: dict[str, Any] | str


def all_cases() -> list[Case]:
    """Every kind."""
    return [*_encodings(), *_bombs(), *_twice(), *_shapes(), *_values(), *_broken()]


def _encodings() -> Iterator[Case]:
    for suffix, text in ((".toml", TOML), (".yaml", YAML), (".yml", YAML), (".json", JSON)):
        yield Case(f"plain {suffix}", suffix, text.encode(), THREE)
        yield Case(f"byte order mark {suffix}", suffix, codecs.BOM_UTF8 + text.encode(), THREE)
        yield Case(f"UTF-16 {suffix}", suffix, text.encode("utf-16"), THREE)
        yield Case(f"UTF-16 without a mark {suffix}", suffix, text.encode("utf-16-le"), THREE)
        yield Case(f"carriage returns {suffix}", suffix, text.replace("\n", "\r").encode(), THREE)
        yield Case(f"Windows lines {suffix}", suffix, text.replace("\n", "\r\n").encode(), THREE)
        yield Case(f"Latin-1 {suffix}", suffix, b"# \xe9\n" + text.encode(), "not UTF-8")
        yield Case(f"NUL {suffix}", suffix, text.encode() + b"# a\0b and some more text\n", "NUL")
        yield Case(f"gzip {suffix}", suffix, b"\x1f\x8b\x08\x00" + bytes(20), "gzip")
        yield Case(f"workbook {suffix}", suffix, b"PK\x03\x04" + bytes(20), "workbook")


def _bombs() -> Iterator[Case]:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for number in range(9):
        one, other = chr(ord("a") + number), chr(ord("b") + number)
        laughs += f"{other}: &{other} [{','.join([f'*{one}'] * 9)}]\n"
    yield Case("aliases", ".yaml", laughs.encode(), "aliases")
    yield Case("aliases as a value", ".yaml", (laughs + "text: *j\n").encode(), "aliases")
    yield Case("an alias of itself", ".yaml", b"&a epochs: *a\n", "aliases")
    yield Case("merge", ".yaml", b"base: &base {epochs: 3}\n<<: *base\n", "aliases")
    deep = 40_000
    yield Case("deep YAML", ".yaml", b"text: " + b"[" * deep, "deeper")
    yield Case("deep YAML mappings", ".yaml", b"text: " + b"{a: " * 20_000, "deeper")
    yield Case("deep JSON", ".json", b'{"text": ' + b"[" * deep, "not readable as JSON")
    yield Case("deep TOML", ".toml", b"text = " + b"[" * deep, "not readable as TOML")
    yield Case("huge", ".yaml", b"# " + b"x" * 5_000_000, "are no settings")
    yield Case("a long number", ".json", b'{"epochs": ' + b"9" * 50_000 + b"}", "not readable as JSON")
    yield Case("a tag of Python", ".yaml", b"epochs: !!python/object/apply:os.getpid []\n", "not readable as YAML")
    yield Case("a tag of Python as a name", ".yaml", b"!!python/name:os.system : 3\n", "unknown setting")
    yield Case("a number of sixties", ".yaml", b"epochs: 1:30\n", "expected a whole number, got '1:30'")


def _twice() -> Iterator[Case]:
    yield Case("twice TOML", ".toml", b"epochs = 3\nepochs = 4\n", "not readable as TOML")
    yield Case("twice YAML", ".yaml", b"epochs: 3\nepochs: 4\n", "twice")
    yield Case("twice JSON", ".json", b'{"epochs": 3, "epochs": 4}', "twice")
    for suffix, between, end in ((".toml", " = ", "\n"), (".yaml", ": ", "\n"), (".json", ": ", ",")):
        for other in ("max-length", '"max_length"', "'max-length'"):
            first = '"max_length"' if suffix == ".json" else "max_length"
            name = f'"{other.strip(chr(34) + chr(39))}"' if suffix == ".json" else other
            content = f"{first}{between}32{end}{name}{between}64"
            content = "{" + content + "}" if suffix == ".json" else content + "\n"
            said = "not readable as TOML" if suffix == ".toml" and other == '"max_length"' else "twice"
            yield Case(f"max_length beside {other} {suffix}", suffix, content.encode(), said)


def _shapes() -> Iterator[Case]:
    yield Case("empty TOML", ".toml", b"", {})
    yield Case("comments alone", ".toml", b"# nothing\n", {})
    yield Case("empty YAML", ".yaml", b"", "expected names and values")
    yield Case("empty JSON", ".json", b"", "not readable as JSON")
    yield Case("an empty object", ".json", b"{}", {})
    for value in ("[]", "[1]", '"epochs"', "3", "null", "true", '[["epochs", 3]]'):
        yield Case(f"JSON {value}", ".json", value.encode(), {} if value == "[]" else "expected names and values")
    for value in ("- epochs", "epochs", "3", "~"):
        yield Case(f"YAML {value}", ".yaml", value.encode(), "expected names and values")
    yield Case("two documents", ".yaml", b"epochs: 3\n---\nepochs: 4\n", "not readable as YAML")
    yield Case("a table", ".toml", b"[train]\nepochs = 3\n", "unknown setting 'train'")
    yield Case("another ending", ".ini", b"epochs = 3\n", "must end in")
    yield Case("no ending", "", b"epochs = 3\n", "must end in")
    yield Case("capitals in the ending", ".TOML", TOML.encode(), THREE)


def _values() -> Iterator[Case]:
    yield Case("hyphens", ".toml", b"max-length = 32\n", {"max_length": 32})
    yield Case("a power of ten", ".yaml", b"learning_rate: 2e-4\n", {"learning_rate": 2e-4})
    yield Case("off is a text", ".yaml", b"corpus_graph: off\n", {"corpus_graph": "off"})
    yield Case("a quoted name", ".yaml", b'"epochs": 3\n', THREE)
    yield Case("capitals", ".toml", b"Epochs = 3\n", "did you mean 'epochs'")
    yield Case("a slip", ".toml", b"epoch = 3\n", "did you mean 'epochs'")
    for value in ("true", '"3"', "2.5", "[3]", "1979-05-27", "0", "-1", "nan", "inf"):
        yield Case(f"epochs = {value}", ".toml", f"epochs = {value}\n".encode(), "epochs: expected")
    for value in ("yes", "010", "1_000", "0x10", "2020-01-01", ".nan", "[3]", "{a: 1}", "'3'"):
        yield Case(f"epochs: {value}", ".yaml", f"epochs: {value}\n".encode(), "epochs: expected")
    for value in ("NaN", "Infinity", "1e999", "true", '{"a": 1}', "[]"):
        yield Case(f"weight {value}", ".json", f'{{"weight": {value}}}'.encode(), "weight: expected")
    yield Case("none", ".yaml", b"epochs: null\n", {"epochs": None})
    yield Case("none of what is needed", ".yaml", b"seed: null\n", "seed: expected")
    yield Case("an escape", ".json", json.dumps({"loss": "\x1b[31m"}).encode(), "loss: expected one of")


def _broken() -> Iterator[Case]:
    for suffix, text in ((".toml", "epochs = "), (".yaml", "epochs: [3"), (".json", '{"epochs": 3')):
        yield Case(f"cut {suffix}", suffix, text.encode(), "not readable as")
    yield Case("tabs in YAML", ".yaml", b"a:\n\tb: 3\n", "not readable as YAML")
    yield Case("a comma too many", ".json", b'{"epochs": 3,}', "not readable as JSON")
    yield Case("YAML in TOML", ".toml", YAML.encode(), "not readable as TOML")
    yield Case("TOML in JSON", ".json", TOML.encode(), "not readable as JSON")
