"""Wrong labels: does left-out trust inside G-Loss help, beside cross-entropy, generalized cross-entropy and SupCon?

    GRAPHLOSS_DATA=FOLDER python benchmarks/loss_trust.py tune    three trials per loss, on draws that no table scores
    GRAPHLOSS_DATA=FOLDER python benchmarks/loss_trust.py run     train what is missing, draw by draw
    python benchmarks/loss_trust.py page                          write docs/research/loss_trust.md

Labels alone: no unlabeled text, no line per class. The recipe is `short_training.py`'s, its loss is what differs; the
head predicts. The losses with a graph are combined with cross-entropy, (1 - λ) CE + λ loss.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

import loss_trust_page as tables
import numpy as np
import torch
from audit import flipped
from result_table import FOLDER, ResultTable
from short_training import Batch, Loss, probabilities, train
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trained import WORK, read
from trusted_gloss import Memory, generalized_cross_entropy, trusted_gloss, weighted_cross_entropy

from graphloss.disk import write_text
from graphloss.inference.metrics import score
from graphloss.losses.baselines import SupCon
from graphloss.losses.modules import GLoss
from graphloss.research.bench.storage import locked

PAGE = FOLDER.parents[1] / "docs" / "research" / "loss_trust.md"
RESULTS = ResultTable(FOLDER / "loss_trust.jsonl", ("data", "rate", "draw", "arm", "setting"))
TOKENS = {"trec": 24, "banking77": 32, "r8": 24}
RATES, DRAWS, SHOTS, TEST = (0.0, 0.2, 0.4), 5, 16, 600
NOISY = RATES[1:]
TUNING_DRAW, TUNING_RATE, TUNING_DATA = 100, 0.2, ("trec", "banking77")
BANKING_CLASSES, FREEZE = 20, 4
ANNEALED = 1 / 3
"""Share of the steps in which q rises from 0 to its value: the learning rate falls to 0 at the end."""

Trial = dict[str, Any]
ARMS: dict[str, tuple[Trial, Trial, Trial]] = {
    "ce": ({}, {"rate": 5e-5}, {"rate": 2e-4}),
    "gce": ({"q": 0.7}, {"q": 0.7, "rate": 5e-5}, {"q": 0.7, "rate": 2e-4}),
    "supcon": (
        {"weight": 0.5, "temperature": 0.1},
        {"weight": 0.9, "temperature": 0.1},
        {"weight": 0.5, "temperature": 0.3},
    ),
    "paper": ({"weight": 0.5, "sigma": 0.3}, {"weight": 0.9, "sigma": 0.3}, {"weight": 0.5, "sigma": 0.2}),
    "gloss": ({"weight": 0.5, "sigma": 0.3}, {"weight": 0.9, "sigma": 0.3}, {"weight": 0.5, "sigma": 0.5}),
    "gloss q": (
        {"weight": 0.5, "sigma": 0.3, "q": 0.7},
        {"weight": 0.9, "sigma": 0.3, "q": 0.7},
        {"weight": 0.5, "sigma": 0.5, "q": 0.7},
    ),
    "trust": (
        {"weight": 0.5, "sigma": 0.3, "q": 0.7, "ce": False},
        {"weight": 0.5, "sigma": 0.3, "q": 0.7, "ce": True},
        {"weight": 0.5, "sigma": 0.3, "q": 2.0, "ce": True},
    ),
    "ce trust": ({"sigma": 0.3, "q": 0.7}, {"sigma": 0.3, "q": 1.0}, {"sigma": 0.3, "q": 2.0}),
}


def loss_of(arm: str, trial: Trial, texts: int, classes: int, seed: int) -> Loss:
    """The loss of an arm for a training on so many texts."""
    if arm == "ce":
        return lambda batch: cross_entropy(batch.logits, batch.labels)
    if arm == "gce":
        return lambda batch: generalized_cross_entropy(batch.logits, batch.labels, trial["q"])
    if arm in ("trust", "ce trust"):
        return _trusting(trial, texts)
    graph: nn.Module
    if arm == "supcon":
        graph = SupCon(trial["temperature"])
    elif arm == "paper":
        graph = GLoss(mode="paper", sigma=trial["sigma"], num_classes=classes, seed=seed)
    else:
        graph = GLoss(sigma=trial["sigma"], q=trial.get("q", 0.0))
    weight = trial["weight"]

    def combined(batch: Batch) -> Tensor:
        value: Tensor = (1 - weight) * cross_entropy(batch.logits, batch.labels)
        return value + weight * graph(batch.z, batch.labels)

    return combined


def _trusting(trial: Trial, texts: int) -> Loss:
    """G-Loss and cross-entropy with trust; without a weight of the former, cross-entropy alone."""
    memory, weight = Memory(texts, sigma=trial["sigma"]), trial.get("weight", 0.0)

    def loss(batch: Batch) -> Tensor:
        q = trial["q"] * min(1.0, batch.progress / ANNEALED)
        trust = memory.trust(batch.z, batch.labels, batch.texts, q)
        targets = trust if trial.get("ce", True) else torch.ones_like(trust)
        value = (1 - weight) * weighted_cross_entropy(batch.logits, batch.labels, targets)
        if weight:
            value = value + weight * trusted_gloss(batch.z, batch.labels, trust, sigma=trial["sigma"])
        return value

    return loss


@dataclass(frozen=True)
class Cell:
    """Labeled texts with right and given labels, and the scored texts; labels are class indices."""

    texts: list[str]
    right: np.ndarray
    given: np.ndarray
    scored: list[str]
    truth: np.ndarray
    classes: list[str]


def cell_of(name: str, rate: float, draw: int) -> Cell:
    """Draws from `TUNING_DRAW` on are scored on texts of the training split, which no table scores."""
    parts: dict[str, tuple[list[str], np.ndarray]] = {split: read(name, split) for split in ("train", "test")}
    classes = np.unique(parts["train"][1])
    if name == "banking77":
        classes = np.sort(np.random.default_rng(0).choice(classes, BANKING_CLASSES, replace=False))
    for split, (texts, labels) in parts.items():
        rows = np.flatnonzero(np.isin(labels, classes))
        parts[split] = [texts[row] for row in rows], np.searchsorted(classes, labels[rows])
    rng, (texts, y) = np.random.default_rng(1000 + draw), parts["train"]
    order = rng.permutation(len(texts))
    chosen = np.concatenate([order[y[order] == label][:SHOTS] for label in range(len(classes))])
    if draw >= TUNING_DRAW:
        scored, truth = texts, y
        rows = rng.permutation(np.setdiff1d(order, chosen))[:TEST]
    else:
        scored, truth = parts["test"]
        rows = np.random.default_rng(3).permutation(len(scored))[:TEST]
    given = flipped(y[chosen], len(classes), "random", rate, draw, np.zeros(len(classes), dtype=int))
    mine, seen = [texts[row] for row in chosen], [scored[row] for row in rows]
    return Cell(mine, y[chosen], given, seen, truth[rows], classes.tolist())


def run(name: str, rate: float, draw: int, arm: str, setting: int) -> None:
    """One cell, written down."""
    torch.set_num_threads(1)
    clock, cell, trial = time.process_time(), cell_of(name, rate, draw), ARMS[arm][setting]
    loss = loss_of(arm, trial, len(cell.texts), len(cell.classes), draw)
    options = {"rate": trial["rate"]} if "rate" in trial else {}
    labels: list[int] = cell.given.tolist()
    shared: dict[str, Any] = {"tokens": TOKENS[name], "seed": draw, "freeze": FREEZE} | options
    encoder, head = train(cell.texts, labels, len(cell.classes), loss, **shared)
    p, _ = probabilities(encoder, head, cell.scored)
    found, wrong = score(cell.truth, p, None, cell.classes), np.flatnonzero(cell.given != cell.right)
    row: dict[str, Any] = {"data": name, "rate": rate, "draw": draw, "arm": arm, "setting": setting}
    row |= {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "ece": found.ece, "memorized": None}
    if len(wrong):  # of the wrong labels, those that the head predicts for the texts that it was trained on
        own, _ = probabilities(encoder, head, [cell.texts[place] for place in wrong])
        row |= {"memorized": float((own.argmax(1).numpy() == cell.given[wrong]).mean())}
    RESULTS.put(row | {"processor_seconds": round(time.process_time() - clock, 1)})
    print(*row.values(), round(time.process_time() - clock, 1), flush=True)


def chosen() -> dict[str, int]:
    """The trial of each arm with the best macro-F1 on the tuning draw, in the mean over `TUNING_DATA`."""
    return {
        arm: int(np.argmax([_tuned(arm, setting) for setting in range(len(trials))])) for arm, trials in ARMS.items()
    }


def cells(stage: str, draws: Sequence[int]) -> Iterator[tuple[str, float, int, str, int]]:
    """What a stage trains, in order."""
    if stage == "tune":
        for setting, arm, name in product(range(3), ARMS, TUNING_DATA):
            yield name, TUNING_RATE, TUNING_DRAW, arm, setting
    else:
        best = chosen()
        for draw, rates in product(draws, (NOISY, RATES)):
            for name, rate, arm in product(TOKENS, rates, ARMS):
                yield name, rate, draw, arm, best[arm]


READ = ", ".join(f"{count} tokens of {name}" for name, count in TOKENS.items())
TOP = f"""# Trust in labels, inside the loss

