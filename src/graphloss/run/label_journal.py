"""The answers of a labeling session on disk, one JSON line each, flushed before the next text is shown.

The first line says which texts they are about. A kill can tear the last line and no other; its answer was
never confirmed, and it is dropped.
"""

import json
import os
from pathlib import Path
from typing import Any

from graphloss.disk import flush
from graphloss.errors import InputError


class Journal:
    """A file that only grows, made if it is not there; `entries` has all that is in it.

    One whose answers are about anything else than `about`, or of which a line before the last is damaged, is refused.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.entries = path, list[dict[str, Any]]()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        written = path.read_bytes()
        self._size = written.rfind(b"\n") + 1
        os.ftruncate(self._file, self._size)
        for line in written[: self._size].splitlines():
            try:
                self.entries.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise self.damaged(len(self.entries), "not an answer") from error
        if not self.entries:
            self.append(about)
            flush(path.parent)
        elif self.entries[0] != about:
            raise InputError(
                f"{path}: holds answers about other texts than these ({self.entries[0].get('texts')} of them; here "
                f"are {about.get('texts')}); give the file that it was begun with, or another --out"
            )

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; when this returns it is on the disk.

        Raises:
            OSError: it could not be written, and nothing of it stays.
        """
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(None, "a line was written in part", str(self.path))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        self.entries.append(entry)

    def damaged(self, place: int, what: str) -> InputError:
        """The error of an entry that cannot be, by its place in `entries`."""
        return InputError(
            f"{self.path}, line {place + 1}: {what}; remove the line, or put the file back as it was written"
        )

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
