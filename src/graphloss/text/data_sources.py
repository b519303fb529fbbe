"""Where the documents of a source lie: a file, a folder, a known name, the Hub.

A source is looked up in this order: `builtin` and `hub:NAME`; a known name, written plainly (`mr`; a folder of your own
with that name is `./mr`); a path that exists; the name of a folder in `$GRAPHLOSS_DATA` or in the cache.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphloss.disk import typed
from graphloss.errors import InputError, first_line
from graphloss.text.columns import did_you_mean
from graphloss.text.file_formats import SUFFIXES, check_file, parquet

KNOWN = ("mr", "r8", "r52", "ohsumed", "20ng", "banking77")
"""Names of published data sets whose folders are looked for in `$GRAPHLOSS_DATA` and in the cache."""

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Files(NamedTuple):
    """The files of a source, by split; of a single file, all of it is `train`."""

    name: str
    files: dict[str, list[Path]]
    single: bool


class Entry(NamedTuple):
    """A corpus known by name: whether and where it is, and its documents by split (None: not known without reading)."""

    name: str
    available: bool
    where: str
    documents: dict[str, int | None]


def roots() -> list[Path]:
    """The folders that may hold data sets by name: `$GRAPHLOSS_DATA` if set, then the cache."""
    own = os.environ.get("GRAPHLOSS_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphloss"
    return ([Path(own)] if own else []) + [cache]


def named(name: str) -> Path | None:
    """The folder of a data set known by name, if it is on this machine."""
    return next((root / name for root in roots() if (root / name).is_dir() and folder_files(root / name)), None)


def available() -> list[str]:
    """Names of all data sets in the roots, sorted."""
    found = set()
    for folder in (folder for root in roots() if root.is_dir() for folder in root.iterdir() if folder.is_dir()):
        with contextlib.suppress(InputError, OSError):  # one that is in disorder, or not ours to read, is no data set
            if folder_files(folder):
                found.add(folder.name)
    return sorted(found)


def goes_by_name(source: str) -> bool:
    """Whether a source is a name, even where a file or folder of that name is at hand."""
    return source == "builtin" or source in KNOWN or source.startswith("hub:")


def locate(source: str) -> Files:
    """Find the files of a source that is neither `builtin` nor on the Hub, or say what may have been meant."""
    path, plain = typed(source), re.fullmatch(r"[\w-]+", source) is not None
    folder = named(source) if source in KNOWN or (plain and not path.exists()) else path
    if folder is None or not folder.exists():
        if not plain:
            check_file(path)  # it raises, and says what is missing
        raise _not_found(source)
    if not folder.is_dir():
        check_file(path)
        return Files(path.stem, {"train": [path]}, True)
    files = folder_files(folder)
    if "train" not in files:
        there = sorted(entry.name for entry in folder.iterdir())
        raise InputError(
            f"{folder} has no train file. Expected train.csv (or {', '.join(SUFFIXES[1:])}), and validation and test "
            "beside it if there are any, or a folder of texts for each class; "
            f"there {'is ' + ', '.join(there[:20]) if there else 'is nothing'}."
        )
    return Files(folder.resolve().name, files, False)


def folder_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in a folder; a split may lie in numbered pieces, as `train-00000-of-00002.parquet`."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        stem = re.sub(r"-\d+-of-\d+$", "", path.stem.lower())
        if path.is_file() and path.suffix.lower() in SUFFIXES and stem in SPLIT_NAMES:
            files.setdefault(SPLIT_NAMES[stem], []).append(path)
    for split, paths in files.items():
        tables = [path for path in paths if path.suffix.lower() != ".txt"]
        paths = files[split] = tables or paths  # texts beside a table are not its documents
        if len({(re.sub(r"-\d+-of-\d+$", "", path.stem), path.suffix) for path in paths}) > 1:
            listed = ", ".join(path.name for path in paths)
            raise InputError(f"{folder}: {listed} all claim to be the {split} split. Keep one of them.")
    return files


def from_hub(name: str) -> Any:
    """A data set of the Hub, as a `datasets.DatasetDict`, from the network or from the cache of earlier downloads.

    Its name is `OWNER/NAME`, with `:CONFIGURATION` after it where there are several.
    """
    import datasets
    import huggingface_hub

    name, _, configuration = name.partition(":")
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        try:  # a single request, because the libraries retry many times before they give up
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
        except Exception as error:
            raise InputError(
                f"hub:{name}: the Hub cannot be reached ({type(error).__name__}). Set HF_HUB_OFFLINE=1 if the data set "
                "was downloaded before, or give a file."
            ) from error
    try:
        return datasets.load_dataset(name, configuration or None)
    except Exception as error:  # a dozen types, by what is wrong with the data set
        raise InputError(
            f"hub:{name} cannot be loaded: {first_line(error)}. Check the name, written OWNER/NAME or "
            "OWNER/NAME:CONFIGURATION, and the network; offline, only data sets downloaded before can be read."
        ) from error


def list_corpora() -> list[Entry]:
    """The corpora that go by a name: the built-in one, the known ones, and whatever else lies in the roots."""
    entries = [Entry("builtin", True, "docstrings of the installed SciPy", {})]
    for name in dict.fromkeys((*KNOWN, *available())):
        folder = named(name)
        if folder is None:
            entries.append(Entry(name, False, f"not here: graphloss data prepare {name}", {}))
            continue
        files = folder_files(folder)
        documents = {split: _count(files[split]) for split in SPLITS if split in files}
        entries.append(Entry(name, True, str(folder), documents))
    return entries


def _count(paths: list[Path]) -> int | None:
    """Number of rows, for Parquet, whose metadata has it."""
    with contextlib.suppress(InputError):
        return sum(int(parquet(path).metadata.num_rows) for path in paths)
    return None


def _not_found(source: str) -> InputError:
    there = available()
    where = ", ".join(map(str, roots()))
    names = ["builtin", *KNOWN, *there]
    if source not in KNOWN:
        listed = ", ".join(dict.fromkeys(names))
        return InputError(
            f"{source!r} is no file, no folder and no data set known by name ({listed}).{did_you_mean(source, names)}"
        )
    return InputError(
        f"no data for {source!r}: looked in {where}; there: {', '.join(there) or 'nothing'}. Set the environment "
        f"variable GRAPHLOSS_DATA to a folder that holds {source}/train.parquet (or .csv, .jsonl), fetch it with "
        f"`graphloss data prepare {source}`, or try `builtin`."
    )


def split_of(name: str, splits: Sequence[str]) -> str | None:
    """Which of the splits there are is meant by train, validation or test."""
    return next((split for split in splits if SPLIT_NAMES.get(split.lower()) == name), None)


def name_to_keep(source: str | None, run: Path) -> str | None:
    """The name of a file or folder that a run folder keeps: the relative path from the run, or else its name alone.

    Run folders are shared, and must not reveal where things lie on this machine: a path through the root of the file
    system, or through the parent of the user's own folder, is left out. A name stays as it is.
    """
    if source is None or goes_by_name(source) or not typed(source).exists():
        return source
    path, start = typed(source).resolve(), run.resolve()
    shared = Path(os.path.commonpath([path, start]))
    through = shared == Path(shared.anchor) or (shared != Path.home() and Path.home().is_relative_to(shared))
    return path.name if through else Path(os.path.relpath(path, start)).as_posix()


def find_again(kept: str | None, run: Path) -> str | None:
    """Where the file or folder that `name_to_keep` named lies now.

    From the run, or else below the working folder or one around the run. What is found may be another of that name:
    compare fingerprints. What is not found, and a name, stays as it is.
    """
    if kept is None or goes_by_name(kept):
        return kept
    inside = Path(*(part for part in Path(kept).parts if part != ".."))
    places = (run.resolve() / kept, *(at / inside for at in (Path(), *run.resolve().parents)))
    found = next((place.resolve() for place in places if place.exists()), None)
    if found is None:
        return kept
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


def is_lost(found: str) -> bool:
    """Whether what `find_again` returned is neither an existing file or folder nor a name."""
    return not goes_by_name(found) and not typed(found).exists() and re.fullmatch(r"[\w-]+", found) is None


def full_path(source: str) -> str:
    """The absolute path of a file or folder; a name as it is."""
    return str(typed(source).resolve()) if not goes_by_name(source) and typed(source).exists() else source
