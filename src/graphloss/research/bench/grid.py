"""The grid of a comparison: its cells and their settings, the same for all losses.

All losses of a (data, shots, seed) share the documents, the number of steps and the rule for the best epoch. There is
no early stopping, so learning curves have equal length. Cross-entropy has one mode and the untouched encoder none:
both are run once per (data, shots, seed) and compared with every mode.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from graphloss.errors import InputError
from graphloss.text.columns import did_you_mean
from graphloss.text.data_sources import find_again, full_path, goes_by_name, name_to_keep
from graphloss.training import presets
from graphloss.training.settings import FILES, LOSSES, DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make, unknown

BASELINE, UNTOUCHED, NO_MODE = "ce", "untouched", "none"
MODES = ("combined", "standalone")
NEVER = 1_000_000
"""The patience of every cell, in evaluations: no training stops before its last step."""

STUDY_SEED = 1_000
"""Seed of the draw for tuning; the scored draws have smaller seeds."""

RESERVED = {"loss": "--losses", "mode": "--modes", "shots": "--shots", "seed": "--seeds", "patience": None}
"""Settings that the grid determines, and the options for them."""


@dataclass(frozen=True)
class Cell:
    """One training and its scores. `shots` None is all labels; `mode` is "none" for the untouched encoder."""

    source: str
    shots: int | None
    loss: str
    mode: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its result file, without the suffix."""
        return f"{self.study}-{self.seed}"

    @property
    def study(self) -> str:
        """The name of the study that all its seeds share."""
        return f"{slug(self.source)}-{format_shots(self.shots)}-{self.loss}-{self.mode}"


@dataclass(frozen=True)
class Grid:
    """A comparison; `make_grid` checks a user's request for one.

    Files stand among the `sources` by their absolute path, or with a `folder` as it keeps them (`name_to_keep`). `data`
    are fields of `DataSettings` for every cell, without `shots`, of which None is all; `settings` are those of
    `TrainSettings` that were specified, for the losses that have them; `encoder` is `encoder_source.fingerprint`.
    """

    sources: tuple[str, ...]
    losses: tuple[str, ...] = (BASELINE, "gloss")
    modes: tuple[str, ...] = ("combined",)
    shots: tuple[int | None, ...] = (None,)
    seeds: int = 5
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "default"
    tune: int = 0
    test_documents: int | None = None
    encoder: str | None = None
    folder: Path | None = field(default=None, compare=False)

    def kept_in(self, folder: Path) -> Self:
        """The same grid as the folder of the comparison keeps it: no absolute path is written there.

        Raises:
            InputError: two data sets would have one name.
        """
        sources = tuple(str(name_to_keep(source, folder)) for source in self.sources)
        if twice := {name for name in sources if sources.count(name) > 1}:
            raise InputError(f"two data sets have the name {', '.join(sorted(twice))}; rename one of them")
        data, settings = (
            {name: name_to_keep(value, folder) if name in FILES else value for name, value in given.items()}
            for given in (self.data, self.settings)
        )
        return replace(self, sources=sources, data=data, settings=settings, folder=folder)

    def find(self, kept: str | None) -> str | None:
        """Where a file or folder that the grid names lies now."""
        return kept if self.folder is None else find_again(kept, self.folder)

    def cells(self) -> Iterator[Cell]:
        """All cells, seed by seed, so that an interrupted grid has complete comparisons."""
        for seed in range(self.seeds):
            for source in self.sources:
                for shots in self.shots:
                    yield Cell(source, shots, UNTOUCHED, NO_MODE, seed)
                    for loss, mode in self.arms():
                        yield Cell(source, shots, loss, mode, seed)

    def arms(self) -> list[tuple[str, str]]:
        """The (loss, mode) pairs that are trained, cross-entropy once."""
        pairs = [(loss, MODES[0] if loss == BASELINE else mode) for mode in self.modes for loss in self.losses]
        return list(dict.fromkeys(sorted(pairs, key=lambda pair: pair[0] != BASELINE)))

    def settings_of(self, cell: Cell, tuned: Mapping[str, Any] | None = None) -> TrainSettings:
        """Settings of a cell: the preset, the specified ones, those found by the study, and no early stopping."""
        if cell.loss == UNTOUCHED:
            kept = {name: self.settings[name] for name in ("model", "max_length") if name in self.settings}
            filled = presets.settings(self.preset, cell.source)
            kept = {name: filled[name] for name in ("max_length",) if name in filled} | kept
            return make(TrainSettings, kept | {"loss": BASELINE, "seed": cell.seed})
        specified = {name: value for name, value in self.settings.items() if cell.loss in (owners(name) or LOSSES)}
        own = {"loss": cell.loss, "mode": cell.mode, "seed": cell.seed, "patience": NEVER}
        filled = presets.settings(self.preset, cell.source, cell.loss)
        return make(TrainSettings, filled | specified | dict(tuned or {}) | own)


