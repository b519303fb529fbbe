"""The command as a whole: its subcommands, in the order of its help, and how it ends."""

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from graphloss import __version__, distributed
from graphloss.cli import data_commands, label_commands, predict_commands, train_commands
from graphloss.cli.options import ColumnsOnce
from graphloss.errors import InputError
from graphloss.terminal import one_line, printable

SHARED = ("train", "evaluate", "predict")
"""Commands that can run in several processes."""

FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS}
"""Errors where nothing more can be written: disk, limit or quota."""

app = typer.Typer(
    help="Fine-tune text encoders with a loss that sees a graph of documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    result_callback=lambda *_, **__: sys.stdout.flush(),  # a full disk or a closed pipe shows here, not at exit
)
data_app = typer.Typer(help="See which data sets there are and what is in one, or fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command(cls=ColumnsOnce)(train_commands.train)
app.command(cls=ColumnsOnce)(train_commands.tune)
app.command(cls=ColumnsOnce)(predict_commands.evaluate)
app.command(cls=ColumnsOnce)(predict_commands.predict)
app.command(cls=ColumnsOnce)(predict_commands.suggest)
app.command(cls=ColumnsOnce)(predict_commands.audit)
app.command(cls=ColumnsOnce)(label_commands.label)
app.command(cls=ColumnsOnce)(train_commands.bench)
app.command()(predict_commands.report)
app.command()(predict_commands.verify)
data_app.command("list")(data_commands.list_data)
data_app.command("show", cls=ColumnsOnce)(data_commands.show_data)
data_app.command("prepare")(data_commands.prepare_data)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"graphloss {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune text encoders with a loss that sees a graph of documents."""
    try:
        distributed.join()
    except ValueError as error:
        raise InputError(str(error)) from error
    distributed.on_first(lambda: _check_shared(context.invoked_subcommand))


def _check_shared(command: str | None) -> None:
    """Refuse to run a command of one process in several."""
    if distributed.world() > 1 and command not in SHARED:
        raise InputError(
            f"`graphloss {command}` runs in one process, and {distributed.world()} were launched; start it without a "
            f"launcher: processes share {', '.join(SHARED[:-1])} and {SHARED[-1]}"
        )


def main() -> None:
    """Run the command; bad input, and a file that is not ours, become one clear message and exit code 2."""
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - closed by the caller, and print takes stdout
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed; send it to a file or to /dev/null")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # what this screen cannot show is written out
        app()
    except SystemExit as ended:  # with 1, of rich and of typer, where the reader has closed the pipe, which is no error
        sys.exit(0 if isinstance(ended.__context__, BrokenPipeError) else ended.code)
    except InputError as error:
        if not getattr(error, "elsewhere", False):  # else the first of several processes prints it
            _fail(str(error))
        sys.exit(2)
    except PermissionError as error:
        where = error.filename or "a file"
        _fail(f"{where}: this user may not read or write there ({error.strerror}); ask its owner, or give another path")
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(
            f"{where}nothing more can be written ({error.strerror}); make room or raise the limit, "
            "and repeat the command (a training: with --resume)"
        )
        sys.exit(2)
    finally:
        distributed.leave()
        _leave_output()


def _fail(message: str) -> None:
    for word in sys.argv[1:]:  # a name with a line break in it is still one word of its line
        message = message.replace(word, one_line(word)) if "\n" in word else message
    with contextlib.suppress(OSError):  # standard error is full or closed: the exit code says it alone
        print(f"error: {printable(message)}", file=sys.stderr, flush=True)


def _leave_output() -> None:
    """Avoid a second error at exit where standard output is closed or its disk is full."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
