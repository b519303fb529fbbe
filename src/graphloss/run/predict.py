"""A finished run at work: texts are classified as they come, from a file, a pipe or the command line."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphloss import distributed
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.text.columns import PREDICTED
from graphloss.text.read_texts import read_texts
from graphloss.text.tables import check_writable, in_one_cell, write_table
from graphloss.training.progress import Screen
from graphloss.training.settings_errors import check_predictor

if TYPE_CHECKING:
    from torch import Tensor

    from graphloss.inference.fitted_model import FittedModel

PREDICT_AT_ONCE = 1024
"""Texts a process, if so many are there: sorted by length, they have hardly more pad tokens than a whole file has."""


def predict(
    folder: Path,
    source: str | list[str],
    *,
    text: str | None = None,
    no_header: bool = False,
    predictor: str | None = None,
    explain: bool = False,
    screen: Screen | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Classify texts as they come: all that have arrived at once, up to `PREDICT_AT_ONCE` texts together.

    In several processes all call this: the first one reads and predicts, and each embeds a part of the texts.
    Arguments as the options of `graphloss predict`; `source` is a file, "-" for standard input, or texts.

    Yields:
        `row`, `text`, `label` and `probability` of each text, in their order. Blank texts are skipped; `row`, the
        text's number from 1, counts them. With `explain` also `evidence`, a list of `text`, `label` and `share`, and
        `head_share`, the head's share.

    Raises:
        InputError: the run or the texts cannot be used, there is no text, no such predictor, or no training texts in
            the run to explain by.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=PREDICT_AT_ONCE * distributed.world())

    def begin() -> None:
        """Check everything, and start to fill the queue."""
        recorded = run_folder.read_info(folder).get("data", {})
        check_predictor(predictor)
        if explain and not (folder / run_folder.TEXTS).exists():
            raise InputError(f"{folder}: keeps no training texts ({run_folder.TEXTS}) to explain by; train anew")
        texts = read_texts(
            source,
            text=text or recorded.get("text"),
            header=not (no_header or (text is None and recorded.get("no_header", False))),
            on_columns=lambda columns: screen.say(f"{_name(source)}: {columns}") if screen else None,
        )
        first = next(texts, None)  # an unreadable file is an error before a model is loaded
        if first is None:
            raise InputError(f"{_name(source)} holds no text: nothing to classify")
        threading.Thread(target=_feed, args=(itertools.chain([first], texts), waiting), daemon=True).start()

    distributed.on_first(begin)
    _, model = distributed.on_all(lambda: run_folder.read_model(folder))
    while batch := distributed.on_first(lambda: _arrived(waiting)):
        z = model.encode([text for _, text in batch], shared=True)
        if distributed.first():
            try:
                yield from _predictions(model, batch, z, predictor=predictor, explain=explain)
            except GeneratorExit:  # closed before the last text
                distributed.on_first(list)
                raise


def written(out: Path, rows: Iterator[dict[str, Any]], *, explain: bool) -> Iterator[dict[str, Any]]:
    """Write the rows of `predict` into a new `.csv` or `.jsonl` file, whole and after the last one, and pass them on.

    Raises:
        InputError: before any work, the file is there or cannot be written.
    """
    check_writable(out, new=True)
    columns = [*PREDICTED, *(["evidence"] if explain else [])]
    cell = in_one_cell if out.suffix.lower() == ".csv" else list
    kept = []
    for row in rows:
        kept.append([cell(row[name]) if name == "evidence" else row[name] for name in columns])
        yield row
    if distributed.first():
        write_table(out, columns, kept)


def _predictions(
    model: FittedModel, batch: list[tuple[int, str]], z: Tensor, *, predictor: str | None, explain: bool
) -> Generator[dict[str, Any], None, None]:
    """The rows that `predict` yields for texts with embeddings z (n, d)."""
    probabilities = model.probabilities(z, predictor=predictor)
    explained = zip(*model.explain(z, predictor=predictor), strict=True) if explain else ()
    support = [
        {"evidence": [each | {"label": str(each["label"])} for each in evidence], "head_share": head}
        for evidence, head in explained
    ] or [{}] * len(batch)
    for (row, text), each, supported in zip(batch, probabilities, support, strict=True):
        yield {
            "row": row,
            "text": text,
            "label": str(model.labels[int(each.argmax())]),
            "probability": round(float(each.max()), 6),
            **supported,
        }


def _name(source: str | list[str]) -> str:
    if isinstance(source, list):
        return "the command line"
    return "standard input" if source == "-" else source


def _feed(texts: Iterator[tuple[int, str]], waiting: queue.Queue[Any]) -> None:
    """Put texts in the queue, then None, or the error that ended them."""
    try:
        for item in texts:
            waiting.put(item)
        waiting.put(None)
    except Exception as error:
        waiting.put(error)


def _arrived(waiting: queue.Queue[Any]) -> list[tuple[int, str]]:
    """At least one text, and all others that have arrived; nothing at the end."""
    batch: list[tuple[int, str]] = []
    while not batch or (len(batch) < waiting.maxsize and not waiting.empty()):
        item = waiting.get()
        if item is None or isinstance(item, Exception):
            if batch or item is None:
                waiting.put(item)  # the end is found again by the next call
                return batch
            raise item
        batch.append(item)
    return batch
