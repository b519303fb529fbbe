"""What may reach a terminal: of a user's data no character that it obeys; paths as a shell takes them."""

import re
import shlex

OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which begin escape sequences; separators of lines; marks that turn the direction of writing."""

TABLE_WIDTH = 80
"""Minimum width of a table in columns; a narrower screen breaks its lines."""


def printable(text: object) -> str:
    r"""A text of several lines in which such characters are written out, an escape as \\x1b."""
    return "\n".join(map(one_line, str(text).split("\n")))


def one_line(text: object) -> str:
    r"""The same for a name that has to stay in its line and its cell: line breaks and tabs are written out too."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def sentence(text: str) -> str:
    """A document on one line: any run of blanks is one blank."""
    return one_line(" ".join(text.split()))


def pasted(path: object) -> str:
    """A path as a shell takes it, in quotes where it needs them."""
    return shlex.quote(str(path))


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 label, 2 labels, 1,000 labels."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
