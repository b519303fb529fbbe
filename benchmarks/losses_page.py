"""docs/research/results.md out of the result files of `losses.py`: tables, and the three published claims.

python benchmarks/losses.py page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphloss.research.bench import tables
from graphloss.research.bench.grid import BASELINE, UNTOUCHED
from graphloss.research.bench.notes import HOW, facts_of
from graphloss.research.bench.statistics import estimate
from graphloss.research.bench.summary import OVERALL, summarize

Cell = Mapping[str, Any]
PAGE = Path(__file__).parent.parent / "docs" / "research" / "results.md"

TOP = """# Which loss is best where labels are few?

Written by `python benchmarks/losses.py page` from `benchmarks/results/losses.jsonl`, one row per training; `tune`
and `run` make them anew. What follows from it for your own data: [which_loss.md](which_loss.md).

Learned from the labels alone; with unlabeled text and descriptions, and beside SetFit: [trained.md](trained.md).

## The published claims

G-Loss was published (arXiv 2604.25853) with three claims against cross-entropy, contrastive, triplet and supervised
contrastive losses: higher accuracy, faster convergence, more coherent embeddings. They were shown on whole data sets
with encoders of base size, one seed, a GPU. The tables below measure the same with few labels, a small encoder and two
CPU cores: they can neither confirm nor refute the published figures, and say what somebody in that situation may
expect.
"""


def write(results: Sequence[Cell], tuned: Sequence[Mapping[str, Any]]) -> None:
    """Write the page."""
    cells = sorted(results, key=lambda cell: (cell["data"], cell["seed"]))
    rows = summarize(cells)
    parts = [TOP, _claims(cells, rows), _method(cells, tuned)]
    parts.append(tables.markdown([*tables.score_tables(rows), *tables.comparison_tables(rows)]))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _claims(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> str:
    """One row per loss, averaged over the data sets, against cross-entropy."""
    lines = [
        "### Averaged over the data sets",
        "",
        "Differences from cross-entropy, paired by seed, with 95% intervals over the seeds; seconds and epochs to 99% "
        "of the best validation macro-F1 as a ratio to cross-entropy's (geometric mean over the data sets), below 1 is "
        "faster. Bold: the interval leaves out `no difference`. Not corrected for the number of losses; the tables "
        "below are.",
        "",
        "| loss | macro-F1 of the head | accuracy of the head | macro silhouette | epochs to 99% | seconds to 99% |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row["data"] != OVERALL or not row["against_ce"]:
            continue
        said = [
            _difference(row["against_ce"][name], scale)
            for name, scale in (("head_macro_f1", 100), ("head_accuracy", 100), ("macro_silhouette", 1))
        ]
        said += [
            "–" if row["loss"] == UNTOUCHED else _ratio(cells, row["loss"], row["mode"], what)
            for what in ("epochs", "seconds")
        ]
        lines.append(f"| {tables.arm_name(row['loss'], row['mode'])} | " + " | ".join(said) + " |")
    return "\n".join(lines) + "\n"


def _difference(found: Mapping[str, Any] | None, scale: int) -> str:
    if found is None:
        return "–"
    digits = 2 if scale == 100 else 3
    mean, low, high = (scale * found[name] for name in ("mean", "low", "high"))
    return _bold(f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})", low > 0 or high < 0)


def _ratio(cells: Sequence[Cell], loss: str, mode: str, what: str) -> str:
    """The time of a loss over that of cross-entropy: log ratios averaged over the data sets within each seed."""
    at = {(c["data"], c["seed"], c["loss"], c["mode"]): c["to_99"] for c in cells}
    logs: dict[int, list[float]] = {}
    for (data, seed, name, kind), mine in at.items():
        theirs = at.get((data, seed, BASELINE, "combined"))
        if (name, kind) == (loss, mode) and mine and theirs:
            logs.setdefault(seed, []).append(float(np.log(mine[what] / theirs[what])))
    found = estimate([float(np.mean(values)) for values in logs.values()])
    low, high = (found.mean if x is None else x for x in (found.low, found.high))  # one seed has no interval
    mean, low, high = (float(np.exp(x)) for x in (found.mean, low, high))
    return _bold(f"{mean:.2f} ({low:.2f} to {high:.2f})", low > 1 or high < 1)


def _bold(text: str, strong: bool) -> str:
    return f"**{text}**" if strong else text


def _method(cells: Sequence[Cell], tuned: Sequence[Mapping[str, Any]]) -> str:
    facts = facts_of(cells)
    lines = ["## How it was measured", "", HOW, ""]
    lines += [f"- {name}: {said}" for name, said in facts.items() if name not in ("tuned", "machine")]
    lines.append(f"- machine: {cells[0]['environment']}".replace("{", "").replace("}", "").replace("'", ""))
    lines += [
        "- texts are read up to 48 tokens, embeddings and lower three layers are frozen, the weights are not blended; "
        "the same 300 test documents are scored for every cell",
        "",
        "Three trials per loss, on draws of r8 and mr that are not scored, scored by the mean log-loss of their "
        "validation documents (in standalone mode a probe's); the best is what all cells of a loss were trained with:",
        "",
        "| loss | trials: settings, log-loss on r8 and mr | chosen |",
        "| --- | --- | --- |",
    ]
    for study in tuned:
        trials = "; ".join(
            f"{_settings(trial['settings'])}: " + ", ".join(f"{value:.3f}" for value in trial["log_loss"].values())
            for trial in study["trials"]
        )
        lines.append(f"| {tables.arm_name(study['loss'], study['mode'])} | {trials} | {_settings(study['best'])} |")
    return "\n".join(lines) + "\n"


def _settings(settings: Mapping[str, Any]) -> str:
    names = {"learning_rate": "rate", "sigma": "σ", "weight": "λ"}
    return ", ".join(f"{names.get(name, name)} {value:g}" for name, value in settings.items())
