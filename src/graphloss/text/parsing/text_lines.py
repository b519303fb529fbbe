"""A `.txt` file: a text per line, or with its label: `label<TAB>text`, `text<TAB>label` or `__label__x text`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from graphloss.errors import InputError

MARK = "__label__"
SAMPLE = 2_000
Shape = Literal["text", "mark", "label first", "label last"]


def shape_of(lines: Iterable[str]) -> Shape:
    """What the lines hold, by the first ones: labels are short and there are few of them."""
    sample = [line.strip("\r\n") for line in islice((line for line in lines if line.strip()), SAMPLE)]
    if any(line.lstrip().startswith(MARK) for line in sample):
        return "mark"
    if not sample or not all("\t" in line for line in sample):
        return "text"
    if _like_labels([line.partition("\t")[0] for line in sample], [line.partition("\t")[2] for line in sample]):
        return "label first"
    if _like_labels([line.rpartition("\t")[2] for line in sample], [line.rpartition("\t")[0] for line in sample]):
        return "label last"
    return "text"


def columns_of(shape: Shape) -> list[str]:
    """The columns of such a file."""
    return ["text"] if shape == "text" else ["text", "label"]


def cells(lines: Iterable[tuple[int, str]], shape: Shape, where: object) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Text and label of each line, with its number."""
    for number, raw in lines:
        line = raw.rstrip("\r\n")
        label: str | None = None
        text = line
        if shape == "mark" and line.lstrip().startswith(MARK):
            mark, text = (*line.split(maxsplit=1), "")[:2]
            label = mark.removeprefix(MARK)
            if text.lstrip().startswith(MARK):
                raise InputError(f"{where}, line {number}: two labels; expected one {MARK}NAME before each text.")
        elif shape in ("label first", "label last") and line.strip():
            if "\t" not in line:
                raise InputError(
                    f"{where}, line {number}: no tab; expected a label, a tab and a text, as in other lines."
                )
            first, _, last = line.partition("\t") if shape == "label first" else line.rpartition("\t")
            text, label = (last, first) if shape == "label first" else (first, last)
        yield number, {"text": text, "label": label}


def _like_labels(cells: list[str], others: list[str]) -> bool:
    names = [cell.strip() for cell in cells if cell.strip()]
    if not names or any(len(name.split()) > 3 for name in names):
        return False
    shorter = sum(map(len, names)) / len(names) < sum(map(len, others)) / len(others)
    return shorter and 2 <= len(set(names)) <= max(2, len(names) / 2)
