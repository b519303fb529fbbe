"""A page for labeling: the texts of a pile, or the labels that an audit of a run contradicts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphloss.disk import locked
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.run import label_server
from graphloss.run.label_journal import Journal
from graphloss.run.label_session import Desk, Session
from graphloss.terminal import pasted
from graphloss.text.columns import SUGGESTED, Columns
from graphloss.text.encoder_source import resolve
from graphloss.text.read_descriptions import read_descriptions
from graphloss.text.tables import Table, check_writable, read_whole, unused, write_table
from graphloss.training.progress import Screen

if TYPE_CHECKING:
    from graphloss.run.label_guesses import Guesses, Suspects


def label(
    pile: str | None,
    *,
    run: Path | None,
    out: Path,
    text: str | None,
    label: str | None,
    describe: str | None,
    model: str | None,
    port: int,
    on_address: Callable[[str], None],
    screen: Screen,
) -> None:
    """Show texts and take labels until the process is interrupted; arguments as the options of `graphloss label`.

    With a run, its contradicted labels are shown, without one the texts of the pile that have no label.
    """
    with label_server.listening(port) as listener:
        journal = _check_out(out)
        lines = read_descriptions(describe) if describe is not None else {}
        if run is not None:
            table, found = _suspects(run, pile, text, label, screen)
            order = list(found)
        elif pile is not None:
            source, table = resolve(model), read_whole(pile, text=text, label=label)
            screen.say(f"{pile} ({table.taken})")
            order = np.random.default_rng(0).permutation(_unlabeled(pile, table)).tolist()
        else:
            raise InputError("expected a file of texts, as in `graphloss label pile.csv`, or --review RUN")
        if not order:
            screen.say(f"{pile or run}: no label is contradicted, so that there is nothing to review")
            return
        more = sorted({name for name in table.labels if name is not None} - set(lines))
        from graphloss.run.label_guesses import Guesses, Suspects
        from graphloss.text.encoder import encode, load

        with _held(out, journal, [table.texts, run and table.labels]) as kept:
            session = Session(table.texts, table.labels, order, kept, classes=[*lines, *more], fixed=bool(lines))
            if run is not None:
                advisor: Guesses | Suspects = Suspects(found)
            else:
                encoder = load(source)
                z = encode(encoder, table.texts, progress=screen.draws)
                advisor = Guesses(z, table.texts, lines, partial(encode, encoder))
                threading.Thread(target=advisor.draw, daemon=True).start()
            about = {"title": Path(pile or run or "").name, "out": str(out), "review": run is not None}
            firsts = {name: own[0] for name, own in lines.items()}
            desk = Desk(session, advisor, partial(_write, out, table, session), about, firsts)
            desk.begin()
            try:
                label_server.serve(desk, listener, on_address)
            finally:
                desk.write(session.labels())
    if problem := desk.state()["problem"]:
        screen.warn(problem)
    labeled = session.count("label")
    to_train = f"; to train:\n  graphloss train {pasted(out)}" if labeled else ""
    screen.say(f"{out}: {labeled:,} of {len(order):,} labeled; the same command resumes{to_train}")


def _unlabeled(pile: str, table: Table) -> list[int]:
    rows = [row for row, each in enumerate(table.texts) if each.strip()]
    if not rows:
        raise InputError(f"{pile}: holds no text; expected the texts to label, a row or a line each")
    if rows := [row for row in rows if table.labels[row] is None]:
        return rows
    raise InputError(
        f"{pile}: every text has a label in column {table.taken.label!r}; to check labels: graphloss label --review RUN"
    )


def _suspects(
    run: Path, pile: str | None, text: str | None, label: str | None, screen: Screen
) -> tuple[Table, dict[int, dict[str, Any]]]:
    """The labeled texts of a file or of a run, and the audit's entry of each contradicted row, highest score first."""
    info = run_folder.finished_info(run)
    table = read_whole(pile, text=text, label=label, like=info.get("data")) if pile is not None else None
    _, model = run_folder.read_model(run)
    if table is None:
        pairs = list(zip(model.known_texts(), map(str, model.support_labels()), strict=True))[model.descriptions :]
        texts, names = [text for text, _ in pairs], [name for _, name in pairs]
        table = Table(["text", "label"], pairs, texts, [*names], Columns("text", "label"))
        found = model.audit(progress=screen.draws)
    else:
        screen.say(f"{pile} ({table.taken})")
        found = model.audit(table.texts, table.labels, progress=screen.draws)
    places: dict[tuple[str, str | None], list[int]] = {}
    for row, pair in enumerate(zip(table.texts, table.labels, strict=True)):
        places.setdefault(pair, []).append(row)
    return table, {places[each["text"], str(each["label"])].pop(0): each for each in found}


def _check_out(out: Path) -> Path:
    """The journal beside a file, after a check that neither would overwrite anything else."""
    check_writable(out, (".csv",))
    journal = out.with_name(f"{out.name}.journal")
    if out.exists() and not journal.exists():
        raise InputError(f"--out {out}: is there already, and no {journal.name} beside it; give a name that is free")
    return journal


@contextlib.contextmanager
def _held(out: Path, path: Path, texts: list[Any]) -> Iterator[Journal]:
    """The journal of these texts, which no other process may write meanwhile."""
    fingerprint = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    lock = out.with_name(f".{out.name}.lock")
    with locked(lock) as mine:
        if not mine:
            raise InputError(f"--out {out}: another `graphloss label` writes it; end that one, or give another --out")
        try:
            with contextlib.closing(Journal(path, {"texts": len(texts[0]), "fingerprint": fingerprint})) as journal:
                yield journal
        finally:
            lock.unlink(missing_ok=True)


def _write(out: Path, table: Table, session: Session, labels: list[str | None]) -> None:
    """All texts with all columns of the pile, labels, row numbers and kinds of answers, the labeled texts first."""
    column = table.taken.label or unused("label", table.columns)
    number, reason = (unused(name, [*table.columns, column]) for name in SUGGESTED[:2])
    columns = list(dict.fromkeys([*table.columns, column, number, reason]))
    rows = sorted((row for row, text in enumerate(table.texts) if text.strip()), key=lambda row: labels[row] is None)
    lines = []
    for row in rows:
        answer = session.answers.get(row, {}).get("answer")
        own = dict(zip(table.columns, table.rows[row], strict=True))
        lines.append(own | {column: labels[row], number: row + 1, reason: answer})
    write_table(out, columns, [[line[name] for name in columns] for line in lines])
