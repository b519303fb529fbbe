"""What does unlabeled text add on frozen embeddings? Test accuracy and macro-F1, few labels a class, five seeds.

    GRAPHLOSS_DATA=FOLDER python benchmarks/corpus_graph.py [--seeds 5] [--cache FOLDER] [--page]

Embeds at most 5,000 training and 1,500 test texts of each data set once with the packaged encoder, draws the labels of
each seed, and appends a line a cell to `results/corpus_graph.jsonl`; cells that are there already are not repeated.
`--page` writes the tables of `docs/research/corpus_graph.md` between its marks, from the results alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from itertools import product
from pathlib import Path
from time import process_time

import numpy as np
import pyarrow.parquet
import torch
from scipy.stats import t as student_t
from sklearn.metrics import accuracy_score, f1_score

from graphloss.inference import corpus_graph as cg
from graphloss.inference import pseudo_labels as un
from graphloss.inference.linear_probe import Probe, soft_probe
from graphloss.losses.propagation import normalized, one_hot
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve

RESULTS = Path(__file__).parent / "results" / "corpus_graph.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "research" / "corpus_graph.md"
TASKS = {"mr": 48, "r8": 64, "ohsumed": 64, "banking77": 64}  # tokens read
SHOTS = (1, 4, 8, 16)
MOST = {"train": 5000, "test": 1500}
BASE = "regression on the labels"
OURS = "head"


def embedded(task: str, split: str, cache: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Unit-length embeddings (n, d) and label names of a split, kept in the cache."""
    file = cache / f"{task}_{split}.npz"
    if not file.exists():
        rows = pyarrow.parquet.read_table(Path(os.environ["GRAPHLOSS_DATA"]) / task / f"{split}.parquet").to_pandas()
        rows = rows.sample(MOST[split], random_state=0) if len(rows) > MOST[split] else rows
        model = load(resolve(None), max_length=TASKS[task], device="cpu")
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, z=encode(model, rows.text.tolist()).numpy(), label=rows.label.to_numpy().astype(str))
    kept = np.load(file)
    return torch.from_numpy(kept["z"]), kept["label"]


def drawn(y: torch.Tensor, shots: int, seed: int) -> torch.Tensor:
    """Labels of `shots` documents a class (fewer where a class is smaller), -1 elsewhere."""
    rng, result = np.random.default_rng(seed), torch.full_like(y, -1)
    for c in y.unique().tolist():
        own = rng.permutation(np.flatnonzero(y.numpy() == c))[:shots]
        result[own] = c
    return result


def scores(p: torch.Tensor, y: torch.Tensor) -> list[float]:
    """Accuracy and macro-F1 over the classes that occur, in per cent."""
    said, true = p.argmax(1).numpy(), y.numpy()
    f1 = f1_score(true, said, average="macro", labels=np.unique(true), zero_division=0.0)
    return [round(100 * float(accuracy_score(true, said)), 3), round(100 * float(f1), 3)]


@functools.cache
def parts(task: str, cache: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, cg.CorpusGraph]:
    """Embeddings and classes of the training and of the test documents, and the graph of the former."""
    z, names = embedded(task, "train", cache)
    z_test, names_test = embedded(task, "test", cache)
    classes = {name: c for c, name in enumerate(sorted(set(names)))}
    y = torch.tensor([classes[name] for name in names])
    known = [name in classes for name in names_test]
    y_test = torch.tensor([classes[name] for name in names_test if name in classes])
    return z, y, z_test[known], y_test, cg.corpus_graph(z)


def heads(task: str, shots: int, seed: int, cache: Path) -> dict[str, list[float]]:
    """Scores of the head that a lesson teaches, by its regularization."""
    z, y, z_test, y_test, graph = parts(task, cache)
    taught = un.pseudo_labels(z, drawn(y, shots, seed), int(y.max()) + 1, graph=graph)
    named = {"head, C = 1": 1.0, "head, C = 3": 3.0, "head, C = 10": 10.0, OURS: None}
    return {
        name: scores(un.fit_head(z, taught, inverse_regularization=c).probabilities(z_test), y_test)
        for name, c in named.items()
    }


