"""Texts to predict on, one after another, from a file, from standard input or from a list."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from graphloss.errors import InputError
from graphloss.system import typed
from graphloss.text.columns import Columns, as_text, choose_column
from graphloss.text.encodings import CHUNK, file_lines, lines
from graphloss.text.formats import check_file, column_names, parse_object, rows
from graphloss.text.guess import guess_column


def read_texts(
    source: str | Path | Iterable[str],
    *,
    text: str | None = None,
    remedy: str | None = None,
    on_columns: Callable[[Columns], None] = lambda columns: None,
) -> Iterator[tuple[int, str]]:
    """Texts one after another, read as they are asked for; blank ones are left out.

    Args:
        source: a table (see `graphloss.text.formats`), a `.txt` file with a text a line, "-" for standard input, or
            texts. On standard input, lines are JSON objects if the first one begins with "{", and texts otherwise.
        text: the column of the texts; guessed when None.
        remedy: a sentence for the message that no column can be told to hold them, see `columns.choose_column`.
        on_columns: told which column holds them, where the source has columns.

    Returns:
        An iterator of pairs: the text's number from 1 (blank ones count), and the text.

    Raises:
        InputError: the source cannot be read; a missing file or column is said at once, the rest when it comes.
    """
    if not isinstance(source, str | Path):
        found: Iterator[str] = (as_text(document, f"text {number}") for number, document in enumerate(source, 1))
    elif str(source) == "-":
        found = _from_standard_input(text, remedy, on_columns)
    elif (path := typed(source)).suffix.lower() == ".txt" and path.is_file():
        found = (line.rstrip("\r\n") for _, line in file_lines(path))
    else:
        check_file(path)
        columns = column_names(path)
        one = text is None and len(columns) == 1
        if one or text is not None:
            column = columns[0] if one else choose_column(columns, "text", text, path, remedy=remedy)
        else:
            column = guess_column(columns, "text", path, (cells for _, cells in rows(path, columns)), remedy=remedy)
        on_columns(Columns(column, guessed=() if text else ("text",)))
        found = (as_text(cell, f"{path}, line {line}") for line, (cell,) in rows(path, [column]))
    return ((number, document) for number, document in enumerate(found, 1) if document.strip())


def _from_standard_input(text: str | None, remedy: str | None, on_columns: Callable[[Columns], None]) -> Iterator[str]:
    objects: bool | None = None
    column: str | None = None
    # line by line, so that a text can be answered as soon as its line has come
    for number, line in lines(_as_they_come(), "standard input"):
        if objects is None and line.strip():
            objects = line.lstrip().startswith("{")
        if not objects or not line.strip():
            yield line.rstrip("\r\n")
            continue
        where = f"standard input, line {number}"
        row = parse_object(line, where)
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
