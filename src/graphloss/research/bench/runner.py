"""Run a comparison: check everything, print the plan, run the missing cells, write tables and page.

Finished cells are never run again. Several processes may share a folder: each runs cells that no other is running.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from graphloss.errors import InputError
from graphloss.research.bench import storage, tuned_settings
from graphloss.research.bench.cell import Task, run_cell
from graphloss.research.bench.grid import UNTOUCHED, Cell, Grid, format_shots, slug
from graphloss.research.bench.label_draws import Draw, corpus_of, read_draws
from graphloss.research.bench.notes import format_settings
from graphloss.research.bench.page import write_page
from graphloss.research.bench.tables import arm_name, group_name
from graphloss.research.tuning.search import Tuned, Watcher
from graphloss.research.tuning.storage import library
from graphloss.research.tuning.study import Row
from graphloss.run.plan import estimate_minutes
from graphloss.text.corpus import Corpus
from graphloss.text.encoder_source import check_length, fingerprint, resolve
from graphloss.training.preflight import Preflight, check_settings, preflight
from graphloss.training.progress import Screen
from graphloss.training.size_defaults import Sizes, format_graphs

POLL = 2.0  # seconds between checks of cells that other processes are running


@dataclass(frozen=True)
class Outcome:
    """The rows of the whole folder, the number of cells that this call ran, and the errors of failed ones by name."""

    rows: list[dict[str, Any]]
    ran: int
    failed: dict[str, str]


def run(requested: Grid | None, *, out: Path, screen: Screen) -> Outcome:
    """Run the missing cells of a grid in a folder, and write tables and page of all its cells.

    The folder's own grid is extended; without a requested one it is resumed. All that cannot be used is an
    `InputError` before any training; so is, afterward, that no cell was completed.
    """
    before, requested = storage.recorded(out), requested and requested.kept_in(out)
    if before is None and requested is None:
        raise InputError(f"{out}: there is no comparison; name some data: `graphloss bench DATA --out {out}`")
    requested = requested or (before and before[0])
    assert requested is not None
    for each in (cell for cell in requested.cells() if cell.seed == 0):
        settings = requested.settings_of(each)
        encoder = resolve(requested.find(settings.model))
        check_length(encoder, settings.max_length)
    requested = replace(requested, encoder=fingerprint(encoder))
    grid = requested if before is None else storage.extended(out, before[0], requested)
    if grid.tune:
        library()
    drawn, fingerprints = read_draws(grid, requested, before[1] if before else {}, screen)
    done = {
        cell
        for cell in grid.cells()
        if storage.read_cell(out, grid, cell, tuned_settings.found(out, grid, cell)) is not None
    }
    checked = _check_trainings(requested, drawn, encoder)
    grid = storage.record_grid(out, grid, fingerprints)
    todo = [cell for cell in requested.cells() if cell not in done]
    work = _Work(out, grid, encoder, screen, drawn)
    if todo:
        _print_plan(work, requested, todo, checked)
    else:
        screen.say(f"{out}: all {len(done)} cells are complete; only tables and page are rewritten")
    work.finish(todo)
    cells = storage.read_cells(out)
    if not cells:
        raise InputError(f"{out}: no cell was completed; " + "; ".join(f"{k}: {v}" for k, v in work.failed.items()))
    return Outcome(write_page(out, cells), work.ran, work.failed)


class _Work:
    """Runs cells one after another, with a bar that counts optimizer steps."""

    def __init__(self, out: Path, grid: Grid, encoder: str, screen: Screen, drawn: Mapping[Draw, Corpus]) -> None:
        self.out, self.grid, self.encoder, self.screen, self.drawn = out, grid, encoder, screen, drawn
        self.failed: dict[str, str] = {}
        self.ran = 0
        self.corpus: tuple[tuple[str, int | None, int], Corpus] | None = None
        left = (TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))
        self.bar = screen.bar(TextColumn("  {task.description}"), BarColumn(bar_width=24), TimeElapsedColumn(), *left)

    def finish(self, todo: list[Cell]) -> None:
        """Run all cells; wait for those of another process, and take them over if it ends without a result."""
        if not todo:
            return
        self.task = self.bar.add_task("", total=sum(map(self.steps, todo)))
        total, pending = len(todo), todo
        with self.bar:
            while pending:
                held = []
                for number, cell in enumerate(pending, total - len(pending) + 1):
                    self.bar.update(self.task, description=f"cell {number} of {total}")
                    if not self.attempt(cell):
                        held.append(cell)
                if len(held) == len(pending):
                    time.sleep(POLL)
                pending = held

    def attempt(self, cell: Cell) -> bool:
        """Run a cell unless it is complete; False if another process is running it or its study."""
        tuned = tuned_settings.found(self.out, self.grid, cell)
        if tuned is None:
            with storage.locked(self.out, cell.study) as mine:
                if not mine:
                    return False
                tuned = tuned_settings.found(self.out, self.grid, cell)
                if tuned is None:
                    tuned = self.guarded(cell.study, lambda: self.search(cell))
                if tuned is None:
                    return True
        with storage.locked(self.out, cell.name) as mine:
            if not mine:
                return False
            if storage.read_cell(self.out, self.grid, cell, tuned) is None:
                self.guarded(cell.name, lambda: self.train(cell, tuned))
            else:
                self.bar.advance(self.task, self.steps(cell))
        return True

    def guarded(self, name: str, job: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Run a job; a failure, by NaN or out of memory, is reported and does not stop the others."""
        if name in self.failed:
            return None
        try:
            return job()
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            self.screen.warn(f"{name} has failed and is left out: {self.failed[name]}")
            return None

    def search(self, cell: Cell) -> dict[str, Any]:
        """Run the study of a cell."""
        name = f"{group_name(slug(cell.source), format_shots(cell.shots))}: {arm_name(cell.loss, cell.mode)}"
        self.screen.say(f"  {name}: searching settings in {self.grid.tune} trials")

        class Report(Watcher):
            def ended(watcher, row: Row, tuned: Tuned | None) -> None:
                so_far = f", best {tuned.objective.replace('_', '-')} so far {tuned.value:.4f}" if tuned else ""
                self.bar.update(self.task, description=f"trial {row.number + 1} of {self.grid.tune}")
                self.screen.stage(f"    trial {row.number + 1}: {row.state}, {format_settings(row.settings)}{so_far}")

        best = tuned_settings.search(self.out, self.grid, cell, self.encoder, Report())
        self.screen.say(f"  {name}: {format_settings(best)}")
        return best

    def train(self, cell: Cell, tuned: Mapping[str, Any]) -> dict[str, Any]:
        """Run a cell, write its file and print a line."""
        task = Task(
            cell,
            self.grid.settings_of(cell, tuned),
            self.documents(cell),
            self.encoder,
            self.out / storage.WORK / cell.name,
            [_watch(lambda: self.bar.advance(self.task))],
        )
        requested = storage.requested_settings(self.grid, cell, tuned)
        result = run_cell(task, requested) | {"tuned": dict(tuned) or None}
        storage.write_json(storage.path_of(self.out, cell), result)
        self.ran += 1
        name = f"{group_name(result['data'], result['shots'])}, seed {cell.seed}"
        score = f"macro-F1 {result['scores']['head']['macro_f1']:6.1%}"
        self.screen.say(f"  {name}: {arm_name(cell.loss, cell.mode):<28} {score}  {result['seconds']:5.0f} s")
        return result

    def documents(self, cell: Cell) -> Corpus:
        """The documents of a cell, cached since the next cell mostly has the same draw."""
        key = (cell.source, cell.shots, cell.seed)
        if self.corpus is None or self.corpus[0] != key:
            self.corpus = (key, corpus_of(self.grid, *key))
        return self.corpus[1]

    def steps(self, cell: Cell) -> int:
        """Optimizer steps of a cell, computed from its data set's first draw."""
        if cell.loss == UNTOUCHED:
            return 0
        train = self.drawn[cell.source, cell.shots].train
        labeled = train.labeled_count
        sizes = Sizes.of(labeled, self.grid.settings_of(cell), len(train) - labeled)
        return sizes.epochs * sizes.steps


