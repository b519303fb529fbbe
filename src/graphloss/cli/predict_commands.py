"""The commands that use a finished run."""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from graphloss.cli.options import AsJson, Label, NoHeader, Predictor, Quiet, Run, Text, output, place, print_json
from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.inference.run_folder import existing_run
from graphloss.terminal import one_line, pasted, printable, sentence
from graphloss.text.file_formats import SUFFIXES

OTHER_FILES = (
    *(".xlsx", ".xls", ".ods", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".pdf", ".doc", ".docx", ".odt"),
    *(".rtf", ".html", ".xml", ".md", ".yaml", ".yml", ".toml", ".pkl", ".npy", ".feather", ".arrow", ".db", ".log"),
)
"""Endings of files that hold no table: what ends so and is typed for a text is a file that is not there."""


def evaluate(
    run: Run,
    source: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Data to score on (default: that of the training).")
    ] = None,
    *,
    split: Annotated[str, typer.Option(help="Split of the data.", metavar="train|validation|test")] = "test",
    text: Text = None,
    label: Label = None,
    no_header: NoHeader = False,
    predictor: Predictor = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a run: accuracy, macro-F1, silhouettes, calibration, and every class."""
    from graphloss import distributed
    from graphloss.cli.tables import scores_table
    from graphloss.run.evaluate import evaluate as score_run
    from graphloss.training.progress import Screen

    scores = score_run(
        run,
        source,
        split=split,
        text=text,
        label=label,
        no_header=no_header,
        predictor=predictor,
        screen=Screen(quiet=quiet),
    )
    if as_json and distributed.first():
        print_json(scores)
    elif distributed.first():
        output().print(scores_table(scores))


def predict(
    run: Run,
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...|FILE|-", help="Texts to classify, or a file of them, or - for standard input."),
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option("--input", help="File of texts, or - for standard input.", metavar="FILE|-")
    ] = None,
    text: Text = None,
    no_header: NoHeader = False,
    predictor: Predictor = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the training documents that support each prediction.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="New file for all predictions.", metavar="FILE.csv|FILE.jsonl", callback=place)
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify new texts as they come: the label and its probability for each."""
    from graphloss.cli.tables import evidence_lines
    from graphloss.run import predict
    from graphloss.training.progress import Screen

    texts = _texts(run, items or [], source, text)
    screen = Screen(quiet=quiet)
    with closing(
        predict.predict(run, texts, text=text, no_header=no_header, predictor=predictor, explain=explain, screen=screen)
    ) as rows:
        for row in rows if out is None else predict.written(out, rows, explain=explain):
            if as_json:
                print_json(row)
            elif out is None:
                print(f"{one_line(row['label'])}\t{row['probability']:.3f}\t{sentence(row['text'])}", flush=True)
                for line in evidence_lines(row["evidence"], row["head_share"]) if explain else ():
                    print(line, flush=True)

    if out is not None:
        screen.say(f"{out}: the predictions")


def _texts(run: Path, items: list[str], source: str | None, text: str | None) -> str | list[str]:
    """A file or "-", or else the texts themselves, from the arguments after the run.

    Raises:
        InputError: both a file and texts, or neither; a path that does not exist; or --text without a file.
    """
    if bool(items) == (source is not None):
        old = f"\n--text names a column of the file; to classify {text!r}, leave out --text" if text else ""
        raise InputError(
            f'expected texts, as in `graphloss predict {pasted(run)} "a text"`, or a FILE, or - for standard input: '
            f"one of them{old}"
        )
    if source is not None:
        return source
    if any(not item.strip() for item in items):
        raise InputError("expected texts, and one of them is empty; an unset variable of the shell is a usual cause")
    files = [item for item in items if item == "-" or _is_path(item)]
    if len(files) == len(items) == 1:
        return items[0]
    if files:
        raise InputError(f"{files[0]!r} is a file or a path; expected one file and no more, or texts alone")
    if text is not None:
        raise InputError(
            f"--text names the column of the texts in a file, and there is no file; to classify {text!r} too, "
            "leave out --text and write it beside the other texts"
        )
    return items


def _is_path(item: str) -> bool:
    """Whether an argument is a path and not a text: it exists, or it is written as one."""
    try:
        there = typed(item).exists()
    except InputError:  # not a valid file name: a long text
        there = False
    written = Path(item).suffix.lower() in (*SUFFIXES, *OTHER_FILES)
    return there or written or (("/" in item or os.sep in item) and not any(letter.isspace() for letter in item))


