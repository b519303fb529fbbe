"""The documents of a source, split by split: read, labels named, blank texts dropped."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.text.builtin_corpus import docstrings
from graphloss.text.columns import MISSING, Columns, Reading, as_label, as_text, choose_column, listed
from graphloss.text.data_folders import class_folders, from_disk, own_folder, read_class_folders
from graphloss.text.data_sources import SPLITS, from_hub, locate, split_of
from graphloss.text.delimited import DISARMED, MARKS
from graphloss.text.file_formats import check_room, check_size, class_names, column_names, rows
from graphloss.text.guess_columns import SAMPLE, guess_column
from graphloss.text.texts_and_labels import Documents

LABELED_LINES = (
    "Expected lines like label<TAB>text or __label__NAME text, a table, or descriptions of the classes beside it: "
    "--describe FILE."
)


def read_splits(
    source: str,
    text: str | None,
    label: str | None,
    how: Reading = Reading(),  # noqa: B008 (immutable)
    *,
    only: str | None = None,
    own: bool = False,
    labeled: bool = True,
) -> tuple[str, dict[str, Documents]]:
    """Read the splits of a source.

    Args:
        source: a file, a folder (of files by split, of folders by class, or saved by `datasets`), a name, `builtin` or
            `hub:NAME`.
        text: the column of the texts; guessed when None.
        label: the column of the labels; guessed when None.
        how: of tables.
        only: read this split and no other, unlabeled documents and all; a single file is any split.
        own: with `only`, the columns are those of the source's own train split, which another split may lack.
        labeled: a file of train without a column of labels is an error; else all its documents are unlabeled.

    Returns:
        A short name, and the splits there are. Without `only`, train is among them, and validation and test hold
        labeled documents only, or are left out where they have none.
    """
    if source == "builtin":
        return "builtin", {split: Documents.named(texts, labels) for split, (texts, labels) in docstrings().items()}
    specified = Columns(text, label)
    if source.startswith("hub:"):
        name = source.removeprefix("hub:").partition(":")[0].rpartition("/")[2]
        parts = _read_loaded(source, from_hub(source.removeprefix("hub:")), specified, how, only, own)
    elif folder := own_folder(source):
        name = folder.resolve().name
        if (loaded := from_disk(folder)) is not None:
            parts = _read_loaded(source, loaded, specified, how, only, own)
        else:
            parts = _read_class_folders(folder, only)
    else:
        name, parts = _read_files(source, specified, how, only, own, labeled or label is not None)
    return name, parts if only else _labeled_splits(parts, source)


def labeled_only(part: Documents, where: str) -> Documents:
    """The labeled documents of a split, with a warning that counts the others."""
    kept = part.labeled()
    lost = len(part) - len(kept)
    more = [f"{where} has {lost:,} unlabeled documents; they are not used"] if lost and kept else []
    return replace(kept, warnings=part.warnings + more)


def _read_class_folders(folder: Path, only: str | None) -> dict[str, Documents]:
    found = class_folders(folder)
    if only and len(found) == 1:
        found = {only: found["train"]}
    return {
        split: _without_blanks(read_class_folders(classes), f"{folder}, {split} split")
        for split, classes in found.items()
        if split == (only or split)
    }


def _read_files(
    source: str, specified: Columns, how: Reading, only: str | None, own: bool, labeled: bool
) -> tuple[str, dict[str, Documents]]:
    name, files, single = locate(source)
    if single and only:
        files = {only: files["train"]}
    parts: dict[str, Documents] = {}
    found = specified if own else None  # the columns of the first file hold for the others
    for split in SPLITS:
        if split not in files or split != (only or split):
            continue
        pieces, warnings = [], []
        for path in files[split]:
            check_room(path)
            columns = column_names(path, header=how.header)
            if path.suffix.lower() == ".txt" and "label" not in columns:
                raise InputError(f"{path}: a text per line, and no label. {LABELED_LINES}")
            taken, warned = pick_columns(
                columns,
                path,
                specified,
                found,
                partial(_cells, path, columns, how),
                required=bool(only) or (labeled and split == "train"),
            )
            if not labeled and taken.label is None:
                warned.append(
                    f"{path}: no column is known to hold labels, so that all documents count as unlabeled; if there is "
                    "one, name it with --label"
                )
            pieces.append(read_table(path, taken, how))
            warnings += warned + pieces[-1].warnings
            found = found or taken
        texts, labels = [t for piece in pieces for t in piece.texts], [n for piece in pieces for n in piece.names]
        part = Documents.named(texts, labels, warnings=warnings, columns=pieces[0].columns)
        parts[split] = _without_blanks(part, files[split][0] if len(pieces) == 1 else f"{source}, {split} split")
    return name, parts


def pick_columns(
    columns: Sequence[str],
    where: object,
    specified: Columns,
    found: Columns | None,
    sample: Callable[[], Iterable[Sequence[Any]]],
    *,
    required: bool,
) -> tuple[Columns, list[str]]:
    """The columns of the texts and the labels: those specified, those `found` in the split before, or guessed.

    If a split lacks a column of the one before, another is taken, with a warning. A missing column of labels is an
    error only where it is `required`: a test split may have no labels.
    """
    taken: dict[str, str | None] = {}
    guessed, warnings = [], []
    for kind in ("text", "label"):
        chosen, before = getattr(specified, kind), getattr(found, kind, None)
        name = chosen if found is None else (before if before in columns else None)
        if name is None:
            guessed.append(kind)
        elif kind == "label" and name == taken["text"] and chosen is None:
            name = None
        try:
            if name is None:
                taken[kind] = guess_column(columns, kind, where, sample(), taken=taken.get("text"))
            else:
                taken[kind] = choose_column(columns, kind, name, where, taken=taken.get("text"))
        except InputError:
            if kind == "text" or required:
                raise
            taken[kind] = None
            if before is not None:
                warnings.append(
                    f"{where} has no column {before!r}, but {listed(columns)}: its documents count as unlabeled"
                )
        if taken[kind] is not None and before not in (None, taken[kind]):
            warnings.append(f"{where} has no column {before!r}: its {kind}s are taken from {taken[kind]!r}")
    return Columns(taken["text"], taken["label"], tuple(kind for kind in guessed if taken[kind])), warnings


def _cells(path: Path, columns: Sequence[str], how: Reading) -> Iterable[Sequence[Any]]:
    return (cells for _, cells in rows(path, columns, header=how.header))


def read_table(path: Path, taken: Columns, how: Reading = Reading()) -> Documents:  # noqa: B008 (immutable)
    """All documents of a file, blank ones too; without a column of labels, all are unlabeled."""
    assert taken.text is not None
    if taken.label is None:
        texts = [as_text(cell, f"{path}, line {line}") for line, (cell,) in rows(path, [taken.text], header=how.header)]
        return Documents.named(texts, [None] * len(texts), columns=taken)
    names = class_names(path, taken.label)
    delimited = path.suffix.lower() in (".csv", ".tsv")
    name = partial(as_label, names=names, delimited=delimited)
    texts, labels = [], []
    for line, (document, kind) in rows(path, [taken.text, taken.label], header=how.header):
        texts.append(as_text(document, f"{path}, line {line}"))
        labels.append(name(kind, f"{path}, line {line}"))
    labels, warned = _without_marks(labels, path, keep=how.keep_na or names is not None)
    warned += _merged(texts, labels, path) + _disarmed(texts, path) if delimited else []
    return Documents.named(texts, labels, columns=taken, warnings=warned)


def _disarmed(texts: list[str], path: Path) -> list[str]:
    """A warning of texts as our tables have them, in a table that is not known for one of ours."""
    if not (count := sum(DISARMED.match(text) is not None for text in texts)):
        return []
    return [
        f"{path}: texts with an apostrophe before =, +, - or @: {count:,}; it is read as a part of the text. "
        "In a file that graphloss wrote, keep its columns (row, reason): there it is taken back"
    ]


def _merged(texts: list[str], labels: list[str | None], path: Path) -> list[str]:
    """A warning of a text with a line that reads as a row: a quote may open in one row and close in a later."""
    known = set(labels)
    for line in (line for text in texts if "\n" in text for line in text.splitlines()):
        first, *rest = (cell.strip(' "') for cell in MARKS.split(line))
        if rest and {first, rest[-1]} & known:
            return [
                f"{path}: a text holds the line {line.strip()!r:.60}, which reads as a row of its own: if a quote "
                "opens in one row and closes in a later, take it out or write it twice"
            ]
    return []


def _without_marks(labels: list[str | None], where: object, *, keep: bool) -> tuple[list[str | None], list[str]]:
    """The labels without the marks of missing ones, and a warning that counts these."""
    marks = Counter(label for label in labels if label is not None and label.casefold() in MISSING)
    if keep or not marks:
        return labels, []
    listed = ", ".join(f"{mark!r} ({count:,})" for mark, count in sorted(marks.items()))
    warning = f"{where}: the labels {listed} mark unlabeled documents; if they name a class, give --keep-na"
    return [None if label in marks else label for label in labels], [warning]


def _read_loaded(
    source: str, loaded: Any, specified: Columns, how: Reading, only: str | None, own: bool
) -> dict[str, Documents]:
    """The splits of what the `datasets` library has loaded."""
    parts: dict[str, Documents] = {}
    found = specified if own else None  # the columns of the first split hold for the others
    if only and len(loaded) == 1 and source.partition(":")[0] != "hub":
        loaded = {only: next(iter(loaded.values()))}
    for split in SPLITS:
        theirs = split_of(split, list(loaded))
        if theirs is None or split != (only or split):
            continue
        where, table = f"{source}, {theirs} split", loaded[theirs]
        sample, required = partial(_sample, table), bool(only) or split == "train"
        taken, warned = pick_columns(table.column_names, where, specified, found, sample, required=required)
        part = _read_loaded_table(table, taken, where, how)
        parts[split] = _without_blanks(replace(part, warnings=warned + part.warnings, columns=taken), where)
        found = found or taken
    if not only and "train" not in parts:
        raise InputError(f"{source} has no train split, only {', '.join(loaded)}.")
    return parts


def _sample(table: Any) -> Iterable[Sequence[Any]]:
    """The cells of the first rows of a loaded split."""
    cells = table[:SAMPLE]
    return zip(*(cells[column] for column in table.column_names), strict=True)


def _read_loaded_table(table: Any, taken: Columns, where: str, how: Reading) -> Documents:
    """All documents of a loaded split, as `read_table` those of a file."""
    text, label = taken.text, taken.label
    columns = table.select_columns([text] if label is None else [text, label])
    check_size(where, columns.data.nbytes)
    cells = columns[:]
    texts = [as_text(cell, f"{where}, row {row}") for row, cell in enumerate(cells[text], 1)]
    if label is None:
        return Documents.named(texts, [None] * len(texts))
    names = getattr(table.features[label], "names", None)
    labels = [as_label(cell, f"{where}, row {row}", names=names) for row, cell in enumerate(cells[label], 1)]
    labels, warned = _without_marks(labels, where, keep=how.keep_na or names is not None)
    return Documents.named(texts, labels, warnings=warned)


def _labeled_splits(parts: dict[str, Documents], source: str) -> dict[str, Documents]:
    """The splits with labeled documents alone in validation and test, which are left out where there are none."""
    done = {"train": parts["train"]}
    for split in ("validation", "test"):
        if split not in parts:
            continue
        part = labeled_only(parts[split], f"{source}: the {split} split")
        if part:
            done[split] = part
        else:
            reasons = parts[split].warnings
            done["train"].warnings.extend([*reasons, f"{source}: the {split} split has no labels, so it is not used"])
    return done


def _without_blanks(part: Documents, where: object) -> Documents:
    if not part:
        raise InputError(f"{where} holds no documents.")
    kept = part.take(i for i, document in enumerate(part.texts) if document and not document.isspace())
    lost = len(part) - len(kept)
    if not kept:
        raise InputError(f"{where}: all {lost:,} texts are empty. Choose another column with --text.")
    dropped = [f"{where}: {lost:,} empty {'text was' if lost == 1 else 'texts were'} dropped"] if lost else []
    return replace(kept, warnings=part.warnings + dropped)
