"""An audit of a run: which documents are judged, where the answer is kept, and how it becomes a table."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError
from graphloss.inference import storage
from graphloss.report.page import write_report
from graphloss.run.evaluate import reading, reread
from graphloss.system import whole
from graphloss.text.corpus import load_split
from graphloss.text.delimited import OURS, disarm
from graphloss.text.documents import Documents
from graphloss.text.sources import find_again

if TYPE_CHECKING:
    from graphloss.training.progress import Screen


def audit(
    folder: Path, source: str | None, *, text: str | None, label: str | None, screen: Screen, no_header: bool = False
) -> list[dict[str, Any]]:
    """Labels that similar documents contradict, the surest first.

    Of the training documents, the answer is also kept in the run folder, if that keeps texts, and shown by its report.

    Args:
        folder: a finished run.
        source: labeled documents to judge (the train split, or a single file); None takes those of the training.
        text: the column of the texts in `source`; that of the training when None.
        label: the column of the labels in `source`; that of the training when None.
        screen: where progress is shown.
        no_header: the first line of CSV or TSV is a document.

    Returns:
        What `FittedModel.audit` returns.

    Raises:
        InputError: the run or the data cannot be used, or neither the run nor its data holds the training texts.
    """
    info = storage.read_info(folder)
    if source is not None:
        recorded = info.get("data", {})
        how = reading(recorded, no_header=no_header, named=text is not None)
        text, label = text or recorded.get("text"), label or recorded.get("label")
        documents = load_split(source, "train", text=text, label=label, how=how)
        screen.say(f"{source}: {documents.columns}")
        if len(set(documents.labels)) < 2:
            raise InputError(f"{source}: all labels are the same, so that there is nothing to confuse them with")
    elif info["status"] != "finished" or storage.TEXTS in info["files"]:
        documents = None
    else:
        documents = _training_documents(folder, info)
    _, model = storage.read_model(folder)
    if documents is None:
        rows = model.audit(progress=screen.draws)
    else:
        for line in documents.warnings:
            screen.warn(line)
        rows = model.audit(documents.texts, documents.names, progress=screen.draws)
    labels = model.support_labels() if documents is None else documents.names
    judged = sum(count for label, count in Counter(labels).items() if label is not None and count > 1)
    if not judged:
        screen.warn("no label could be judged, for no class has two documents; give more labeled documents a class")
    elif not rows:
        screen.say(f"none of {judged:,} labels is contradicted")
    if source is None and not info.get("data", {}).get("no_texts"):
        try:
            storage.write_audit(folder, rows)
            if (folder / storage.PREDICTIONS).exists():  # a saved classifier has no report
                screen.say(f"{write_report(folder)}: the report, now with this list")
        except OSError as error:  # the run is somebody else's, on a disk that is read: the answer is not lost for that
            screen.warn(f"{folder}: cannot be written ({error.strerror}), so that the run does not keep this list")
    return rows


def check_out(path: Path | None) -> None:
    """Refuse, before any work, a file that cannot be written.

    Raises:
        InputError: it is no CSV file, its folder is not there, or nothing may be written there.
    """
    if path is None:
        return
    if path.suffix.lower() != ".csv":
        raise InputError(f"--out {path}: expected a name that ends in .csv; --json prints JSON lines")
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise InputError(
            f"--out {path}: cannot be written ({error.strerror}); give a file in a folder that is there"
        ) from error


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """One contradicted label a line; the documents that say so stand in one cell, a line each; no cell is a formula."""
    with whole(path) as hidden, hidden.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(OURS)
        for row in rows:
            said = "\n".join(f"{each['share']:.3f} {each['label']}: {each['text']}" for each in row["evidence"])
            table.writerow([disarm(str(cell)) for cell in (*(row[name] for name in OURS[:-1]), said)])


def _training_documents(folder: Path, info: dict[str, Any]) -> Documents:
    """The labeled training documents from the data of a run that does not keep them."""
    recorded = info.get("data", {})
    missing = f"{folder}: keeps no training texts ({storage.TEXTS})"
    other = f"name labeled documents: `graphloss audit {folder} --data DATA`"
    if "source" not in recorded:
        raise InputError(f"{missing}, and does not say what data it was trained on; {other}")
    try:
        corpus = reread(folder, info, str(find_again(recorded["source"], folder)))
    except InputError as error:
        raise InputError(f"{missing}, and its data cannot be read any more; {other}\n{error}") from error
    if corpus.fingerprint != recorded["fingerprint"]:
        raise InputError(f"{missing}, and {recorded['source']} has changed since the training; {other}")
    return corpus.train.labeled()
