"""From public sources to a data set in the cache: fetch, parse, divide, compare, write, and rename as the last step.

cache/NAME/                train.parquet, validation.parquet, test.parquet: text and label, two columns of strings
cache/NAME/prepared.json   where the files came from, numbers of documents, and whether they are the benchmark's
cache/.downloads/NAME/     unfinished: files, and the folder until it is complete
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
from graphloss.research.datasets.fetch import OnBytes, fetch
from graphloss.research.datasets.parsers import Document
from graphloss.research.datasets.registry import DATASETS, PublicDataset, fingerprint
from graphloss.text.columns import did_you_mean
from graphloss.text.data_sources import SPLITS, folder_files, named, roots
from graphloss.text.stratified_selection import by_class

RECORD = "prepared.json"
SEED = 0  # of the validation documents; part of the definition of a data set


class Prepared(NamedTuple):
    """A data set in the cache, which may have been there `already`; then nothing was done.

    Attributes:
        documents: number per split.
        files: addresses of each file, by its name.
        same: the documents of train with validation, and of test, are those of the benchmark; None if `already`.
    """

    name: str
    folder: str
    already: bool
    documents: dict[str, int]
    files: dict[str, list[str]]
    same: bool | None
    warnings: list[str]

    def line(self) -> str:
        """A summary for the user."""
        if self.already:
            return f"{self.name} is already in {self.folder}; nothing was fetched (--force fetches it again)"
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.documents.items())
        return f"{self.name}: {sizes} documents in {self.folder}"


def prepare_corpus(
    name: str,
    *,
    force: bool = False,
    root: Path | None = None,
    datasets: Mapping[str, PublicDataset] = DATASETS,
    on_bytes: OnBytes = lambda name, here, total: None,
    **retries: Any,
) -> Prepared:
    """Make a known data set usable by its name.

    Args:
        name: one of `datasets`.
        force: fetch and write it again; only a folder written by this function is replaced.
        root: parent of the data set's folder; None is the cache, unless `$GRAPHLOSS_DATA` has the data set.
        datasets: the known data sets.
        on_bytes: see `fetch`.
        **retries: `tries`, `pause` and `timeout` of `fetch`.
    """
    check_names([name], datasets)
    folder = (root or roots()[-1]) / name
    there = named(name) if root is None else folder if folder.is_dir() and folder_files(folder) else None
    if there is not None and "train" in folder_files(there) and not force:
        return Prepared(name, str(there), True, {}, {}, None, [])
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise InputError(f"{folder} exists and was not written by this command. Move it away and try again.")
    downloads = folder.parent / ".downloads" / name
    if force:
        shutil.rmtree(downloads, ignore_errors=True)
    try:
        done = _make(name, datasets[name], folder, downloads, on_bytes, retries)
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


def check_names(names: Sequence[str], datasets: Mapping[str, PublicDataset] = DATASETS) -> list[str]:
    """The requested names, all of them known, without repetitions; `all` is every data set."""
    available = [*datasets, "all"]
    for name in names:
        if name not in available:
            raise InputError(
                f"expected names out of {', '.join(available)}, got {name!r}.{did_you_mean(name, available)}"
            )
    return list(dict.fromkeys(datasets if "all" in names else names))


def divide(labels: Sequence[str], total: int, *, even: bool = False, seed: int = SEED) -> list[int]:
    """Draw validation documents from train: of each class its share, or of each class the same number.

    Of n documents of a class out of N, floor(n·total/N) are drawn, but at least one if n is at least 2; the rest goes
    to the largest remainders. At least one document per class stays in train.

    Returns:
        The indices of the `total` drawn documents, sorted.
    """
    rng = np.random.default_rng([seed, 3])
    places = by_class(labels)
    sizes = np.array([len(members) for members in places.values()])
    if not (sizes > 1).sum() <= total <= (sizes - 1).sum():
        raise ValueError(f"expected total of {(sizes > 1).sum()} to {(sizes - 1).sum()} documents, got {total}")
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


def _make(name: str, data: PublicDataset, folder: Path, downloads: Path, on_bytes: OnBytes, retries: Any) -> Prepared:
    paths = {source.name: fetch(source, downloads, on_bytes=on_bytes, **retries) for source in data.files}
    try:
        train, test = data.read(paths)
        _check(data, train, test)
    except InputError:
        shutil.rmtree(downloads)  # complete but not as expected
        raise
    chosen = set(divide([label for _, label in train], data.sizes[1], even=data.even))
    parts = {
        "train": [document for row, document in enumerate(train) if row not in chosen],
        "validation": [document for row, document in enumerate(train) if row in chosen],
        "test": test,
    }
    same = {"train": fingerprint(train) == data.train, "test": fingerprint(test) == data.test}
    warnings = [
        f"the documents of {split} are as many as expected, but not the same: results may differ from published ones"
        for split in same
        if not same[split]
    ]
    files = {source.name: list(source.urls) for source in data.files}
    documents = {split: len(parts[split]) for split in SPLITS}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whole = downloads / "whole"
    _write(whole, parts, dict(name=name, date=date, files=files, documents=documents, same=same, validation_seed=SEED))
    if folder.exists():
        shutil.rmtree(downloads / "before", ignore_errors=True)
        folder.replace(downloads / "before")
    whole.replace(folder)
    shutil.rmtree(downloads)
    with suppress(OSError):  # not empty: other downloads
        downloads.parent.rmdir()
    return Prepared(name, str(folder), False, documents, files, all(same.values()), warnings)


def _check(data: PublicDataset, train: list[Document], test: list[Document]) -> None:
    """Raise InputError unless the numbers of documents and classes are those of the benchmark."""
    expected = (data.sizes[0] + data.sizes[1], data.sizes[2], data.classes, data.classes)
    found = (len(train), len(test), len({label for _, label in train}), len({label for _, label in test}))
    if found != expected:
        raise InputError(
            "the files contain {:,} documents for train and {:,} for test, of {} and {} classes".format(*found)
            + "; expected {:,} and {:,}, of {} and {}. The files were removed.".format(*expected)
        )


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
