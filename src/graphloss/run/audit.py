"""An audit of a run: which documents are checked, where the result is kept, and how it becomes a table."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.report.page import write_report
from graphloss.run.evaluate import reading, reread
from graphloss.terminal import pasted
from graphloss.text.columns import AUDITED, CORRECTED, Reading
from graphloss.text.corpus import load_split
from graphloss.text.data_sources import find_again
from graphloss.text.tables import Table, check_writable, in_one_cell, read_whole, unused, write_table
from graphloss.text.texts_and_labels import Documents
from graphloss.training.progress import Screen


def audit(
    folder: Path,
    source: str | None,
    *,
    text: str | None,
    label: str | None,
    screen: Screen,
    no_header: bool = False,
    out: Path | None = None,
    apply: Path | None = None,
) -> list[dict[str, Any]]:
    """Probable label errors, in descending order of score; arguments as the options of `graphloss audit`.

    That of the training documents is also kept in the run folder, if that keeps texts, and shown by its report.

    Returns:
        As `FittedModel.audit`, each with `row`, its number in the file from 1; None where that is unknown.
    """
    for option, path in (("--out", out), ("--apply", apply)):
        if path is not None:
            check_writable(path, option=option, new=True)
    if out is not None and apply is not None and out.resolve() == apply.resolve():
        raise InputError(f"--out and --apply are one file, {out}; give each its own")
    info = run_folder.read_info(folder)
    recorded = info.get("data", {})
    how = reading(recorded, no_header=no_header, named=text is not None)
    text, label = text or recorded.get("text"), label or recorded.get("label")
    table = _table(source or find_again(recorded.get("source"), folder), text, label, how)
    if apply is not None and table is None:
        raise InputError("--apply: these documents are not those of one file, which could be copied; give --data FILE")
    if source is not None:
        documents = load_split(source, "train", text=text, label=label, how=how)
        screen.say(f"{source}: {documents.columns}")
        if len(set(documents.labels)) < 2:
            raise InputError(f"{source}: all labels are the same, so that there is nothing to confuse them with")
    elif info["status"] != "finished" or run_folder.TEXTS in info["files"]:
        documents = None
    else:
        documents = _training_documents(folder, info)
    _, model = run_folder.read_model(folder)
    if documents is None:
        rows = model.audit(progress=screen.draws)
    else:
        screen.warn(*documents.warnings)
        rows = model.audit(documents.texts, documents.names, progress=screen.draws)
    rows = _numbered(rows, table)
    labels = model.support_labels()[model.descriptions :] if documents is None else documents.names
    checked = sum(count for label, count in Counter(labels).items() if label is not None and count > 1)
    if not checked:
        screen.warn("no label could be checked, for no class has two documents; label more documents per class")
    elif not rows:
        screen.say(f"none of {checked:,} labels is contradicted")
    if source is None and not info.get("data", {}).get("no_texts"):
        try:
            run_folder.write_audit(folder, rows)
            if (folder / run_folder.PREDICTIONS).exists():  # a saved classifier has no report
                screen.say(f"{write_report(folder)}: the report, now with this list")
        except OSError as error:  # a read-only run: the list is returned all the same
            screen.warn(f"{folder}: cannot be written ({error.strerror}), so that the run does not keep this list")
    if out is not None:
        write_list(out, rows, table)
        screen.say(f"{out}: {len(rows):,} labels that are contradicted")
    if apply is not None and table is not None:
        _write_corrected(apply, rows, table)
        screen.say(f"{apply}: a copy with {len(rows):,} labels changed, the former ones in the last column")
    return rows


def _table(source: str | None, text: str | None, label: str | None, how: Reading) -> Table | None:
    """The file of a source with all its columns; None where it is no single file, or not there."""
    if source is None or not Path(source).is_file():
        return None
    return read_whole(source, text=text, label=label, how=how)


def _numbered(rows: list[dict[str, Any]], table: Table | None) -> list[dict[str, Any]]:
    """The rows with their number in the file, found by text and label; equal ones in their order."""
    places: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for number, key in enumerate(zip(table.texts, table.labels, strict=True) if table else (), 1):
        places[key].append(number)
    found = (places[row["text"], str(row["label"])] for row in rows)
    return [{"row": at.pop(0) if at else None, **row} for at, row in zip(found, rows, strict=True)]


def write_list(out: Path, rows: list[dict[str, Any]], table: Table | None) -> None:
    """One contradicted label per row, its supporting documents in one cell, a line each."""
    columns = table.columns if table else ["text", "label"]
    text, label = (table.taken.text, table.taken.label) if table else columns
    lines = []
    for row in rows:
        known = {text: row["text"], label: row["label"]}
        own = table.rows[row["row"] - 1] if table and row["row"] else [known.get(name) for name in columns]
        lines.append([*own, row["row"], row["proposed"], row["score"], in_one_cell(row["evidence"])])
    write_table(out, [*columns, *(unused(name, columns) for name in AUDITED)], lines, like=table and table.file)


def _write_corrected(path: Path, rows: list[dict[str, Any]], table: Table) -> None:
    """The whole file with the proposed labels, and in a last column the former ones of the rows that have another."""
    label = table.columns.index(str(table.taken.label))
    lines = [[*cells, number, None] for number, cells in enumerate(table.rows, 1)]
    for row in rows:
        if row["row"]:
            cells = lines[row["row"] - 1]
            cells[label], cells[-1] = row["proposed"], cells[label]
    write_table(path, [*table.columns, *(unused(name, table.columns) for name in CORRECTED)], lines, like=table.file)


def _training_documents(folder: Path, info: dict[str, Any]) -> Documents:
    """The labeled training documents from the data of a run that does not keep them."""
    recorded = info.get("data", {})
    missing = f"{folder}: keeps no training texts ({run_folder.TEXTS})"
    other = f"name labeled documents: `graphloss audit {pasted(folder)} --data DATA`"
    if "source" not in recorded:
        raise InputError(f"{missing}, and does not say what data it was trained on; {other}")
    try:
        corpus = reread(folder, info, str(find_again(recorded["source"], folder)))
    except InputError as error:
        raise InputError(f"{missing}, and its data cannot be read any more; {other}\n{error}") from error
    if corpus.fingerprint != recorded["fingerprint"]:
        raise InputError(f"{missing}, and {recorded['source']} has changed since the training; {other}")
    return corpus.train.labeled()
