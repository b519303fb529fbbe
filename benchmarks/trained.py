"""Few labels, descriptions and unlabeled text, trained: graphloss beside its own losses, a regression and SetFit.

    GRAPHLOSS_DATA=FOLDER python benchmarks/trained.py run [--setfit PYTHON]    train what is missing
    python benchmarks/trained.py page                                           write the tables of README and of docs

Ten data sets, N labels per class and no other: nothing is set aside. Every method gets the same labels and, where its
row says so, the same line per class (of banking77 and hwu64 the names, which are their lines); unlabeled text goes to
those that can use it, but where the words are `alone`: then there are labels and nothing else. At most `UNLABELED`
texts of train, `TEST` of test.

- regression: logistic regression on the untouched encoder, the lines as further documents
- graphloss, ce, supcon: `TextClassifier` with its defaults, or with that loss
- setfit: SetFit 1.2 with its defaults (logistic head, one epoch of batches of 16, `num_iterations=20`, or fewer where
  that takes over `SETFIT_STEPS` steps), the lines as further documents, in a Python of its own (`--setfit`)

All train in bfloat16 on one thread (`alone` in float32, for any machine), each cell in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from result_table import FOLDER, ResultTable
from sklearn.metrics import accuracy_score, f1_score

from graphloss import TextClassifier
from graphloss.inference.linear_probe import linear_probe
from graphloss.research.bench.storage import locked
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.read_descriptions import names_as_descriptions

DATA = Path(os.environ.get("GRAPHLOSS_DATA", "data"))
RESULTS = ResultTable(FOLDER / "trained.jsonl", ("data", "shots", "draw", "words", "method"))
TOKENS = {"banking77": 32, "hwu64": 24, "trec": 24, "cr": 48, "mr": 48, "agnews": 64}
TOKENS |= {"r8": 64, "r52": 64, "ohsumed": 96, "20ng": 96}
SHOTS, DRAWS, WORDS = (8, 1, 4, 16), 5, ("lines", "none", "alone")
UNLABELED, TEST, SETFIT_STEPS = 2000, 600, 500
METHODS = ("regression", "graphloss", "setfit", "ce", "supcon")
SAMPLE_SEED = {"train": 7, "test": 5}
WORK = Path(os.environ.get("TMPDIR", "/tmp")) / "graphloss-trained"


def read(name: str, split: str) -> tuple[list[str], np.ndarray]:
    """Texts and labels of at most 4,000 documents of a split."""
    table = pyarrow.parquet.read_table(DATA / name / f"{split}.parquet").to_pydict()
    rows = np.sort(np.random.default_rng(SAMPLE_SEED[split]).permutation(len(table["text"]))[:4000])
    return [table["text"][row] for row in rows], np.array([table["label"][row] for row in rows])


def drawn(name: str, shots: int, draw: int, words: str) -> dict[str, Any]:
    """The documents of a cell: texts and labels of the labeled, the scored and the unlabeled, a line per class."""
    texts: dict[str, list[str]] = {}
    labels: dict[str, np.ndarray] = {}
    for split in SAMPLE_SEED:
        texts[split], labels[split] = read(name, split)
    rng = np.random.default_rng(1000 + draw)
    order, y = rng.permutation(len(texts["train"])), labels["train"]
    chosen = [row for label in np.unique(y) for row in order[y[order] == label][:shots]]
    rest = rng.permutation(np.setdiff1d(np.arange(len(y)), chosen))[:UNLABELED]
    scored = np.random.default_rng(3).permutation(len(texts["test"]))[:TEST]
    lines: dict[str, str] = {}
    if words == "lines":
        names = {label: own[0] for label, own in names_as_descriptions(np.unique(y).tolist(), 0).items()}
        lines = tomllib.loads((DATA / "descriptions.toml").read_text(encoding="utf-8")).get(name, names)
    return {
        "texts": [texts["train"][row] for row in chosen],
        "labels": y[chosen].tolist(),
        "lines": {label: lines[label] for label in np.unique(y).tolist() if label in lines},
        "unlabeled": [texts["train"][row] for row in rest] if words != "alone" else [],
        "unlabeled_truth": labels["train"][rest].tolist() if words != "alone" else [],
        "precision": "bf16" if words != "alone" else "fp32",
        "test": [texts["test"][row] for row in scored],
        "truth": labels["test"][scored].tolist(),
    }


def with_lines(cell: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Texts and labels, the lines among them."""
    lines = cell["lines"]
    return cell["texts"] + [*lines.values()], cell["labels"] + [*lines]