def _print_plan(work: _Work, requested: Grid, todo: list[Cell], checked: Mapping[Draw, Preflight]) -> None:
    """Print what will be done and the estimated time."""
    screen, total = work.screen, sum(1 for _ in requested.cells())
    minutes: dict[Draw, float] = {}
    lines = []
    for (source, shots), corpus in work.drawn.items():
        sizes = checked[source, shots].sizes
        split, scored = corpus.scored()
        minutes[source, shots] = estimate_minutes(checked[source, shots], len(scored))
        name = group_name(slug(source), format_shots(shots))
        lines.append(
            f"{name}: {len(corpus.train):,} training documents, {sizes.epochs} epochs of {sizes.steps} "
            f"{'step' if sizes.steps == 1 else 'steps'}, {format_graphs(sizes.graph, sizes.batch)}; "
            f"{len(scored):,} {split} documents scored"
        )
    trained = [cell for cell in todo if cell.loss != UNTOUCHED]
    time_left = sum(minutes[cell.source, cell.shots] for cell in trained)
    open_studies = {cell.study: cell for cell in trained if tuned_settings.found(work.out, work.grid, cell) is None}
    time_left += work.grid.tune * sum(minutes[cell.source, cell.shots] for cell in open_studies.values())
    rows = {
        "losses": "; ".join(arm_name(*arm) for arm in requested.arms()) + "; the untouched encoder",
        "cells": f"{total}, {total - len(todo)} of them complete; {requested.seeds} seeds",
        "tuning": f"{work.grid.tune} trials for each loss, {len(open_studies)} studies to run"
        if work.grid.tune
        else "",
        "training": "\n".join(lines),
        "time": f"about {time_left:.0f} minutes" if time_left >= 1 else "less than a minute",
        "folder": str(work.out),
    }
    screen.rows("[bold]graphloss[/bold] compares losses", rows)


def _check_trainings(requested: Grid, drawn: Mapping[Draw, Corpus], source: str) -> dict[Draw, Preflight]:
    """Run the checks of all trainings before the folder is changed; of each draw, the first loss's stand for all."""
    from graphloss.text.encoder import load

    encoder = None
    found: dict[Draw, Preflight] = {}
    for draw, corpus in drawn.items():
        for cell in requested.cells():
            if cell.loss == UNTOUCHED or cell.seed or (cell.source, cell.shots) != draw:
                continue
            documents = (corpus.train, corpus.validation, corpus.label_names, corpus.described())
            checked = check_settings(requested.settings_of(cell), *documents)
            encoder = encoder or load(source, max_length=checked.settings.max_length)
            trial = found[draw].trial if draw in found else None  # activations do not depend on the loss
            ready = preflight(checked, encoder, trial=trial)
            found.setdefault(draw, ready)
    return found


def _watch(on_step: Callable[[], None]) -> Any:
    """A trainer callback that calls `on_step` after each optimizer step."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step()

    return Watch()
