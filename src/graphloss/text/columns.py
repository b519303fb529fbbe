"""Choose a column of a table by its name, and read its cells."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from graphloss.errors import InputError

# The first name of each list wins over the others; two of the others are ambiguous.
TEXT_NAMES = (
    *("text", "texts", "sentence", "content", "body", "document", "review", "query", "utterance", "message", "comment"),
    *("description", "abstract", "tweet", "question", "answer", "response", "post", "article", "doc", "sentences"),
    *("documents", "tweets", "reviews", "comments", "messages", "posts", "queries", "utterances", "questions"),
)
LABEL_NAMES = (
    *("label", "labels", "label_text", "label_name", "class", "category", "target", "intent", "sentiment", "topic"),
    *("tag", "classes", "categories", "targets", "intents", "topics", "class_name", "y"),
    "stance",
)
SURE_LABEL_NAMES = ("label", "labels", "label_text", "label_name")
SUGGESTED = ("row", "reason", "guess", "probability")
"""Columns that `graphloss suggest` adds to those of a pile: never the texts or the labels, unless they are named."""
PREDICTED = ("row", "text", "label", "probability")
"""Columns of the table that `graphloss predict` writes; with `--explain` also "evidence"."""
AUDITED, CORRECTED = ("row", "proposed", "score", "evidence"), ("row", "former")
"""Columns that `graphloss audit` adds to its list and to a corrected copy."""


MISSING = (
    *("na", "n/a", "<na>", "null", "none", "nan", "nat", "-nan", "#na", "\\n"),
    *("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"),
)
"""Marks of a missing label in tables, in any case: of pandas and databases, and errors of spreadsheets."""


class Reading(NamedTuple):
    """How a table is read: whether its first line names the columns, and whether `MISSING` are names of classes."""

    header: bool = True
    keep_na: bool = False


class Columns(NamedTuple):
    """The columns that were read, and which of the two were guessed; None where there is no such column."""

    text: str | None = None
    label: str | None = None
    guessed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For the user: the columns, and whether they were guessed."""
        return ", ".join(
            f"{kind}s from column {name!r}{' (guessed)' if kind in self.guessed else ''}"
            for kind, name in (("text", self.text), ("label", self.label))
            if name is not None
        )


def choose_column(
    columns: Sequence[str],
    kind: str,
    specified: str | None,
    where: object,
    *,
    taken: str | None = None,
    remedy: str | None = None,
) -> str:
    """The column that holds the texts or the labels: the one specified, or else the one with such a name.

    Args:
        columns: the names there are.
        kind: "text" or "label".
        specified: the user's choice, or None to guess.
        where: the file, for the message.
        taken: the column that holds the texts, so not the labels.
        remedy: a sentence on how to name it; by default with --text or --label.
    """
    remedy = remedy or f"Name it with --{kind} COLUMN."
    there = f"{where} has the columns {listed(columns)}"
    if specified is not None:
        if specified == taken:
            raise InputError(f"{there}, and {specified!r} holds the texts: the {kind}s are in another. {remedy}")
        if specified in columns:
            return _only(specified, columns, there)
        raise InputError(f"{there}, and no {specified!r}.{did_you_mean(specified, columns)} {remedy}")
    columns = [column for column in columns if column != taken]
    names = TEXT_NAMES if kind == "text" else LABEL_NAMES
    found = [column for column in columns if _plain(column) in names]
    first = [column for column in found if _plain(column) == names[0]]
    if kind == "label" and len(found) == 2 and len(first) == 1:
        # The habit of many published data sets: numbers in `label`, their names in `label_text`.
        first = [column for column in found if _plain(column) in ("label_text", "label_name")] or first
    if len(set(first or found)) == 1:
        return _only((first or found)[0], columns, there)
    if found:
        raise InputError(f"{there}: several could hold the {kind}s ({listed(found)}). {remedy}")
    close = next((column for column in columns if difflib.get_close_matches(_plain(column), names, 1, 0.6)), None)
    guess = f" Did you mean {close!r}?" if close else ""
    if str(where).lower().endswith((".csv", ".tsv")):
        remedy += " If the first line is a document and names no columns, give --no-header."
    raise InputError(f"{there}: none is known to hold the {kind}s.{guess} {remedy}")


def _only(column: str, columns: Sequence[str], there: str) -> str:
    """The column, if no other one has its name."""
    if (times := columns.count(column)) > 1:
        raise InputError(f"{there}: {times} are called {column!r}, which is ambiguous. Rename the others.")
    return column


def listed(names: Iterable[str]) -> str:
    """The first names for a message, long ones cut; a file that is no table can have any number, of any length."""
    shown = [f"{name!r:.60}" for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20:,} more" if len(shown) > 20 else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question for the end of a message, or nothing where no known name is similar."""
    folded = {name.lower(): name for name in known}
    close = [name for name in difflib.get_close_matches(word.lower(), folded, 1, 0.5) if folded[name] != word]
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def as_text(cell: object, where: str) -> str:
    """A cell as a text: nothing is the empty text, a number its digits; a list or an object is refused."""
    if isinstance(cell, str):
        return whole(cell, where)
    if cell is None or cell != cell:  # NaN
        return ""
    if isinstance(cell, bool | int | float):
        return str(cell)
    raise InputError(f"{where}: expected a text, got {type(cell).__name__}. Choose another column with --text.")


def as_label(cell: object, where: str, *, names: Sequence[str] | None = None, delimited: bool = False) -> str | None:
    """A cell as the name of a class; None where the document has no label.

    The numbers 1 and 1.0 both become "1", because a column of integers with gaps is often written with a point; so does
    the text "1.0" in CSV and TSV, where every number is a text.

    Args:
        cell: what was stored.
        where: file and line, for the message.
        names: names behind integers, as in `data_commands.ClassLabel`; there, -1 means no label.
        delimited: the cell comes from a CSV or TSV file.
    """
    if isinstance(cell, list | tuple) and len(cell) <= 1:
        cell = cell[0] if cell else None
    if names is not None and isinstance(cell, int):
        if not -1 <= cell < len(names):
            raise InputError(f"{where}: label {cell}, and only {len(names)} names are stored with the data.")
        return names[cell] if cell >= 0 else None
    if isinstance(cell, str):
        name = whole(cell, where).strip()
        number, point, fraction = name.partition(".")
        if delimited and point and fraction == "0" and number.removeprefix("-").isdecimal():
            name = number
        return sys.intern(name) or None  # one string in memory for all documents of a class
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, bool | int | float):
        return str(cell)
    raise InputError(
        f"{where}: expected one label per document, got {type(cell).__name__}. Choose another column with --label."
    )


def whole(cell: str, where: str) -> str:
    """The same string, if UTF-8 can write it: JSON can hold half of a surrogate pair, which no tokenizer takes."""
    if not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: place {error.start + 1} holds half a character ({cell[error.start]!a}, a surrogate "
                "without its other half), which is no text. Correct it, or write its file anew as UTF-8."
            ) from error
    return cell


def is_name(column: str, names: Sequence[str] = TEXT_NAMES) -> bool:
    """Whether a column has one of these names; case, blanks and hyphens do not count."""
    return _plain(column) in names


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
