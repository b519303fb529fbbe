"""Progress of a search on standard error: one line per trial, and the state of the running trial."""

from collections.abc import Callable
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from graphloss.research.tuning.folds import METRIC_NAMES, as_metric
from graphloss.research.tuning.search import Tuned, Watcher
from graphloss.research.tuning.study import Row
from graphloss.training.progress import Screen


class TrialLines(Watcher):
    """One line per trial, and on a terminal a bar over all trials; `on_tuned` follows each, once one is complete."""

    def __init__(self, screen: Screen, trials: int, folds: int, on_tuned: Callable[[Tuned], None]) -> None:
        self.console, self.folds, self.on_tuned = screen.console, folds, on_tuned
        self.headed = self.waited = False
        counted = (MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn())
        self.bar = screen.bar(TextColumn("  {task.description}"), BarColumn(bar_width=24), *counted)
        self.task = self.bar.add_task("first trial", total=trials)
        self.number = 0

    def begun(self, number: int, values: dict[str, Any]) -> None:
        """Show the number of the running trial."""
        self.number = number
        self.bar.update(self.task, description=f"trial {number}")

    def evaluated(self, fold: int, evaluation: int, reached: float) -> None:
        """Show the fold and evaluation of the running trial."""
        where = f", fold {fold + 1} of {self.folds}" if self.folds > 1 else ""
        self.bar.update(self.task, description=f"trial {self.number}{where}, evaluation {evaluation + 1}")

    def ended(self, row: Row, tuned: Tuned | None) -> None:
        """Print the line of a finished trial."""
        if tuned is not None:
            self.on_tuned(tuned)
            self.bar.update(self.task, completed=tuned.count("complete") + tuned.count("pruned"))
            if not self.headed:
                metric = METRIC_NAMES[tuned.objective]
                self.console.print(f"  trial  {metric:>9}      best   seconds  settings", style="dim")
                self.headed = True
        shown = {"pruned": "pruned", "fail": "failed"}.get(row.state) or (
            f"{as_metric(tuned.objective, row.score):.4f}" if tuned is not None and row.score is not None else "-"
        )
        best = f"{tuned.value:.4f}" if tuned is not None else "-"
        text = row.error or ", ".join(f"{name} {value:g}" for name, value in row.settings.items())
        self.console.print(f"  {row.number:5}  {shown:>9}  {best:>8}  {row.seconds or 0.0:8.1f}  {text}", markup=False)

    def waiting(self, running: int) -> None:
        """Announce once the wait for other processes."""
        self.bar.update(self.task, description="waiting")
        if not self.waited:
            trials = f"{running} trial{'s' if running > 1 else ''}"
            self.console.print(f"  waiting for {trials} of other processes", style="dim")
            self.waited = True
