"""Which loss, when? All losses in both modes on four data sets with few labels, five seeds, the same trials for each.

    GRAPHLOSS_DATA=FOLDER python benchmarks/losses.py tune    three trials per loss, on a draw that is never scored
    GRAPHLOSS_DATA=FOLDER python benchmarks/losses.py run     train what is missing; processes may share the work
    python benchmarks/losses.py page                          write docs/research/results.md from the results

Every cell is one of `graphloss bench` (`bench.cell`), with settings of its own: those that its loss did best with in
three trials on draws of r8 and mr with the seed 1,000, judged by the log-loss of their validation documents. The first
trial has the loss's own defaults, the second another learning rate, the third another setting of the loss at the better
rate; cross-entropy and standalone cosine, which have none, get a third rate. One row per cell, without the
documents' texts.

To fit this on two cores, texts are read up to 48 tokens, the embeddings and the lower three of the six layers stay as
they are (`--freeze 3`), and 300 test documents are scored, the same for every cell.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from result_table import FOLDER, ResultTable

from graphloss.research.bench import cell as cells
from graphloss.research.bench.grid import BASELINE, MODES, NO_MODE, STUDY_SEED, UNTOUCHED, Cell, Grid
from graphloss.research.bench.label_draws import corpus_of
from graphloss.research.bench.storage import locked, requested_settings
from graphloss.text.encoder_source import resolve
from graphloss.training.settings import LOSSES

RESULTS = ResultTable(FOLDER / "losses.jsonl", ("data", "shots", "loss", "mode", "seed"))
TUNED = ResultTable(FOLDER / "losses_tuned.jsonl", ("loss", "mode"))
WORK = Path(os.environ.get("TMPDIR", "/tmp")) / "graphloss-losses"
DATA = {"banking77": (4, 3), "ohsumed": (4, 4), "r8": (8, 5), "mr": (32, 5)}  # name: labels per class, epochs
TUNED_ON = ("r8", "mr")
COMMON = {"max_length": 48, "freeze": 3, "blend": 1.0}
TEST_DOCUMENTS, SEEDS = 300, 5
TEST_DOCUMENTS_OF_A_TRIAL = 16  # nobody reads their scores
RATES = (2e-4, 4e-4, 1e-4)
OTHERS = {  # the third trial
    "gloss": {"sigma": 0.5},
    "gloss-paper": {"sigma": 0.2},
    "supcon": {"temperature": 0.3},
    "triplet": {"margin": 0.5},
    "nca": {"temperature": 0.25},
    "cosine": {"weight": 0.8},
}
ARMS = [(BASELINE, MODES[0])] + [(loss, mode) for mode in MODES for loss in LOSSES if loss != BASELINE]


def grid_of(data: str, loss: str, settings: dict[str, Any]) -> Grid:
    """A grid of one data set and one loss."""
    shots, epochs = DATA[data]
    shared = {"max_length": COMMON["max_length"]} if loss == UNTOUCHED else COMMON | {"epochs": epochs}
    return Grid((data,), (loss,), MODES, (shots,), SEEDS, settings=shared | settings, test_documents=TEST_DOCUMENTS)


def train(data: str, loss: str, mode: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One cell."""
    grid = grid_of(data, loss, settings)
    if seed == STUDY_SEED:
        grid = replace(grid, test_documents=TEST_DOCUMENTS_OF_A_TRIAL)
    cell = Cell(data, DATA[data][0], loss, mode, seed)
    corpus = corpus_of(grid, data, cell.shots, seed)
    folder = WORK / f"{cell.name}-{os.getpid()}"
    task = cells.Task(cell, grid.settings_of(cell), corpus, resolve(None), folder)
    return cells.run_cell(task, requested_settings(grid, cell)) | {"tuned": settings or None}


def tune(loss: str, mode: str) -> dict[str, Any]:
    """Three trials of a loss; the settings that did best, and what each was worth."""
    trials: list[dict[str, Any]] = []

    def tried(settings: dict[str, Any]) -> float:
        losses = []
        for data in TUNED_ON:
            result = train(data, loss, mode, STUDY_SEED, settings)
            row = next(row for row in result["curve"] if row["epoch"] == result["best_epoch"])
            losses.append(row["log_loss"])
        trials.append({"settings": settings, "log_loss": dict(zip(TUNED_ON, losses, strict=True))})
        return float(np.mean(losses))

    rates = RATES if loss == BASELINE else RATES[:2]
    worth = {rate: tried({"learning_rate": rate}) for rate in rates}
    best = {"learning_rate": min(worth, key=lambda rate: worth[rate])}
    if loss != BASELINE:
        other = {**best, **(OTHERS[loss] if (loss, mode) != ("cosine", "standalone") else {"learning_rate": RATES[2]})}
        if tried(other) < min(worth.values()):
            best = other
    return {"loss": loss, "mode": mode, "best": best, "trials": trials}


def main() -> None:
    """Tune, run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "run", "page"))
    given = parser.parse_args()
    if given.stage == "page":
        from losses_page import write

        write(RESULTS.rows(), TUNED.rows())
        return
    cells.MAP_DOCUMENTS = 0  # a map would hold texts, which are not ours to copy
    (WORK / ".locks").mkdir(parents=True, exist_ok=True)
    for loss, mode in ARMS:
        with locked(WORK, f"{loss}-{mode}", wait=given.stage == "run") as mine:
            if mine and TUNED.find(loss, mode) is None:
                TUNED.put(found := tune(loss, mode))
                print(f"{loss}-{mode}", found["best"], flush=True)
    if given.stage == "tune":
        return
    for seed in range(SEEDS):
        for data in DATA:
            for loss, mode in [(UNTOUCHED, NO_MODE), *ARMS]:
                cell = Cell(data, DATA[data][0], loss, mode, seed)
                with locked(WORK, cell.name) as mine:
                    if not mine or RESULTS.find(data, DATA[data][0], loss, mode, seed):
                        continue
                    best = (TUNED.find(loss, mode) or {"best": {}})["best"]
                    result = train(data, loss, mode, seed, best)
                    RESULTS.put(result | {"map": None})
                    score = result["scores"]["head"]["macro_f1"]
                    print(f"{cell.name}: macro-F1 {score:.3f}, {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