def run(task: str, shots: int, seed: int, cache: Path) -> dict[str, object]:
    """One cell: every method on the same labels."""
    z, y, z_test, y_test, _ = parts(task, cache)
    num_classes, labels = int(y.max()) + 1, drawn(y, shots, seed)
    given, hidden = labels >= 0, labels < 0
    y_given = one_hot(labels, num_classes, torch.float32)
    even = torch.full((num_classes,), 1 / num_classes)
    began = process_time()
    graph = cg.corpus_graph(z)
    seconds = {"graph": process_time() - began}  # of one thread

    test: dict[str, list[float]] = {}
    transductive: dict[str, list[float]] = {}

    def head(name: str, probe: Probe) -> Probe:
        test[name] = scores(probe.probabilities(z_test), y_test)
        return probe

    def guess(name: str, f: torch.Tensor) -> torch.Tensor:
        transductive[name] = scores(f[hidden], y[hidden])
        return f

    ones = torch.ones(int(given.sum()))
    head("regression, C = 1", soft_probe(z[given], y_given[given], ones, inverse_regularization=1.0))

    f = cg.spread(graph, labels, num_classes)
    guess("spreading", f)
    balanced = guess(
        "spreading, equal class mass", normalized(normalized(f, even) * cg.class_mass(f, hidden, even), even)
    )
    true = torch.bincount(y[hidden], minlength=num_classes) / hidden.sum()
    guess("spreading, true class mass", normalized(f, even) * cg.class_mass(f, hidden, true))
    began = process_time()
    taught = un.pseudo_labels(z, labels, num_classes, graph=graph)
    seconds["lesson"] = process_time() - began
    regression = taught.regression
    transductive[BASE] = scores(regression.probabilities(z)[hidden], y[hidden])
    head(BASE, regression)
    guess("pool", taught.targets)
    kept = (regression.weight, regression.bias)

    def plain(targets: torch.Tensor, c: float) -> Probe:
        t = torch.where(given[:, None], y_given, normalized(targets**2, even))
        w = torch.where(hidden, cg.certainty(t), 0.0)
        w = torch.where(given, w.sum() * un.LABELED_WEIGHT / (1 - un.LABELED_WEIGHT) / given.sum(), w)
        return soft_probe(z, t, w, inverse_regularization=c)

    head("soft probe on spreading, C = 10", plain(balanced, 10.0))
    if task != "banking77":
        head("soft probe on spreading, C = 1", plain(balanced, 1.0))
    soft = soft_probe(z, taught.targets, taught.weights, inverse_regularization=1.0)
    head("soft probe on the pool, C = 1", soft)
    for name, share, scale in [
        ("head, C = 1, share kappa", taught.agreement, un.SHARPENING),
        ("head, C = 1, regression unsharpened", min(1.0, taught.agreement / un.FULL_TRUST), 1.0),
    ]:
        head(
            name, Probe(torch.lerp(scale * kept[0], soft.weight, share), torch.lerp(scale * kept[1], soft.bias, share))
        )
    test |= heads(task, shots, seed, cache)
    return {
        "task": task,
        "shots": shots,
        "seed": seed,
        "documents": len(z),
        "test": test,
        "unlabeled": transductive,
        "agreement": round(taught.agreement, 3),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def interval(values: np.ndarray) -> str:
    """Mean and half of the 95% interval of a t-test."""
    if len(values) < 2:
        return f"{values.mean():+.1f}"
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.1f} ± {half:.1f}"


def cells(rows: list[dict], kind: str, metric: int) -> str:
    """One table: a line a method, a column a data set and number of labels; differences are paired by seed."""
    columns = [
        (task, shots)
        for task, shots in product(TASKS, SHOTS)
        if any(r["task"] == task and r["shots"] == shots for r in rows)
    ]
    methods = list(dict.fromkeys(name for row in rows for name in row[kind]))
    methods = [BASE, *(name for name in methods if name != BASE)]
    lines = [
        "| | " + " | ".join(f"{task} {shots}" for task, shots in columns) + " | mean |",
        "| --- |" + " ---: |" * (len(columns) + 1),
    ]
    for name in methods:
        entries, means = [], []
        for task, shots in columns:
            mine = [r for r in rows if (r["task"], r["shots"]) == (task, shots) and name in r[kind]]
            values = np.array([r[kind][name][metric] for r in mine])
            base = np.array([r[kind][BASE][metric] for r in mine])
            if not len(values):
                entries.append("–")
            elif name == BASE:
                entries.append(f"{values.mean():.1f}")
                means.append(values.mean())
            else:
                entries.append(interval(values - base))
                means.append((values - base).mean())
        mean = f"{np.mean(means):.1f}" if name == BASE else f"{np.mean(means):+.2f}, worst {min(means):+.1f}"
        lines.append(f"| {name} | " + " | ".join(entries) + f" | {mean} |")
    return "\n".join(lines)


def page(rows: list[dict]) -> str:
    """The tables of the page."""
    seeds = {task: sorted({r["seed"] for r in rows if r["task"] == task}) for task in TASKS}
    parts = ["Seeds: " + ", ".join(f"{task} {len(found)}" for task, found in seeds.items()) + ".", ""]
    for title, kind, metric in [
        ("Test documents, accuracy", "test", 0),
        ("Test documents, macro-F1", "test", 1),
        ("Unlabeled training documents, accuracy", "unlabeled", 0),
        ("Unlabeled training documents, macro-F1", "unlabeled", 1),
    ]:
        parts += [f"### {title}", "", cells(rows, kind, metric), ""]
    return "\n".join(parts)


def main() -> None:
    """Run what is missing, print the tables, and write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--cache", type=Path, default=Path("runs/embeddings"))
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if given.page:
        text, mark = PAGE.read_text(), "<!-- tables -->\n"
        before, _, after = text.split(mark)
        PAGE.write_text(f"{before}{mark}\n{page(rows)}\n{mark}{after}")
        return
    done = {(row["task"], row["shots"], row["seed"]) for row in rows}
    for row in sorted(rows, key=lambda row: row["task"]):  # cells that were made before the head's strength was tried
        if "head, C = 3" not in row["test"]:
            row["test"] |= heads(row["task"], row["shots"], row["seed"], given.cache)
            RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, shots, task in product(range(given.seeds), SHOTS, given.tasks.split(",")):
        if (task, shots, seed) not in done:
            rows.append(run(task, shots, seed, given.cache))
            with RESULTS.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
    print(page(rows))


if __name__ == "__main__":
    main()
