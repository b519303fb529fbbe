"""Descriptions of the classes: one or several lines per class, from a file or from the label names themselves."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.text.columns import LABEL_NAMES, MISSING, TEXT_NAMES, did_you_mean, is_name
from graphloss.text.delimited import cells
from graphloss.text.parsing.character_encodings import file_lines
from graphloss.text.parsing.toml_yaml_json import pairs

SUFFIXES = (".toml", ".yaml", ".yml", ".json", ".csv", ".tsv")
NAMES_UP_TO = 4
"""Labels per class up to which the names alone are used: beyond, the interval of their gain over ten data sets includes
zero (docs/research/descriptions.md). Written descriptions are used at any number."""
CLASS_COLUMNS, LINE_COLUMNS = (*LABEL_NAMES, "name"), (*TEXT_NAMES, "line", "lines")
SHAPE = 'a class and a line about it, as `card_arrival = "when will my new card come"`, or a list of lines'


def read_descriptions(file: str | Path) -> dict[str, list[str]]:
    """Read a file of descriptions: class -> one line or several.

    Args:
        file: TOML, YAML or JSON with a text or a list of texts per class, or CSV or TSV with two columns, class and
            line, in either order where a header names them, as `class,description` does.

    Returns:
        At least one line per class, without surrounding blanks, classes in the order of the file.
    """
    path = typed(file)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected descriptions in a file that ends in {', '.join(SUFFIXES)}")
    if not path.exists():
        raise InputError(f"{path}: no such file; expected {SHAPE}, for each class")
    text = "".join(line for _, line in file_lines(path))
    table = path.suffix.lower() in (".csv", ".tsv")
    entries = _rows(path, text) if table else _entries(path, text)
    found: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for line, name, value in entries:
        where = f"{path}, line {line}"
        if name in found:
            several = " in a TOML, YAML or JSON list" if table else " in one list"
            raise InputError(
                f"{where}: class {name!r} is described a second time (first in line {lines[name]}); put all its lines"
                + several
            )
        found[name], lines[name] = _checked(value, f"{where}: class {name!r}"), line
    if not found:
        raise InputError(f"{path}: no class is described; expected {SHAPE}, for each class")
    return found


def check_descriptions(descriptions: Mapping[Any, Any]) -> dict[Any, list[str]]:
    """Check a caller's descriptions: class -> a line or a list of lines; returns them stripped."""
    if not isinstance(descriptions, Mapping):
        raise InputError(
            f"descriptions: expected a dictionary of a line or a list of lines per class, got {descriptions!r:.60}"
        )
    return {name: _checked(value, f"descriptions: class {name!r}") for name, value in descriptions.items()}


def match_classes(descriptions: Mapping[Any, list[str]], classes: Sequence[Any], *, known_from: str, add: bool) -> None:
    """Refuse a description of a class that no document has, unless classes are to be added."""
    expected = set(classes)
    if add or not expected:
        return
    for name in descriptions:
        if name not in expected:
            near = did_you_mean(str(name), [str(label) for label in classes])
            if str(name).casefold() in MISSING:
                near = f" {name!r} in a table marks an unlabeled document; if it names a class, give --keep-na."
            raise InputError(
                f"class {name!r} is described, and no document of {known_from} has that label; correct the name, or "
                f"give --add-classes (fit: add_classes=True) if it is a class of which no example is labeled yet.{near}"
            )


def names_as_descriptions(classes: Sequence[Any], labeled: int) -> dict[Any, list[str]]:
    """The label names in words: card_arrival is "card arrival".

    Empty with more than `NAMES_UP_TO` labels per class in the mean, and where a name has no word in it, as for classes
    0 and 1.
    """
    words = {label: [_words(str(label))] for label in classes}
    worded = all(re.search(r"[^\W\d_]{2}", line) for (line,) in words.values())
    return words if worded and labeled <= NAMES_UP_TO * len(classes) else {}


def _words(label: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return " ".join(re.sub(r"[_./\\+\-:]+", " ", apart).split())


def _checked(value: Any, where: str) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        kind = "a table: is this a file of several data sets?" if isinstance(value, Mapping) else f"{value!r:.60}"
        raise InputError(f"{where}: expected a line or a list of lines, got {kind}")
    if not lines or not all(line.strip() for line in lines):
        raise InputError(f"{where}: expected a line of words, got an empty one; describe the class or leave it out")
    return [" ".join(line.split()) for line in lines]


def _rows(path: Path, text: str) -> Iterable[tuple[int, str, Any]]:
    found = []
    for line, row in cells(lambda: io.StringIO(text), path, tabs=path.suffix.lower() == ".tsv"):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2:
            raise InputError(
                f"{path}, line {line}: expected two cells, class and line, got "
                f"{len(row)}; put a line that holds the delimiter in double quotes"
            )
        found.append((line, row[0].strip(), row[1].strip()))
    if not found:
        return
    line, first, second = found[0]
    if is_name(second, CLASS_COLUMNS) and is_name(first, LINE_COLUMNS):
        found = [(line, name, words) for line, words, name in found[1:]]
    elif is_name(first, CLASS_COLUMNS):
        found = found[1:]
    elif len(found) > 2 and " " not in second and all(" " in words for _, _, words in found[1:]):
        raise InputError(
            f"{path}, line {line}: is {first!r}, {second!r} a header, or a class and a line about it? Name the columns "
            "class and description, or describe the class in several words"
        )
    for line, name, words in found:
        if not name:
            raise InputError(f"{path}, line {line}: expected the name of a class beside its line, got none")
        yield line, name, words


def _entries(path: Path, text: str) -> Iterable[tuple[int, str, Any]]:
    try:
        found = pairs(text, path.suffix)
    except Exception as error:  # each library has errors of its own; all of them name the line
        kind = path.suffix[1:].upper()
        raise InputError(f"{path}: not readable as {kind}: {' '.join(str(error).split())}; expected {SHAPE}") from error
    if not isinstance(found, list) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
        raise InputError(
            f"{path}: expected {SHAPE}, for each class, got {'a list' if isinstance(found, list) else found!r:.60}"
        )
    seen: dict[str, int] = {}
    for name, value in found:
        name = str(name).strip()
        seen[name] = seen.get(name, 0) + 1
        table = isinstance(value, list) and value and all(isinstance(item, tuple) for item in value)
        yield _line_of(text, name, seen[name]), name, dict(value) if table else value


def _line_of(text: str, name: str, turn: int) -> int:
    """Line of the `turn`-th occurrence of a key, counted from 1."""
    key = re.compile(rf"""^[\s{{,]*["']?{re.escape(name)}["']?\s*[=:]""")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if key.search(line)]
    return lines[min(turn, len(lines)) - 1] if lines else 1