Question: where labels are wrong, does left-out trust inside G-Loss help, beside cross-entropy, generalized
cross-entropy (Zhang and Sabuncu 2018), SupCon and the published G-Loss? Written by
`python benchmarks/loss_trust.py page` from `benchmarks/results/loss_trust.jsonl`, one row per training, which `tune`
and `run` make.

A label is trusted as far as all other labels of the training make it probable: p_i, the left-out probability of G-Loss
over the last embeddings of all labeled texts, gives the trust p_i^q / mean of p^q in the class. Trust weighs a text as
a target and as a source of labels for others, in the loss and, where a trial says so, in the cross-entropy beside it.
q rises from 0 to its value in the first third of the steps. The formulas stand in `benchmarks/trusted_gloss.py`; their
oracle, gradients and closed forms are tested in `tests/test_loss_trust.py`. It is near to noisy graph cleaning (Wu et
al., ICCV 2021), in one solve.

{SHOTS} labels per class of r8, trec and {BANKING_CLASSES} classes of banking77 (fixed at random), no unlabeled text, no
lines. A share of the labels is wrong at random, each by any other class. all-MiniLM-L6-v2, of which the upper two
layers of six learn, 60 steps in batches of 32, {READ},
bfloat16; the head, which starts as a linear probe on the labels as given, predicts {TEST} test texts. Smaller than the
defaults of `graphloss train`, for time: the same for every loss.