def by_regression(name: str, cell: dict[str, Any], **_: Any) -> tuple[list[str], dict[str, Any]]:
    """Regression on the untouched encoder."""
    encoder = load(resolve(None), max_length=TOKENS[name], device="cpu")
    texts, labels = with_lines(cell)
    classes = sorted(set(labels))
    probe = linear_probe(encode(encoder, texts), [classes.index(label) for label in labels], len(classes))
    best = probe.logits(encode(encoder, cell["test"])).argmax(dim=1)
    return [classes[place] for place in best], {}


def by_graphloss(name: str, cell: dict[str, Any], *, loss: str, draw: int) -> tuple[list[str], dict[str, Any]]:
    """This project, as a user calls it."""
    loss = "gloss" if loss == "graphloss" else loss
    model = TextClassifier(loss=loss, max_length=TOKENS[name], validation=0.0, seed=draw, precision=cell["precision"])
    model.fit(cell["texts"], cell["labels"], cell["unlabeled"], descriptions=cell["lines"] or False)
    return model.predict(cell["test"]).tolist(), {"steps": model.history_[-1]["step"]}


def by_setfit(name: str, cell: dict[str, Any], python: str, draw: int) -> tuple[list[str], dict[str, Any]]:
    """SetFit, in the Python that has it."""
    texts, labels = with_lines(cell)
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        task.write_text(
            json.dumps(
                {"texts": texts, "labels": labels, "test": cell["test"], "model": str(resolve(None))}
                | {"tokens": TOKENS[name], "seed": draw, "steps": SETFIT_STEPS, "precision": cell["precision"]}
            )
        )
        script = Path(__file__).with_name("trained_setfit.py")
        subprocess.run([python, script, task, answer], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(answer.read_text())
    return found.pop("predicted"), found


def run(name: str, shots: int, draw: int, words: str, method: str, python: str | None) -> None:
    """One cell, written down; seconds are the processor's, of training and of predicting the test texts."""
    torch.set_num_threads(1)
    cell, clock = drawn(name, shots, draw, words), time.process_time()
    if method == "setfit":
        assert python is not None
        predicted, about = by_setfit(name, cell, python, draw)
    elif method == "regression":
        predicted, about = by_regression(name, cell)
    else:
        predicted, about = by_graphloss(name, cell, loss=method, draw=draw)
    row: dict[str, Any] = {"data": name, "shots": shots, "draw": draw, "words": words, "method": method}
    row |= {"accuracy": accuracy_score(cell["truth"], predicted)}
    row |= {"macro_f1": f1_score(cell["truth"], predicted, average="macro", zero_division=0.0)}
    RESULTS.put(row | {"processor_seconds": round(time.process_time() - clock, 1)} | about)
    print(
        f"{name} {shots} {draw} {words} {method}: {100 * row['accuracy']:.1f} {100 * row['macro_f1']:.1f}", flush=True
    )


def guarded(work: Callable[..., None], *cell: Any) -> None:
    """The work of a cell, which says what went wrong: another process waits for it."""
    try:
        work(*cell)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def in_own_process(work: Callable[..., None], *cell: Any) -> None:
    """The work of a cell, in a process that shares the libraries loaded here."""
    process = multiprocessing.get_context("fork").Process(target=guarded, args=(work, *cell))
    process.start()
    process.join()


def main() -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "page"))
    parser.add_argument("--setfit", metavar="PYTHON", help="a Python that has setfit; without it SetFit is left out")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--data", nargs="+", default=[*TOKENS])
    parser.add_argument("--shots", nargs="+", type=int, default=SHOTS)
    parser.add_argument("--draws", nargs="+", type=int, default=range(DRAWS))
    parser.add_argument("--words", nargs="+", default=WORDS)
    given = parser.parse_args()
    if given.stage == "page":
        from trained_page import write

        write(RESULTS.rows())
        return
    for draw, words, shots, name, method in product(given.draws, given.words, given.shots, given.data, given.methods):
        if method == "setfit" and given.setfit is None:
            continue
        with locked(WORK, f"{name}-{shots}-{draw}-{words}-{method}") as mine:
            if mine and RESULTS.find(name, shots, draw, words, method) is None:
                in_own_process(run, name, shots, draw, words, method, given.setfit)


if __name__ == "__main__":
    main()
