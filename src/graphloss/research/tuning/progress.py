"""What a search looks like on the screen, on standard error: a line a trial, and where the one that runs has got to."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from graphloss.research.tuning.folds import FIGURES, natural
from graphloss.research.tuning.search import Tuned, Watcher
from graphloss.research.tuning.study import Row


class TrialLines(Watcher):
    """A line a trial, and a bar over all of them where there is a terminal.

    Args:
        console: of standard error.
        trials: how many the study shall have.
        folds: trainings of a trial.
        on_tuned: is given the study after each trial, once one is complete.
    """

    def __init__(self, console: Console, trials: int, folds: int, on_tuned: Callable[[Tuned], None]) -> None:
        self.console, self.trials, self.folds, self.on_tuned = console, trials, folds, on_tuned
        self.headed = self.format_waiting = False
        self.bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self.task = self.bar.add_task("first trial", total=trials)
        self.number = 0

    def __enter__(self) -> TrialLines:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begun(self, number: int, values: dict[str, Any]) -> None:
        """Name the trial that runs."""
        self.number = number
        self.bar.update(self.task, description=f"trial {number}")

    def evaluated(self, fold: int, evaluation: int, reached: float) -> None:
        """Say where the trial has got to."""
        where = f", fold {fold + 1} of {self.folds}" if self.folds > 1 else ""
        self.bar.update(self.task, description=f"trial {self.number}{where}, evaluation {evaluation + 1}")

    def ended(self, row: Row, tuned: Tuned | None) -> None:
        """One line."""
        if tuned is not None:
            self.on_tuned(tuned)
            self.bar.update(self.task, completed=tuned.count("complete") + tuned.count("pruned"))
            if not self.headed:
                figure = FIGURES[tuned.objective]
                self.console.print(f"  trial  {figure:>9}      best   seconds  settings", style="dim")
                self.headed = True
        shown = {"pruned": "cut short", "fail": "failed"}.get(row.state) or (
            f"{natural(tuned.objective, row.score):.4f}" if tuned is not None and row.score is not None else "-"
        )
        best = f"{tuned.value:.4f}" if tuned is not None else "-"
        said = row.error or ", ".join(f"{name} {value:g}" for name, value in row.settings.items())
        self.console.print(f"  {row.number:5}  {shown:>9}  {best:>8}  {row.seconds or 0.0:8.1f}  {said}", markup=False)

    def waiting(self, running: int) -> None:
        """Say once that others are being waited for."""
        self.bar.update(self.task, description="waiting")
        if not self.format_waiting:
            trials = f"{running} trial{'s' if running > 1 else ''}"
            self.console.print(f"  waiting for {trials} of other processes to end", style="dim")
            self.format_waiting = True