## Settings

Three trials per loss, on draw {TUNING_DRAW} of {" and ".join(TUNING_DATA)} with {TUNING_RATE:.0%} wrong labels, scored
on texts of the training split that no table scores: macro-F1, mean of both. One draw: the choice itself is noisy, for
all alike. A rate is the peak learning rate of the encoder where it is not 1e-4.

"""

END = """
## What to keep in mind

- The head starts as a linear probe on the labels as given, wrong ones among them: a bounded loss of the head's own
  probabilities, such as generalized cross-entropy, mutes little of what the head already fits. Trust comes from the
  other texts, so this start does not touch it.
- In the trials the trust in the graph loss alone, with the cross-entropy as it is, gains little; most comes where the
  cross-entropy takes it too and where q goes beyond 0.7, to 2. "CE with the same trust" tells what the graph loss adds.
- Random flips alone; confusable ones are not measured, nor lines. `--clean auto` does this in the product, in a simpler
  form (no slow start of q, no muted sources); beside unlabeled text: [labels in doubt](suggestions.md#labels-in-doubt).
"""


def page() -> str:
    """The page, of the draws that are complete."""
    rows, best = {}, chosen()
    for row in RESULTS.rows():
        if row["draw"] < TUNING_DRAW and row["setting"] == best[row["arm"]]:
            rows[row["data"], row["rate"], row["draw"], row["arm"]] = row
    tried = {arm: [(_words(trial), _tuned(arm, place)) for place, trial in enumerate(own)] for arm, own in ARMS.items()}
    arms = [arm for arm in ARMS if any(arm == other for *_, other in rows)]
    parts = [TOP, tables.trials(best, tried), "\n## Results\n\nMeans in percent.\n"]
    for rate in RATES:
        counted = tables.counted(tables.whole(rows, arms, [rate]))
        parts.append(f"\n### {rate:.0%} wrong: {counted}\n\n{tables.means(rows, arms, rate)}")
    parts.append("\n### Macro-F1 by data set and share of wrong labels, with the number of draws\n\n")
    parts.append(tables.by_data(rows, arms, RATES))
    first = tables.differences(rows, arms, [tables.F1], {"20 and 40%": NOISY})
    every = tables.differences(rows, arms, [*tables.MEASURES], {f"{rate:.0%}": [rate] for rate in RATES})
    parts.append(
        "\n## G-Loss with trust minus the others\n\nPaired over data sets and draws; 95% intervals, p by "
        f"Holm.\nDecided before the run: macro-F1, mean of both shares of wrong labels, {len(first)} comparisons over\n"
        f"{tables.counted(tables.whole(rows, arms, NOISY))}.\nAfter correction G-Loss with trust is "
        f"{tables.verdict(first)}.\n\n{tables.shown_differences(first)}\nAll measures and shares, corrected over these "
        f"{len(every)} comparisons. Of the ECE less is better.\n\n{tables.shown_differences(every)}{END}"
    )
    return "".join(parts)


def _words(trial: Trial) -> str:
    """A trial in words."""
    names = {"weight": "λ", "sigma": "σ", "temperature": "temperature", "q": "q", "rate": "rate"}
    parts = [f"{names[key]} {value:g}" for key, value in trial.items() if key in names]
    if "ce" in trial:
        parts.append("CE weighted too" if trial["ce"] else "CE as it is")
    return ", ".join(parts) or "defaults"


def _tuned(arm: str, setting: int) -> float:
    """Macro-F1 of a trial, mean over the data sets."""
    rows = [RESULTS.find(name, TUNING_RATE, TUNING_DRAW, arm, setting) for name in TUNING_DATA]
    if None in rows:
        raise SystemExit(f"trial {setting} of {arm} is missing: run `tune` first")
    return fmean(row["macro_f1"] for row in rows if row)


def main() -> None:
    """Train what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "run", "page"))
    parser.add_argument("--draws", nargs="+", type=int, default=range(DRAWS))
    given = parser.parse_args()
    if given.stage == "page":
        write_text(PAGE, page())
        return
    for cell in cells(given.stage, given.draws):
        with locked(WORK, "trust-" + "-".join(map(str, cell))) as mine:
            if mine and RESULTS.find(*cell) is None:
                run(*cell)
                gc.collect()  # an encoder refers to itself


if __name__ == "__main__":
    main()
