"""The comparison at work: check everything, say the plan, run what is missing, write what is there.

Cells that are there already are never run again. Several processes may work on one folder: each takes the cells that
no other is working on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError
from graphloss.research.bench import storage as place
from graphloss.research.bench import tuned_settings
from graphloss.research.bench.cell import Task, run_cell
from graphloss.research.bench.draws import Draw, corpus_of, judged_of, read_draws
from graphloss.research.bench.grid import UNTOUCHED, Cell, Grid, format_shots, slug
from graphloss.research.bench.notes import said
from graphloss.research.bench.page import write_page
from graphloss.research.bench.tables import arm_name, group_name
from graphloss.text.corpus import Corpus

if TYPE_CHECKING:
    from graphloss.training.preflight import Preflight
    from graphloss.training.progress import Screen

POLL = 2.0  # seconds between two looks at cells that other processes work on


@dataclass(frozen=True)
class Outcome:
    """What a call leaves: the rows of the whole folder, how many cells it has run, and those that failed, and why."""

    rows: list[dict[str, Any]]
    ran: int
    failed: dict[str, str]


def run(asked: Grid | None, *, out: Path, screen: Screen) -> Outcome:
    """Run the cells of a grid that are missing in a folder, and write tables and page of all that are there.

    Args:
        asked: the grid; None goes on with that of the folder.
        out: the folder; a grid that it holds already is extended.
        screen: where progress is shown.

    Raises:
        InputError: a data set, a setting, the encoder, the folder or a file in it cannot be used, and nothing has been
            trained then; or no cell has come to an end.
    """
    from graphloss.text.encoder_source import check_length, resolve

    before = place.recorded(out)
    if before is None and asked is None:
        raise InputError(f"{out}: no comparison is there; name some data: `graphloss bench DATA --out {out}`")
    grid = asked if before is None else place.joined(out, before[0], asked or before[0])
    assert grid is not None
    asked = asked or grid
    for each in (cell for cell in asked.cells() if cell.seed == 0):
        settings = asked.settings_of(each)
        encoder = resolve(settings.model)
        check_length(encoder, settings.max_length)
    if grid.tune:
        _check_tuning()
    drawn, fingerprints = read_draws(grid, asked, before[1] if before else {}, screen)
    done = {
        cell
        for cell in grid.cells()
        if place.read_cell(out, grid, cell, tuned_settings.found(out, grid, cell)) is not None
    }
    checked = _check_trainings(asked, drawn, encoder)
    grid = place.claim(out, grid, fingerprints)
    todo = [cell for cell in asked.cells() if cell not in done]
    work = _Work(out, grid, encoder, screen, drawn)
    if todo:
        _say_plan(work, asked, todo, checked)
    else:
        screen.say(f"{out}: all {len(done)} cells are there; only tables and page are written anew")
    try:
        work.finish(todo)
    finally:
        work.bar.stop()
    cells = place.read_cells(out)
    if not cells:
        raise InputError(
            f"{out}: no cell has come to an end; " + "; ".join(f"{k}: {v}" for k, v in work.failed.items())
        )
    return Outcome(write_page(out, cells), work.ran, work.failed)


class _Work:
    """Cells being run, one after another, with a bar that counts optimizer steps."""

    def __init__(self, out: Path, grid: Grid, encoder: str, screen: Screen, drawn: Mapping[Draw, Corpus]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.out, self.grid, self.encoder, self.screen, self.drawn = out, grid, encoder, screen, drawn
        self.failed: dict[str, str] = {}
        self.ran = 0
        self.corpus: tuple[tuple[str, int | None, int], Corpus] | None = None
        self.bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=screen.console,
            transient=True,
            disable=screen.quiet or not screen.console.is_terminal,
        )

    def finish(self, todo: list[Cell]) -> None:
        """Run the cells until none is left; those that another process holds are waited for, or taken over."""
        if not todo:
            return
        self.task = self.bar.add_task("", total=sum(map(self.steps, todo)))
        self.bar.start()
        total, pending = len(todo), todo
        while pending:
            held = []
            for cell in pending:
                self.bar.update(self.task, description=f"cell {total - len(pending) + 1} of {total}")
                if not self.attempt(cell):
                    held.append(cell)
            if held and len(held) == len(pending):
                time.sleep(POLL)
            pending = held

    def attempt(self, cell: Cell) -> bool:
        """Run a cell if it is free and missing; False if another process is working on it, or on its study."""
        tuned = tuned_settings.found(self.out, self.grid, cell)
        if tuned is None:
            with place.locked(self.out, cell.study) as mine:
                if not mine:
                    return False
                tuned = tuned_settings.found(self.out, self.grid, cell)
                if tuned is None:
                    tuned = self.guarded(cell.study, lambda: self.search(cell))
                if tuned is None:
                    return True
        with place.locked(self.out, cell.name) as mine:
            if not mine:
                return False
            if place.read_cell(self.out, self.grid, cell, tuned) is None:
                self.guarded(cell.name, lambda: self.train(cell, tuned))
            else:
                self.bar.advance(self.task, self.steps(cell))
        return True

    def guarded(self, name: str, job: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Do a job; one that fails, by NaN or for want of memory, is told and does not stop the others."""
        if name in self.failed:
            return None
        try:
            return job()
        except Exception as error:
            if os.environ.get("GRAPHLOSS_DEBUG"):
                raise
            self.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            self.screen.warn(f"{name} has failed and is left out: {self.failed[name]}")
            return None

    def search(self, cell: Cell) -> dict[str, Any]:
        """Make the study of a cell."""
        name = f"{group_name(slug(cell.source), format_shots(cell.shots))}: {arm_name(cell.loss, cell.mode)}"
        self.screen.say(f"  {name}: searching settings in {self.grid.tune} trials")

        def tell(row: Any, tuned: Any) -> None:
            reached = "" if tuned is None else f", best {tuned.objective.replace('_', '-')} so far {tuned.value:.4f}"
            self.bar.update(self.task, description=f"trial {row.number + 1} of {self.grid.tune}")
            self.screen.stage(f"    trial {row.number + 1}: {row.state}, {said(row.settings)}{reached}")

        best = tuned_settings.search(self.out, self.grid, cell, self.encoder, _follow(tell))
        self.screen.say(f"  {name}: {said(best)}")
        return best

    def train(self, cell: Cell, tuned: Mapping[str, Any]) -> dict[str, Any]:
        """Run a cell, write its file and say a line."""
        task = Task(
            cell,
            self.grid.settings_of(cell, tuned),
            self.documents(cell),
            self.encoder,
            self.out / place.WORK / cell.name,
            [_watch(lambda: self.bar.advance(self.task))],
        )
        result = run_cell(task, place.asked_of(self.grid, cell, tuned)) | {"tuned": dict(tuned) or None}
        place.write_json(place.path_of(self.out, cell), result)
        self.ran += 1
        name = f"{group_name(result['data'], result['shots'])}, seed {cell.seed}"
        score = f"macro-F1 {result['scores']['head']['macro_f1']:6.1%}"
        self.screen.say(f"  {name}: {arm_name(cell.loss, cell.mode):<28} {score}  {result['seconds']:5.0f} s")
        return result

    def documents(self, cell: Cell) -> Corpus:
        """The documents of a cell; those of the last cell are kept, since the next is mostly of the same draw."""
        key = (cell.source, cell.shots, cell.seed)
        if self.corpus is None or self.corpus[0] != key:
            self.corpus = (key, corpus_of(self.grid, *key))
        return self.corpus[1]

    def steps(self, cell: Cell) -> int:
        """Optimizer steps of a cell, by its data set's first draw."""
        if cell.loss == UNTOUCHED:
            return 0
        from graphloss.training.sizes import Sizes

        sizes = Sizes.of(self.drawn[cell.source, cell.shots].train.known, self.grid.settings_of(cell))
        return sizes.epochs * sizes.steps


