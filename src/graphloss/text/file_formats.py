"""A file of texts: which columns it has, and its rows one after another.

CSV, TSV, JSON Lines, JSON, Parquet and `.txt` have one interface: `column_names`, then `rows`, which reads lazily, so
that a file larger than memory can be predicted on. Every error names the file and the line.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graphloss import free_memory
from graphloss.errors import InputError
from graphloss.text.columns import LABEL_NAMES, TEXT_NAMES, did_you_mean, is_name, listed
from graphloss.text.delimited import MARKS
from graphloss.text.delimited import cells as cells_of
from graphloss.text.parsing.character_encodings import file_lines, foreign, page
from graphloss.text.parsing.json_rows import objects
from graphloss.text.parsing.text_lines import cells as line_cells
from graphloss.text.parsing.text_lines import columns_of, shape_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt")
"""Endings of the files that hold a table, in lower case."""

IN_MEMORY, LISTED = 3, 5
"""Bytes that a byte of a table takes at the height of `load_corpus`, and one of a JSON file, which is parsed whole.

Measured on texts of a dozen words (at most 2.6 and 4.5): each has 49 bytes of overhead as a string and about 80 where
repeated ones are looked for. Of 30 words they take 1.6 and 3.2; one character outside Latin-1 doubles its text.
"""


def check_file(path: Path) -> None:
    """Complain about a path that is no readable table, before anything is read."""
    if not path.exists():
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no such file, and no folder {path.parent} either.")
        near = did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
        raise InputError(f"{path}: there is no such file.{near}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file.")
    if not path.is_file():
        raise InputError(
            f"{path} is a pipe or a device, and a table is read more than once: write it to a file first, for "
            f"example with: cat {path} > texts.csv"
        )
    known = path.suffix.lower() in SUFFIXES
    with path.open("rb") as stream:
        if what := page(head := stream.read(64)) or (not known and foreign(head)):
            raise InputError(f"{path} is {what}.")
    if not known:
        raise InputError(
            f"{path}: the ending {path.suffix!r} is unknown. Expected one of {', '.join(SUFFIXES)}: "
            "save the table as one of these, or rename the file if it is one."
        )


def check_room(path: Path) -> None:
    """Complain about a table whose texts, by its size, would not fit into memory, before they are read."""
    size = path.stat().st_size
    if path.suffix.lower() == ".parquet":
        about = parquet(path).metadata
        size = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
    check_size(str(path), size, LISTED if path.suffix.lower() == ".json" else IN_MEMORY)


def check_size(where: str, size: int, in_memory: int = IN_MEMORY) -> None:
    """Complain about a table of `size` bytes whose texts would not fit into memory, at so many bytes per byte."""
    left, needed = free_memory.free(), size * in_memory
    if needed > left:
        raise InputError(
            f"{where}: its {free_memory.gib(size)} need about {free_memory.gib(needed)} in memory, and "
            f"{free_memory.format_free(left)}; give a part of it, about {left / needed:.0%} would fit."
        )


def column_names(path: Path, *, header: bool = True) -> list[str]:
    """The names of a table's columns, in the file's order.

    Without a `header`, the first line of CSV or TSV is a document, and columns are called 1, 2, and so on.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return list(parquet(path).schema_arrow.names)
    if suffix in (".csv", ".tsv"):
        first = next(_delimited(path), None)
        if first is None:
            raise InputError(f"{path} is empty: its first line should name the columns, for example text,label.")
        if header:
            return _as_long_as(first[1], 1)
        check_document(first[1], path, "leave --no-header out")
        return [str(place) for place in range(1, len(first[1]) + 1)]
    if suffix == ".txt":
        columns = columns_of(shape_of(line for _, line in _text_lines(path)))
        beginning = next((line.strip() for _, line in _text_lines(path)), "")
        ending = ".tsv" if "\t" in beginning else ".csv"
        check_document(MARKS.split(beginning), path, f"give it a name that ends in {ending}")
        return columns
    # JSON names its columns row by row, and a label may be missing in the first one.
    columns = list(dict.fromkeys(key for _, row in objects(path, is_name) for key in row))
    if not columns:
        raise InputError(f'{path} holds no documents: expected lines like {{"text": "…", "label": "…"}}.')
    if columns[0] == "1":
        first_row = next(objects(path, is_name))[1].values()
        check_document([str(cell) for cell in first_row], path, "take that row out, or write objects")
    return columns