def make_grid(
    sources: Sequence[str],
    *,
    losses: Sequence[str] = (),
    modes: Sequence[str] = (),
    shots: Sequence[str] = (),
    seeds: int | None = None,
    specified: Mapping[str, Any] | None = None,
    preset: str = "default",
    tune: int = 0,
    test_documents: int | None = None,
) -> Grid:
    """Check a user's request, the options of `graphloss bench`, and make it a grid, without reading data.

    Each of `losses`, `modes` and `shots` may hold several, with commas between; `specified` are fields of
    `DataSettings` and `TrainSettings`. A setting that belongs to the grid, or to no loss of it, is an error.
    """
    if not sources:
        raise InputError("expected a data set: `graphloss bench DATA`; try `graphloss bench builtin --shots 8`")
    chosen = Grid(
        tuple(dict.fromkeys(map(full_path, sources))),
        losses=_names(losses, tuple(LOSSES), "loss") or Grid.losses,
        modes=_names(modes, MODES, "mode") or Grid.modes,
        shots=tuple(dict.fromkeys(map(_shots, _split(shots)))) or Grid.shots,
        seeds=_number("--seeds", Grid.seeds if seeds is None else seeds, 1, STUDY_SEED),
        preset=preset,
        tune=_number("--tune", tune, 0, 100_000),
        test_documents=None if test_documents is None else _number("--test-documents", test_documents, 2, 10**9),
    )
    specified = dict(specified or {})
    for name in specified:
        if name in RESERVED:
            instead = f"give {RESERVED[name]}" if RESERVED[name] else "every loss is trained for the same steps"
            raise InputError(f"the grid determines '{name}'; leave it out: {instead}")
        if (own := owners(name)) and not set(own) & set(chosen.losses):
            raise InputError(
                f"none of the losses {', '.join(chosen.losses)} has the setting '{name}', "
                f"which belongs to {', '.join(own)}; leave it out, or add one of those losses"
            )
        if name not in (available := [*names(DataSettings), *names(TrainSettings)]):
            raise InputError(unknown(name, available))
    for name in FILES:
        if specified.get(name) and specified[name] != "off":
            specified[name] = full_path(specified[name])
    data = {name: value for name, value in specified.items() if name in names(DataSettings)}
    make(DataSettings, data)
    grid = replace(chosen, data=data, settings={k: value for k, value in specified.items() if k not in data})
    for cell in grid.cells():
        if cell.seed == 0:
            grid.settings_of(cell)
    return grid


def owners(setting: str) -> list[str]:
    """The losses that have a setting; empty for a setting of all losses."""
    return [loss for loss, own in LOSSES.items() if setting in own]


def slug(source: str) -> str:
    """A data set's name in file names: for a path its stem and a short hash of the path."""
    path = not goes_by_name(source) and len(Path(source).parts) > 1
    plain = re.sub(r"[^\w.]+", "_", Path(source).stem if path else source)
    return f"{plain}-{hashlib.sha256(source.encode()).hexdigest()[:6]}" if path else plain


def format_shots(shots: int | None) -> str:
    """Shots as in the option: a number or `all`."""
    return "all" if shots is None else str(shots)


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in str(value).split(",") if part.strip()]


def _names(values: Sequence[str], available: tuple[str, ...], kind: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(_split(values)))
    for value in found:
        if value not in available:
            hint = did_you_mean(value, available)
            raise InputError(f"there is no {kind} {value!r}; there are {', '.join(available)}.{hint}")
    return found


def _shots(value: str) -> int | None:
    if value == "all":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"--shots: expected numbers from 1 on or `all`, separated by commas, got {value!r}")
    return int(value)


def _number(option: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InputError(f"{option}: expected a number from {least} to {most:,}, got {value:,}")
    return value