def _say_plan(work: _Work, asked: Grid, todo: list[Cell], checked: Mapping[Draw, Preflight]) -> None:
    """What is about to be done, and how long it may take, before it begins."""
    from graphloss.run.plan import estimate_minutes
    from graphloss.training.sizes import format_graphs

    screen, total = work.screen, sum(1 for _ in asked.cells())
    minutes: dict[Draw, float] = {}
    lines = []
    for (source, shots), corpus in work.drawn.items():
        sizes = checked[source, shots].sizes
        minutes[source, shots] = estimate_minutes(checked[source, shots], len(judged_of(corpus)[1]))
        name = group_name(slug(source), format_shots(shots))
        lines.append(
            f"{name}: {len(corpus.train):,} training documents, {sizes.epochs} epochs of {sizes.steps} "
            f"{'step' if sizes.steps == 1 else 'steps'}, {format_graphs(sizes.graph, sizes.batch)}; "
            f"{len(judged_of(corpus)[1]):,} {judged_of(corpus)[0]} documents scored"
        )
    trained = [cell for cell in todo if cell.loss != UNTOUCHED]
    time_left = sum(minutes[cell.source, cell.shots] for cell in trained)
    open_studies = {cell.study: cell for cell in trained if tuned_settings.found(work.out, work.grid, cell) is None}
    time_left += work.grid.tune * sum(minutes[cell.source, cell.shots] for cell in open_studies.values())
    rows = {
        "losses": "; ".join(arm_name(*arm) for arm in asked.arms()) + "; the untouched encoder",
        "cells": f"{total}, {total - len(todo)} of them there already; {asked.seeds} seeds",
        "tuning": f"{work.grid.tune} trials for each loss, {len(open_studies)} studies to make"
        if work.grid.tune
        else "",
        "training": "\n".join(lines),
        "time": f"about {time_left:.0f} minutes" if time_left >= 1 else "less than a minute",
        "folder": str(work.out),
    }
    screen.console.print("[bold]graphloss[/bold] compares losses")
    for name, value in rows.items():
        for number, line in enumerate(value.splitlines()):
            screen.console.print(f"  [dim]{name if not number else '':<11}[/dim]", end="")
            screen.console.print(line, markup=False)
    screen.console.print()


