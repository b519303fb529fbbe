"""Bytes as lines of text: UTF-8, or UTF-16 and UTF-32 by their mark or their NULs; what is no text is named."""

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from graphloss.errors import InputError

CHUNK = 1 << 14
MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
PACKED = "packed by {}; unpack it first, for example with: {} FILE"
OTHERS = {
    b"\x1f\x8b": PACKED.format("gzip", "gunzip"),
    b"BZh": PACKED.format("bzip2", "bunzip2"),
    b"\xfd7zXZ": PACKED.format("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": PACKED.format("zstd", "unzstd"),
    b"7z\xbc\xaf": PACKED.format("7-Zip", "7z x"),
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or another ZIP archive; save its sheet as CSV in UTF-8, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls) or document (.doc); save it as CSV in UTF-8",
    b"PAR1": "a Parquet file; give it a name that ends in .parquet",
    b"ARROW1": "an Arrow file; save it as Parquet or CSV",
    b"%PDF": "a PDF document; save its text as .txt or CSV",
    b"{\\rtf": "a rich-text document; save it as .txt or CSV",
    b"SQLite format 3": "a database of SQLite; export the table as CSV",
    b"\x93NUMPY": "an array of NumPy; save it as CSV",
    **{bytes((128, n)): "a pickle, which could run code; save the table as CSV or Parquet" for n in range(2, 6)},
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "a picture; expected text"),
}
"""What files begin with that are no text, and what to do with them."""
PAGES = {
    **dict.fromkeys((b"<!doctype", b"<html"), "a web page; fetch the file itself, or save the page's table as CSV"),
    b"<?xml": "XML; save its table as CSV",
    b"version https://git-lfs": "a pointer of Git LFS in place of the file; fetch it, for example with: git lfs pull",
}
"""What texts begin with that are no tables, in lower case."""
CONTROL = re.compile(rb"[\x00\x02-\x08\x0e-\x1a]")


def foreign(head: bytes) -> str | None:
    """The kind of a file that begins so, with the remedy, if it is a known one that is no text."""
    return next((what for magic, what in OTHERS.items() if head.startswith(magic)), None)


def page(head: bytes) -> str | None:
    """The same of a text that is no table."""
    head = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((what for begin, what in PAGES.items() if head.startswith(begin)), None)


def lines(chunks: Iterable[bytes], name: object) -> Iterator[tuple[int, str]]:
    """The lines of a stream of bytes, numbered from 1, as they come; a byte order mark is dropped.

    Lines end with line feeds, or with carriage returns where the beginning has no line feed; those become line feeds.
    """
    parts, head = iter(chunks), b""
    for part in parts:
        head += part
        if (len(head) >= 4 or b"\n" in head) and not head.endswith(b"\r"):  # else a line feed may follow
            break
    if what := foreign(head):
        raise InputError(f"{name} is {what}.")
    encoding, mark = _encoding(head)
    stream: Iterator[bytes] = chain([head[mark:]], parts)
    if encoding != "utf-8":
        stream = _as_utf8(stream, encoding, name)
        head = next(stream, b"")
        stream = chain([head], stream)
    end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
    for number, raw in enumerate(_split(stream, end), 1):
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            where = f"{name}, line {number}: byte 0x{raw[error.start]:02x} at place {error.start + 1} is not UTF-8"
            raise InputError(
                f"{where}, and others are of no text. Save the table that this file holds as CSV in UTF-8."
                if CONTROL.search(raw)
                else f"{where}. Save the file as UTF-8, for example with: iconv -f ENCODING -t UTF-8 FILE > NEW, where "
                "ENCODING is its own, such as WINDOWS-1252, GB18030 or SHIFT_JIS."
            ) from error
        if "\0" in line:
            raise InputError(
                f"{name}, line {number}: place {line.index(chr(0)) + 1} holds a NUL, which no text has: the file is "
                "damaged or no text. Write it anew as UTF-8."
            )
        yield number, line


def file_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file; see `lines`."""
    try:
        with path.open("rb") as stream:
            yield from lines(iter(lambda: stream.read(CHUNK), b""), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _encoding(head: bytes) -> tuple[str, int]:
    """The encoding of what begins so, and the length of its mark."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    quarters = [head[place::4].count(0) for place in range(4)]
    if sum(quarters) * 5 < len(head) and _reads(head, "utf-8"):
        return "utf-8", 0
    count = len(head) // 4
    for encoding, empty, nearly in (("utf-32-le", 3, 2), ("utf-32-be", 0, 1)):
        if count and quarters[empty] >= count and quarters[nearly] * 10 >= count * 9 and _reads(head, encoding):
            return encoding, 0
    ends = {encoding: _separators(head, encoding) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(ends, key=ends.__getitem__)
    return (best, 0) if sum(quarters) and ends[best] else ("utf-8", 0)


def _reads(head: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _separators(head: bytes, encoding: str) -> int:
    """Blanks, line ends and marks between cells, which stand in every table and seldom in the other order of bytes."""
    return sum(map(head.decode(encoding, "replace").count, "\n\r\t ,;|:")) if _reads(head, encoding) else 0


def _as_utf8(stream: Iterable[bytes], encoding: str, name: object) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for part in stream:
            yield decoder.decode(part).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: its beginning is {encoding.upper()}, and what follows is not ({error.reason}): the file is "
            "damaged. Write it anew as UTF-8."
        ) from error


def _split(stream: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    rest: list[bytes] = []  # of an unfinished line
    for part in stream:
        *whole, last = part.split(end)
        for piece in whole:
            yield b"".join([*rest, piece, b"\n"])
            rest = []
        rest += [last] if last else []
    if rest:
        yield b"".join(rest)
