"""The command as a whole: its subcommands, in the order of its help, and how it ends."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from graphloss import __version__, distributed
from graphloss.cli import datasets, learning, using
from graphloss.cli.options import ColumnsOnce
from graphloss.errors import InputError

SHARED = ("train", "evaluate", "predict")
"""Commands whose work several processes share."""

FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS}
"""What the system answers where nothing more can be written: disk, limit or quota."""

app = typer.Typer(
    help="Fine-tune text encoders with a loss that sees a graph of documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="See which data sets there are and what is in one, or fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command(cls=ColumnsOnce)(learning.train)
app.command(cls=ColumnsOnce)(learning.tune)
app.command(cls=ColumnsOnce)(using.evaluate)
app.command(cls=ColumnsOnce)(using.predict)
app.command(cls=ColumnsOnce)(using.audit)
app.command(cls=ColumnsOnce)(learning.bench)
app.command()(using.report)
app.command()(using.verify)
data_app.command("list")(datasets.list_data)
data_app.command("show", cls=ColumnsOnce)(datasets.show_data)
data_app.command("prepare")(datasets.prepare_data)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"graphloss {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Fine-tune text encoders with a loss that sees a graph of documents."""
    try:
        distributed.join()
    except ValueError as error:
        raise InputError(str(error)) from error
    distributed.on_first(lambda: _check_shared(context.invoked_subcommand))


def _check_shared(command: str | None) -> None:
    """Refuse to do in each of several processes what one should do."""
    if distributed.world() > 1 and command not in SHARED:
        raise InputError(
            f"`graphloss {command}` runs in one process, and {distributed.world()} were launched; start it without a "
            f"launcher: processes share {', '.join(SHARED[:-1])} and {SHARED[-1]}"
        )


def main() -> None:
    """Run the command; bad input, and a file that is not ours, become one clear message and exit code 2."""
    try:
        app()
    except InputError as error:
        if not getattr(error, "elsewhere", False):  # else the first of several processes says it
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        where = error.filename or "a file"
        print(
            f"error: {where}: this user may not read or write there ({error.strerror}); ask its owner, or give another "
            "path",
            file=sys.stderr,
        )
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone, as in `graphloss predict … | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {where}nothing more can be written ({error.strerror}); make room or raise the limit, "
            "and repeat the command (a training: with --resume)",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:
        distributed.leave()
