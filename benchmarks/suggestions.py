"""Which texts of a pile to label: macro-F1 after 16 to 200 labels, by what chose them, beside random drawing.

    suggestions.py embed [DATA...]           frozen embeddings of the data sets, in a folder of their own
    suggestions.py run DATA... --piles 10    one row per data set, pile, rule and budget
    suggestions.py page                      the tables of docs/research/suggestions.md
    suggestions.py forecast                  gains by doubling the labels beside their forecasts

A pile is 3,000 texts drawn from the training split, three quarters of a smaller one. A rule chooses 16 texts, a head is
fitted on their labels and the unlabeled rest as `train` fits it, and the rule chooses on from there to 32, 64, 128 and
200 labels. `typiclust`, `probcover` and `badge` are those of scikit-activeml, which must be installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from result_table import FOLDER, ResultTable
from torch import Tensor

from graphloss.inference.graphs.facility_location import directions, greedy_cover
from graphloss.inference.informed_head import informed_head
from graphloss.inference.learning_curve import CLEAR, LearningCurve, learning_curve
from graphloss.inference.suggestion import Predictions, rows_to_label

EMBEDDINGS = Path(os.environ.get("GRAPHLOSS_EMBEDDINGS", "embeddings"))
DATA = ("20ng", "agnews", "banking77", "cr", "hwu64", "mr", "ohsumed", "r52", "r8", "trec")
BUDGETS, TWICE = (16, 32, 64, 128, 200), {16: 32, 32: 64, 64: 128, 128: 256, 200: 400}
RESULTS = ResultTable(FOLDER / "suggestions.jsonl", ("data", "pile", "rule", "labels"))
FORECAST = ("random", "suggest")
PILE, TRAIN, TEST, LENGTH = 3_000, 4_000, 1_500, 128


class Pile(NamedTuple):
    """Texts to choose from and to test on: embeddings (n, d) and (t, d), classes (n,) and (t,), and how many."""

    z: Tensor
    y: Tensor
    test_z: Tensor
    test_y: Tensor
    classes: int


class State(NamedTuple):
    """What a rule sees: places of the labeled texts in their order, and probabilities (n, C) of the head on them."""

    rows: list[int]
    p: Tensor | None
    seed: int


def fit(pile: Pile, rows: list[int]) -> tuple[Tensor, float]:
    """The head that `train` fits on frozen embeddings: its probabilities on the pile, and its macro-F1 in percent."""
    labels = torch.full((len(pile.z),), -1)
    labels[rows] = pile.y[rows]
    lines = (pile.z[:0], labels[:0], pile.classes)
    probe, _, _ = informed_head(pile.z, labels, *lines, weight=torch.zeros(pile.classes))
    predicted = probe.probabilities(pile.test_z).argmax(dim=1)
    return probe.probabilities(pile.z), 100 * macro_f1(pile.test_y, predicted)


def macro_f1(truth: Tensor, predicted: Tensor) -> float:
    """Over the classes of the test documents."""
    scores = [
        float(2 * ((truth == c) & (predicted == c)).sum() / ((truth == c).sum() + (predicted == c).sum()))
        for c in truth.unique()
    ]
    return statistics.fmean(scores)


def suggested(pile: Pile, state: State, count: int) -> list[int]:
    """What `graphloss suggest` chooses."""
    labels: list[Any] = [None] * len(pile.z)
    for row in state.rows:
        labels[row] = int(pile.y[row])
    predictions = None if state.p is None else Predictions(state.p, range(pile.classes))
    return [each["row"] for each in rows_to_label(pile.z, labels, count, predictions=predictions)]


def draw(number: int) -> Callable[[Pile, State, int], list[int]]:
    """At random, for the first, second or third time from the same pile."""

    def choose(pile: Pile, state: State, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(state.seed + 1000 * number)
        return [row for row in torch.randperm(len(pile.z), generator=generator).tolist() if row not in state.rows][
            :count
        ]

    return choose


drawn = draw(0)


def least_margin(pile: Pile, state: State, count: int) -> list[int]:
    """The first at random, then the smallest difference of the two largest probabilities."""
    if state.p is None:
        return drawn(pile, state, count)
    best = state.p.topk(2, dim=1).values
    margin = (best[:, 0] - best[:, 1]).index_fill(0, torch.tensor(state.rows), torch.inf)
    return margin.argsort(stable=True)[:count].tolist()


def centers(pile: Pile, state: State, count: int) -> list[int]:
    """The texts next to the centers of k-means, anew for every budget, which it need not begin with earlier ones."""
    from sklearn.cluster import KMeans

    found = KMeans(len(state.rows) + count, n_init=1, random_state=state.seed).fit(pile.z.numpy())
    return sorted(set(found.transform(pile.z.numpy()).argmin(axis=0).tolist()))


def covering(weights: bool) -> Callable[[Pile, State, int], list[int]]:
    """Facility location at every budget: plain, or with the weights of the first round in all of them."""

    def choose(pile: Pile, state: State, count: int) -> list[int]:
        x = directions(pile.z, pile.z[:0])
        return greedy_cover(x, x[state.rows], count, weights=None if weights else torch.ones(len(x))).chosen

    return choose


def by_library(name: str) -> Callable[[Pile, State, int], list[int]]:
    """A strategy of scikit-activeml."""

    def choose(pile: Pile, state: State, count: int) -> list[int]:
        from skactiveml import classifier, pool
        from sklearn.linear_model import LogisticRegression

        x, y = pile.z.double().numpy(), np.full(len(pile.z), np.nan)
        y[state.rows] = pile.y[state.rows].numpy()
        model = classifier.SklearnClassifier(LogisticRegression(C=10), classes=list(range(pile.classes)))
        more = {"clf": model} if name == "Badge" else {}
        if name == "Badge" and not state.rows:
            return drawn(pile, state, count)
        found = getattr(pool, name)(random_state=state.seed).query(x, y, batch_size=count, **more)
        return [int(row) for row in found]

    return choose


RULES: dict[str, Callable[[Pile, State, int], list[int]]] = {
    "random": drawn,
    "random1": draw(1),
    "random2": draw(2),
    "suggest": suggested,
    "covering": covering(weights=False),
    "flattened": covering(weights=True),
    "centers": centers,
    "margin": least_margin,
    "typiclust": by_library("TypiClust"),
    "probcover": by_library("ProbCover"),
    "badge": by_library("Badge"),
}


def read_pile(data: str, seed: int) -> Pile:
    """The pile of a number."""
    found = np.load(EMBEDDINGS / f"{data}.npz")
    names, y = np.unique(found["train_y"], return_inverse=True)
    known = np.isin(found["test_y"], names)
    test_y = np.searchsorted(names, found["test_y"][known])
    rows = np.random.default_rng([seed, 18]).permutation(len(y))[: min(PILE, len(y) * 3 // 4)]
    z, tested = torch.from_numpy(found["train_x"][rows]), torch.from_numpy(found["test_x"][known])
    return Pile(z, torch.from_numpy(y[rows]), tested, torch.from_numpy(test_y), len(names))


def run(data: str, seed: int, rules: list[str]) -> None:
    """The cells of a pile that are missing."""
    pile = read_pile(data, seed)
    for rule in rules:
        budgets = sorted({*BUDGETS, *TWICE.values()}) if rule in FORECAST else BUDGETS
        if RESULTS.find(data, seed, rule, budgets[-1]):
            continue
        state = State([], None, seed)
        for budget in budgets:
            new = RULES[rule](pile, state, budget - len(state.rows))
            rows = new if rule == "centers" else [*state.rows, *new]
            p, score = fit(pile, rows)
            state = State(rows, p, seed)
            row = {"data": data, "pile": seed, "rule": rule, "labels": budget, "macro_f1": round(score, 2)}
            if rule in FORECAST and (curve := learning_curve(pile.z[rows], pile.y[rows])):
                row |= {"seen": curve.classes, "error": round(curve.error, 4)}
            RESULTS.put(row)
            print(data, seed, rule, budget, round(score, 1), flush=True)


def embed(data: str) -> None:
    """Embed the first `TRAIN` and `TEST` documents, in a random order, by the default encoder."""
    import pyarrow.parquet as pq

    from graphloss.text.encoder import encode, load
    from graphloss.text.encoder_source import resolve

    encoder, parts = load(resolve(None), max_length=LENGTH, device="cpu"), dict[str, Any]()
    for split, most, seed in (("train", TRAIN, 7), ("test", TEST, 5)):
        table = pq.read_table(Path(os.environ["GRAPHLOSS_DATA"]) / data / f"{split}.parquet").to_pydict()
        rows = np.sort(np.random.default_rng(seed).permutation(len(table["text"]))[:most])
        parts[f"{split}_x"] = encode(encoder, [table["text"][row] for row in rows]).numpy()
        parts[f"{split}_y"] = np.array([table["label"][row] for row in rows])
    EMBEDDINGS.mkdir(exist_ok=True)
    np.savez(EMBEDDINGS / f"{data}.npz", **parts)


def page() -> None:
    """Macro-F1 of each rule at each budget, in the mean over data sets, and the data set where it is worst."""
    cells: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in RESULTS.rows():
        cells[row["data"], row["rule"].rstrip("12"), row["labels"]].append(row["macro_f1"])
    means = {key: statistics.fmean(values) for key, values in cells.items()}

    def mean(rule: str, budget: int, among: tuple[str, ...] = DATA) -> float:
        return statistics.fmean(means[data, rule, budget] for data in among)

    print("| rule | " + " | ".join(map(str, BUDGETS)) + " |\n| --- |" + " --- |" * len(BUDGETS))
    print("| random, twice the labels | " + " | ".join(f"{mean('random', TWICE[b]):.1f}" for b in BUDGETS) + " |")
    for rule in RULES:
        if all((data, rule, BUDGETS[-1]) in means for data in DATA):
            print(f"| {rule} | " + " | ".join(f"{mean(rule, b):.1f}" for b in BUDGETS) + " |")
    print("\n| data set | " + " | ".join(map(str, BUDGETS)) + " |\n| --- |" + " --- |" * len(BUDGETS))
    for data in DATA:
        three = [[(r, b) for r in ("random", "suggest")] + [("random", TWICE[b])] for b in BUDGETS]
        piles = len(cells[data, "suggest", BUDGETS[0]]), len(cells[data, "suggest", BUDGETS[-1]])
        print(
            f"| {data} ({', '.join(map(str, dict.fromkeys(piles)))}) | "
            + " | ".join(" / ".join(f"{means[data, r, n]:.1f}" for r, n in x) for x in three)
            + " |"
        )


def forecast() -> None:
    """Gains by twice the labels: how many are within 3 points of the forecast and in its interval, and of other piles.

    The last line of a rule holds the cases in which `train` names the forecast, not the interval alone.
    """
    rows = {(row["rule"], row["labels"], row["data"], row["pile"]): row for row in RESULTS.rows()}
    print("| drawn by | labels | cases | within 3 | in the interval | cases | other piles' gain within 3 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rule in FORECAST:
        clear = []
        for budget in BUDGETS:
            gains, hits = defaultdict(list), []
            for (name, labels, data, pile), row in rows.items():
                if (name, labels) == (rule, budget) and (then := rows.get((rule, TWICE[budget], data, pile))):
                    gain = then["macro_f1"] - row["macro_f1"]
                    gains[data].append(gain)
                    if "error" in row:
                        curve = LearningCurve(budget, row["seen"], row["error"])
                        middle, least, most = (100 * part for part in curve.gain(budget))
                        hits.append((abs(gain - middle) <= 3, least <= gain <= most))
                        clear += hits[-1:] if budget >= CLEAR * row["seen"] else []
            far = [abs(g - (sum(own) - g) / (len(own) - 1)) for own in gains.values() if len(own) > 1 for g in own]
            print(f"| {rule} | {budget} | {_shares(hits, 2)} | {_shares([(each <= 3,) for each in far], 1)} |")
        print(f"| {rule} | {CLEAR} per class or more | {_shares(clear, 2)} | | |")


def _shares(hits: Sequence[tuple[bool, ...]], columns: int) -> str:
    """How many there are, and the percentages that are true."""
    shares = [f"{100 * statistics.fmean(column):.0f}%" for column in zip(*hits, strict=True)]
    return " | ".join([str(len(hits)), *(shares or [""] * columns)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("embed", "run", "page", "forecast"))
    parser.add_argument("data", nargs="*", default=DATA)
    parser.add_argument("--piles", type=int, default=10)
    parser.add_argument("--rules", default="random,suggest")
    chosen = parser.parse_args()
    if chosen.what in ("page", "forecast"):
        {"page": page, "forecast": forecast}[chosen.what]()
    for name in chosen.data if chosen.what == "embed" else ():
        embed(name)
    for number in range(chosen.piles) if chosen.what == "run" else ():
        for name in chosen.data:
            run(name, number, chosen.rules.split(","))
