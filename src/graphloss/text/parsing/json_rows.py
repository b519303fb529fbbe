"""JSON as people have it: objects a line or on many, a list, pairs, texts by label, columns, `{"data": [...]}`."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.text.parsing.character_encodings import file_lines

EXPECTED = 'Expected one object per line, or one list of objects, like {"text": "…", "label": "…"}'


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} stands twice in one object")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def parse(line: str, where: str) -> Any:
    """One JSON value, in which no object has a name twice."""
    try:
        return DECODER.decode(line)
    except (ValueError, RecursionError) as error:  # the latter: nested too deep
        raise InputError(f"{where}: not JSON ({error}). {EXPECTED}.") from error


def objects(path: Path, is_text: Callable[[str], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their number: of the line in JSON Lines, else of the entry.

    `is_text` says whether a name may be that of a column of texts, and is no class.
    """
    lines = ((number, line) for number, line in file_lines(path) if line.strip())
    number, first = next(lines, (0, ""))
    if not first:
        return
    following = next(lines, None)
    rest = chain([following] if following else [], lines)
    by_line = path.suffix.lower() in (".jsonl", ".ndjson") or (following is not None and _complete(following[1]))
    if by_line and _complete(first) and (following or first.lstrip()[0] == "{"):
        for place, line in chain([(number, first)], rest):
            yield place, _row(line, f"{path}, line {place}")
        return
    text = first + "".join(line for _, line in rest)
    yield from enumerate(_rows(_values(text, path), path, is_text), 1)


def _complete(line: str) -> bool:
    """Whether a line may be a row of JSON Lines: an object, or a list of cells."""
    return line.strip()[:1] + line.strip()[-1:] in ("{}", "[]")


def _row(line: str, where: str) -> dict[str, Any]:
    value = parse(line, where)
    return _numbered(value) if _is_cells(value) else as_object(value, where)


def _values(text: str, path: Path) -> list[Any]:
    """The JSON values that stand one after another."""
    found, place = [], 0
    try:
        while place < len(text):
            value, place = DECODER.raw_decode(text, place)
            found.append(value)
            while place < len(text) and text[place] in " \t\r\n":
                place += 1
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"{path}{f', line {line}' if line else ''}: not JSON ({error}). {EXPECTED}.") from error
    return found


def _rows(values: list[Any], path: Path, is_text: Callable[[str], bool]) -> Iterable[dict[str, Any]]:
    if len(values) > 1:
        return [_row_of(value, f"{path}, entry {place}") for place, value in enumerate(values, 1)]
    value = values[0]
    if isinstance(value, dict):
        lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
        of_rows = [
            name for name, inner in lists.items() if inner and not isinstance(inner[0], str | int | float | None)
        ]
        if len(of_rows) > 1:
            raise InputError(
                f"{path}: holds several lists of documents ({', '.join(of_rows)}); give each its own file."
            )
        if of_rows:
            return _rows([lists[of_rows[0]]], path, is_text)
        if lists and len(lists) == len(value):
            if any(map(is_text, lists)):
                return _by_columns(lists, path)
            return [{"text": text, "label": label} for label, texts in lists.items() for text in texts]
        if value and all(isinstance(inner, dict) for inner in value.values()):
            named = any(map(is_text, value))
            return _by_columns({k: list(v.values()) for k, v in value.items()}, path) if named else value.values()
        return [value]
    if not isinstance(value, list):
        raise InputError(f"{path}: {EXPECTED}, got {type(value).__name__}.")
    return [_row_of(row, f"{path}, entry {place}") for place, row in enumerate(value, 1)]


def _row_of(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    return _numbered(value) if _is_cells(value) else as_object(value, where)


def _by_columns(lists: dict[str, list[Any]], path: Path) -> list[dict[str, Any]]:
    if len({len(cells) for cells in lists.values()}) > 1:
        sizes = ", ".join(f"{name!r} {len(cells):,}" for name, cells in lists.items())
        raise InputError(
            f"{path}: its columns have different lengths ({sizes}); expected one cell per document in each. If these "
            'are classes, write a row per text: [{"text": ..., "label": ...}, ...].'
        )
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]


def _is_cells(value: Any) -> bool:
    """Whether a value is a row of several cells without names."""
    return isinstance(value, list) and len(value) > 1 and not any(isinstance(cell, dict) for cell in value)


def _numbered(cells: list[Any]) -> dict[str, Any]:
    return {str(place): cell for place, cell in enumerate(cells, 1)}


def as_object(row: Any, where: str) -> dict[str, Any]:
    """The value, which has to be an object."""
    if not isinstance(row, dict):
        raise InputError(f'{where}: expected an object like {{"text": "…", "label": "…"}}, got {type(row).__name__}.')
    return row
