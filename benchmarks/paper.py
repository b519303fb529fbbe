"""Is G-Loss ahead of cross-entropy and the metric losses on the five whole data sets of its paper (arXiv 2604.25853)?

    GRAPHLOSS_DATA=FOLDER python benchmarks/paper.py estimate   what is missing, and how long it will take
    GRAPHLOSS_DATA=FOLDER python benchmarks/paper.py run        the same, then train it; processes may share the work
    python benchmarks/paper.py page                             write docs/research/paper.md from what is there

Table 2 of the paper mixes cross-entropy with a loss (combined), Table 3 has the loss alone (standalone). `--encoder`,
`--freeze`, `--max-length` and `--epochs` fit them to a machine; `--data`, `--losses`, `--modes`, `--seeds` take a part.
A cell or a trial of the search is a row of `--results`, which is written whole: after a kill, the same command goes on
with what is missing. The page says what is fixed; `paper_plan.py` has the numbers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paper_plan import LOSS, TOKENS, VARIANTS, Budget, Cell, cells, settings_tried, trials
from result_table import FOLDER, ResultTable

from graphloss.disk import locked, write_text
from graphloss.errors import InputError

WORK = Path(os.environ.get("TMPDIR", "/tmp")) / "graphloss-paper"
PAGE = FOLDER.parents[1] / "docs" / "research" / "paper.md"


def say(line: str) -> None:
    """Print a line at once, for a log that is read while the work goes on."""
    print(line, flush=True)


def find(table: ResultTable, budget: Budget, cell: Cell) -> dict[str, Any] | None:
    """The row of a cell or trial; None where there is none.

    Raises:
        InputError: it was trained with other settings.
    """
    if (row := table.find(*cell.key)) is None:
        return None
    wanted = asdict(budget.settings(cell, row.get("tuned")))
    if other := [name for name, value in row["asked"].items() if wanted.get(name, value) != value]:
        raise InputError(
            f"{table.path}: {cell.key[1]} was trained with another {', '.join(other)}; give the same options, or "
            "another --results"
        )
    return row


def finish(table: ResultTable, budget: Budget, cell: Cell) -> dict[str, Any] | None:
    """The row of a cell or trial, trained if it is missing; None while another process is at it."""
    from paper_training import run_trial, run_whole, winner

    if (row := find(table, budget, cell)) is not None:
        return row
    own: dict[str, Any] = {}
    if not cell.trial:
        tried = [row for each in trials(cell) if (row := finish(table, budget, each))]
        own = settings_tried(cell.mode, cell.arm)[winner(tried)]
    kind, name = cell.key
    with locked(WORK / f".{kind}-{name}.lock", wait=cell.trial) as mine:
        if not mine or (row := find(table, budget, cell)) is not None:
            return row
        began, folder = time.process_time(), WORK / f"{kind}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        result = (run_trial if cell.trial else run_whole)(cell, budget.settings(cell, own), folder)
        shutil.rmtree(folder, ignore_errors=True)
        row = {"kind": kind, "name": name} | result | {"processor_seconds": time.process_time() - began}
        table.put(row if cell.trial else row | {"tuned": own})
    value, seconds = (row if cell.trial else row["scores"]["head"])["macro_f1"], row["processor_seconds"]
    say(f"{time.strftime('%H:%M:%S')} {kind} {name}: macro-F1 {value:.4f}, {seconds:.0f} s {own or ''}")
    return row


def estimate(table: ResultTable, budget: Budget, wanted: list[Cell]) -> None:
    """Check all settings, try a step on each data set, and print how long what is missing will take."""
    from paper_training import seconds_of

    left = [cell for cell in wanted if find(table, budget, cell) is None]
    search = [t for t in dict.fromkeys(t for cell in left for t in trials(cell)) if find(table, budget, t) is None]
    total = 0.0
    for data in TOKENS:
        mine = [cell for cell in left if cell.data == data]
        tried = [cell for cell in search if cell.data == data]
        if mine or tried:
            settings = budget.settings((mine or [Cell(data, "combined", "ce", 0)])[0])
            cell, trial = seconds_of(data, settings)
            total += len(mine) * cell + len(tried) * trial
            say(
                f"{data}: {settings.max_length} tokens, {settings.epochs} epochs; {len(mine)} cells of {cell / 60:.1f} "
                f"minutes, {len(tried)} trials of {trial / 60:.1f}"
            )
    there = f"{len(wanted) - len(left)} of {len(wanted)} cells are there"
    say(f"{there}; the rest takes {total / 3600:.1f} hours of one core" if left else there)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("estimate", "run", "page"))
    parser.add_argument("--encoder", help="a folder or a Hub name; the packaged all-MiniLM-L6-v2 when not given")
    parser.add_argument("--freeze", type=int, default=Budget.freeze, help="lower layers that stay as they are")
    parser.add_argument("--max-length", type=int, help="tokens of a text, for all data sets")
    parser.add_argument("--epochs", type=int, help="for all data sets")
    parser.add_argument("--precision", default="auto", help="bf16 halves the time of some CPUs")
    parser.add_argument("--data", nargs="+", choices=list(TOKENS))
    parser.add_argument("--losses", nargs="+", choices=list(LOSS))
    parser.add_argument("--modes", nargs="+", choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, help="for all data sets; 3, and 1 of 20ng, when not given")
    parser.add_argument("--results", type=Path, default=FOLDER / "paper.jsonl", help="one row per cell")
    parser.add_argument("--page", type=Path, default=PAGE, help="what the stage `page` writes")
    parser.add_argument("--no-estimate", action="store_true", help="go on at once: it takes a minute of one core")
    given = parser.parse_args()
    try:
        sys.exit(answer(given))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def answer(given: argparse.Namespace) -> int:
    """Do a stage; 1 where a cell has failed, which the next call runs again."""
    table = ResultTable(given.results, ("kind", "name"))
    if given.stage == "page":
        from paper_page import page

        write_text(given.page, page(table.rows()))
        return 0
    budget = Budget(given.encoder, given.freeze, given.max_length, given.epochs, given.precision)
    wanted = cells(given.data, given.losses, given.modes, given.seeds)
    WORK.mkdir(parents=True, exist_ok=True)
    if not given.no_estimate:
        estimate(table, budget, wanted)
    failed = 0
    for cell in wanted if given.stage == "run" else ():
        try:
            finish(table, budget, cell)
        except Exception as error:
            failed += 1
            say(f"{cell.key[1]}: failed, {type(error).__name__}: {error}")
    return int(failed > 0)


if __name__ == "__main__":
    main()
