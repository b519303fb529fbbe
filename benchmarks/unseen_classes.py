"""Does the loss matter for texts of classes that nobody labeled: calibration, rejection, and a class added later?

    GRAPHLOSS_DATA=FOLDER python benchmarks/unseen_classes.py run     train what is missing
    python benchmarks/unseen_classes.py page                          write docs/research/unseen_classes.md

A quarter of the classes of banking77 and hwu64 is kept away; 8 labels of each of the others train the encoder with each
loss at the defaults of `TextClassifier`, without unlabeled text and descriptions. Then, without training: which of the
test texts are of no known class, and what does a head know that is fitted anew with the name and three texts of each
class that was kept away?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from result_table import FOLDER, ResultTable
from sklearn.metrics import f1_score, roc_auc_score
from trained import TOKENS, WORK, in_own_process, read

from graphloss import TextClassifier
from graphloss.disk import write_text
from graphloss.inference.graphs.corpus_graph import SIGMA
from graphloss.inference.linear_probe import linear_probe
from graphloss.inference.metrics import score
from graphloss.research.bench.statistics import holm, paired
from graphloss.research.bench.storage import locked
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.read_descriptions import names_as_descriptions

RESULTS = ResultTable(FOLDER / "unseen_classes.jsonl", ("data", "loss", "seed"))
PAGE = FOLDER.parents[1] / "docs" / "research" / "unseen_classes.md"
DATA, SEEDS = ("banking77", "hwu64"), 5
LOSSES = {"none": "untouched encoder", "ce": "cross-entropy", "supcon": "SupCon", "gloss": "G-Loss"}
SHOTS, NEW_SHOTS, KEPT_AWAY, TEST = 8, 3, 0.25, 1500
REJECTION = {
    "largest probability": "the predicted class's",
    "energy": "log-sum of the head's exponentiated scores",
    "nearest neighbor": "cosine of the nearest labeled text",
    "mass": f"label mass that reaches the text in one step, Σ exp(cos / σ²) over the labeled texts, σ = {SIGMA}",
}


def drawn(name: str, seed: int) -> dict[str, Any]:
    """Texts and labels that train, those of the classes kept away, and the test texts."""
    rng, parts = np.random.default_rng(seed), {split: read(name, split) for split in ("train", "test")}
    texts, y = parts["train"]
    order, classes = rng.permutation(len(texts)), np.unique(y)
    away = set(rng.choice(classes, round(KEPT_AWAY * len(classes)), replace=False).tolist())
    found: dict[str, Any] = {"texts": [], "labels": [], "new_texts": [], "new_labels": []}
    for label in classes.tolist():
        kind, shots = ("new_", NEW_SHOTS) if label in away else ("", SHOTS)
        rows = order[y[order] == label][:shots]
        found[f"{kind}texts"] += [texts[row] for row in rows]
        found[f"{kind}labels"] += [label] * len(rows)
    names = names_as_descriptions(sorted(away), 0)
    found["new_texts"] += [line for own in names.values() for line in own]
    found["new_labels"] += [label for label, own in names.items() for _ in own]
    texts, y = parts["test"]
    scored = rng.permutation(len(texts))[:TEST]
    return found | {"test": [texts[row] for row in scored], "truth": y[scored], "away": sorted(away)}


def figures(name: str, loss: str, seed: int) -> dict[str, float]:
    """Train on the known classes, and measure."""
    cell = drawn(name, seed)
    known = sorted(set(cell["labels"]))
    classes = known + cell["away"]
    y = torch.tensor([classes.index(label) for label in cell["labels"] + cell["new_labels"]])
    count = len(cell["labels"])
    if loss == "none":
        encoder = load(resolve(None), max_length=TOKENS[name], device="cpu")
    else:
        model = TextClassifier(loss=loss, max_length=TOKENS[name], validation=0.0, seed=seed, precision="bf16")
        encoder = model.fit(cell["texts"], cell["labels"], descriptions=False).encoder_
    z, tested = encode(encoder, cell["texts"] + cell["new_texts"]), encode(encoder, cell["test"])
    probe = linear_probe(z[:count], y[:count].tolist(), len(known))
    logits = tested @ probe.weight.T + probe.bias
    p = logits.softmax(1) if loss == "none" else model.fitted_.model.predictor.probabilities(tested)
    truth = np.array([classes.index(label) for label in cell["truth"]])
    inside = truth < len(known)
    found = score(truth[inside], p[inside], tested[inside], known)
    cosine = tested @ z[:count].T
    sureness = (p.max(1).values, logits.logsumexp(1), cosine.max(1).values, (cosine / SIGMA**2).logsumexp(1))
    result = {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "ece": found.ece}
    result |= {key: float(roc_auc_score(inside, value.numpy())) for key, value in zip(REJECTION, sureness, strict=True)}
    wider = linear_probe(z, y.tolist(), len(classes)).logits(tested).argmax(1).numpy()
    before = logits.argmax(1).numpy()
    f1 = [
        float(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0.0))
        for predicted, labels in ((wider, range(len(known), len(classes))), (wider, range(len(known))))
    ]
    old = float(f1_score(truth[inside], before[inside], average="macro", zero_division=0.0))
    return result | {"new_f1": f1[0], "old_f1": f1[1], "old_f1_before": old}


def run(name: str, loss: str, seed: int) -> None:
    """One cell, written down."""
    torch.set_num_threads(1)
    clock = time.process_time()
    row = {"data": name, "loss": loss, "seed": seed} | figures(name, loss, seed)
    RESULTS.put(row | {"processor_seconds": round(time.process_time() - clock, 1)})
    print(row, flush=True)


TOP = f"""
Question: does the loss matter for texts of classes that nobody labeled: calibration, rejection, and a class added
later? Written by `python benchmarks/unseen_classes.py page` from `benchmarks/results/unseen_classes.jsonl`, one row per
training, which `run` makes.

