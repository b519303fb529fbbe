"""The command that opens a page for labeling."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from graphloss.cli.options import Label, Quiet, Text, place
from graphloss.errors import InputError
from graphloss.inference.run_folder import existing_run


def label(
    pile: Annotated[
        str | None, typer.Argument(metavar="PILE", help="File of texts; with --review those of the run, if left out.")
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option(help="Labels file to write, for `train`.", metavar="FILE.csv", callback=place)
    ] = Path("labels.csv"),
    describe: Annotated[
        str | None,
        typer.Option(help="File of descriptions of all classes; no others can be used then.", metavar="FILE"),
    ] = None,
    review: Annotated[
        Path | None, typer.Option(help="Review the labels that the audit of a run contradicts.", metavar="RUN")
    ] = None,
    text: Text = None,
    label: Label = None,
    model: Annotated[str | None, typer.Option(help="Encoder of the texts (default: as for `train`).")] = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", show_default="a free one", min=0, max=65535)] = 0,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser, where there is a screen.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Open a page on this machine to label texts with the keyboard; every answer is kept at once."""
    from graphloss.run import label as page
    from graphloss.training.progress import Screen

    screen = Screen(quiet=quiet)

    def on_address(address: str) -> None:
        print(address, flush=True)
        screen.say("the page is there until Ctrl-C; every answer is on the disk at once")
        if browser and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
            import webbrowser

            webbrowser.open(address)

    if review is not None and pile is None and (text is not None or label is not None):
        raise InputError("--text and --label name columns of a file, and there is none; leave them out, or name a file")
    if review is not None and (describe is not None or model is not None):
        raise InputError("--review: the run has its own encoder and classes; leave --describe and --model out")
    page.label(
        pile,
        run=review and existing_run(review),
        out=out,
        text=text,
        label=label,
        describe=describe,
        model=model,
        port=port,
        on_address=on_address,
        screen=screen,
    )
