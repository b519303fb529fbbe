"""Progress of a training on standard error: lines, warnings, a bar, and one table row per evaluation."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from graphloss import distributed
from graphloss.terminal import printable

FIRST, SECOND = "  first on the labels alone, for the pseudo-labels:", "  then with the pseudo-labels:"
"""Titles of the two trainings where there are pseudo-labels."""

NARROW = 60
"""Columns of a screen below which a bar is two numbers."""


class Screen:
    """Output on standard error, which `quiet` reduces to warnings; of several processes only the first one prints."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet = quiet or not distributed.first()
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(printable(line), markup=False)

    def stage(self, line: str) -> None:
        """Announce a step that takes a while."""
        self.console.print(printable(line), style="dim", markup=False)

    def warn(self, *lines: str) -> None:
        """Warnings, printed even if quiet."""
        console = Console(stderr=True, quiet=not distributed.first(), highlight=False, soft_wrap=True)
        for line in lines:
            console.print(f"warning: {printable(line)}", style="yellow", markup=False)

    def rows(self, title: str, rows: Mapping[str, str]) -> None:
        """A title with markup, and under it names and values, several lines of these below each other."""
        self.console.print(title)
        for name, value in rows.items():
            for number, line in enumerate(value.splitlines()):
                self.console.print(f"  [dim]{'' if number else name:<11}[/dim]", end="")
                self.console.print(printable(line), markup=False)
        self.console.print()

    def bar(self, *columns: ProgressColumn) -> Progress:
        """A bar that vanishes when it stops; on a terminal alone."""
        hidden = self.quiet or not self.console.is_terminal
        return Progress(*columns, console=self.console, transient=True, disable=hidden)

    @property
    def draws(self) -> bool:
        """Whether bars are drawn."""
        return not self.quiet and sys.stderr.isatty()

    def shows(self, texts: int) -> bool:
        """Whether encoding this many texts shows a bar."""
        from graphloss.inference.fitted_model import SLOW

        return self.draws and texts > SLOW

    def watch(
        self, on_history: Callable[[list[dict[str, Any]]], None] = lambda history: None, *, title: str = ""
    ) -> Any:
        """A trainer callback: a title, a bar, a row per evaluation, and `on_history` called with the history so far."""
        from transformers import TrainerCallback

        screen = self

        class Watch(TrainerCallback):
            """Progress of one training."""

            def __init__(self) -> None:
                self.bar: Progress | None = None
                self.headed = False

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if title:
                    screen.stage(title)
                steps = (TextColumn("{task.description}"), MofNCompleteColumn())
                room = (BarColumn(bar_width=24), TextColumn("steps"), TimeRemainingColumn())
                narrow = screen.console.width < NARROW
                self.bar = screen.bar(*(steps if narrow else (steps[0], room[0], steps[1], *room[1:])))
                self.bar.start()
                self.task = self.bar.add_task("  training", total=state.max_steps, completed=state.global_step)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                assert self.bar is not None
                epoch = min(max(math.ceil(state.epoch or 0), 1), args.num_train_epochs)
                self.bar.update(self.task, completed=state.global_step, description=f"  epoch {epoch:g}")

            def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                from graphloss.training.checkpoints import history_of

                metrics: dict[str, Any] = kwargs["metrics"]

                if not self.headed:
                    screen.console.print("  epoch     loss  coverage   val F1  val acc   seconds", style="dim")
                    self.headed = True
                cells = (
                    f"{state.epoch:7.2f}".rstrip("0").rstrip(".").rjust(7),
                    format_cell(metrics.get("eval_loss"), "9.4f"),
                    format_cell(metrics.get("eval_coverage"), "10.1%"),
                    format_cell(metrics.get("eval_macro_f1"), "9.1%"),
                    format_cell(metrics.get("eval_accuracy"), "9.1%"),
                    format_cell(metrics.get("eval_seconds"), "10.1f"),
                )
                screen.console.print("".join(cells), markup=False)
                on_history(history_of(state))

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if self.bar is not None:
                    self.bar.stop()

        return Watch()


def format_cell(value: float | None, form: str) -> str:
    """A formatted number; a dash for None."""
    if value is None:
        return "-".rjust(int(form.split(".")[0] or 0))
    return format(value, form)