def _check_trainings(asked: Grid, drawn: Mapping[Draw, Corpus], source: str) -> dict[Draw, Preflight]:
    """Refuse what a training would refuse, for each data set and loss, while the folder is still as it was.

    Returns:
        Of each draw what was found for the first loss: the sizes and the time of a text are alike for all.
    """
    from graphloss.text.encoder import load
    from graphloss.training.preflight import check_settings, preflight

    encoder = None
    found: dict[Draw, Preflight] = {}
    for draw, corpus in drawn.items():
        for cell in asked.cells():
            if cell.loss == UNTOUCHED or cell.seed or (cell.source, cell.shots) != draw:
                continue
            given = (corpus.train, corpus.validation, corpus.label_names, corpus.described())
            checked = check_settings(asked.settings_of(cell), *given)
            encoder = encoder or load(source, max_length=checked.settings.max_length)
            trial = found[draw].trial if draw in found else None  # the losses do not change what a batch holds
            ready = preflight(checked, encoder, trial=trial)
            found.setdefault(draw, ready)
    return found


def _check_tuning() -> None:
    """Refuse `--tune` before anything is trained where its library is missing."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise InputError("--tune needs optuna: pip install 'graphloss[tune]'")


def _follow(on_trial: Callable[[Any, Any], None]) -> Any:
    """A watcher of a search that is told of each trial's end."""
    from graphloss.research.tuning.search import Watcher

    class Follow(Watcher):
        def ended(self, row: Any, tuned: Any) -> None:
            on_trial(row, tuned)

    return Follow()


def _watch(on_step: Callable[[], None]) -> Any:
    """A trainer callback that is told of each optimizer step."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step()

    return Watch()
