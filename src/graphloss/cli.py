"""The command `graphloss`: thin; every option of `train` is a field of `config`, and every subcommand one call."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from graphloss import __version__
from graphloss.config import DataSettings, TrainSettings, read_file
from graphloss.errors import InputError

app = typer.Typer(
    help="Fine-tune text encoders with a loss that sees a graph of documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="See which data sets there are and what is in one, or fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object a line on standard output, and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No plan, no bars, no progress.")]
Preset = Annotated[
    str,
    typer.Option(
        help="Settings to begin with: the defaults, or those published with G-Loss. Options given here win.",
        metavar="default|paper",
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder that `train` wrote.", metavar="RUN")]
Text = Annotated[
    str | None, typer.Option("--text-column", "--text", help="Column of the texts; guessed when not given.")
]
Label = Annotated[str | None, typer.Option("--label", help="Column of the labels; guessed when not given.")]


def _option(item: Any, panel: str) -> inspect.Parameter:
    """A command-line option from a field of the settings; None means that it was not given."""
    flag, info = "--" + item.name.replace("_", "-"), item.metadata
    kinds = {"int": int, "float": float, "bool": bool}
    kind = next((kinds[name] for name in str(item.type).split(" | ") if name in kinds), str)
    if item.name == "sigma":
        kind = str
    choices = [*info["choices"], "NUMBER"] if item.name == "sigma" else info["choices"]
    said = f" {'|'.join(choices)}" if choices else ""
    default = "" if item.default is None or kind is bool else f" [dim]\\[default: {item.default}][/dim]"
    option = typer.Option(flag, help=info["help"] + said + default, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _with_settings(command: Callable[..., None], *, without: tuple[str, ...] = ()) -> Callable[..., None]:
    """Give a command one option for each field of `DataSettings` and `TrainSettings`; it receives them as `**given`."""
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


@app.command()
@_with_settings
def train(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="CSV, TSV, JSON Lines or Parquet file, folder of splits, data set name, builtin, or hub:NAME.",
        ),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder to write (default: a new one under runs/).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML, YAML or JSON file of settings; options given here win.")
    ] = None,
    preset: Preset = "default",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Fine-tune an encoder on labelled texts and leave a run folder."""
    from graphloss import presets, runs
    from graphloss.console import Screen

    data, settings = _settings(config, given)
    if source is not None:  # a run that is resumed has its settings already
        settings = presets.settings(preset, source, settings.get("loss")) | settings
    screen = Screen(quiet=quiet)
    try:
        info = runs.train(source, data | settings, out=out, resume=resume, screen=screen)
    except KeyboardInterrupt:
        screen.warn(
            f"interrupted; `graphloss train --resume --out {out or 'RUN'}` goes on from the last checkpoint, "
            "or from the start if there is none yet"
        )
        raise typer.Exit(130) from None
    screen.result(info)
    if as_json:
        _print_json(info)


