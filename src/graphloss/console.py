"""What a training looks like on the screen, on standard error: a plan, a bar, a line an evaluation, a table."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from graphloss import processes
from graphloss.schedule import said_graphs

if TYPE_CHECKING:
    from graphloss.data import Description, Entry
    from graphloss.plan import Plan

SLOW = 256  # texts: encoding more of them may take over two seconds, so that a bar is shown


class Screen:
    """Standard error, as much of it as the user wants to see; of several processes the first one alone speaks."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet = quiet or not processes.first()
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(line, markup=False)

    def stage(self, line: str) -> None:
        """The start of something that takes a while."""
        self.console.print(line, style="dim", markup=False)

    def warn(self, line: str) -> None:
        """Something that the user ought to know, also when quiet."""
        if processes.first():
            voice = Console(stderr=True, highlight=False, soft_wrap=True)
            voice.print(f"warning: {line}", style="yellow", markup=False)

    def shows(self, texts: int) -> bool:
        """Whether encoding so many texts deserves a bar."""
        return not self.quiet and texts > SLOW and sys.stderr.isatty()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar on a terminal for `total` steps; what is yielded is called after each."""
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
        hidden = self.quiet or not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)

    def plan(self, plan: Plan) -> None:
        """What is about to be done."""
        corpus, settings = plan.corpus, plan.settings
        sizes: dict[str, int] = {}
        for label in corpus.train.labels:
            if label is not None:
                sizes[label] = sizes.get(label, 0) + 1
        words = [len(text.split()) for text in corpus.train.texts]
        shared = f" shared by {plan.processes} processes" if plan.processes > 1 else ""
        hidden = len(corpus.train) - sum(sizes.values())
        documents = [f"{sum(sizes.values()):,} labelled", f"{hidden:,} unlabelled" if hidden else ""]
        documents += [f"{len(corpus.validation):,} validation"]
        documents += [f"{len(corpus.test):,} test" if corpus.test else "no test split"]
        rows = {
            "documents": ", ".join(filter(None, documents)),
            "classes": f"{len(corpus.label_names)}, {min(sizes.values()):,} to {max(sizes.values()):,} labelled "
            "documents each",
            "texts": f"{statistics.fmean(words):.0f} words on average, 95% under {_percentile(words, 0.95) + 1}; "
            f"read up to {plan.max_length} tokens",
            "encoder": f"{plan.encoder}, {plan.dimension} numbers a text, on {plan.device}",
            "training": f"{settings.loss} {settings.mode}, up to {plan.epochs} epochs of {plan.steps:,} "
            f"{'step' if plan.steps == 1 else 'steps'}, "
            f"{said_graphs(plan.graph_size, plan.batch_size)}{shared}, seed {settings.seed}",
            "time": f"about {plan.minutes:.1f} minutes, less if training stops early",
            "run folder": str(plan.folder),
        }
        self.console.print(f"[bold]graphloss[/bold] trains on [bold]{escape(corpus.name)}[/bold]")
        for name, value in rows.items():
            self.console.print(f"  [dim]{name:<11}[/dim]", end="")
            self.console.print(value, markup=False)
        self.console.print()

    def watch(self, on_history: Callable[[list[dict[str, Any]]], None] = lambda history: None) -> Any:
        """A trainer callback that draws the bar and a line an evaluation, and hands the history to `on_history`."""
        from transformers import TrainerCallback

        screen = self

        class Watch(TrainerCallback):
            """Progress of one training."""

            def __init__(self) -> None:
                self.bar: Progress | None = None
                self.headed = False

            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.bar = Progress(
                    TextColumn("  {task.description}"),
                    BarColumn(bar_width=24),
                    MofNCompleteColumn(),
                    TextColumn("steps"),
                    TimeRemainingColumn(),
                    console=screen.console,
                    transient=True,
                    disable=screen.quiet or not screen.console.is_terminal,
                )
                self.bar.start()
                self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                assert self.bar is not None
                self.bar.update(
                    self.task, completed=state.global_step, description=f"epoch {int(state.epoch or 0) + 1}"
                )

            def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                from graphloss.checkpoints import history_of

                metrics: dict[str, Any] = kwargs["metrics"]

                if not self.headed:
                    screen.console.print("  epoch     loss  coverage   val F1  val acc   seconds", style="dim")
                    self.headed = True
                cells = (
                    f"{state.epoch:7.2f}".rstrip("0").rstrip(".").rjust(7),
                    _cell(metrics.get("eval_loss"), "9.4f"),
                    _cell(metrics.get("eval_coverage"), "10.1%"),
                    _cell(metrics.get("eval_macro_f1"), "9.1%"),
                    _cell(metrics.get("eval_accuracy"), "9.1%"),
                    _cell(metrics.get("eval_seconds"), "10.1f"),
                )
                screen.console.print("".join(cells), markup=False)
                on_history(history_of(state))

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if self.bar is not None:
                    self.bar.stop()

        return Watch()

    def result(self, info: dict[str, Any]) -> None:
        """The table at the end, beside the probe of the untouched encoder, and what to type next."""
        metrics, run = info["metrics"], info["run"]
        rows = [
            ("untouched, linear probe", metrics["probe"], None),
            (_title(info), metrics["model"], metrics["seconds"]),
        ]
        table = Table(
            title=f"{escape(info['name'])}, {metrics['split']} split",
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        table.add_column("", overflow="fold")
        for name in ("accuracy", "macro-F1", "silhouette", "ECE", "coverage", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        for title, scores, seconds in rows:
            table.add_row(
                title,
                _cell(scores["accuracy"], ".1%"),
                _cell(scores["macro_f1"], ".1%"),
                _cell(scores["macro_silhouette"], ".3f"),
                _cell(scores["ece"], ".3f"),
                _cell(metrics["coverage"] if seconds is not None else None, ".1%"),
                _cell(seconds, ".0f"),
            )
        self.console.print()
        self.console.print(table)
        if metrics["split"] == "validation":
            self.console.print(
                "  (there is no test split; these documents chose the best epoch, so expect a little less on new ones)",
                style="dim",
            )
        self.console.print(f"  best epoch  {info['best_epoch']:g}" if info["best_epoch"] else "")
        if taught := info.get("unlabelled"):
            self.console.print(
                f"  head        {taught['trust']:.0%} taught by {taught['documents']:,} unlabelled "
                f"document{'' if taught['documents'] == 1 else 's'} "
                f"(graph and labels agree on them at κ = {taught['agreement']:.2f})"
            )
        self.console.print(f"  report      {run}/report.html", markup=False)
        self.console.print("\nNext:", style="bold")
        for line in (
            f"graphloss predict {run} --text 'a new text'",
            f"graphloss evaluate {run} --split {metrics['split']}",
        ):
            self.console.print(f"  {line}", markup=False)


def evidence_lines(evidence: list[dict[str, Any]], head_share: float | None = None) -> list[str]:
    """Documents that carried an answer, a line each and indented; what the head gave where that is told, too."""
    rows = [(each["share"], str(each["label"]), " ".join(each["text"].split())) for each in evidence]
    if head_share:
        more = "" if rows else "; --predictor graph asks them all"
        rows.append((head_share, "(head)", f"asks no labelled document{more}"))
        rows.sort(key=lambda row: -row[0])
    width = max((len(label) for _, label, _ in rows), default=0)
    return [
        f"    {share:6.1%}  {label:<{width}}  {text if len(text) <= 100 else text[:99] + '…'}"
        for share, label, text in rows
    ]


def corpora_table(entries: list[Entry]) -> Table:
    """The data sets that go by a name."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("name", "train", "validation", "test", "where"):
        table.add_column(name, justify="right" if name in ("train", "validation", "test") else "left")
    for entry in entries:
        counts = [
            f"{count:,}" if (count := entry.documents.get(split)) else "" for split in ("train", "validation", "test")
        ]
        table.add_row(escape(entry.name), *counts, escape(entry.where), style="" if entry.available else "dim")
    return table


