"""The commands that train: one model, a search for its settings, a comparison of losses."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from graphloss.cli.options import AsJson, ConfigFile, Preset, Quiet, place, print_json, settings_of, with_settings
from graphloss.errors import InputError
from graphloss.terminal import pasted

TRAIN_ALONE = ("no_texts",)
"""Settings of the data that trials and comparisons would silently ignore."""

DATA = typer.Argument(
    metavar="DATA", help="CSV, TSV, JSON Lines or Parquet file, folder of splits, data set name, builtin, or hub:NAME."
)


@with_settings
def train(
    source: Annotated[str | None, DATA] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write (default: a new one under runs/).", callback=place)
    ] = None,
    config: ConfigFile = None,
    preset: Preset = "default",
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **specified: Any,
) -> None:
    """Fine-tune an encoder on labeled texts and leave a run folder."""
    from graphloss import distributed
    from graphloss.cli.tables import show_result
    from graphloss.run import train
    from graphloss.training import presets
    from graphloss.training.progress import Screen

    data, settings = distributed.on_first(lambda: settings_of(config, specified))
    if source is not None:  # a resumed run has its settings already
        settings = presets.settings(preset, source, settings.get("loss")) | settings
    screen = Screen(quiet=quiet)
    try:
        info = train.train(source, data | settings, out=out, resume=resume, screen=screen)
    except KeyboardInterrupt:
        screen.warn(
            f"interrupted; `graphloss train --resume --out {pasted(out or 'RUN')}` resumes from the last checkpoint, "
            "or from the start if there is none yet"
        )
        raise typer.Exit(130) from None
    if distributed.first():
        show_result(info, screen.console)
        if as_json:
            print_json(info)


@partial(with_settings, without=TRAIN_ALONE)
def tune(
    source: Annotated[str, DATA],
    *,
    trials: Annotated[int, typer.Option(help="Trials of the study, over all processes.", min=1)] = 20,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no further trial starts.", min=0)] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a database that processes share (default: a file in --out).", metavar="URL"),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study in the storage (default: by data, loss, mode and seed).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write (default: one under runs/).", callback=place)
    ] = None,
    config: ConfigFile = None,
    preset: Preset = "default",
    as_json: AsJson = False,
    quiet: Quiet = False,
    **specified: Any,
) -> None:
    """Search for the settings of a loss, without the test documents; specified settings are fixed."""
    from graphloss.research.tuning.command import show, tune_corpus
    from graphloss.training import presets
    from graphloss.training.progress import Screen

    data, settings = settings_of(config, specified)
    _check_data(data)
    begin = presets.settings(preset, source, settings.get("loss"))
    screen = Screen(quiet=quiet)
    try:
        found = tune_corpus(
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
    show(found, screen)
    if as_json:
        print_json(found)


@partial(with_settings, without=("loss", "mode", "shots", "patience", "seed", *TRAIN_ALONE))
def bench(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA...", help="Data sets; without any, the comparison in --out is resumed."),
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
        typer.Option(help="Labeled documents per class, numbers or all.", metavar="N,...", show_default="all"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Draws of each.", metavar="N", show_default="5")] = None,
    tune: Annotated[
        int | None, typer.Option(help="Tune each loss first, with this many trials.", metavar="TRIALS")
    ] = None,
    test_documents: Annotated[
        int | None, typer.Option(help="Score on a sample of N test documents.", metavar="N")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the comparison; an existing one is resumed.", callback=place)
    ] = Path("runs/bench"),
    config: ConfigFile = None,
    preset: Preset = "default",
    as_json: AsJson = False,
    quiet: Quiet = False,
    **specified: Any,
) -> None:
    """Compare losses over data sets, shots and seeds; resumable, with intervals and a report."""
    from graphloss.research.bench.grid import make_grid
    from graphloss.research.bench.runner import run
    from graphloss.research.bench.storage import REPORT
    from graphloss.research.bench.tables import show
    from graphloss.training.progress import Screen

    data, settings = settings_of(config, specified)
    _check_data(data)
    chosen = data | settings
    screen, grid = Screen(quiet=quiet), None
    if sources:
        grid = make_grid(
            sources,
            losses=losses or (),
            modes=modes or (),
            shots=shots or (),
            seeds=seeds,
            specified=chosen,
            preset=preset,
            tune=tune or 0,
            test_documents=test_documents,
        )
    elif chosen or losses or modes or shots or seeds or tune or test_documents or preset != "default":
        raise InputError("expected DATA beside these options; only `--out FOLDER` resumes what is there")
    try:
        outcome = run(grid, out=out, screen=screen)
    except KeyboardInterrupt:
        screen.warn(f"interrupted; `graphloss bench --out {pasted(out)}` resumes it")
        raise typer.Exit(130) from None
    if as_json:
        for row in outcome.rows:
            print_json(row)
    else:
        show(outcome.rows)
    screen.say(f"{out / REPORT}: tables, differences, learning curves and embedding maps")
    if outcome.failed:
        screen.warn(f"{len(outcome.failed)} failed ({', '.join(outcome.failed)}); the same command tries them again")
        raise typer.Exit(1)


def _check_data(data: dict[str, Any]) -> None:
    """Refuse settings of a file that only `train` uses."""
    if named := [name for name in TRAIN_ALONE if name in data]:
        raise InputError(f"{', '.join(named)}: belongs to `graphloss train`; tune and bench ignore it, so leave it out")
