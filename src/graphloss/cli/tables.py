"""Tables and lines that the commands print."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from graphloss.inference.description_gate import Gate
from graphloss.inference.metrics import format_intervals
from graphloss.terminal import TABLE_WIDTH, counted, one_line, pasted, printable, sentence
from graphloss.text.columns import Columns
from graphloss.text.corpus_summary import Description
from graphloss.text.data_sources import Entry
from graphloss.training.progress import format_cell

CLASSES_SHOWN, DOUBTED_SHOWN = 100, 10
SCORES = (
    ("accuracy", "accuracy", ".1%"),
    ("macro-F1", "macro_f1", ".1%"),
    ("silhouette", "macro_silhouette", ".3f"),
    ("ECE", "ece", ".3f"),
)


def cell(name: object) -> str:
    """A name as it may stand in a table."""
    return escape(one_line(name))


def evidence_lines(evidence: list[dict[str, Any]], head_share: float | None = None) -> list[str]:
    """The supporting documents of a prediction, an indented line each; the share of the head too, if any."""
    rows = [(each["share"], one_line(each["label"]), _shown(each)) for each in evidence]
    if head_share:
        more = "" if rows else "; --predictor graph names documents"
        rows.append((head_share, "(head)", f"the linear classifier{more}"))
        rows.sort(key=lambda row: -row[0])
    width = max((len(label) for _, label, _ in rows), default=0)
    return [
        f"    {share:6.1%}  {label:<{width}}  {text if len(text) <= 100 else text[:99] + '…'}"
        for share, label, text in rows
    ]


def _shown(each: dict[str, Any]) -> str:
    text = sentence(each["text"])
    return f"(its description) {text}" if each.get("description") else text


def corpora_table(entries: list[Entry]) -> Table:
    """The data sets that go by a name."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("name", "train", "validation", "test", "where"):
        table.add_column(name, justify="right" if name in ("train", "validation", "test") else "left")
    for entry in entries:
        counts = [
            f"{count:,}" if (count := entry.documents.get(split)) else "" for split in ("train", "validation", "test")
        ]
        table.add_row(cell(entry.name), *counts, cell(entry.where), style="" if entry.available else "dim")
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
    for row in shown.classes[:CLASSES_SHOWN]:
        table.add_row(cell(row.label), *(f"{getattr(row, split):,}" for split in shown.documents))
    columns = f"\n{Columns(**shown.columns)}" if shown.columns else ""  # type: ignore[arg-type]
    title = Text.assemble(
        (one_line(shown.name), "bold"),
        f": {sizes}; {shown.unlabeled:,} of train unlabeled{columns}\nwords per text: {lengths}",
    )
    more = len(shown.classes) - CLASSES_SHOWN
    return Group(
        title, table, *([f"and {more:,} smaller class{'es' * (more > 1)}; all of them with --json"] if more > 0 else [])
    )


def scores_table(scores: dict[str, Any]) -> Group:
    """Scores of one split, overall and by class."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("class", "precision", "recall", "F1", "documents"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in scores["per_class"]:
        table.add_row(
            cell(row["label"]),
            f"{row['precision']:.1%}",
            f"{row['recall']:.1%}",
            f"{row['f1']:.1%}",
            f"{row['support']:,}",
        )
    overall = "  ".join(f"{title} {format_cell(scores[name], form).strip()}" for title, name, form in SCORES)
    title = Text.assemble(
        (one_line(scores["data"]), "bold"), f", {scores['split']} split, {scores['documents']:,} documents\n{overall}"
    )
    return Group(title, table)


def show_result(info: dict[str, Any], console: Console) -> None:
    """The final table: the model and its baseline, the probe of the untouched encoder; then the next commands."""
    metrics, run = info["metrics"], printable(info["run"])
    if metrics["model"]["accuracy"] is None:
        _show_unverified(info["least_sure"], console)
    else:
        _show_scores(info, console)
    if info["best_epoch"]:
        console.print(f"  best epoch  {info['best_epoch']:g}")
    if described := info.get("described"):
        used = counted(described["lines"], "line") if described["lines"] else "lines not used as documents"
        console.print(f"  described   {used}; {Gate.of(described)}")
    if summary := info.get("self_training"):
        documents = counted(summary["documents"], "unlabeled document")
        console.print(f"  head        {summary['trust']:.0%} from self-training on {documents}")
    if info["settings"]["clean"] == "auto" and "doubted_labels" in info:  # not in a run of an earlier version
        _show_doubted(info["doubted_labels"], console)
    if curve := info.get("learning_curve"):
        from graphloss.inference.learning_curve import LearningCurve

        console.print(f"  forecast    {LearningCurve(**curve).sentence(curve['labels'])}")
    console.print(f"  report      {run}/report.html", markup=False)
    console.print("\nNext:", style="bold")
    for line in (
        f"graphloss predict {pasted(run)} 'a new text'",
        *(
            [f"graphloss evaluate {pasted(run)} --split {metrics['split']}"]
            if metrics["split"] in ("test", "validation")
            else []
        ),
    ):
        console.print(f"  {line}", markup=False)


def _show_scores(info: dict[str, Any], console: Console) -> None:
    metrics, settings = info["metrics"], info["settings"]
    title = {"gloss": "G-Loss", "ce": "cross-entropy"}.get(settings["loss"], settings["loss"])
    rows = [
        ("untouched, linear probe", metrics["probe"], None),
        (f"{title}, {settings['mode']}", metrics["model"], metrics["seconds"]),
    ]
    table = Table(
        title=f"{cell(info['name'])}, {metrics['split']} split",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", overflow="fold")
    for name in (*(title for title, _, _ in SCORES), "coverage", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for title, scores, seconds in rows:
        table.add_row(
            title,
            *(format_cell(scores[name], form) for _, name, form in SCORES),
            format_cell(metrics["coverage"] if seconds is not None else None, ".1%"),
            format_cell(seconds, ".0f"),
        )
    console.print()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    if metrics["split"] == "validation":
        console.print(
            "  (there is no test split; these documents chose the best epoch, so expect a little less on new ones)",
            style="dim",
        )
    if metrics["split"] == "cross-fitted":
        console.print(
            "  (no document was set aside: each is predicted by a head that has not seen its label; the encoder has)",
            style="dim",
        )
    if found := metrics.get("intervals"):
        console.print(f"  ({format_intervals(found)})", style="dim")


def _show_unverified(least_sure: list[dict[str, Any]], console: Console) -> None:
    console.print("\nNothing was verified: no document has a label.", style="bold")
    console.print("Label these first; the model is least sure of them:")
    for row in least_sure:
        text = sentence(row["text"][:200])
        console.print(f"  {row['probability']:6.1%}  {one_line(row['label'])}  {text[:100]}", markup=False)


def _show_doubted(doubted: list[dict[str, Any]], console: Console) -> None:
    if not doubted:
        why = "few are contradicted, or the encoder knows too little of the classes"
        console.print(f"  clean       all labels weigh alike: {why}")
        return
    one = len(doubted) == 1
    contradicted = f"{counted(len(doubted), 'label')} {'is' if one else 'are'} contradicted"
    console.print(f"  clean       {contradicted}; each weighs as much as the others confirm it:")
    for row in doubted[:DOUBTED_SHOWN]:
        labels = f"{one_line(row['label'])} -> {one_line(row['proposed'])}"
        console.print(f"    {row['score']:.3f}  {labels}  {sentence(row['text'][:200])[:100]}", markup=False)
    if (more := len(doubted) - DOUBTED_SHOWN) > 0:
        console.print(f"    and {more:,} more: `doubted_labels` in graphloss.json")
