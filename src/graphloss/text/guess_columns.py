"""Guess which columns of a table hold the texts and the labels: by their names, then by their cells."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from graphloss.errors import InputError
from graphloss.text.columns import AUDITED, LABEL_NAMES, SUGGESTED, SURE_LABEL_NAMES, choose_column, is_name, listed

SAMPLE = 2_000
"""Rows that are looked at."""
CLEARLY = 3
"""A column is clearly more like a text than another at this many times its score."""


class Cells(NamedTuple):
    """The filled cells of a column: their number, that of different ones, mean words and characters."""

    filled: int
    distinct: int
    words: float
    length: float

    @property
    def text_score(self) -> float:
        """Long cells that differ from row to row: characters a cell, times the share of different cells."""
        return self.length * self.distinct / max(self.filled, 1) if self.distinct > 1 or self.filled < 2 else 0.0

    @property
    def like_texts(self) -> bool:
        """Several words a cell, and seldom the same ones."""
        return self.words >= 3 and self.distinct * 10 > self.filled

    @property
    def like_numbers_of_rows(self) -> bool:
        """Many cells, each another one."""
        return self.filled >= 8 and self.distinct == self.filled

    @property
    def like_labels(self) -> bool:
        """A few short names, each again and again."""
        return self.filled >= 8 and 2 <= self.distinct <= self.filled / 3 and self.words <= 3


def look(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Cells]:
    """Measure each column on the first rows; blank cells count as nothing."""
    sample = list(islice(rows, SAMPLE))
    found = {}
    for place, column in enumerate(columns):
        cells = [str(row[place]).strip() for row in sample if row[place] is not None]
        cells = [cell for cell in cells if cell]
        count = max(len(cells), 1)
        words, length = sum(len(cell.split()) for cell in cells) / count, sum(map(len, cells)) / count
        share = len(cells) / max(len(sample), 1)
        found[column] = Cells(len(cells), len(set(cells)), words, length * share)
    return found


def check_guess(kind: str, chosen: str, cells: dict[str, Cells], where: object, *, taken: str | None = None) -> str:
    """The column that its name points to, if by their cells (see `look`) no other is as likely."""
    others = {name: found for name, found in cells.items() if name not in (chosen, taken, *SUGGESTED, *AUDITED)}
    own = cells[chosen]
    if kind == "text":
        candidates = [
            name
            for name, found in others.items()
            if not is_name(name, LABEL_NAMES)
            and found.words >= 3
            and found.text_score * CLEARLY > own.text_score
            and (not is_name(chosen, ("text",)) or found.text_score > CLEARLY * own.text_score)
        ]
    elif is_name(chosen, SURE_LABEL_NAMES):
        unlike = own.filled >= 20 and own.distinct == own.filled
        candidates = [name for name, found in others.items() if unlike and found.like_labels]
    else:
        candidates = [name for name, found in others.items() if found.like_labels and found.distinct <= own.distinct]
    if candidates:
        raise InputError(
            f"{where}: {chosen!r} is named like the column of the {kind}s, and the cells of "
            f"{listed(candidates)} are as likely. Name it with --{kind} COLUMN."
        )
    return chosen


def guess_column(
    columns: Sequence[str],
    kind: str,
    where: object,
    rows: Iterable[Sequence[Any]],
    *,
    taken: str | None = None,
    remedy: str | None = None,
) -> str:
    """The column of the texts or labels, by name and cells; arguments as of `columns.choose_column`.

    The first rows, with all their cells, are read only where more than two columns leave a choice.
    """
    if all(column.isdecimal() for column in columns):
        return _by_cells(look(columns, rows), kind, where, taken, remedy)
    if len(columns) <= 2 or len(set(columns)) < len(columns):
        return choose_column(columns, kind, None, where, taken=taken, remedy=remedy)
    cells = look(columns, rows)
    if kind == "text":
        named = sorted((name for name in columns if is_name(name)), key=lambda name: cells[name].text_score)
        best, rest = named[-1:], [cells[name] for name in named[:-1]]
        unlike = all(found.text_score * CLEARLY < cells[best[0]].text_score and not found.like_texts for found in rest)
        if best and unlike and not any(is_name(name, ("text",)) for name in named):
            return check_guess(kind, best[0], cells, where)
    return check_guess(
        kind, choose_column(columns, kind, None, where, taken=taken, remedy=remedy), cells, where, taken=taken
    )


def _by_cells(cells: dict[str, Cells], kind: str, where: object, taken: str | None, remedy: str | None) -> str:
    """The column of the texts or labels where columns have numbers for names."""
    others = {name: found for name, found in cells.items() if name != taken}
    best = max(others, key=lambda name: others[name].text_score, default=None)
    likely = [name for name, found in others.items() if found.like_labels]
    if kind == "label":
        likely = likely or [name for name, found in others.items() if not found.like_numbers_of_rows]
        best = likely[0] if len(likely) == 1 else None
    elif best and any(CLEARLY * found.text_score > others[best].text_score for n, found in others.items() if n != best):
        best = None
    if best is None:
        remedy = remedy or f"Name it with --{kind} NUMBER."
        raise InputError(
            f"{where} has no names of columns, and no one of {len(cells)} is clearly the {kind}s. {remedy}"
        )
    return best