def audit(
    run: Run,
    *,
    data: Annotated[
        str | None, typer.Option(help="Labeled documents to check instead of the run's training documents.")
    ] = None,
    text: Text = None,
    label: Label = None,
    no_header: NoHeader = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write them all into.", metavar="FILE.csv|FILE.jsonl", callback=place)
    ] = None,
    apply_to: Annotated[
        Path | None,
        typer.Option(
            "--apply", help="New file: a copy of the data with the proposed labels.", metavar="FILE", callback=place
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows to show in the terminal.", min=1)] = 20,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List training labels that similar documents contradict, probable label errors first."""
    from graphloss.cli.tables import evidence_lines
    from graphloss.run import audit
    from graphloss.training.progress import Screen

    screen = Screen(quiet=quiet)
    rows = audit.audit(run, data, text=text, label=label, no_header=no_header, screen=screen, out=out, apply=apply_to)
    for row in rows if as_json else rows[:limit]:
        if as_json:
            print_json(row)
        else:
            labels = f"{one_line(row['label'])} -> {one_line(row['proposed'])}"
            print(f"{row['score']:.3f}\t{labels}\t{sentence(row['text'])}")
            for line in evidence_lines(row["evidence"]):
                print(line)
    if not as_json and len(rows) > limit:
        screen.say(f"{limit} of {len(rows):,}; all of them with --out FILE.csv, --json or --limit {len(rows)}")


def suggest(
    sources: Annotated[
        list[str], typer.Argument(metavar="[RUN] PILE", help="File of texts to choose from; a run before it, if any.")
    ],
    *,
    count: Annotated[int, typer.Option("-n", "--count", help="How many texts.", metavar="N")] = 32,
    text: Text = None,
    label: Label = None,
    no_header: NoHeader = False,
    describe: Annotated[
        str | None, typer.Option(help="File of descriptions of the classes, as for `train`.", metavar="FILE")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Encoder before there is a run (default: as for `train`).")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to fill in, for `train`.", metavar="FILE.csv|FILE.jsonl", callback=place)
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Append to --out; what it holds counts too.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the texts to label next, in order, with reasons; write them into a file to fill in."""
    from graphloss.run.suggest import suggest as suggest_from
    from graphloss.training.progress import Screen

    if len(sources) > 2:
        raise InputError(f"expected a file of texts, or a run and a file of texts, got {len(sources)} names")
    if Path(sources[-1]).is_dir():
        raise InputError(
            f"{sources[-1]} is a folder; expected a file of texts, alone or behind a run: `suggest RUN PILE`"
        )
    run = existing_run(Path(sources[0])) if len(sources) == 2 else None
    screen = Screen(quiet=quiet)
    how: dict[str, Any] = {"text": text, "label": label, "no_header": no_header, "describe": describe, "model": model}
    rows = suggest_from(run, sources[-1], count, **how, out=out, add=add, screen=screen)
    for row in rows:
        if as_json:
            print_json(row)
        elif out is None:
            print(f"{row['row']}\t{one_line(row['reason'])}\t{sentence(row['text'])}")


def report(run: Run) -> None:
    """Write the report of a run anew: one HTML file that needs nothing else."""
    from graphloss.inference.run_folder import checked_info
    from graphloss.report.page import write_report

    checked_info(run)
    try:
        print(printable(write_report(run)))
    except OSError as error:  # a read-only run
        raise InputError(
            f"{run}: the report cannot be written there ({error.strerror or error}); copy the run to a folder of yours"
        ) from error


def verify(
    run: Run,
    *,
    seal: Annotated[
        bool, typer.Option("--seal", help="The folder was changed on purpose: record its files as they are now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file of a run with its checksum, and check every value; exit code 2 if anything is wrong."""
    from graphloss.run.verify import verify as check_run

    wrong = check_run(run, seal=seal)
    if as_json:
        print_json({"run": str(run), "whole": not wrong, "faults": wrong})
        raise typer.Exit(2 if wrong else 0)
    if wrong:
        raise InputError("\n".join(wrong))
    print(f"{printable(run)}: whole, every file is {'recorded as it is now' if seal else 'as it was written'}")
