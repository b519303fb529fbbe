"""A trial of losses: settings from draws that no table has, then the draws that are reported, and their page.

Each arm is trained with each of its settings on draws from 100 on and scored on texts of train; the setting with the
best mean accuracy trains the draws from 0 on, which are scored on test texts. All arms have equally many settings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from result_table import ResultTable
from sentence_transformers import SentenceTransformer
from short_training import probabilities
from torch import nn
from trained import TEST, drawn

from graphloss.disk import write_text
from graphloss.inference.metrics import score
from graphloss.research.bench.statistics import holm, paired

KEY = ("data", "shots", "draw", "arm", "trial")
STEPS, FREEZE, TOKENS = 30, 3, 24
FIRST_TRIAL = 100
SCORES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "ece": "ECE"}


class Arm(NamedTuple):
    """A name and the settings that are tried."""

    name: str
    settings: tuple[dict[str, Any], ...]


class Task(NamedTuple):
    """What an arm trains on."""

    texts: list[str]
    labels: list[int]
    lines: list[tuple[str, int]]
    unlabeled: list[str]
    classes: int
    seed: int


class Experiment(NamedTuple):
    """Arms, the columns (data, labels per class) that they are tried and reported on, and where it is written."""

    results: ResultTable
    page: Path
    words: str
    arms: Mapping[str, Arm]
    tried: Sequence[tuple[str, int]]
    reported: Sequence[tuple[str, int]]
    draws: int
    fit: Callable[[Task, str, dict[str, Any]], tuple[SentenceTransformer, nn.Linear]]
    top: str
    compared: Sequence[tuple[str, str]]
    """Pairs of arms: the first minus the second."""
    same_as: Callable[[str, tuple[str, int]], str] = lambda arm, column: arm
    """The arm that does the same as an arm in a column, and stands for it there."""


def run(experiment: Experiment, name: str, shots: int, draw: int, arm: str, trial: int) -> None:
    """One cell, written down."""
    clock, cell = time.process_time(), drawn(name, shots, draw, experiment.words)
    classes = sorted(set(cell["labels"]))
    place = {label: number for number, label in enumerate(classes)}
    task = Task(
        cell["texts"],
        [place[label] for label in cell["labels"]],
        [(line, place[label]) for label, line in cell["lines"].items()],
        cell["unlabeled"][:-TEST],  # the others score trials
        len(classes),
        draw,
    )
    encoder, head = experiment.fit(task, arm, experiment.arms[arm].settings[trial])
    scored, truth = cell["test"], cell["truth"]
    if draw >= FIRST_TRIAL:
        scored, truth = cell["unlabeled"][-TEST:], cell["unlabeled_truth"][-TEST:]
    p, _ = probabilities(encoder, head, scored)
    known = [row for row, label in enumerate(truth) if label in place]
    found = score(np.array([place[truth[row]] for row in known]), p[known].double(), None, classes)
    row = dict(zip(KEY, (name, shots, draw, arm, trial), strict=True))
    row |= {key: getattr(found, key) for key in SCORES}
    experiment.results.put(row | {"processor_seconds": round(time.process_time() - clock, 1)})
    print(*row.values(), flush=True)


def chosen(experiment: Experiment, arm: str) -> int:
    """The trial of an arm with the best mean accuracy, the first of equals."""
    rows = [row for row in experiment.results.rows() if row["arm"] == arm and row["draw"] >= FIRST_TRIAL]
    means = []
    for trial in range(len(experiment.arms[arm].settings)):
        own = [row["accuracy"] for row in rows if row["trial"] == trial]
        means.append(fmean(own) if len(own) == len(experiment.tried) else -1.0)
    return means.index(max(means))


def page(experiment: Experiment) -> str:
    """The trials, the means of what is there, and the differences over the cells that two arms have."""
    arms, rows = experiment.arms, experiment.results.rows()
    best = {arm: chosen(experiment, arm) for arm in arms}
    cell = {(row["arm"], row["data"], row["shots"], row["draw"]): row for row in rows if row["draw"] < FIRST_TRIAL}
    parts = [experiment.top, "## Trials\n\nBest mean accuracy first; the first of each arm is reported below.\n\n"]
    parts.append(_line(["arm", "setting", *[f"{data}, {shots}" for data, shots in experiment.tried]]))
    parts.append(_line(["---", "---", *["---:"] * len(experiment.tried)]))
    tried = {tuple(row[key] for key in KEY): row["accuracy"] for row in rows}
    for arm, (name, settings) in arms.items():
        for trial in sorted(range(len(settings)), key=lambda trial: trial != best[arm]):
            shown = ", ".join(key if value is True else f"{key} {value:g}" for key, value in settings[trial].items())
            found = [tried.get((*column, FIRST_TRIAL, arm, trial)) for column in experiment.tried]
            parts.append(_line([name, shown, *["–" if each is None else f"{100 * each:.1f}" for each in found]]))
    for arm, column, draw in product(arms, experiment.reported, range(experiment.draws)):
        if (same := (experiment.same_as(arm, column), *column, draw)) in cell:
            cell[arm, *column, draw] = cell[same]
    there = {arm: name for arm, (name, _) in arms.items() if any(key[0] == arm for key in cell)}
    whole = {
        column: [draw for draw in range(experiment.draws) if all((arm, *column, draw) in cell for arm in there)]
        for column in experiment.reported
    }
    parts.append("\n## Accuracy / macro-F1\n\nMeans over the draws that all arms have, and ECE of all of them.\n\n")
    parts.append(_line(["", *[f"{data}, {shots}" for data, shots in whole], "mean", "ECE"]))
    parts.append(_line(["---", *["---:"] * (len(whole) + 2)]))
    parts.append(_line(["draws", *[str(len(draws)) for draws in whole.values()], "", ""]))
    for arm, name in there.items():
        own = {
            column: {key: 100 * fmean(cell[arm, *column, draw][key] for draw in draws) for key in SCORES}
            for column, draws in whole.items()
            if draws
        }
        columns = [f"{own[c]['accuracy']:.1f} / {own[c]['macro_f1']:.1f}" if c in own else "–" for c in whole]
        means = [fmean(each[key] for each in own.values()) for key in SCORES if own]
        columns += [f"{means[0]:.1f} / {means[1]:.1f}", f"{means[2]:.1f}"] if own else ["–", "–"]
        parts.append(_line([name, *columns]))
    parts.append("\n## Differences\n\n" + _differences(experiment, cell))
    return "".join(parts)


def _differences(experiment: Experiment, cell: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> str:
    """The table of the compared pairs: means over the columns, paired by draw, and p corrected over the table."""
    found = {}
    for (one, other), key in product(experiment.compared, SCORES):
        both = [key_[1:] for key_ in cell if key_[0] == one and (other, *key_[1:]) in cell]
        if len(both) > 1:
            values = [[100 * cell[arm, *where][key] for where in both] for arm in (one, other)]
            found[one, other, key] = paired(*values)
    corrected = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
    lines = [
        "Paired over columns and draws, 95% intervals; p corrected by Holm over the table.\n\n",
        _line(["", "cells", *SCORES.values()]) + _line(["---", "---:", *["---:"] * len(SCORES)]),
    ]
    for one, other in experiment.compared:
        shown, count = [], 0
        for key in SCORES:
            text, each = "–", found.get((one, other, key))
            if each is not None and each.low is not None and (p := corrected[one, other, key]) is not None:
                text, count = f"{each.mean:+.1f} ({each.low:+.1f} to {each.high:+.1f}), p {p:.3f}", each.seeds
            shown.append(text)
        lines.append(_line([f"{experiment.arms[one].name} − {experiment.arms[other].name}", str(count), *shown]))
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def command(experiment: Experiment, doc: str | None) -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "page"))
    parser.add_argument("--draws", nargs="+", type=int, default=range(experiment.draws))
    parser.add_argument("--arms", nargs="+", default=[*experiment.arms], choices=[*experiment.arms])
    given = parser.parse_args()
    if given.stage == "page":
        write_text(experiment.page, page(experiment))
        return
    torch.set_num_threads(1)
    trials = [
        (*column, FIRST_TRIAL, arm, trial)
        for column, arm in product(experiment.tried, given.arms)
        for trial in range(len(experiment.arms[arm].settings))
    ]
    for cell in trials:
        if experiment.results.find(*cell) is None:
            run(experiment, *cell)
    best = {arm: chosen(experiment, arm) for arm in given.arms}
    for draw, column, arm in product(given.draws, experiment.reported, given.arms):
        there = experiment.results.find(*column, draw, arm, best[arm]) is not None
        if not there and experiment.same_as(arm, column) == arm:
            run(experiment, *column, draw, arm, best[arm])
