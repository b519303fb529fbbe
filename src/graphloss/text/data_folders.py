"""Folders that are data: a folder per class with one file per text, or what the `datasets` library has saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphloss.disk import typed
from graphloss.errors import InputError, first_line
from graphloss.text.data_sources import SPLIT_NAMES, folder_files, goes_by_name
from graphloss.text.file_formats import check_size
from graphloss.text.parsing.character_encodings import file_lines
from graphloss.text.texts_and_labels import Documents

TEXT_SUFFIXES = ("", ".txt", ".text", ".md")
UNLABELED = ("unsup", "unlabeled", "unlabelled")
"""Names of folders of texts without a label."""


def own_folder(source: str) -> Path | None:
    """The folder that a source is, if it holds no files of splits: folders by class, or what `datasets` has saved."""
    if goes_by_name(source) or not typed(source).is_dir() or folder_files(typed(source)):
        return None
    return typed(source) if _saved(typed(source)) or class_folders(typed(source)) else None


def _saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def from_disk(folder: Path) -> Any:
    """What `save_to_disk` of the `datasets` library wrote, as a mapping of splits; None if the folder is none."""
    if not _saved(folder):
        return None
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # of many types, by what is wrong
        raise InputError(
            f"{folder}: cannot be read as a data set of the datasets library ({first_line(error)})."
        ) from error
    return loaded if isinstance(loaded, dict) else {"train": loaded}


def text_files(folder: Path) -> list[Path]:
    """The files in a folder that hold a text each, in the order of their names; hidden ones are left out."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The folders of the classes by split, all `train` where there are no splits; empty if it is no such folder."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    splits = {SPLIT_NAMES[path.name.lower()]: path for path in inner if path.name.lower() in SPLIT_NAMES}
    roots = splits if "train" in splits else {"train": folder}
    found = {}
    for split, root in roots.items():
        classes = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        if classes and all(any(map(_is_text, text_files(path))) for path in classes):
            found[split] = classes
    return found if "train" in found else {}


def read_class_folders(classes: Sequence[Path]) -> Documents:
    """The documents of some folders of classes, labeled by their names."""
    files = [(path, folder.name) for folder in classes for path in text_files(folder)]
    for folder in classes:
        if strange := [path for path in folder.iterdir() if path.is_dir() or not _is_text(path)]:
            raise InputError(
                f"{strange[0]}: expected a text per file in the folder of a class ({', '.join(TEXT_SUFFIXES[1:])}); "
                "take it out, or write one table of all texts"
            )
    check_size(str(classes[0].parent), sum(path.stat().st_size for path, _ in files))
    names = [None if name.lower() in UNLABELED else name for _, name in files]
    return Documents.named([read_text(path) for path, _ in files], names)


def read_text(path: Path) -> str:
    """All of a file as one text."""
    return "".join(line for _, line in file_lines(path))


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_SUFFIXES
