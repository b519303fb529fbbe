"""Parsers of the files of the known data sets: documents of train (with validation) and of test.

A parser changes only the encoding and, where a document is a line, the blanks at its ends.
"""

import csv
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from graphloss.errors import InputError

Document = tuple[str, str]
"""A text and its label."""

Read = Callable[[dict[str, Path]], tuple[list[Document], list[Document]]]
"""Parses files, by name, into documents. Raises InputError if the contents of a file are not as expected."""

# The categories of cardiovascular diseases in OHSUMED, by their MeSH names.
DISEASES = {
    "C01": "Bacterial Infections and Mycoses",
    "C02": "Virus Diseases",
    "C03": "Parasitic Diseases",
    "C04": "Neoplasms",
    "C05": "Musculoskeletal Diseases",
    "C06": "Digestive System Diseases",
    "C07": "Stomatognathic Diseases",
    "C08": "Respiratory Tract Diseases",
    "C09": "Otorhinolaryngologic Diseases",
    "C10": "Nervous System Diseases",
    "C11": "Eye Diseases",
    "C12": "Urologic and Male Genital Diseases",
    "C13": "Female Genital Diseases and Pregnancy Complications",
    "C14": "Cardiovascular Diseases",
    "C15": "Hemic and Lymphatic Diseases",
    "C16": "Neonatal Diseases and Abnormalities",
    "C17": "Skin and Connective Tissue Diseases",
    "C18": "Nutritional and Metabolic Diseases",
    "C19": "Endocrine Diseases",
    "C20": "Immunologic Diseases",
    "C21": "Disorders of Environmental Origin",
    "C22": "Animal Diseases",
    "C23": "Pathological Conditions, Signs and Symptoms",
}


def read_reviews(paths: dict[str, Path]) -> tuple[list[Document], list[Document]]:
    """One text per line in one file, its 1 or 0 on the same line of another."""

    def split(part: str) -> list[Document]:
        texts, signs = _lines(paths[f"text_{part}.txt"]), _lines(paths[f"label_{part}.txt"])
        if len(texts) != len(signs) or set(signs) - {"0", "1"}:
            raise InputError(f"text_{part}.txt has {len(texts):,} lines, label_{part}.txt {len(signs):,} of 0 and 1.")
        return [(text, "positive" if sign == "1" else "negative") for text, sign in zip(texts, signs, strict=True)]

    return split("train"), split("test")


def read_topics(paths: dict[str, Path]) -> tuple[list[Document], list[Document]]:
    """A label, a tab and a text per line."""

    def split(part: str) -> list[Document]:
        rows = [line.partition("\t") for line in _lines(paths[f"{part}.txt"])]
        if not all(tab for _, tab, _ in rows):
            raise InputError(f"{part}.txt has a line without a tab; each should be a label, a tab and a text.")
        return [(text, label) for label, _, text in rows]

    return split("train"), split("test")


def read_intents(paths: dict[str, Path]) -> tuple[list[Document], list[Document]]:
    """CSV with the columns text and category."""

    def split(part: str) -> list[Document]:
        rows = csv.DictReader(io.StringIO(_text(paths[f"{part}.csv"]), newline=""))
        if rows.fieldnames != ["text", "category"]:
            raise InputError(f"{part}.csv has the columns {rows.fieldnames}, expected text and category.")
        return [(row["text"], row["category"]) for row in rows]

    return split("train"), split("test")


def read_newsgroups(paths: dict[str, Path]) -> tuple[list[Document], list[Document]]:
    """One file per message, `20news-bydate-SPLIT/GROUP/NUMBER` in one archive, in Latin-1, with headers."""
    documents: dict[str, list[Document]] = {"20news-bydate-train": [], "20news-bydate-test": []}
    for split, group, _, text in members(paths["20news-bydate.tar.gz"]):
        documents.setdefault(split, []).append((text, group))
    return documents["20news-bydate-train"], documents["20news-bydate-test"]


def read_abstracts(paths: dict[str, Path]) -> tuple[list[Document], list[Document]]:
    """One file per abstract and category, `…/SPLIT/CATEGORY/NUMBER` in one archive; keeps those of one category."""
    found: dict[str, dict[str, list[Document]]] = {"training": {}, "test": {}}
    for split, category, number, text in members(paths["ohsumed-first-20000-docs.tar.gz"]):
        if category in DISEASES:
            found.setdefault(split, {}).setdefault(number, []).append((text, f"{category} {DISEASES[category]}"))
    train, test = (
        [copies[0] for _, copies in sorted(found[split].items()) if len(copies) == 1] for split in ("training", "test")
    )
    return train, test


def members(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """The files of a tar archive as (grandparent folder, folder, name, text), sorted by name.

    Nothing is written to disk. An archive with an absolute path, a `..` or a link is refused as a whole.

    Raises:
        InputError: this is not an archive, or not a safe one.
    """
    texts: dict[PurePosixPath, str] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                    raise InputError(f"{path.name} contains {member.name!r}, a path or link that leads out of it.")
                file = archive.extractfile(member)
                if file is not None and len(name.parts) >= 3 and not name.name.startswith("."):
                    texts[name] = file.read().decode("latin-1")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path.name} cannot be read as a tar archive: {error}.") from error
    for name in sorted(texts):
        yield *name.parts[-3:], texts[name]  # type: ignore[misc]


def _text(path: Path) -> str:
    """The content of a file in UTF-8, or else in Windows-1252, as in older corpora."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise InputError(f"{path.name} is neither UTF-8 nor Windows-1252: {error}.") from error


def _lines(path: Path) -> list[str]:
    """The stripped lines; a final line break does not begin another line."""
    lines = _text(path).split("\n")
    return [line.strip() for line in (lines if lines[-1].strip() else lines[:-1])]