def corpus_table(shown: Description) -> Group:
    """What is in a data set: sizes of the splits and lengths above, the classes below."""
    words = shown.words
    sizes = ", ".join(f"{count:,} {split}" for split, count in shown.documents.items())
    lengths = (
        f"{words.mean:.0f} on average, median {words.median:.0f}, 95% up to {words.p95:.0f}, longest {words.longest:,}"
    )
    table = Table(box=SIMPLE_HEAD)
    for name in ("class", *shown.documents):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in shown.classes:
        table.add_row(escape(row.label), *(f"{getattr(row, split):,}" for split in shown.documents))
    title = Text.assemble(
        (shown.name, "bold"), f": {sizes}; {shown.unlabelled:,} of train unlabelled\nwords a text: {lengths}"
    )
    return Group(title, table)


def scores_table(scores: dict[str, Any]) -> Group:
    """Scores of one split, overall and by class."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("class", "precision", "recall", "F1", "documents"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in scores["per_class"]:
        table.add_row(
            escape(row["label"]),
            f"{row['precision']:.1%}",
            f"{row['recall']:.1%}",
            f"{row['f1']:.1%}",
            f"{row['support']:,}",
        )
    overall = "  ".join(
        f"{title} {_cell(scores[name], form).strip()}"
        for title, name, form in (
            ("accuracy", "accuracy", ".1%"),
            ("macro-F1", "macro_f1", ".1%"),
            ("silhouette", "macro_silhouette", ".3f"),
            ("ECE", "ece", ".3f"),
        )
    )
    title = Text.assemble(
        (scores["data"], "bold"), f", {scores['split']} split, {scores['documents']:,} documents\n{overall}"
    )
    return Group(title, table)


def _title(info: dict[str, Any]) -> str:
    settings = info["settings"]
    title = {"gloss": "G-Loss", "ce": "cross-entropy"}.get(settings["loss"], settings["loss"])
    return f"{title}, {settings['mode']}"


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "-".rjust(int(form.split(".")[0] or 0))
    return format(value, form)


def _percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
