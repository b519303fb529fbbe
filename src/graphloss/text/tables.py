"""A table with all its columns, and one written beside it, which a person opens, fills in and trains on."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphloss.disk import typed, whole
from graphloss.errors import InputError
from graphloss.text.columns import Columns, Reading
from graphloss.text.delimited import dialect, disarm
from graphloss.text.file_formats import check_file, check_room, column_names, rows
from graphloss.text.parsing.character_encodings import MARKS, file_lines
from graphloss.text.read_splits import pick_columns, read_table

WRITTEN = (".csv", ".jsonl")


class Table(NamedTuple):
    """Rows with all their columns; `texts` and `labels` (None: unlabeled) are cells of the two in `taken`."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    texts: list[str]
    labels: list[str | None]
    taken: Columns
    file: Path | None = None


def read_whole(
    file: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    like: Mapping[str, str | None] | None = None,
    how: Reading = Reading(),  # noqa: B008 (immutable)
) -> Table:
    """Read a table, or a `.txt` file with a text per line; a table without a column of labels is unlabeled.

    The columns are those named, or else those of another table, `like`, if they are there, or guessed.
    """
    path = typed(file)
    check_file(path)
    check_room(path)
    columns = list(dict.fromkeys(column_names(path, header=how.header)))
    cells = [row for _, row in rows(path, columns, header=how.header)]
    before = [name if name in columns else None for name in ((like or {}).get(kind) for kind in ("text", "label"))]
    specified = Columns(text or before[0] or (columns[0] if columns == ["text"] else None), label or before[1])
    taken, _ = pick_columns(columns, path, specified, None, lambda: cells, required=label is not None)
    documents = read_table(path, taken, how)
    return Table(columns, cells, documents.texts, documents.names, taken, path)


def check_writable(path: Path, suffixes: Sequence[str] = WRITTEN, *, option: str = "--out", new: bool = False) -> None:
    """Refuse, before any work, a file that cannot be written; with `new` also one that is there."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")
    there = path.exists()
    if there and new:
        raise InputError(f"{option} {path}: is there already; give the name of a new file")
    try:
        with path.open("a"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise InputError(
            f"{option} {path}: cannot be written ({error.strerror}); give a file in a folder that is there"
        ) from error


def write_table(
    path: Path, columns: Sequence[str], lines: Iterable[Sequence[Any]], *, like: Path | None = None
) -> None:
    """Write CSV or JSON Lines, by the ending, whole; formulas in the cells of CSV are disarmed (`delimited.disarm`).

    CSV opens in the program that wrote another table, `like`: with its semicolons and its byte order mark, if any.
    """
    as_csv = path.suffix.lower() == ".csv"
    delimiter, encoding = _form(like) if as_csv and like is not None else (",", "utf-8")
    with whole(path) as hidden, hidden.open("w", newline="", encoding=encoding) as stream:
        if as_csv:
            table = csv.writer(stream, delimiter=delimiter)
            table.writerows(
                [disarm(cell) if isinstance(cell, str) else cell for cell in line] for line in (columns, *lines)
            )
        else:
            for line in lines:
                stream.write(json.dumps(dict(zip(columns, line, strict=True)), ensure_ascii=False, default=str) + "\n")


def _form(path: Path) -> tuple[str, str]:
    """Delimiter and encoding of a CSV file as a spreadsheet of the same language reads it."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return ",", "utf-8"
    with path.open("rb") as stream:
        marked = stream.read(4).startswith(tuple(mark for mark, _ in MARKS))
    found = dialect(lambda: (line for _, line in file_lines(path)), path, tabs=False).delimiter
    return found if found == ";" else ",", "utf-8-sig" if marked else "utf-8"


def in_one_cell(evidence: Sequence[Mapping[str, Any]]) -> str:
    """Supporting documents in one cell, a line each: share, label and text."""
    return "\n".join(f"{each['share']:.3f} {each['label']}: {each['text']}" for each in evidence)


def unused(name: str, columns: Sequence[str]) -> str:
    """A name for a further column that is not among these."""
    while name in columns:
        name += "_"
    return name
