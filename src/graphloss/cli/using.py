"""The commands that use a finished run."""

from __future__ import annotations

from typing import Annotated

import typer

from graphloss.cli.options import AsJson, Label, Quiet, Run, Text, print_json
from graphloss.errors import InputError


def evaluate(
    run: Run,
    source: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Data to score on (default: that of the training).")
    ] = None,
    *,
    split: Annotated[str, typer.Option(help="Split of the data.", metavar="train|validation|test")] = "test",
    text: Text = None,
    label: Label = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a run: accuracy, macro-F1, silhouettes, calibration, and every class."""
    from rich.console import Console

    from graphloss import runs
    from graphloss.console import Screen, scores_table

    scores = runs.evaluate(run, source, split=split, text=text, label=label, screen=Screen(quiet=quiet))
    if as_json:
        print_json(scores)
    else:
        Console().print(scores_table(scores))


def predict(
    run: Run,
    source: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="File of texts, or - for standard input.")
    ] = None,
    *,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="A text to classify; may be given several times.")
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Column of the texts in FILE; guessed when not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify new texts as they come: the label and its probability for each."""
    from graphloss import serving

    if (source is None) == (not text):
        raise InputError("expected a FILE, or - for standard input, or --text TEXT: one of them")
    for row in serving.predict(run, source if source is not None else list(text or []), column=column):
        if as_json:
            print_json(row)
        else:
            print(f"{row['label']}\t{row['probability']:.3f}\t{' '.join(row['text'].split())}", flush=True)


def report(run: Run) -> None:
    """Write the report of a run anew: one HTML file that needs nothing else."""
    from graphloss.report import write_report
    from graphloss.runfolder import read_info

    if read_info(run)["status"] != "finished":
        raise InputError(f"{run}: training has not finished; go on with `graphloss train --resume --out {run}`")
    print(write_report(run))
