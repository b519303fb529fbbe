"""The folder of a comparison: its grid, one result file per cell, and locks for processes that share the work.

bench.json      the grid, the union of all requests
cells/          one JSON file per cell: scores, curve, settings, versions, machine; written whole or not at all
studies/        one JSON file per study of `--tune`
results.md, results.json, report.html
work/, .locks/  checkpoints and locks of cells in training
"""

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from graphloss import __version__, disk
from graphloss.disk import write_text
from graphloss.errors import InputError
from graphloss.research.bench.grid import UNTOUCHED, Cell, Grid, format_shots, slug

FORMAT = 1
GRID, CELLS, STUDIES, WORK, LOCKS = "bench.json", "cells", "studies", "work", ".locks"
MARKDOWN, ROWS, REPORT = "results.md", "results.json", "report.html"
FIXED = ("data", "settings", "preset", "tune", "test_documents", "encoder")  # of a grid: the same for all its cells
SCORED = ("head", "probe", "knn")


def recorded(folder: Path) -> tuple[Grid, dict[str, str]] | None:
    """The grid of a folder and the fingerprint of each data set; None for a new or empty folder.

    Raises:
        InputError: the folder contains other files, or its `bench.json` is damaged or of a newer graphloss.
    """
    path = folder / GRID
    if not path.is_file():
        if folder.exists() and (  # these remain if a process is killed at once
            not folder.is_dir() or any(entry.name not in (LOCKS, f".{GRID}.writing") for entry in folder.iterdir())
        ):
            raise InputError(f"{folder}: contains other files; choose an --out that is new or empty")
        return None
    try:
        found = {"encoder": None} | json.loads(path.read_text(encoding="utf-8"))
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
            folder=folder,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); copy it again, or choose another --out"
        ) from error
    return grid, fingerprints


def extended(folder: Path, before: Grid, requested: Grid) -> Grid:
    """The grid of a folder, extended by the requested one.

    Raises:
        InputError: settings that must be the same for all cells differ.
    """
    if other := [name for name in FIXED if getattr(before, name) != getattr(requested, name)]:
        lines = [
            f"  - {name}: there {json.dumps(getattr(before, name))}, here {json.dumps(getattr(requested, name))}"
            for name in other
        ]
        raise InputError(
            f"{folder}: contains a comparison with other settings:\n" + "\n".join(lines) + "\n"
            "give the same, or only `--out` to resume it, or choose another --out"
        )
    union: dict[str, Any] = {
        name: tuple(dict.fromkeys([*getattr(before, name), *getattr(requested, name)]))
        for name in ("sources", "losses", "modes", "shots")
    }
    return replace(requested, **union, seeds=max(before.seeds, requested.seeds))


def record_grid(folder: Path, requested: Grid, fingerprints: Mapping[str, str]) -> Grid:
    """Create the folder and record its grid: the requested one, and those of other processes.

    Returns:
        The whole grid of the folder.

    Raises:
        InputError: the folder cannot be written, or was meanwhile created with other settings or documents.
    """
    try:
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with locked(folder, "grid", wait=True):
            before, seen = recorded(folder) or (requested, {})
            grid = extended(folder, before, requested)
            if other := [source for source, value in fingerprints.items() if seen.get(source, value) != value]:
                raise InputError(f"{folder}: contains a comparison on other documents of {', '.join(other)}")
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
    """The result of a cell; None if there is none yet.

    Args:
        folder: of the comparison.
        grid: its settings must be those of the result.
        cell: the cell.
        tuned: the settings found by the cell's study; None skips the comparison of settings.

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
        requested = json.loads(json.dumps(requested_settings(grid, cell, tuned)))
        if other := sorted(name for name in requested if found["asked"].get(name) != requested[name]):
            raise InputError(
                f"{path}: made with other settings ({', '.join(other)}) than those of this comparison; "
                "delete it, and this cell will be run again"
            )
    return dict(found)


def requested_settings(grid: Grid, cell: Cell, tuned: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings that a cell's result depends on, by name, ready for JSON."""
    data = {"describe": None} | dict(grid.data)
    return asdict(grid.settings_of(cell, tuned)) | data | {"test_documents": grid.test_documents}


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All existing results of a folder's grid, in the order of the grid.

    Raises:
        InputError: the folder is not a comparison, or a file in it is damaged.
    """
    record = recorded(folder)
    if record is None:
        raise InputError(f"{folder}: there is no comparison; `graphloss bench DATA --out {folder}` makes one")
    found = (read_cell(folder, record[0], cell) for cell in record[0].cells())
    return [cell for cell in found if cell is not None]


def locked(folder: Path, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
    """The lock of a cell or a study, see `disk.locked`."""
    return disk.locked(folder / LOCKS / f"{name}.lock", wait=wait)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _check(found: dict[str, Any], cell: Cell) -> None:
    """Refuse a result without the data for the tables; raises ValueError, KeyError or TypeError."""
    if found["format"] > FORMAT:
        raise ValueError("written by a newer graphloss")
    expected = {"data": slug(cell.source), "shots": format_shots(cell.shots), "loss": cell.loss, "mode": cell.mode}
    for name, value in (expected | {"seed": cell.seed}).items():
        if found[name] != value:
            raise ValueError(f"{name} is {found[name]!r}, not {value!r}")
    for who in SCORED:
        for what in ("accuracy", "macro_f1"):
            if not math.isfinite(found["scores"][who][what]):
                raise ValueError(f"{what} of {who} is not a number")
    for name, kind in (("asked", dict), ("curve", list), ("versions", dict), ("environment", dict)):
        if not isinstance(found[name], kind):
            raise TypeError(f"{name} is not a {kind.__name__}")
    for row in found["curve"]:
        float(row["epoch"]), float(row["seconds"]), float(row["macro_f1"] or 0)
    for name in ("split", "documents", "fingerprint", "training_seconds", "to_99"):
        found[name]
    if cell.loss != UNTOUCHED and not found["curve"]:
        raise ValueError("there is no learning curve")
