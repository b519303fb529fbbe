"""With `--tune`: the settings of each loss, searched with the same number of trials on a draw that is never scored.

There is one study per (data, shots, loss, mode); all seeds are then trained with its settings. Its draw has the seed
1,000, beyond those of the cells. Settings that the user specified are not searched.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.research.bench.grid import STUDY_SEED, UNTOUCHED, Cell, Grid
from graphloss.research.bench.label_draws import corpus_of
from graphloss.research.bench.storage import FORMAT, STUDIES, requested_settings, write_json
from graphloss.research.tuning.search import tune
from graphloss.research.tuning.space import space_for
from graphloss.research.tuning.storage import open_storage


def found(folder: Path, grid: Grid, cell: Cell) -> dict[str, Any] | None:
    """The settings found by a cell's study: {} without `--tune`, None while the study is unfinished."""
    if not grid.tune or cell.loss == UNTOUCHED or not _space(grid, cell):  # nothing is left to search
        return {}
    path = folder / STUDIES / f"{cell.study}.json"
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        best, requested, trials = dict(kept["best"]), dict(kept["asked"]), int(kept["trials"])
        grid.settings_of(cell, best)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); delete it, and this study will be made again"
        ) from error
    if requested != json.loads(json.dumps(requested_settings(grid, drawn(cell)))) or trials != grid.tune:
        raise InputError(
            f"{path}: made with other settings than those of this comparison; delete it, "
            "and this study will be made again"
        )
    return best


def search(folder: Path, grid: Grid, cell: Cell, encoder: str, watcher: Any = None) -> dict[str, Any]:
    """Run or resume the study of a cell, and of its other seeds, and return the best settings."""
    corpus = corpus_of(grid, cell.source, cell.shots, STUDY_SEED)
    database = folder / STUDIES / f"{cell.study}.db"
    tuned = tune(
        corpus.train,
        corpus.validation,
        corpus.label_names,
        grid.settings_of(drawn(cell)),
        _space(grid, cell),
        encoder_source=encoder,
        trials=grid.tune,
        descriptions=corpus.described(),
        storage=open_storage(f"sqlite:///{database}"),
        study_name=cell.study,
        watcher=watcher,
    )
    write_json(
        folder / STUDIES / f"{cell.study}.json",
        {
            "format": FORMAT,
            "best": tuned.best,
            "objective": tuned.objective,
            "value": tuned.value,
            "trials": grid.tune,
            "complete": tuned.count("complete"),
            "pruned": tuned.count("pruned"),
            "fingerprint": corpus.fingerprint,
            "asked": requested_settings(grid, drawn(cell)),
            "rows": [asdict(row) for row in tuned.rows],
        },
    )
    database.unlink(missing_ok=True)  # deleting the JSON file then starts a new study
    return dict(tuned.best)


def drawn(cell: Cell) -> Cell:
    """The cell of a study's own draw."""
    return replace(cell, seed=STUDY_SEED)


def _space(grid: Grid, cell: Cell) -> Mapping[str, Any]:
    settings = grid.settings_of(cell)
    space = space_for(cell.loss, cell.mode, settings.memory)
    return {name: bounds for name, bounds in space.items() if name not in grid.settings}
