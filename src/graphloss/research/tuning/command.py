"""`graphloss tune`: search on a corpus, and write the best settings to a folder.

    best.toml      the settings, for `graphloss train DATA --config best.toml`
    trials.jsonl   one line per trial
    study.html     the trials over time and by setting
    study.db       the study itself, unless another storage is specified

The first two are rewritten after every trial, so a search may be ended at any moment.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from graphloss import __version__
from graphloss.disk import write_text
from graphloss.errors import InputError
from graphloss.research.tuning.folds import METRIC_NAMES, as_metric, folds_of
from graphloss.research.tuning.progress import TrialLines
from graphloss.research.tuning.search import Tuned
from graphloss.research.tuning.search import tune as search
from graphloss.research.tuning.space import remaining, space_for
from graphloss.research.tuning.storage import check_url, library, open_storage
from graphloss.terminal import pasted
from graphloss.text.corpus import Corpus, load_corpus
from graphloss.text.data_sources import name_to_keep
from graphloss.text.encoder_source import check_length, resolve
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.progress import Screen
from graphloss.training.settings import FILES, DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make

BEST, TRIALS, PAGE, DATABASE = "best.toml", "trials.jsonl", "study.html", "study.db"


def tune_corpus(
    source: str,
    specified: dict[str, Any],
    *,
    preset: Mapping[str, Any],
    trials: int,
    timeout: float | None,
    storage: str | None,
    study: str | None,
    out: Path | None,
    screen: Screen,
) -> dict[str, Any]:
    """Search on a corpus, without its test documents, and write a folder with the best settings.

    Arguments as the options of `graphloss tune`; `specified` settings are not searched, those of the `preset` are
    defaults. All that cannot be used is an `InputError` before any training.

    Returns:
        `data`, `best` (the searched settings), `settings` (all that differ from the defaults), `objective`, `value`,
        `trials`, `pruned`, `failed`, `study` and `out`.
    """
    from graphloss.text.encoder import load

    data = make(DataSettings, {name: value for name, value in specified.items() if name in names(DataSettings)})
    fixed = {name: value for name, value in specified.items() if name not in names(DataSettings)}
    settings = make(TrainSettings, dict(preset) | fixed)
    space = remaining(space_for(settings.loss, settings.mode, settings.memory), fixed)
    library()
    if storage is not None:
        check_url(storage)
    encoder_source = resolve(settings.model)
    check_length(encoder_source, settings.max_length)
    if out is not None:
        _check_free(out)
    corpus = load_corpus(source, **data.reading(), seed=settings.seed)
    screen.warn(*corpus.warnings)
    train, validation = corpus.train, corpus.validation  # the test documents are not used
    checked = check_settings(settings, train, validation, corpus.label_names, corpus.described())
    screen.warn(*checked.warnings)
    preflight(checked, load(encoder_source, max_length=settings.max_length))
    name = study or f"{corpus.name}-{settings.loss}-{settings.mode}-seed{settings.seed}"
    folder = out or Path("runs") / f"tune-{name}"
    _check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRIALS).touch()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    opened = open_storage(storage or f"sqlite:///{folder / DATABASE}")
    folds = folds_of(train, validation, seed=settings.seed)
    screen.say(f"graphloss tunes {', '.join(space)} of {settings.loss}, {settings.mode}, on {corpus.name}")
    screen.stage(
        f"  {sum(len(fold.held_out) for fold in folds):,} held-out documents, {len(folds)} "
        f"training{'s' if len(folds) > 1 else ''} per trial; study '{name}'"
    )

    def write(tuned: Tuned) -> None:
        write_text(folder / TRIALS, "".join(json.dumps(asdict(row)) + "\n" for row in tuned.rows), shared=True)
        write_text(folder / BEST, settings_file(tuned, corpus, source, data, folder), shared=True)

    lines = TrialLines(screen, trials, len(folds), write)
    try:
        with lines.bar:
            tuned = search(
                train,
                validation,
                corpus.label_names,
                settings,
                space,
                encoder_source=encoder_source,
                trials=trials,
                descriptions=corpus.described(),
                timeout=timeout,
                storage=opened,
                study_name=name,
                watcher=lines,
            )
    except KeyboardInterrupt:
        found = f"the best so far is in {folder / BEST}" if (folder / BEST).exists() else "no trial is complete yet"
        screen.warn(f"interrupted; {found}; run the same command again to resume")
        raise
    write(tuned)
    metric = METRIC_NAMES[tuned.objective]
    write_text(folder / PAGE, tuned.study.page(name, metric, partial(as_metric, tuned.objective)), shared=True)
    return {
        "data": source,
        "best": tuned.best,
        "settings": _differing(tuned.settings),
        "objective": tuned.objective,
        "value": tuned.value,
        "trials": tuned.count("complete") + tuned.count("pruned"),
        "pruned": tuned.count("pruned"),
        "failed": tuned.count("fail"),
        "study": name,
        "out": str(folder),
    }


def show(found: dict[str, Any], screen: Screen) -> None:
    """Print the best settings and the next command."""
    pruned, failed = found["pruned"], found["failed"]
    screen.say(
        f"\nbest {METRIC_NAMES[found['objective']]} {found['value']:.4f} of {found['trials']} trials"
        f"{f', {pruned} of them pruned' if pruned else ''}{f'; {failed} more failed' if failed else ''}"
    )
    for name, value in found["best"].items():
        screen.say(f"  {name:<14} {value:g}")
    screen.say(f"  figures        {found['out']}/{PAGE}\n\nNext:")
    screen.say(f"  graphloss train {pasted(found['data'])} --config {pasted(Path(found['out']) / BEST)}")


def settings_file(tuned: Tuned, corpus: Corpus, source: str, data: DataSettings, folder: Path) -> str:
    """The best settings in TOML, with all others that differ from the defaults, and their origin as comments.

    Data and encoder are named relative to the `folder`, as in a run folder.
    """

    def kept(value: str) -> str:
        name = str(name_to_keep(value, folder))
        return name if name == value or (folder / name).exists() else f"./{name}"  # its place is not told

    source = " ".join(kept(source).split())
    done = tuned.count("complete") + tuned.count("pruned")
    head = (
        f"The best of {done} trials ({tuned.count('pruned')} of them pruned) by graphloss {__version__}.",
        f"Data: {source}, {len(corpus.label_names)} classes.",
        f"{METRIC_NAMES[tuned.objective]} on held-out documents: {tuned.value:.4f}",
        f"Searched: {', '.join(tuned.best)}",
        f"Use, from this folder: graphloss train {source} --config {BEST}",
    )
    values = _differing(data) | _differing(tuned.settings) | tuned.best
    values |= {name: kept(values[name]) for name in FILES if values.get(name)}
    # JSON strings, numbers and booleans are valid TOML
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
    return "\n".join([*(f"# {line}" for line in head), *lines]) + "\n"


def _differing(settings: DataSettings | TrainSettings) -> dict[str, Any]:
    values = {item.name: (getattr(settings, item.name), item.default) for item in fields(settings)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _check_free(folder: Path) -> None:
    """Refuse a folder that contains other files than those of a search."""
    if folder.is_dir() and ((folder / TRIALS).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise InputError(f"{folder}: contains other files; choose an --out that is new, empty, or of an earlier search")
