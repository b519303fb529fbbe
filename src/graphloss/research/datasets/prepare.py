"""From public homes to a folder that can be named: fetch, read, divide, compare, write, and rename as the last step.

cache/NAME/                train.parquet, validation.parquet, test.parquet: text and label, two columns of strings
cache/NAME/prepared.json   where the files came from, their sizes and hashes, and what the documents were compared with
cache/.downloads/NAME/     what is on its way: files, parts of files, and the folder until it is whole
"""

import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphloss.errors import InputError
from graphloss.research.datasets.fetch import Fetched, OnBytes, fetch
from graphloss.research.datasets.parsers import Document
from graphloss.research.datasets.registry import HOMES, Home, fingerprint
from graphloss.text.columns import did_you_mean
from graphloss.text.selection import by_class
from graphloss.text.sources import SPLITS, folder_files, named, roots

RECORD = "prepared.json"
SEED = 0  # of the validation documents; part of what a data set by name is


class Prepared(NamedTuple):
    """A data set that is here.

    Attributes:
        name: as it is known.
        folder: where its three files lie.
        already: it was here before, and nothing was done.
        documents: by split; empty if `already`.
        files: address, size, SHA-256 of each file, and whether that hash was known before; empty if `already`.
        same: the documents of train with validation, and of test, are those of the benchmark; None if `already`.
        warnings: sentences for the user.
    """

    name: str
    folder: str
    already: bool
    documents: dict[str, int]
    files: list[dict[str, Any]]
    same: bool | None
    warnings: list[str]

    def line(self) -> str:
        """What a person is told."""
        if self.already:
            return f"{self.name} is already in {self.folder}; nothing was fetched (--force fetches it anew)"
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.documents.items())
        return f"{self.name}: {sizes} documents in {self.folder}"


def prepare_corpus(
    name: str,
    *,
    force: bool = False,
    root: Path | None = None,
    homes: Mapping[str, Home] = HOMES,
    on_bytes: OnBytes = lambda name, here, total: None,
    **patience: Any,
) -> Prepared:
    """Make a known data set usable by its name.

    Args:
        name: out of `homes`.
        force: fetch and write it anew; only a folder that was written here is replaced.
        root: folder that gets the data set's folder; the cache when None, and then one in `$GRAPHLOSS_DATA` is enough.
        homes: where the data sets live.
        on_bytes: told how far a file has come, see `fetch`.
        **patience: `tries`, `pause` and `timeout` of `fetch`.

    Raises:
        InputError: no such name, no file from any address, a file that is not what it should be, a folder in the way;
            says how to go on without the network.
    """
    check_names([name], homes)
    folder = (root or roots()[-1]) / name
    there = named(name) if root is None else folder if folder.is_dir() and folder_files(folder) else None
    if there is not None and "train" in folder_files(there) and not force:
        return Prepared(name, str(there), True, {}, [], None, [])
    record = _record(folder)
    if folder.exists() and record is None and any(folder.iterdir()):
        raise InputError(f"{folder} is there and was not written by this command. Move it away and try again.")
    downloads = folder.parent / ".downloads" / name
    if force:
        shutil.rmtree(downloads, ignore_errors=True)
    try:
        done = _make(name, homes[name], folder, downloads, record or {}, on_bytes, patience)
    except (InputError, OSError) as error:
        raise InputError(
            f"{name}: {str(error).rstrip('.')}. Try again later, or put train.parquet, validation.parquet and "
            f"test.parquet, with the columns text and label, into {folder} by hand, or set GRAPHLOSS_DATA to a folder "
            f"that holds {name}/train.parquet."
        ) from error
    first = named(name) if root is None else folder
    if first is not None and first != folder:
        done.warnings.append(f"{name} is read from {first}, because GRAPHLOSS_DATA comes before the cache")
    return done


def check_names(names: Sequence[str], homes: Mapping[str, Home] = HOMES) -> list[str]:
    """The names that are meant, `all` being every one, each once.

    Raises:
        InputError: a name is not known.
    """
    for name in names:
        if name not in homes and name != "all":
            listed = ", ".join([*homes, "all"])
            raise InputError(f"expected names out of {listed}, not {name!r}.{did_you_mean(name, [*homes, 'all'])}")
    return list(dict.fromkeys(homes if "all" in names else names))


