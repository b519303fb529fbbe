"""What do labels, descriptions and unlabeled text give together? The built-in head on frozen embeddings, ten data sets.

    GRAPHLOSS_DATA=FOLDER python benchmarks/few_label_head.py [--cache FOLDER] [--draws 0 1 2 3 4] [--page]
    ... --encoder FOLDER --cache FOLDER --results FILE [--data NAME ...]        the same with another encoder
    ... --results FILE --table                                                  head beside regression, from its rows

Embeds at most 4,000 training and 1,500 test texts of each data set once with the packaged encoder (128 tokens), draws
the labels, at most 3,000 unlabeled texts beside them, and predicts as `graphloss train` would after no step of
training. One line per cell in `results/few_label_head.jsonl`; cells that are there are not repeated. `--page` writes
the tables of `docs/research/few_label_head.md` between its marks, from the results alone.
"""

from __future__ import annotations

import argparse
import math
import os
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import torch
from result_table import FOLDER, ResultTable
from sklearn.metrics import accuracy_score, f1_score

from graphloss.disk import write_text
from graphloss.inference.description_prior import class_weights, gate, informed_probe
from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.head_graph_share import share_for
from graphloss.inference.linear_probe import linear_probe
from graphloss.inference.predictor import Predictor
from graphloss.inference.self_training import self_train_head
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.read_descriptions import names_as_descriptions

DATA = Path(os.environ.get("GRAPHLOSS_DATA", "data"))
TASKS = ("banking77", "r8", "ohsumed", "mr", "agnews", "trec", "cr", "hwu64", "r52", "20ng")
HEADLINE = TASKS[:4]
SAME = ("banking77", "hwu64")  # their names are their lines
SHOTS = (1, 4, 8, 16)
KINDS = ("lines", "names", "none", "shuffled")
MOST, SEED, UNLABELED = {"train": 4000, "test": 1500}, {"train": 7, "test": 5}, 3000
RESULTS = ResultTable(FOLDER / "few_label_head.jsonl", ("rule", "data", "kind", "shots", "draw"))
PAGE = Path(__file__).parent.parent / "docs" / "research" / "few_label_head.md"
HEAD, OLD, DOCUMENTS = "head", "old self-training", "lines as documents"
KIND_WORDS = {"one line per class": "lines", "names alone": "names", "no description": "none"}
MARK = "<!-- tables -->"


class Task(NamedTuple):
    """Embeddings of documents (n, d) and their classes, of unlabeled and test documents, and of lines (k, d)."""

    z: torch.Tensor
    labels: torch.Tensor
    unlabeled: torch.Tensor
    test: torch.Tensor
    truth: np.ndarray
    lines: torch.Tensor
    classes: torch.Tensor
    num_classes: int


@lru_cache(maxsize=len(TASKS))
def embedded(name: str, cache: Path, encoder: Any) -> dict[str, np.ndarray]:
    """Unit-length embeddings and labels of the training and test texts, kept in the cache."""
    file = cache / f"{name}.npz"
    if not file.exists():
        parts = dict[str, Any]()
        for split, most in MOST.items():
            table = pyarrow.parquet.read_table(DATA / name / f"{split}.parquet").to_pydict()
            rows = np.sort(np.random.default_rng(SEED[split]).permutation(len(table["text"]))[:most])
            parts[f"{split}_x"] = encode(encoder, [table["text"][row] for row in rows]).numpy()
            parts[f"{split}_y"] = np.array([table["label"][row] for row in rows])
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, **parts)
    return dict(np.load(file))


@lru_cache
def classes_of(name: str) -> list[str]:
    """The sorted labels of a data set."""
    return sorted(set(pyarrow.parquet.read_table(DATA / name / "train.parquet")["label"].to_pylist()))


@lru_cache
def lines_of(name: str, kind: str, encoder: Any) -> torch.Tensor:
    """One line per class, embedded; none where the names have no words."""
    if kind == "none":
        return encode(encoder, [])
    written: dict[str, str] = tomllib.loads((DATA / "descriptions.toml").read_text(encoding="utf-8")).get(name, {})
    labels = classes_of(name)
    words = {label: lines[0] for label, lines in names_as_descriptions(labels, 0).items()}
    found = written if written and kind != "names" else words
    return encode(encoder, [found[label] for label in labels] if found else [])


