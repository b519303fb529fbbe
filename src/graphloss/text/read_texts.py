"""Texts to predict on, one after another, from a file, from standard input or from a list."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.text.columns import Columns, as_text, choose_column, is_name
from graphloss.text.data_folders import TEXT_SUFFIXES, class_folders, from_disk, read_text, text_files
from graphloss.text.data_sources import folder_files, split_of
from graphloss.text.delimited import MARKS
from graphloss.text.file_formats import check_document, check_file, column_names, rows
from graphloss.text.guess_columns import guess_column
from graphloss.text.parsing.character_encodings import CHUNK, lines, page
from graphloss.text.parsing.json_rows import as_object, parse


def read_texts(
    source: str | Path | Iterable[str],
    *,
    text: str | None = None,
    header: bool = True,
    remedy: str | None = None,
    on_columns: Callable[[Columns], None] = lambda columns: None,
) -> Iterator[tuple[int, str]]:
    """Iterate over texts, which are read lazily; blank ones are left out.

    Args:
        source: a table (see `graphloss.text.file_formats`), a `.txt` file, a folder of texts or of a data set, "-" for
            standard input, or texts. On standard input, lines are JSON objects if the first one begins with "{", and
            texts otherwise.
        text: the column of the texts; guessed when None.
        header: the first line of CSV or TSV names the columns.
        remedy: a sentence for the message that no column is theirs, see `columns.choose_column`.
        on_columns: called with the column that holds them, where the source has columns.

    Returns:
        An iterator of pairs: the text's number from 1 (blank ones count), and the text. A missing file or column is an
        `InputError` at once, what else cannot be read when the place is reached.
    """
    if not isinstance(source, str | Path):
        found: Iterator[str] = (as_text(document, f"text {number}") for number, document in enumerate(source, 1))
    elif str(source) == "-":
        found = _from_standard_input(text, remedy, on_columns)
    elif (path := typed(source)).is_dir():
        found = _from_folder(path, text, header, remedy, on_columns)
    else:
        check_file(path)
        columns = column_names(path, header=header)
        plain = path.suffix.lower() == ".txt" and len(columns) == 1  # a text per line, whatever columns others have
        column = columns[0] if plain else text
        if column is None and len(columns) == 1:
            column = _only(columns[0], path)
        elif column is None:
            sample = (cells for _, cells in rows(path, columns, header=header))
            column = guess_column(columns, "text", path, sample, remedy=remedy)
        else:
            column = choose_column(columns, "text", column, path, remedy=remedy)
        if not plain:
            on_columns(Columns(column, guessed=() if text else ("text",)))
        found = (as_text(cell, f"{path}, line {line}") for line, (cell,) in rows(path, [column], header=header))
    return ((number, document) for number, document in enumerate(found, 1) if document.strip())


def _only(column: str, path: Path) -> str:
    """The only column of a table, if its name is not the first text."""
    like_a_text = len(column.split()) > 3
    like_several = not is_name(column) and any(map(is_name, re.split(r"[^\w\s-]", column)))
    if (like_a_text or like_several) and path.suffix.lower() in (".csv", ".tsv"):
        raise InputError(
            f"{path}: its first line, {column[:40]!r}, should name the column of the texts and looks like "
            f"{'a text' if like_a_text else 'several names'}. Give --no-header if it is a text, divide the columns by "
            "commas, or name the column with --text."
        )
    return column


def _from_folder(
    path: Path, text: str | None, header: bool, remedy: str | None, on_columns: Callable[[Columns], None]
) -> Iterator[str]:
    """The texts of a folder: of its test split or only split, or of its files, a text each."""
    if files := folder_files(path):
        for file in files[_split(list(files), path)]:
            yield from (document for _, document in read_texts(file, text=text, header=header, on_columns=on_columns))
    elif (loaded := from_disk(path)) is not None:
        table = loaded[_split(list(loaded), path)]
        column = choose_column(table.column_names, "text", text, path, remedy=remedy)
        on_columns(Columns(column, guessed=() if text else ("text",)))
        yield from (as_text(cell, f"{path}, row {row}") for row, cell in enumerate(table[column], 1))
    else:
        classes = class_folders(path)
        for folder in classes[_split(list(classes), path)] if classes else [path]:
            texts = list(text_files(folder))
            if other := [file for file in texts if file.suffix.lower() not in TEXT_SUFFIXES]:
                raise InputError(f"{other[0]}: expected a text per file in a folder of texts; give this file alone")
            yield from map(read_text, texts)


def _split(names: list[str], path: Path) -> str:
    """The split to classify: the test documents, or all where there is one split alone."""
    if (test := split_of("test", names)) is not None or len(names) == 1:
        return test or names[0]
    raise InputError(
        f"{path}: holds the splits {', '.join(names)}, and it is unclear which is meant; give one file of it"
    )


def _from_standard_input(text: str | None, remedy: str | None, on_columns: Callable[[Columns], None]) -> Iterator[str]:
    objects: bool | None = None
    column: str | None = None
    # line by line, so that a text can be classified as soon as its line has come
    for number, line in lines(_as_they_come(), "standard input"):
        if objects is None and line.strip():
            objects = line.lstrip().startswith("{")
            if what := page(line.encode()) or (re.match(r"\[\s*($|[\[{\"])", line.strip()) and "a list of JSON"):
                raise InputError(f"standard input is {what}; write it into a file, or send a text or an object a line")
            check_document(MARKS.split(line.strip()), "standard input", "write the table into a file")
        if not objects or not line.strip():
            yield line.rstrip("\r\n")
            continue
        where = f"standard input, line {number}"
        row = as_object(parse(line, where), where)
        if column is None or column not in row:
            column = choose_column(list(row), "text", column or text, where, remedy=remedy)
            on_columns(Columns(column, guessed=() if text else ("text",)))
        yield as_text(row[column], where)


def _as_they_come() -> Iterator[bytes]:
    """The bytes of standard input, past the buffer of `sys.stdin`.

    A thread that waits there for a line holds the buffer's lock, and Python aborts when it ends before the line comes.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed; send texts there, a line each, or give a file")
    try:
        descriptor = os.dup(sys.stdin.fileno())
    except OSError:  # a stand-in that is no file
        yield from iter(sys.stdin.buffer.readline, b"")
        return
    try:
        while part := os.read(descriptor, CHUNK):  # what is there, and no waiting for more
            yield part
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)
