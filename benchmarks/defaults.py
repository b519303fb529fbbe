"""Which settings deserve to be the defaults? One setting is moved at a time, on three data sets, with the same seeds.

    GRAPHLOSS_DATA=FOLDER python benchmarks/defaults.py [--seeds 5] [--only NAME ...]    train what is missing
    python benchmarks/defaults.py --table                            print the table of docs/research/defaults.md

Each cell trains on a few labels per class for a fixed number of epochs, without a validation split (so that no choice
of an epoch blurs the comparison), and scores a fixed sample of the test split three ways: by the head, by the graph of
the training documents, and by the mean of both. Cells are appended to `results/defaults.jsonl` one by one; a second
call goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphloss.inference.linear_probe import linear_probe
from graphloss.inference.metrics import score
from graphloss.run.provenance import environment
from graphloss.text.corpus import load_corpus
from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings

RESULTS = Path(__file__).parent / "results" / "defaults.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "research" / "defaults.md"
TEST_DOCUMENTS = 600
DATA = {  # name: (classes, drawn anew for each seed; labels per class; tokens; epochs)
    "banking77": (20, 8, 48, 6),
    "r8": (8, 8, 40, 6),
    "mr": (2, 32, 40, 6),
}
BASE: dict[str, Any] = {
    "blend": 1.0,
    "learning_rate": 1e-4,
    "sigma": 0.3,
    "weight": 0.5,
    "alpha": 1.0,
    "batch_size": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "cross-entropy": {"loss": "ce", "sigma": "auto"},  # a loss takes no setting of another
    "sigma 0.2": {"sigma": 0.2},
    "sigma 0.5": {"sigma": 0.5},
    "sigma root": {"sigma": "root"},
    "sigma 1": {"sigma": 1.0},
    "sigma mst": {"sigma": "mst"},
    "sigma learned": {"sigma": "learned"},
    "alpha 0.9": {"alpha": 0.9},
    "weight 0.8": {"weight": 0.8},
    "learning rate 5e-5": {"learning_rate": 5e-5},
    "learning rate 2e-4": {"learning_rate": 2e-4},
    "q 0.7": {"q": 0.7},
    "memory 16": {"memory": 16},
    "standalone": {"mode": "standalone"},
    "blend 0.5": {"blend": 0.5},
    "rate 2e-4, blend 0.5": {"learning_rate": 2e-4, "blend": 0.5},
    "rate 2e-4, cross-entropy": {"learning_rate": 2e-4, "loss": "ce", "sigma": "auto"},
}


def drawn(data: str, seed: int) -> tuple[Documents, Documents, list[str]]:
    """The training documents of a seed, the test documents that are scored, and the names of the classes."""
    classes, shots, _, _ = DATA[data]
    corpus = load_corpus(data, shots=shots, seed=seed)
    assert corpus.test is not None
    names = sorted(np.random.default_rng(seed).permutation(corpus.label_names)[:classes].tolist())
    test = some(corpus.test, names)
    chosen = np.sort(np.random.default_rng(0).permutation(len(test))[:TEST_DOCUMENTS])
    scored = test.take(chosen.tolist())
    return some(corpus.train, names), scored, names


def cell(variant: str, data: str, seed: int) -> dict[str, Any]:
    """Train and score one cell."""
    (train, test, names), (_, _, tokens, epochs) = drawn(data, seed), DATA[data]
    texts, truth = test.texts, np.array(test.labels)
    settings = TrainSettings(**(BASE | VARIANTS[variant] | {"epochs": epochs, "max_length": tokens, "seed": seed}))
    encoder = load(resolve(None), max_length=tokens)
    row: dict[str, Any] = {"variant": variant, "data": data, "seed": seed, "settings": BASE | VARIANTS[variant]}
    if variant == "base":
        probe = linear_probe(encode(encoder, train.texts), train.labels, len(names))
        row["untouched"] = figures(truth, probe.probabilities(encode(encoder, texts)).numpy(), names)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checked = preflight(check_settings(settings, train, Documents([], []), names), encoder)
        fitted = fit(encoder, checked, folder=Path(folder))
    row["seconds"] = time.perf_counter() - began
    z = encode(fitted.model.encoder, texts)
    predictor = replace(fitted.model.predictor, sigma=0.2)  # the same for all, so that the training alone is compared
    head, graph = predictor.head(z).numpy(), predictor.graph(z).numpy()
    return row | {
        "head": figures(truth, head, names),
        "graph": figures(truth, graph, names),
        "mix": figures(truth, (head + graph) / 2, names),
    }


def some(documents: Documents, names: list[str]) -> Documents:
    """The documents of these classes."""
    return documents.take(row for row, name in enumerate(documents.names) if name in names).with_classes(names)


def figures(truth: np.ndarray, probabilities: np.ndarray, names: list[str]) -> dict[str, float]:
    """Accuracy, macro-F1 and calibration error."""
    scores = score(truth, probabilities, None, names)
    return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "ece": scores.ece}


def table(rows: list[dict[str, Any]], metric: str = "accuracy", predictor: str = "head") -> str:
    """Mean over seeds per data set, and the paired difference from the base over all cells with its 95% interval."""
    from scipy.stats import t

    def value(row: dict[str, Any]) -> float:
        return 100 * row[predictor][metric]

    base = {(row["data"], row["seed"]): value(row) for row in rows if row["variant"] == "base"}
    lines = ["| setting moved | " + " | ".join(DATA) + " | mean | difference from the base (95% interval) | seeds |"]
    lines.append("| --- |" + " ---: |" * (len(DATA) + 3))
    untouched = [row for row in rows if "untouched" in row]
    means = [np.mean([100 * row["untouched"][metric] for row in untouched if row["data"] == data]) for data in DATA]
    lines.append(
        "| (untouched encoder, linear probe) | "
        + " | ".join(f"{x:.1f}" for x in means)
        + f" | {np.mean(means):.1f} | | |"
    )
    for variant in VARIANTS:
        mine = {(row["data"], row["seed"]): value(row) for row in rows if row["variant"] == variant}
        if not all(any(key[0] == data for key in mine) for data in DATA):
            continue
        means = [np.mean([x for (name, _), x in mine.items() if name == data]) for data in DATA]
        seeds = sorted({seed for _, seed in mine} & {seed for _, seed in base})
        gaps = [
            np.mean([mine[data, seed] - base[data, seed] for data in DATA])
            for seed in seeds
            if all((d, seed) in mine for d in DATA)
        ]
        said = ""
        if variant != "base" and len(gaps) > 1:
            half = t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / np.sqrt(len(gaps))
            said = f"{np.mean(gaps):+.2f} ({np.mean(gaps) - half:+.2f} to {np.mean(gaps) + half:+.2f})"
        lines.append(
            f"| {variant} | "
            + " | ".join(f"{x:.1f}" for x in means)
            + f" | {np.mean(means):.2f} | {said} | {len(gaps)} |"
        )
    return "\n".join(lines)


def page(rows: list[dict[str, Any]]) -> str:
    """The page docs/research/defaults.md: how it was measured, and a table for each way to predict."""
    data = ", ".join(
        f"{name} ({classes} classes, {shots} labels each, {tokens} tokens, {epochs} epochs)"
        for name, (classes, shots, tokens, epochs) in DATA.items()
    )
    settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in BASE.items())
    versions = rows[0]["environment"]
    parts = [
        "# Where the defaults come from",
        "Written by `python benchmarks/defaults.py --page` from `benchmarks/results/defaults.jsonl`; "
        "what follows from it is in [experiments.md](experiments.md).",
        f"One setting is moved at a time from the base ({settings}). Data: {data}; "
        "for each seed the labels, and on banking77 the classes, are drawn anew, the same for every row. "
        f"{TEST_DOCUMENTS} texts of the test split are scored. There is no validation split, so no row gains by "
        "choosing its epoch. The last columns are paired: each seed's mean over the data sets minus the base's, with "
        "the 95% interval of a t-test, not corrected for the number of rows. "
        f"Encoder: all-MiniLM-L6-v2, {versions['cpus']} CPU cores, one thread a cell. "
        "Rows with fewer seeds than the base average over their own: read the paired column.",
    ]
    for predictor, metric, title in (
        ("head", "macro_f1", "Macro-F1, predicted by the head"),
        ("head", "accuracy", "Accuracy, predicted by the head"),
        ("mix", "macro_f1", "Macro-F1, predicted by head and graph (σ = 0.2) together"),
        ("mix", "accuracy", "Accuracy, predicted by head and graph together"),
    ):
        parts += [f"## {title}", table(rows, metric, predictor)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Train the missing cells, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="variants to train; all by default")
    parser.add_argument(
        "--share", default="0/1", help="i/n: this process takes every n-th cell, beginning with the i-th"
    )
    parser.add_argument("--page", action="store_true", help="write docs/research/defaults.md from the results")
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if given.page:
        PAGE.write_text(page(rows), encoding="utf-8")
        return
    done = {(row["variant"], row["data"], row["seed"]) for row in rows}
    todo = [(v, d, s) for s in range(given.seeds) for v in given.only or VARIANTS for d in DATA]
    first, step = map(int, given.share.split("/"))
    RESULTS.parent.mkdir(exist_ok=True)
    for key in todo[first::step]:
        if key in done:
            continue
        row = cell(*key) | {"environment": environment()}
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(
            f"{key}: head {row['head']['accuracy']:.3f}, mix {row['mix']['accuracy']:.3f}, {row['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