def drawn(name: str, shots: int, draw: int, kind: str, cache: Path, encoder: Any) -> Task:
    """The cell's documents; shuffled lines leave no class its own."""
    data = embedded(name, cache, encoder)
    labels = classes_of(name)
    place = {label: number for number, label in enumerate(labels)}
    y = np.array([place[label] for label in data["train_y"]])
    rng = np.random.default_rng(1000 + draw)
    order = rng.permutation(len(y))
    chosen = np.array([row for c in range(len(labels)) for row in order[y[order] == c][:shots]], dtype=int)
    rest = rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))[:UNLABELED]
    lines, classes = lines_of(name, kind, encoder), torch.arange(len(labels))
    if kind == "shuffled":
        cycle = torch.from_numpy(np.random.default_rng(77 + draw).permutation(len(labels)))
        classes = classes.index_copy(0, cycle, cycle.roll(1))
    z = torch.from_numpy(data["train_x"])
    return Task(
        z[chosen],
        torch.from_numpy(y[chosen]),
        z[rest],
        torch.from_numpy(data["test_x"]),
        np.array([place[label] for label in data["test_y"]]),
        lines,
        classes[: len(lines)],
        len(labels),
    )


def predicted(task: Task) -> tuple[np.ndarray, float]:
    """Classes of the test documents, and the weight of the descriptions: `training.fit` after no step."""
    z = torch.cat([task.z, task.unlabeled])
    y = torch.cat([task.labels, torch.full((len(task.unlabeled),), -1)])
    known = (task.lines, task.classes, task.num_classes)
    found = gate(z, y, *known)
    weight = class_weights(found, y, task.num_classes)
    start = informed_probe(z, y, *known, weight=weight)
    k = len(task.lines) if found.informs else 0
    support, labels = torch.cat([task.lines[:k], task.z]), torch.cat([task.classes[:k], task.labels])
    even = Predictor(start.weight, start.bias, support, labels, SIGMA, graph_share=0.5)
    alone = Predictor(start.weight, start.bias, support, labels, SIGMA, share_for(even, support[:0], labels[:0]))
    ours, _ = self_train_head(alone, task.unlabeled, task.lines, task.classes, weight=weight, support_lines=k)
    return ours.probabilities(task.test).argmax(dim=1).numpy(), found.weight


def regression(task: Task) -> np.ndarray:
    """Classes of the test documents by the labels with the lines as further documents, no unlabeled text."""
    y = torch.cat([task.labels, task.classes])
    probe = linear_probe(torch.cat([task.z, task.lines]), y.tolist(), task.num_classes)
    return probe.logits(task.test).argmax(dim=1).numpy()


def cells(draws: list[int]) -> Iterator[tuple[str, int, int, str]]:
    """Data set, labels per class, draw and kind of each cell, the first draws first."""
    for draw, shots, kind, name in product(draws, (1, 4, 8, 16, 0), KINDS, TASKS):
        wanted = {"none": shots > 0, "shuffled": shots in (1, 4) and draw < 3}.get(kind, shots > 0 or draw < 3)
        if wanted and not (kind == "names" and name in SAME):
            yield name, shots, draw, kind


