"""Claiming a run folder: whether it is free, which run it holds, and the first file written into it."""

import contextlib
import datetime
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphloss import __version__
from graphloss.disk import locked
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.run.provenance import environment, versions
from graphloss.terminal import pasted
from graphloss.text.corpus import Corpus, fingerprint_of
from graphloss.text.data_sources import find_again, is_lost, name_to_keep
from graphloss.text.encoder_source import fingerprint
from graphloss.training.settings import DataSettings, TrainSettings, names
from graphloss.training.settings_errors import make

LOCK = ".lock"
UNBORN = (f".{run_folder.INFO}.writing", LOCK)  # all that a kill in the first moment leaves


def _new_folder(name: str, settings: TrainSettings) -> Path:
    """Make the next folder under `runs/` that does not exist; of two trainings begun together one gets it."""
    stem = f"{name}-{settings.loss}-{settings.mode}-seed{settings.seed}"
    for number in itertools.count(1):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("numbers do not end")


def check_free(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that is not ours to write into, before the data is read."""
    if (folder / run_folder.INFO).is_file():
        info = run_folder.read_info(folder)
        if not resume:
            todo = (
                "it has finished"
                if info["status"] == "finished"
                else f"resume it with `graphloss train --resume --out {pasted(folder)}`"
            )
            raise InputError(f"{folder}: holds another run ({todo}); choose another --out")
    elif folder.exists() and (not folder.is_dir() or any(path.name not in UNBORN for path in folder.iterdir())):
        raise InputError(f"{folder}: holds other files; choose an --out that is new or empty")


FILES = ("unlabeled", "describe")
"""Settings of the data that name files."""


def resumed(folder: Path, source: str | None, specified: dict[str, Any]) -> tuple[str, DataSettings, TrainSettings]:
    """Data and settings of a resumed run, which specified ones must not change; its files are found again."""
    info = run_folder.read_info(folder)
    if "data" not in info:
        raise InputError(f"{folder}: holds a saved model and no training to resume; train into another folder")
    recorded = info["data"]
    kept = make(TrainSettings, info["settings"])
    before = recorded | asdict(kept)
    files = {name: before.get(name) for name in ("model", *FILES)}
    named = {name: value for name, value in specified.items() if files.get(name) and value}
    fixed = {name: value for name, value in specified.items() if name not in named}
    other = [name for name, value in fixed.items() if value != before.get(name)]
    if other := other + [name for name, value in named.items() if Path(value).name != Path(str(files[name])).name]:
        raise InputError(
            f"{folder}: began with other settings ({', '.join(other)}); resume without them, "
            "or train into another folder"
        )
    found = {name: named.get(name) or find_again(value, folder) for name, value in files.items()}
    data = {name: recorded[name] for name in names(DataSettings) if name in recorded}
    source = source or str(find_again(recorded["source"], folder))
    if is_lost(source):
        raise InputError(
            f"{folder}: began with {source!r}, which is not found from there any more; name it: "
            f"`graphloss train DATA --resume --out {folder}`"
        )
    return (
        source,
        make(DataSettings, data | {name: found[name] for name in FILES}),
        make(TrainSettings, asdict(kept) | {"model": found["model"]}),
    )


def check_same_data(out: Path, info: dict[str, Any], corpus: Corpus) -> None:
    """Refuse to resume a run on other data than it began with."""
    if info["data"]["fingerprint"] != corpus.fingerprint:
        raise InputError(
            f"{out}: began with other data, or it has changed since ({info['data']['source']}); name the data that "
            f"it began with: `graphloss train DATA --resume --out {out}`, or train into another folder"
        )


def begin(
    out: Path | None,
    source: str,
    corpus: Corpus,
    data: DataSettings,
    settings: TrainSettings,
    *,
    encoder: str,
    resume: bool,
) -> tuple[Path, dict[str, Any]]:
    """Claim the run folder, or find the resumed run in it; returns it and the content of `graphloss.json`.

    Without `out`, the next free name under `runs/` is taken. Another training may have taken it in the meantime, or the
    data may have changed since the run in it began: both are refused.
    """
    if out is not None and (out / run_folder.INFO).is_file():
        check_free(out, resume=resume)
        info = run_folder.read_info(out)
        check_same_data(out, info, corpus)
        if info["data"].get("encoder") != fingerprint(encoder):
            raise InputError(
                f"{out}: began with another encoder, or it has changed since ({info['settings']['model']}); name the "
                "one that it began with: --model, or train into another folder"
            )
        return out, info
    try:
        out = out or _new_folder(corpus.name, settings)
        out.mkdir(parents=True, exist_ok=True)
        run_folder.write_info(out, _first_info(out, source, corpus, data, settings, encoder))
    except OSError as error:
        raise InputError(f"{out or 'runs'}: cannot be written ({error.strerror}); choose another --out") from error
    return out, run_folder.read_info(out)


def _first_info(
    out: Path, source: str, corpus: Corpus, data: DataSettings, settings: TrainSettings, encoder: str
) -> dict[str, Any]:
    """The content of `graphloss.json` when a training begins."""
    return {
        "status": "running",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "graphloss": __version__,
        "name": corpus.name,
        "labels": corpus.label_names,
        "settings": asdict(settings) | {"model": name_to_keep(settings.model, out)},
        "data": {
            "source": name_to_keep(source, out),
            **asdict(data),
            **{"text": corpus.columns.text, "label": corpus.columns.label},
            **{name: name_to_keep(getattr(data, name), out) for name in FILES},
            "fingerprint": corpus.fingerprint,
            "test": fingerprint_of(corpus.test) if corpus.test else None,
            "encoder": fingerprint(encoder),
            "sizes": {
                "train": len(corpus.train),
                "labeled": corpus.train.labeled_count,
                "validation": len(corpus.validation),
                "test": len(corpus.test) if corpus.test else 0,
            },
        },
        "versions": versions(),
        "environment": environment(),
    }


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a run folder: two processes that resume one run would overwrite each other's checkpoints."""
    with locked(folder / LOCK) as mine:
        if not mine:
            raise InputError(f"{folder}: another training is at work there; wait for its end, or choose another --out")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows deletes no open file
                (folder / LOCK).unlink()