@app.command()
@_with_settings
def tune(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="CSV, TSV, JSON Lines or Parquet file, folder of splits, data set name, builtin, or hub:NAME.",
        ),
    ],
    *,
    trials: Annotated[
        int, typer.Option(help="Trials that the study shall have, of all processes together.", min=1)
    ] = 20,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no further trial is begun.", min=0)] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a data base that processes share (default: a file in --out).", metavar="URL"),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study in the storage (default: by data, loss, mode and seed).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: one under runs/).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML, YAML or JSON file of settings; options given here win.")
    ] = None,
    preset: Preset = "default",
    as_json: AsJson = False,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Search for the settings of a loss, without the test documents; those given are fixed."""
    from graphloss import presets, tuning
    from graphloss.console import Screen

    data, settings = _settings(config, given)
    begin = presets.settings(preset, source, settings.get("loss"))
    screen = Screen(quiet=quiet)
    try:
        found = tuning.tune_corpus(
            source,
            data | settings,
            preset=begin,
            trials=trials,
            timeout=timeout,
            storage=storage,
            study=study,
            out=out,
            screen=screen,
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    tuning.show(found, screen)
    if as_json:
        _print_json(found)


@app.command()
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
        _print_json(scores)
    else:
        Console().print(scores_table(scores))


@app.command()
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
            _print_json(row)
        else:
            print(f"{row['label']}\t{row['probability']:.3f}\t{' '.join(row['text'].split())}", flush=True)


@app.command()
@partial(_with_settings, without=("loss", "mode", "shots", "patience", "seed"))
def bench(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA...", help="Data sets; none goes on with the comparison in --out."),
    ] = None,
    *,
    losses: Annotated[
        list[str] | None, typer.Option(help="Losses, with commas between.", metavar="LOSS,...", show_default="ce,gloss")
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option(help="combined, standalone or both.", metavar="MODE,...", show_default="combined"),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(help="Labelled documents a class, numbers or all.", metavar="N,...", show_default="all"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Draws of each.", metavar="N", show_default="5")] = None,
    tune: Annotated[
        int | None,
        typer.Option(help="Search each loss's settings first, in so many trials.", metavar="TRIALS"),
    ] = None,
    test_documents: Annotated[
        int | None, typer.Option(help="Score a sample of so many test documents.", metavar="N")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the comparison; one that is there is gone on with.")] = Path(
        "runs/bench"
    ),
    config: Annotated[
        Path | None, typer.Option(help="TOML, YAML or JSON file of settings; options given here win.")
    ] = None,
    preset: Preset = "default",
    as_json: AsJson = False,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Compare losses over data sets, shots and seeds; resumable, with intervals and a report."""
    from graphloss import bench as comparison
    from graphloss.console import Screen

    data, settings = _settings(config, given)
    chosen = data | settings
    screen, grid = Screen(quiet=quiet), None
    if sources:
        grid = comparison.ask(
            sources,
            losses=losses or (),
            modes=modes or (),
            shots=shots or (),
            seeds=seeds,
            given=chosen,
            preset=preset,
            tune=tune or 0,
            test_documents=test_documents,
        )
    elif chosen or losses or modes or shots or seeds or tune or test_documents or preset != "default":
        raise InputError("expected DATA beside these options; only `--out FOLDER` goes on with what is there")
    try:
        outcome = comparison.run(grid, out=out, screen=screen)
    except KeyboardInterrupt:
        screen.warn(f"interrupted; `graphloss bench --out {out}` goes on where it stopped")
        raise typer.Exit(130) from None
    if as_json:
        for row in outcome.rows:
            _print_json(row)
    else:
        comparison.show(outcome.rows)
    screen.say(f"{out / comparison.REPORT}: tables, differences, learning curves and embedding maps")
    if outcome.failed:
        screen.warn(f"{len(outcome.failed)} failed ({', '.join(outcome.failed)}); the same command tries them again")
        raise typer.Exit(1)


@app.command()
def report(run: Run) -> None:
    """Write the report of a run anew: one HTML file that needs nothing else."""
    from graphloss.report import write_report
    from graphloss.runfolder import read_info

    if read_info(run)["status"] != "finished":
        raise InputError(f"{run}: training has not finished; go on with `graphloss train --resume --out {run}`")
    print(write_report(run))


@data_app.command("list")
def list_data(*, as_json: AsJson = False) -> None:
    """List the data sets that are known by name, and whether they are here."""
    from rich.console import Console

    from graphloss.console import corpora_table
    from graphloss.data import list_corpora

    rows = list_corpora()
    if as_json:
        for row in rows:
            _print_json(row._asdict())
    else:
        Console().print(corpora_table(rows))


@data_app.command("show")
def show_data(
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder, name, builtin, or hub:NAME.")],
    *,
    text: Text = None,
    label: Label = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in a data set: splits, classes, lengths."""
    from dataclasses import asdict

    from rich.console import Console

    from graphloss.console import Screen, corpus_table
    from graphloss.data import describe, load_corpus

    corpus = load_corpus(source, text=text, label=label)
    for line in corpus.warnings:
        Screen().warn(line)
    shown = describe(corpus)
    if as_json:
        _print_json(asdict(shown))
    else:
        Console().print(corpus_table(shown))


@data_app.command("prepare")
def prepare_data(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names that `data list` shows, or all.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Write anew what this command wrote before.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch known data sets from their public homes into the cache."""
    from graphloss.console import Screen
    from graphloss.data import check_names, download_bar, prepare_corpus

    failed = []
    for name in check_names(names):
        try:
            with download_bar(quiet=quiet) as on_bytes:
                done = prepare_corpus(name, force=force, on_bytes=on_bytes)
        except InputError as error:  # the others may still come
            failed.append(str(error))
            continue
        for line in done.warnings:
            Screen().warn(line)
        if as_json:
            _print_json(done._asdict())
        else:
            print(done.line())
    if failed:
        raise InputError("\n".join(failed))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"graphloss {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Fine-tune text encoders with a loss that sees a graph of documents."""


def _settings(config: Path | None, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a settings file says of the data, and what it and the options, which win, say of all else."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if "sigma" in chosen:
        chosen["sigma"] = _number_or_rule(chosen["sigma"])
    data, settings = read_file(config) if config else ({}, {})
    return data, settings | chosen


def _number_or_rule(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def main() -> None:
    """Run the command; an `InputError` becomes one clear message and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone, as in `graphloss predict … | head`
        sys.stderr.close()
        sys.exit(0)