def check_document(cells: Sequence[str], path: object, remedy: str) -> None:
    """Refuse names of columns where the first document should be: it would be a class of its own."""
    if any(map(is_name, cells)) and any(is_name(cell, LABEL_NAMES) for cell in cells):
        raise InputError(f"{path}: its first row names columns ({listed(cells)}); {remedy}.")


def rows(path: Path, columns: Sequence[str], *, header: bool = True) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The cells of some columns of `column_names`, row by row, each with its line (in Parquet: its number, from 1).

    They are text from CSV and TSV, whatever was stored from the other formats.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_rows(path, columns)
    elif suffix in (".csv", ".tsv"):
        names, lines = column_names(path, header=header), _delimited(path)
        if header:
            next(lines)
        places = [names.index(column) for column in columns]
        first, *others = map(_folded, names)
        for line, row in lines:
            cells = _as_long_as(row, len(names))
            if len(cells) != len(names):
                raise InputError(
                    f"{path}, line {line}: {len(cells)} cells, and the first line {'names' if header else 'has'} "
                    f"{len(names)}{' columns' if header else ''}. A text that holds the delimiter has to stand in "
                    "double quotes."
                )
            if header and len(names) > 1 and _folded(cells[0]) == first and [*map(_folded, cells)] == [first, *others]:
                raise InputError(
                    f"{path}, line {line}: the names of the columns again, as where files were put together; take the "
                    "line out."
                )
            yield line, tuple(cells[place] for place in places)
    elif suffix == ".txt":
        shape = shape_of(line for _, line in _text_lines(path))
        for line, named in line_cells(_text_lines(path), shape, path):
            yield line, tuple(named[column] for column in columns)
    else:
        yield from _object_rows(path, columns)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a `.txt` file, which all end alike."""
    for number, line in file_lines(path):
        if re.search(r"[\r\n]", line.rstrip("\r\n")):
            raise InputError(
                f"{path}, line {number}: some lines end with carriage returns and others with line feeds; write the "
                "file anew with line feeds alone."
            )
        yield number, line


def _object_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The cells of JSON objects; what some rows have under another name of its kind is not taken for missing."""
    known: set[str] = set()  # names in rows that have all columns
    odd: dict[str, tuple[int, str]] = {}  # another name for a column that its row lacks: the first line, the column
    for line, named in objects(path, is_name):
        if named and not named.keys() & set(columns):
            raise InputError(
                f"{path}, line {line}: has {listed(named)}, and no "
                f"{' or '.join(map(repr, columns))} as other rows; give all rows the same names."
            )
        lacking = [column for column in columns if column not in named]
        known.update(() if lacking else named)
        for column in lacking:
            kind = LABEL_NAMES if is_name(column, LABEL_NAMES) else TEXT_NAMES
            for name in named.keys() - set(columns):
                if is_name(name, kind):
                    odd.setdefault(name, (line, column))
        yield line, tuple(named.get(column) for column in columns)
    for name, (line, column) in odd.items():
        if known and name not in known:
            raise InputError(
                f"{path}, line {line}: has {name!r} and no {column!r}, which other rows have; give all rows the same "
                "names."
            )


def _as_long_as(cells: list[str], least: int) -> list[str]:
    """The cells without empty ones at the end, which spreadsheets add, but not fewer than the columns."""
    end = len(cells)
    while end > least and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _folded(name: str) -> str:
    return name.strip().casefold()


def class_names(path: Path, column: str) -> list[str] | None:
    """The names behind a Parquet file's integer labels, where the `datasets` library wrote them down."""
    if path.suffix.lower() != ".parquet":
        return None
    try:
        about = json.loads((parquet(path).schema_arrow.metadata or {})[b"huggingface"])
        return [str(name) for name in about["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _delimited(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines of cells, the header first, blank lines left out."""
    return cells_of(lambda: (line for _, line in file_lines(path)), path, tabs=path.suffix.lower() == ".tsv")


def parquet(path: Path) -> Any:
    """A Parquet file, not read yet."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error}).") from error


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    import pyarrow

    number = 0
    batches = parquet(path).iter_batches(batch_size=4096, columns=list(columns))
    try:
        for batch in batches:
            for row in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged after row {number:,} ({error}).") from error