def divide(labels: Sequence[str], total: int, *, even: bool = False, seed: int = SEED) -> list[int]:
    """Choose the validation documents out of train: of each class its share, or of each class the same number.

    A class of n documents out of N gives the whole part of n·total/N, but at least one if it has two; what is left goes
    to the largest remainders. One document of a class always stays in train. The documents are chosen by the seed.

    Args:
        labels: of all documents of train.
        total: documents to choose.
        even: every class gives total/classes.
        seed: chooses the documents.

    Returns:
        The chosen places, in order; `total` of them.

    Raises:
        ValueError: `total` is too small for one of each class, or so large that a class would have none in train.
    """
    rng = np.random.default_rng([seed, 3])
    places = by_class(labels)
    sizes = np.array([len(members) for members in places.values()])
    if not (sizes > 1).sum() <= total <= (sizes - 1).sum():
        raise ValueError(f"expected total of {(sizes > 1).sum()} to {(sizes - 1).sum()} documents, not {total}")
    quota = np.full(len(sizes), total / len(sizes)) if even else total * sizes / len(labels)
    counts = np.minimum(np.maximum(np.floor(quota).astype(int), 1), sizes - 1)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        rest = step * (quota - counts)
        rest[(counts >= sizes - 1) if step > 0 else (counts <= 1)] = -np.inf
        counts[int(np.argmax(rest))] += step
    chosen = [
        members[place]
        for members, count in zip(places.values(), counts, strict=True)
        for place in rng.permutation(len(members))[:count]
    ]
    return sorted(chosen)


def _make(
    name: str, home: Home, folder: Path, downloads: Path, record: dict[str, Any], on_bytes: OnBytes, patience: Any
) -> Prepared:
    trusted = {file["name"]: file["sha256"] for file in record.get("files", [])}
    fetched = [
        fetch(
            source._replace(sha256=source.sha256 or trusted.get(source.name)), downloads, on_bytes=on_bytes, **patience
        )
        for source in home.files
    ]
    try:
        train, test = home.read({file.path.name: file.path for file in fetched})
        _check(home, train, test)
    except InputError:
        shutil.rmtree(downloads)  # whole, and yet not what it should be: it would be no better the next time
        raise
    chosen = set(divide([label for _, label in train], home.sizes[1], even=home.even))
    parts = {
        "train": [document for place, document in enumerate(train) if place not in chosen],
        "validation": [document for place, document in enumerate(train) if place in chosen],
        "test": test,
    }
    same = {"train": fingerprint(train) == home.train, "test": fingerprint(test) == home.test}
    warnings = _doubts(fetched, same)
    files = [
        {"name": file.path.name, "url": file.url, "size": file.size, "sha256": file.sha256, "compared": file.compared}
        for file in fetched
    ]
    documents = {split: len(parts[split]) for split in SPLITS}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whole = downloads / "whole"
    _write(whole, parts, dict(name=name, date=date, files=files, documents=documents, same=same, validation_seed=SEED))
    if folder.exists():
        shutil.rmtree(downloads / "before", ignore_errors=True)
        folder.replace(downloads / "before")
    whole.replace(folder)
    shutil.rmtree(downloads)
    with suppress(OSError):  # others are on their way
        downloads.parent.rmdir()
    return Prepared(name, str(folder), False, documents, files, all(same.values()), warnings)


def _check(home: Home, train: list[Document], test: list[Document]) -> None:
    """Raise InputError unless there are as many documents and classes as the benchmark has."""
    expected = (home.sizes[0] + home.sizes[1], home.sizes[2], home.classes, home.classes)
    found = (len(train), len(test), len({label for _, label in train}), len({label for _, label in test}))
    if found != expected:
        raise InputError(
            "the files hold {:,} documents for train and {:,} for test, of {} and {} classes".format(*found)
            + "; expected {:,} and {:,}, of {} and {}. The files were removed.".format(*expected)
        )


def _doubts(fetched: list[Fetched], same: dict[str, bool]) -> list[str]:
    """What could not be compared, and what was and differs."""
    doubts = []
    if new := [file.path.name for file in fetched if not file.compared]:
        outcome = "the documents are the ones expected" if all(same.values()) else "later downloads will be compared"
        doubts = [
            f"{', '.join(new)}: no SHA-256 was known to compare with, so the download is taken on trust and its hash "
            f"kept in {RECORD}; {outcome}"
        ]
    if differ := [split for split in same if not same[split]]:
        doubts.append(
            f"the documents of {' and '.join(differ)} are as many as expected, but not the same: results may differ "
            "from published ones"
        )
    return doubts


def _write(whole: Path, parts: dict[str, list[Document]], record: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for split, documents in parts.items():
        texts, labels = ([document[column] for document in documents] for column in (0, 1))
        table = pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.string())})
        pq.write_table(table, whole / f"{split}.parquet", compression="zstd")
    (whole / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _record(folder: Path) -> dict[str, Any] | None:
    """What this command wrote about the folder; None if it wrote nothing there."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / RECORD} cannot be read: {error}. Remove it to fetch the data set anew.") from error
