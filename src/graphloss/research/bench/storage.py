"""The folder of a comparison: what was asked, a result file a cell, and locks for processes that share the work.

bench.json      the grid, as far as it was ever asked for
cells/          one JSON file a cell: scores, curve, settings, versions, machine; written whole or not at all
studies/        one JSON file a study of `--tune`
results.md, results.json, report.html
work/, .locks/  checkpoints of cells that are being trained, and who trains them
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphloss import __version__, system
from graphloss.errors import InputError
from graphloss.research.bench.grid import UNTOUCHED, Cell, Grid, format_shots, slug
from graphloss.system import write_text

FORMAT = 1
GRID, CELLS, STUDIES, WORK, LOCKS = "bench.json", "cells", "studies", "work", ".locks"
MARKDOWN, ROWS, REPORT = "results.md", "results.json", "report.html"
FIXED = ("data", "settings", "preset", "tune", "test_documents")  # of a grid: the same for all its cells
SCORED = ("head", "probe", "knn")


def recorded(folder: Path) -> tuple[Grid, dict[str, str]] | None:
    """The grid that a folder was made for and the fingerprint of each data set; None for a folder that is free.

    Raises:
        InputError: the folder holds other things, or its `bench.json` is damaged or of a newer graphloss.
    """
    path = folder / GRID
    if not path.is_file():
        if folder.exists() and (  # all that a kill in the first moment leaves
            not folder.is_dir() or any(entry.name not in (LOCKS, f".{GRID}.writing") for entry in folder.iterdir())
        ):
            raise InputError(f"{folder}: holds other files; choose an --out that is new or empty")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] > FORMAT:
            raise InputError(f"{path}: written by a newer graphloss; upgrade graphloss, or choose another --out")
        shots = tuple(None if value == "all" else int(value) for value in found["shots"])
        lists: dict[str, Any] = {name: tuple(found[name]) for name in ("losses", "modes")}
        fingerprints = dict(found["sources"])
        grid = Grid(
            tuple(fingerprints),
            shots=shots,
            seeds=int(found["seeds"]),
            **lists,
            **{name: found[name] for name in FIXED},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); copy it again, or choose another --out"
        ) from error
    return grid, fingerprints


def joined(folder: Path, before: Grid, asked: Grid) -> Grid:
    """The grid of a folder, extended by what is asked.

    Raises:
        InputError: what must be the same for all cells differs.
    """
    if other := [name for name in FIXED if getattr(before, name) != getattr(asked, name)]:
        lines = [
            f"  - {name}: there {json.dumps(getattr(before, name))}, here {json.dumps(getattr(asked, name))}"
            for name in other
        ]
        raise InputError(
            f"{folder}: holds a comparison with other settings:\n" + "\n".join(lines) + "\n"
            "give the same, or only `--out` to go on with it, or choose another --out"
        )
    union: dict[str, Any] = {
        name: tuple(dict.fromkeys([*getattr(before, name), *getattr(asked, name)]))
        for name in ("sources", "losses", "modes", "shots")
    }
    return Grid(**union, seeds=max(before.seeds, asked.seeds), **{name: getattr(asked, name) for name in FIXED})


def claim(folder: Path, asked: Grid, fingerprints: Mapping[str, str]) -> Grid:
    """Make the folder and write down its grid: what is asked for, and what other processes have asked for by now.

    Returns:
        The whole grid of the folder.

    Raises:
        InputError: the folder cannot be written, or is by now one of other settings or other documents.
    """
    try:
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with locked(folder, "grid", wait=True):
            before, seen = recorded(folder) or (asked, {})
            grid = joined(folder, before, asked)
            if other := [source for source, value in fingerprints.items() if seen.get(source, value) != value]:
                raise InputError(f"{folder}: holds a comparison on other documents of {', '.join(other)}")
            found = {
                "format": FORMAT,
                "graphloss": __version__,
                "sources": seen | dict(fingerprints),
                "losses": grid.losses,
                "modes": grid.modes,
                "shots": [format_shots(shots) for shots in grid.shots],
                "seeds": grid.seeds,
                **{name: getattr(grid, name) for name in FIXED},
            }
            write_json(folder / GRID, found)
        for name in (CELLS, STUDIES, WORK):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    return grid


def path_of(folder: Path, cell: Cell) -> Path:
    """The result file of a cell."""
    return folder / CELLS / f"{cell.name}.json"


def read_cell(folder: Path, grid: Grid, cell: Cell, tuned: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The result of a cell; None where there is none yet.

    Args:
        folder: of the comparison.
        grid: what the result must fit.
        cell: whose result.
        tuned: what the cell's study found; None where it is not known, then settings are not compared.

    Raises:
        InputError: the file is damaged, or was made with other settings.
    """
    path = path_of(folder, cell)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _check(found, cell)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); delete it, and this cell will be run again"
        ) from error
    if tuned is not None:
        wanted = json.loads(json.dumps(asked_of(grid, cell, tuned)))
        if other := sorted(name for name in wanted if found["asked"].get(name) != wanted[name]):
            raise InputError(
                f"{path}: made with other settings ({', '.join(other)}) than this comparison asks for; "
                "delete it, and this cell will be run again"
            )
    return dict(found)


def asked_of(grid: Grid, cell: Cell, tuned: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that a cell's result depends on besides the documents, by name, ready for JSON."""
    data = {"describe": None} | dict(grid.data)
    return asdict(grid.settings_of(cell, tuned)) | data | {"test_documents": grid.test_documents}


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All results of a folder's grid that are there, in the order of the grid.

    Raises:
        InputError: the folder is no comparison, or a file in it is damaged.
    """
    there = recorded(folder)
    if there is None:
        raise InputError(f"{folder}: no comparison is there; `graphloss bench DATA --out {folder}` makes one")
    found = (read_cell(folder, there[0], cell) for cell in there[0].cells())
    return [cell for cell in found if cell is not None]


def locked(folder: Path, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
    """The lock of a cell or a study, to hold while it is worked on; False if another process holds it.

    Args:
        folder: of the comparison.
        name: of the cell or study.
        wait: until the other process has ended its work.
    """
    return system.locked(folder / LOCKS / f"{name}.lock", wait=wait)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _check(found: dict[str, Any], cell: Cell) -> None:
    """Refuse a result without what the tables need; raises ValueError, KeyError or TypeError."""
    if found["format"] > FORMAT:
        raise ValueError("written by a newer graphloss")
    said = {"data": slug(cell.source), "shots": format_shots(cell.shots), "loss": cell.loss, "mode": cell.mode}
    for name, value in (said | {"seed": cell.seed}).items():
        if found[name] != value:
            raise ValueError(f"{name} is {found[name]!r}, not {value!r}")
    for who in SCORED:
        for what in ("accuracy", "macro_f1"):
            if not math.isfinite(found["scores"][who][what]):
                raise ValueError(f"{what} of {who} is no number")
    for name, kind in (("asked", dict), ("curve", list), ("versions", dict), ("environment", dict)):
        if not isinstance(found[name], kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    for row in found["curve"]:
        float(row["epoch"]), float(row["seconds"]), float(row["macro_f1"] or 0)
    for name in ("split", "documents", "fingerprint", "training_seconds", "to_99"):
        found[name]
    if cell.loss != UNTOUCHED and not found["curve"]:
        raise ValueError("there is no learning curve")
