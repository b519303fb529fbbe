"""The results of a question that is asked cell by cell: one JSON Lines file, one row per cell, shared by processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from graphloss.disk import locked, write_text

FOLDER = Path(__file__).parent / "results"


class ResultTable(NamedTuple):
    """A file and the fields that tell its rows apart; rows stand in the order of these fields, as text."""

    path: Path
    key: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """All rows; none without a file."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def find(self, *values: Any) -> dict[str, Any] | None:
        """The row with these values of the key; None where there is none."""
        return next((row for row in self.rows() if self._key(row) == "-".join(map(str, values))), None)

    def put(self, row: Mapping[str, Any]) -> None:
        """Add a row, or replace the one of its key; the file is written whole, by one process at a time."""
        with locked(self.path.with_name(f".{self.path.name}.lock"), wait=True):
            rows = {self._key(old): old for old in self.rows()} | {self._key(row): row}
            lines = [json.dumps(rows[key], ensure_ascii=False, allow_nan=False) + "\n" for key in sorted(rows)]
            write_text(self.path, "".join(lines))

    def _key(self, row: Mapping[str, Any]) -> str:
        return "-".join(str(row[name]) for name in self.key)