A quarter of the classes of banking77 and hwu64 is kept away. {SHOTS} labels of each of the others train the encoder,
with the defaults of every loss, without text and descriptions, in bfloat16; {TEST:,} test texts. AUROC: texts of known
classes against the others. New classes: a head fitted anew on all labeled texts with the name and {NEW_SHOTS} texts of
each class that was kept away, the encoder as it was.

"""
TESTED = """The first five seeds suggest that after training with G-Loss texts of unseen classes are told best by what
the labeled texts around them say. Two measures, two losses, decided before these seeds were run:

"""
COLUMNS = {
    "accuracy": "accuracy, known classes",
    "ece": "ECE",
    **{name: f"AUROC, {name}" for name in REJECTION},
    "new_f1": "macro-F1, new classes",
    "old_f1": "macro-F1, old classes, all in the head",
    "old_f1_before": "the same before",
}
COMPARED = ("accuracy", "ece", *REJECTION, "new_f1", "old_f1")
CONFIRMED, OTHERS = ("nearest neighbor", "mass"), ("ce", "supcon", "none")


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The tables of what is there, and the differences over the cells that two losses have."""
    cell = {(row["data"], row["loss"], row["seed"]): row for row in rows}
    parts = ["# Classes that nobody labeled\n"]
    parts.append(TOP)
    parts.append("".join(f"- *{name}*: {what}\n" for name, what in REJECTION.items()))
    for data in DATA:
        seeds = [seed for seed in range(SEEDS) if all((data, loss, seed) in cell for loss in LOSSES)]
        parts.append(f"\n## {data}, {len(seeds)} seeds\n\n")
        parts.append(_line(["", *COLUMNS.values()]) + _line(["---", *["---:"] * len(COLUMNS)]))
        for loss, name in LOSSES.items():
            own = [cell[data, loss, seed] for seed in seeds]
            parts.append(
                _line([name, *[f"{100 * fmean(row[key] for row in own):.1f}" if own else "–" for key in COLUMNS]])
            )
    first = {key: row for key, row in cell.items() if key[-1] < SEEDS}
    parts.append(
        "\n## G-Loss minus the others\n\nPaired over data sets and seeds; p corrected by Holm over the table.\n\n"
    )
    parts.append(_differences(first, COMPARED, OTHERS))
    later = {key: row for key, row in cell.items() if key[-1] >= SEEDS}
    parts.append(f"\n## The same on {len({seed for *_, seed in later})} other seeds\n\n{TESTED}")
    parts.append(_differences(later, CONFIRMED, OTHERS[:2]))
    return "".join(parts)


def _differences(cell: dict[tuple[str, str, int], dict[str, Any]], what: Sequence[str], others: Sequence[str]) -> str:
    """The table of G-Loss minus the others, paired, with p-values corrected over it."""
    found = {}
    for key, other in product(what, others):
        both = [(data, seed) for data, loss, seed in cell if loss == "gloss" and (data, other, seed) in cell]
        if len(both) > 1:
            values = [[100 * cell[data, loss, seed][key] for data, seed in both] for loss in ("gloss", other)]
            found[key, other] = paired(*values)
    corrected = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
    lines = [_line(["", *[LOSSES[other] for other in others]]) + _line(["---", *["---:"] * len(others)])]
    for key in what:
        shown = []
        for other in others:
            text, each = "–", found.get((key, other))
            if each is not None and each.low is not None and (p := corrected[key, other]) is not None:
                text = f"{each.mean:+.1f} ({each.low:+.1f} to {each.high:+.1f}), p {p:.3f}"
            shown.append(text)
        lines.append(_line([COLUMNS[key], *shown]))
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "page"))
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    parser.add_argument("--losses", nargs="+", default=[*LOSSES], choices=[*LOSSES])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many")
    parser.add_argument("--first", type=int, default=0, help="those from 5 on test what the first five suggest")
    given = parser.parse_args()
    if given.stage == "page":
        write_text(PAGE, page(RESULTS.rows()))
        return
    for seed, name, loss in product(range(given.first, given.first + given.seeds), given.data, given.losses):
        with locked(WORK, f"unseen-{name}-{loss}-{seed}") as mine:
            if mine and RESULTS.find(name, loss, seed) is None:
                in_own_process(run, name, loss, seed)


if __name__ == "__main__":
    main()
