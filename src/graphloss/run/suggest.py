"""Which texts of a file to label next: read, suggest, and write a file to fill in."""

import shlex
from pathlib import Path
from typing import Any

from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.run.evaluate import reading
from graphloss.terminal import counted
from graphloss.text.columns import SUGGESTED
from graphloss.text.data_sources import find_again
from graphloss.text.read_descriptions import read_descriptions
from graphloss.text.tables import Table, check_writable, read_whole, unused, write_table
from graphloss.training.progress import Screen


def suggest(
    run: Path | None,
    pile: str,
    count: int,
    *,
    text: str | None,
    label: str | None,
    no_header: bool = False,
    describe: str | None,
    model: str | None,
    out: Path | None,
    add: bool,
    screen: Screen,
) -> list[dict[str, Any]]:
    """The texts of a file to label next, in order; arguments as the options of `graphloss suggest`.

    Texts with a label count as labeled. The file `out` has the pile's own columns, with an empty label, and
    `SUGGESTED`; with `add` its labels count, and its texts without one are not suggested again.

    Returns:
        What `rows_to_label` returns, each with its `text`; `row` is the number in the file, from 1.
    """
    earlier = _check_out(out, add, text, label)
    lines = read_descriptions(describe) if describe is not None else None
    if run is not None and model is not None:
        raise InputError("--model: a run has its own encoder; leave --model out, or leave the run out")
    info = run_folder.finished_info(run) if run is not None else {}
    how = reading(info.get("data", {}), no_header=no_header, named=text is not None)
    table = read_whole(pile, text=text, label=label, like=info.get("data"), how=how)
    where = f"{pile} ({table.taken})"
    screen.say(where)
    seen = _by_text(earlier) | _learned_from(run, info.get("data", {}))
    names = [name or seen.get(each) for each, name in zip(table.texts, table.labels, strict=True)]
    rows = [row for row, each in enumerate(table.texts) if each.strip() and (names[row] or each not in seen)]
    free = sum(names[row] is None for row in rows)
    if not 1 <= count <= free:
        left = f"{free:,} of {len(names):,} texts can be suggested" + (f"; {out} holds others" if earlier else "")
        raise InputError(f"{where}: {left}; " + (f"give -n from 1 to {free}" if free else "nothing is left to label"))
    beside = [each for each in sorted(seen.keys() - set(table.texts)) if seen[each]]  # labeled texts of another pile
    texts = [*(table.texts[row] for row in rows), *beside]
    labels = [*(names[row] for row in rows), *(seen[each] for each in beside)]
    if run is None:
        from graphloss.inference.suggestion import suggest as suggest_texts

        found = suggest_texts(texts, count, labels=labels, descriptions=lines, model=model, progress=screen.draws)
    else:
        from graphloss.inference.learning_curve import LearningCurve

        _, fitted = run_folder.read_model(run)
        found = fitted.suggest(texts, count, labels, descriptions=lines, progress=screen.draws)
        if curve := info.get("learning_curve"):
            screen.say(f"forecast for this run: {LearningCurve(**curve).sentence(len(found))}")
    found = [each | {"row": rows[each["row"]] + 1} for each in found]
    if len(found) < count:
        texts_found = counted(len(found), "text")
        screen.warn(f"{texts_found}, not {count:,}: all others are near-duplicates of these or of labeled ones")
    if out is not None:
        _write(out, earlier, table, found)
        column = _label_column(table)
        words = ["train", str(out), "--text", str(table.taken.text), "--label", column, "--unlabeled", pile]
        of_run = find_again(info.get("data", {}).get("describe"), run) if run is not None else None
        words += ["--describe", described] if (described := describe or of_run) not in (None, "off") else []
        screen.say(
            f"{out}: {len(found):,} texts to label; fill in {column!r}, then train:\n  graphloss {shlex.join(words)}"
        )
    return found


def _check_out(out: Path | None, add: bool, text: str | None, label: str | None) -> Table | None:
    """The table to append to, if any, after the checks that need no work."""
    if out is None:
        if add:
            raise InputError("--add: needs the file to add to; give --out FILE")
        return None
    check_writable(out)
    if not out.exists():
        return None
    if not add:
        raise InputError(f"{out}: is there already, and may hold labels; give another name, or --add to append to it")
    return read_whole(out, text=text, label=label)


def _by_text(table: Table | None) -> dict[str, str | None]:
    """The label of each text of a table; None for an unlabeled one."""
    return dict(zip(table.texts, table.labels, strict=True)) if table else {}


def _learned_from(run: Path | None, data: dict[str, Any]) -> dict[str, str | None]:
    """The labeled texts of a run's data, those set aside for validation too, if it is a file that is still there."""
    if run is None or "source" not in data:
        return {}
    try:
        how = reading(data, no_header=False, named=False)
        file = str(find_again(data["source"], run))
        table = read_whole(file, text=data.get("text"), label=data.get("label"), how=how)
    except InputError:  # the run's own texts are enough
        return {}
    return {text: name for text, name in _by_text(table).items() if name is not None}


def _label_column(table: Table) -> str:
    return table.taken.label or unused("label", table.columns)


def _write(out: Path, earlier: Table | None, table: Table, found: list[dict[str, Any]]) -> None:
    """The earlier lines, then the suggested rows with all their columns, an empty label, and why."""
    added = {name: unused(name, table.columns) for name in SUGGESTED}
    lines = [dict(zip(earlier.columns, row, strict=True)) for row in earlier.rows] if earlier else []
    for each in found:
        own = dict(zip(table.columns, table.rows[each["row"] - 1], strict=True))
        lines.append({**own, _label_column(table): None, **{added[name]: each[name] for name in added if name in each}})
    columns = list(dict.fromkeys(name for line in lines for name in line))
    write_table(out, columns, [[line.get(name) for name in columns] for line in lines], like=(earlier or table).file)