def main() -> None:
    """Fill the cells that are missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--cache", type=Path, default=Path("embeddings"))
    parser.add_argument("--results", type=Path, default=RESULTS.path)
    parser.add_argument("--encoder", help="a folder; the packaged all-MiniLM-L6-v2 when not given")
    parser.add_argument("--data", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    results = RESULTS._replace(path=chosen.results)
    if chosen.page or chosen.table:
        write_page(results.rows()) if chosen.page else print_table(results.rows())
        return
    torch.set_num_threads(1)
    encoder = load(resolve(chosen.encoder), max_length=128, device="cpu")
    done = {tuple(row[key] for key in results.key) for row in results.rows()}
    for name, shots, draw, kind in cells(chosen.draws):
        if (HEAD, name, kind, shots, draw) in done or name not in chosen.data:
            continue
        began = process_time()
        task = drawn(name, shots, draw, kind, chosen.cache, encoder)
        if not shots and not len(task.lines):
            continue
        head, weight = predicted(task)
        for rule, found in ((DOCUMENTS, regression(task)), (HEAD, head)):
            scores = {
                "accuracy": round(100 * accuracy_score(task.truth, found), 2),
                "macro_f1": round(100 * f1_score(task.truth, found, average="macro", zero_division=0), 2),
            }
            cell = {"rule": rule, "data": name, "kind": kind, "shots": shots, "draw": draw, "weight": round(weight, 4)}
            results.put(cell | scores | {"seconds": round(process_time() - began, 2)})


def print_table(rows: list[dict[str, Any]]) -> None:
    """Accuracy of regression / head with lines and without anything, on the draws that all of these have."""
    found = {(row["rule"], row["kind"], row["data"], row["shots"], row["draw"]): row["accuracy"] for row in rows}
    kinds = ("lines", "none")
    names = [name for name in TASKS if any(name in key for key in found)]
    print(f"| | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}")
    for shots, kind in product(SHOTS, kinds):
        cells = []
        for name in names:
            each = [(rule, kind, name, shots) for rule in (DOCUMENTS, HEAD)]
            draws = [draw for draw in range(5) if all((*key, draw) in found for key in each)]
            means = [f"{fmean(found[*key, draw] for draw in draws):.1f}" for key in each if draws]
            cells.append(f"{' / '.join(means)} ({len(draws)})" if draws else "–")
        print(f"| {shots} per class, {'lines' if kind == 'lines' else 'no lines'} | {' | '.join(cells)} |")


def write_page(rows: list[dict[str, Any]]) -> None:
    """Write the tables between the marks of the page."""
    scores: dict[tuple[str, str, str, int], dict[int, dict[str, Any]]] = {}
    for row in rows:
        scores.setdefault((row["rule"], row["kind"], row["data"], row["shots"]), {})[row["draw"]] = row

    def mean(rule: str, kind: str, name: str, shots: int, figure: str = "accuracy", draws: int = 5) -> float:
        kind = "lines" if kind == "names" and name in SAME else kind
        found = scores.get((rule, kind, name, shots), {})
        return fmean(row[figure] for draw, row in found.items() if draw < draws) if found else math.nan

    def table(title: str, lines: list[tuple[str, list[list[float]]]], form: str) -> str:
        body = [
            f"| {who} | {' | '.join(' / '.join(form.format(v) for v in cell) for cell in cells)} "
            f"| {form.format(fmean(v for cell in cells for v in cell))} |"
            for who, cells in lines
        ]
        heads = f"| | {' | '.join(TASKS)} | mean |\n| --- |{' ---: |' * (len(TASKS) + 1)}"
        return f"### {title}\n\n{heads}\n" + "\n".join(body)

    def line(rule: str, kind: str, shots: tuple[int, ...] = SHOTS, **more: Any) -> list[list[float]]:
        return [[mean(rule, kind, name, n, **more) for n in shots] for name in TASKS]

    def less(one: list[list[float]], *others: list[list[float]]) -> list[list[float]]:
        """Minus the best of the others, cell by cell."""
        rivals = [[max(values) for values in zip(*cells, strict=True)] for cells in zip(*others, strict=True)]
        return [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(one, rivals, strict=True)]

    ours = {kind: line(HEAD, kind) for kind in ("lines", "names", "none")}
    old, documents = line(OLD, "none"), line(DOCUMENTS, "lines")
    both = [(OLD + ", no description", OLD, "none"), (DOCUMENTS + ", no unlabeled text", DOCUMENTS, "lines")]
    both += [(f"**head**, {what}", HEAD, kind) for what, kind in KIND_WORDS.items()]
    parts = [
        table(f"{title}, 1 / 4 / 8 / 16 labels per class", [(a, line(b, c, figure=f)) for a, b, c in both], "{:.1f}")
        for title, f in (("Accuracy", "accuracy"), ("Macro-F1", "macro_f1"))
    ]
    four = [[fmean(x) - max(fmean(y), fmean(z))] for x, y, z in zip(ours["lines"], old, documents, strict=True)]
    differences = [
        ("one line per class, minus the better of the first two rows", less(ours["lines"], old, documents)),
        ("the same, means of the four columns", four),
        ("no description, minus the old self-training", less(ours["none"], old)),
    ]
    parts.append(table("Differences in accuracy", differences, "{:+.1f}"))
    zero = [(what, line(HEAD, kind, (0,))) for what, kind in KIND_WORDS.items() if kind != "none"]
    parts.append(table("No label at all, accuracy, draws 0 to 2", zero, "{:.1f}"))
    wrong = [
        ("lines of other classes", line(HEAD, "shuffled", (1, 4), draws=3)),
        ("no description", line(HEAD, "none", (1, 4), draws=3)),
    ]
    wrong.append(("difference", less(wrong[0][1], wrong[1][1])))
    parts.append(table("Wrong descriptions, accuracy at 1 / 4 labels per class, draws 0 to 2", wrong, "{:.1f}"))
    headline = {kind: fmean(v for cells in ours[kind][: len(HEADLINE)] for v in cells) for kind in ours}
    nothing = fmean(mean(HEAD, "lines", name, 0) for name in HEADLINE)
    parts.insert(
        0,
        f"Mean accuracy of the sixteen columns of {', '.join(HEADLINE)}: **{headline['lines']:.2f}** with one line "
        f"per class, **{headline['names']:.2f}** with names, **{headline['none']:.2f}** without; old self-training "
        f"{fmean(v for cells in old[:4] for v in cells):.2f}, lines as documents "
        f"{fmean(v for cells in documents[:4] for v in cells):.2f}. With no label at all, mean of the four: "
        f"**{nothing:.1f}**.",
    )
    text = PAGE.read_text(encoding="utf-8")
    before, mark, after = text.split(MARK)[0], MARK, text.split(MARK)[-1]
    write_text(PAGE, f"{before}{mark}\n\n" + "\n\n".join(parts) + f"\n\n{mark}{after}")


if __name__ == "__main__":
    main()
