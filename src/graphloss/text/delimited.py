"""CSV and TSV as people have them: which delimiter, whether quotes enclose cells, and the rows.

Ours and not a library's for the messages, which name the line.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

from graphloss.errors import InputError
from graphloss.text.columns import AUDITED, CORRECTED, PREDICTED, SUGGESTED

DELIMITERS = (",", ";", "\t", "|", "^", "~", "\x1f", "\x01")
MARKS = re.compile(f"[{re.escape(''.join(DELIMITERS))}]")
TRIED = 200
"""Rows on which delimiters are compared."""

OURS = (SUGGESTED[:2], PREDICTED, AUDITED, CORRECTED)
"""Columns of tables that we write, whose cells are disarmed (`disarm`), wherever a spreadsheet has moved them."""
DISARMED = re.compile(r"'[\s']*[=+\-@＝＋－＠]")
FORMULA = re.compile(r"[\s']*[=+\-@＝＋－＠]|[ ']*[\t\r\n]")

Lines = Callable[[], Iterable[str]]


def disarm(cell: str) -> str:
    """A cell that a spreadsheet takes for a text, and not for a formula to compute; reading the table takes it back."""
    return f"'{cell}" if FORMULA.match(cell) else cell


class Dialect(NamedTuple):
    """How a file is divided: delimiter, whether quotes enclose cells, lines before the header (`sep=;`).

    With `blanks`, those after a delimiter belong to no cell, so that a quote may follow them: `"text", "label"`.
    """

    delimiter: str
    quoting: Literal[0, 3]
    skipped: int
    blanks: bool = False


def dialect(lines: Lines, where: object, *, tabs: bool) -> Dialect:
    """Find out how a file is divided; `lines` gives its lines from the first. With `tabs`, they come before commas."""
    first = next(iter(lines()), "")
    if declared := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):
        return Dialect(declared[1], csv.QUOTE_MINIMAL, 1)
    order = DELIMITERS if not tabs else ("\t", *(mark for mark in DELIMITERS if mark != "\t"))
    there = [mark for mark in order if mark in first]
    widths = {mark: [*map(len, _rows(lines, mark))] for mark in there} if len(there) > 1 else {}
    even = [mark for mark in widths if len(set(widths[mark])) == 1 and widths[mark][0] > 1]
    several = [mark for mark in widths if widths[mark] and widths[mark][0] > 1]
    mark = (even or several or there or order)[0]
    if mark == "\t":
        return Dialect(mark, _tsv_quoting(lines, where), 0)
    apart = any(cell.startswith(' "') for row in _rows(lines, mark) for cell in row)
    apart = apart and any(f'{mark} "' in line for line in islice(lines(), TRIED))
    return Dialect(mark, csv.QUOTE_MINIMAL, 0, apart and len({*map(len, _rows(lines, mark, blanks=True))}) == 1)


def cells(lines: Lines, where: object, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Lines of cells with their number, the header first, blank lines left out."""
    csv.field_size_limit(sys.maxsize)  # Python's own limit is 131,072 characters, a long article
    found = dialect(lines, where, tabs=tabs)
    rest = islice(lines(), found.skipped, None)
    about: Any = {"delimiter": found.delimiter, "quoting": found.quoting, "skipinitialspace": found.blanks}
    reader = csv.reader(rest, strict=True, **about)
    ours = None
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = f"{where}, line {reader.line_num + found.skipped}"
            if "new-line" in str(error):
                raise InputError(
                    f"{line}: some lines end with carriage returns and others with line feeds; write the file anew "
                    "with line feeds alone, and cells of several lines in double quotes."
                ) from error
            raise InputError(
                f"{line}: malformed ({error}). A quote that opens a cell closes at its end, and one inside is written "
                'twice: "".'
            ) from error
        if row and (ours is not None or any(map(str.strip, row))):  # spreadsheets write empty cells around a table
            if ours is None:
                names = {cell.strip().rstrip("_") for cell in row}  # with _ where the table had a column of that name
                ours = any(names >= {*added} for added in OURS)
            if ours:
                row = [cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell for cell in row]
            yield reader.line_num + found.skipped, row


def _rows(lines: Lines, mark: str, *, blanks: bool = False) -> list[list[str]]:
    """The first rows; the first and an empty one where the others are not divided so."""
    csv.field_size_limit(sys.maxsize)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if mark == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines(), delimiter=mark, quoting=quoting, skipinitialspace=blanks, strict=True)
    found: list[list[str]] = []
    try:
        found.extend(filter(None, islice(reader, TRIED)))
    except csv.Error:
        return [found[0], []] if len(found) > 1 else []
    except InputError:  # a line that is no text is an error when it is read
        pass
    return found


def _tsv_quoting(lines: Lines, where: object) -> Literal[0, 3]:
    """Whether double quotes enclose cells of a file of tabs; in many they are plain characters of the text.

    Where each line has as many tabs as the first, a row is a line, and quotes enclose cells only if they close on it.
    """
    header = next(iter(lines()), "")
    width = header.count("\t")
    if all(line.count("\t") == width for line in lines() if line.strip()):
        return csv.QUOTE_MINIMAL if _closes_on_each_line(lines, width + 1) else csv.QUOTE_NONE
    reader = csv.reader(lines(), delimiter="\t", strict=True)
    begins, merged = 1, ""
    try:
        for row in reader:
            if len(row) not in (0, width + 1):
                return csv.QUOTE_NONE
            if any("\t" in cell and "\n" in cell for cell in row):
                merged = merged or f"{begins} opens a quote that line {reader.line_num} closes"
            begins = reader.line_num + 1
    except csv.Error:
        return csv.QUOTE_NONE
    if merged:
        raise InputError(
            f"{where}: line {merged}, with tabs between, and it is unclear whether these are one row or several. "
            "Close the quote on its line, or leave it out."
        )
    return csv.QUOTE_MINIMAL


def _closes_on_each_line(lines: Lines, width: int) -> bool:
    try:
        for line in lines():
            for row in csv.reader([line], delimiter="\t", strict=True):
                if len(row) not in (0, width):
                    return False
    except csv.Error:
        return False
    return True
