"""Options that several commands share, those made from the fields of `config`, and how JSON is printed."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.inference.predictor_names import PREDICTORS
from graphloss.inference.run_folder import existing_run
from graphloss.terminal import OBEYED, TABLE_WIDTH
from graphloss.training.settings import DataSettings, TrainSettings
from graphloss.training.settings_errors import read_file, types_of

if TYPE_CHECKING:
    from rich.console import Console


def place(path: Path | None) -> Path | None:
    """A path that was typed, as the callback of its option; see `disk.typed`."""
    return path and typed(path)


AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object per line on standard output, and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No plan, no bars, no progress.")]
ConfigFile = Annotated[
    Path | None, typer.Option(help="TOML, YAML or JSON file of settings; typed options win.", callback=place)
]
Preset = Annotated[
    str,
    typer.Option(
        help="Initial settings: the defaults, or those published with G-Loss. Typed options win.",
        metavar="default|paper",
    ),
]
Predictor = Annotated[
    str | None,
    typer.Option(
        help="Classify by the head, the graph of the training documents, the nearest of them, or head and graph "
        "(default: as the run was trained).",
        metavar="|".join(PREDICTORS),
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder that `train` wrote.", metavar="RUN", callback=existing_run)]
Text = Annotated[
    str | None,
    typer.Option("--text", help="Column of the texts (default: that of the run, or guessed).", metavar="COLUMN"),
]
Label = Annotated[
    str | None,
    typer.Option("--label", help="Column of the labels (default: that of the run, or guessed).", metavar="COLUMN"),
]

NoHeader = Annotated[
    bool, typer.Option("--no-header", help="The first line of CSV or TSV is a document; columns are called 1, 2, ...")
]
KeepNa = Annotated[bool, typer.Option("--keep-na", help="Labels as NA, null, None or nan are names of classes.")]


ONCE = {"text": "one column of texts", "label": "one column of labels"} | dict.fromkeys(
    ("unlabeled", "describe", "config", "source", "data", "out"), "one"
)
"""Options that are refused a second time, where the parser would silently keep the last."""


class ColumnsOnce(TyperCommand):
    """A command that refuses a second --text, --label or file of a kind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, after a check that nothing of `ONCE` is named twice."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        named = [(item.name, item.opts[0]) for item in order if item.param_type_name == "option"]
        for kind, flag in named:
            if kind in ONCE and named.count((kind, flag)) > 1:
                raise InputError(f"{flag} was given {named.count((kind, flag))} times; expected {ONCE[kind]}")
        return super().parse_args(ctx, args)


def _option(item: Any, panel: str) -> inspect.Parameter:
    """A command-line option from a field of the settings; None means that it was not specified."""
    flag, info = "--" + item.name.replace("_", "-"), item.metadata
    kind = next((kind for kind in types_of(item) if kind in (int, float, bool)), str)
    if item.name == "sigma":
        kind = str
    choices = [*info["choices"], "NUMBER"] if item.name == "sigma" else info["choices"]
    listed = f" {'|'.join(choices)}" if choices else ""
    if kind is bool and not flag.startswith("--no-"):
        flag += "/--no-" + flag.removeprefix("--")
    default = "" if item.default is None or kind is bool else f" [dim]\\[default: {item.default}][/dim]"
    option = typer.Option(flag, help=info["help"] + listed + default, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def with_settings(command: Callable[..., None], *, without: tuple[str, ...] = ()) -> Callable[..., None]:
    """Give a command one option for each field of `DataSettings` and `TrainSettings`; it receives them as keywords."""
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    panels = ((DataSettings, "Data"), (TrainSettings, "Training"))
    options = [
        _option(item, panel) for settings, panel in panels for item in fields(settings) if item.name not in without
    ]
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
    return command


def settings_of(config: Path | None, specified: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data settings of a settings file, and all other settings of it and of the options, which win."""
    chosen = {name: value for name, value in specified.items() if value is not None}
    with contextlib.suppress(KeyError, ValueError):  # not there, or the name of a rule
        chosen["sigma"] = float(chosen["sigma"])
    data, settings = read_file(config) if config else ({}, {})
    return data, settings | chosen


def print_json(value: dict[str, Any]) -> None:
    """One line of JSON on standard output, flushed; control characters, and what cannot be shown, are escaped."""
    line = json.dumps(value, ensure_ascii="utf" not in (sys.stdout.encoding or "utf-8").lower())
    print(OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line), flush=True)


def output() -> Console:
    """Standard output for tables: as wide as the screen, but not so narrow that a table falls to pieces."""
    from rich.console import Console

    return Console(width=max(Console().width, TABLE_WIDTH))
