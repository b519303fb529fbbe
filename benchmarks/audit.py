"""Does `audit` find wrong labels, and better than cleanlab's scores of the same out-of-sample probabilities?

    GRAPHLOSS_DATA=FOLDER python benchmarks/audit.py --cleanlab /tmp/cleanlab/bin/python    measure what is missing
    python benchmarks/audit.py --table                                     print the tables of docs/research/audit.md

2,000 training documents of r8, banking77 and 20ng are embedded once by the untouched packaged encoder (64 tokens). 5,
10 or 20% of their labels are made wrong: at random, each by any other class, or each by the class that it is most
easily taken for (by the cross-fitted regression on the right labels). The score is the average precision of finding
them.

cleanlab is no dependency of graphloss. It is asked in an environment of its own:

    python3 -m venv /tmp/cleanlab && /tmp/cleanlab/bin/pip install cleanlab
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "audit.json"
DATA, KINDS, RATES = ("r8", "banking77", "20ng"), ("random", "confusable"), (0.05, 0.1, 0.2)
DOCUMENTS, TOKENS, SIGMA = 2_000, 64, 0.3
METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def embeddings(data: str, cache: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Embeddings (n, d), right labels (n,) and the number of classes; computed once."""
    path = cache / f"{data}.npz"
    if not path.exists():
        from graphloss.text.corpus import load_corpus
        from graphloss.text.encoder import encode, load
        from graphloss.text.encoder_source import resolve

        corpus = load_corpus(data)
        labels = np.array(corpus.train.labels)
        rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:DOCUMENTS])
        z = encode(load(resolve(None), max_length=TOKENS), [corpus.train.texts[row] for row in rows])
        np.savez(path, z=z.numpy(), y=labels[rows], classes=len(corpus.label_names))
    found = np.load(path)
    return found["z"], found["y"], int(found["classes"])


def flipped(y: np.ndarray, classes: int, kind: str, rate: float, seed: int, taken_for: np.ndarray) -> np.ndarray:
    """Labels of which a share is wrong; `taken_for` (C,) is each class's most confusable one."""
    rng = np.random.default_rng([seed, round(1000 * rate)])
    rows = rng.permutation(len(y))[: round(rate * len(y))]
    given = y.copy()
    given[rows] = (y[rows] + rng.integers(1, classes, len(rows))) % classes if kind == "random" else taken_for[y[rows]]
    return given


def confusable(z: np.ndarray, y: np.ndarray, classes: int, cache: Path, data: str) -> np.ndarray:
    """The class (C,) that documents of each are most easily taken for."""
    import torch

    from graphloss.inference.linear_probe import cross_fitted

    path = cache / f"{data}-confusable.npy"
    if not path.exists():
        p = cross_fitted(torch.from_numpy(z), torch.from_numpy(y), classes, seed=9).numpy()
        mass = np.zeros((classes, classes))
        np.add.at(mass, y, p)
        np.fill_diagonal(mass, -1.0)
        np.save(path, mass.argmax(1))
    return np.load(path)


def measure(data: str, kind: str, rate: float, seed: int, cache: Path, cleanlab: str | None) -> dict[str, Any]:
    """One cell: our score and cleanlab's, of the same probabilities."""
    import torch
    from sklearn.metrics import average_precision_score

    from graphloss.inference.label_errors import suspicion

    z, y, classes = embeddings(data, cache)
    given = flipped(y, classes, kind, rate, seed, confusable(z, y, classes, cache, data))
    wrong, began = given != y, time.process_time()
    found = suspicion(torch.from_numpy(z), torch.from_numpy(given), classes, sigma=SIGMA, seed=seed)
    seconds, listed = time.process_time() - began, np.array(found.ranked())
    p = {"both": (found.probe + found.graph) / 2, "probe": found.probe}
    row: dict[str, Any] = {
        "data": data,
        "kind": kind,
        "rate": rate,
        "seed": seed,
        "audit": float(average_precision_score(wrong, found.score.numpy())),
        "listed": len(listed),
        "precision": float(wrong[listed].mean()),
        "recall": float(wrong[listed].sum() / wrong.sum()),
        "proposed_right": float((found.proposed.numpy() == y)[wrong].mean()),
        "cpu_seconds": round(seconds, 2),
    }
    if cleanlab:
        path = cache / "cell.npz"
        arrays: dict[str, Any] = {"given": given, "wrong": wrong} | {name: each.numpy() for name, each in p.items()}
        np.savez(path, **arrays)
        said = subprocess.run([cleanlab, __file__, "--score", path], capture_output=True, text=True, check=True).stdout
        row |= json.loads(said)
    return row


def score(path: Path) -> dict[str, Any]:
    """Average precision of cleanlab's scores; run by the interpreter that has cleanlab, and perhaps not graphloss."""
    try:
        import cleanlab
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        sys.exit("cleanlab is not here: python3 -m venv /tmp/cleanlab && /tmp/cleanlab/bin/pip install cleanlab")
    from sklearn.metrics import average_precision_score

    cell, found = np.load(path), {}
    for name in ("both", "probe"):
        p = cell[name].astype(np.float64)
        p /= p.sum(1, keepdims=True)
        for method in METHODS:
            for adjusted in (False, True) if method != "confidence_weighted_entropy" else (False,):
                quality = get_label_quality_scores(cell["given"], p, method=method, adjust_pred_probs=adjusted)
                key = f"{name}, {method}{', adjusted' if adjusted else ''}"
                found[key] = float(average_precision_score(cell["wrong"], -quality))
    return {"cleanlab": found, "cleanlab_version": cleanlab.__version__}


def table(rows: list[dict[str, Any]]) -> str:
    """Average precision by data set, kind and rate, means over the seeds; then what the list holds."""
    keys = list(rows[0].get("cleanlab", {}))
    parts = ["### Average precision (%)", ""]
    columns = [(data, kind) for data in DATA for kind in KINDS]
    parts.append("| score | " + " | ".join(f"{data}, {kind}" for data, kind in columns) + " | mean |")
    parts.append("| --- |" + " ---: |" * (len(columns) + 1))
    for key in ["audit", *keys]:
        cells, means = [], []
        for data, kind in columns:
            found = []
            for rate in RATES:
                mine = [r for r in rows if (r["data"], r["kind"], r["rate"]) == (data, kind, rate)]
                values = [100 * (r["audit"] if key == "audit" else r["cleanlab"][key]) for r in mine]
                found.append(f"{np.mean(values):.1f}" if values else "–")
                means += [np.mean(values)] if values else []
            cells.append(" / ".join(found))
        name = "**`graphloss audit`**" if key == "audit" else f"cleanlab, {key}"
        parts.append(f"| {name} | " + " | ".join(cells) + f" | {np.mean(means):.1f} |")
    parts += ["", "### What the list holds", ""]
    parts.append(
        "| data | flips | share wrong | listed of 2,000 | of them wrong | of the wrong found | right proposal |"
    )
    parts.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for data, kind in columns:
        for rate in RATES:
            mine = [r for r in rows if (r["data"], r["kind"], r["rate"]) == (data, kind, rate)]
            if mine:
                mean = {name: np.mean([r[name] for r in mine]) for name in ("listed", "precision", "recall")}
                right = np.mean([r["proposed_right"] for r in mine])
                parts.append(
                    f"| {data} | {kind} | {rate:.0%} | {mean['listed']:.0f} | {mean['precision']:.1%} | "
                    f"{mean['recall']:.1%} | {right:.1%} |"
                )
    return "\n".join(parts)


def main() -> None:
    """Measure the missing cells, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cleanlab", help="a Python that has cleanlab; without it, our score alone is measured")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "graphloss-audit")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.score:
        print(json.dumps(score(given.score)))
        return
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    rows = kept["rows"]
    if given.table:
        print(table(rows))
        return
    from graphloss.run.provenance import environment

    given.cache.mkdir(parents=True, exist_ok=True)
    done = {(row["data"], row["kind"], row["rate"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        for data in DATA:
            for kind in KINDS:
                for rate in RATES:
                    if (data, kind, rate, seed) in done:
                        continue
                    rows.append(measure(data, kind, rate, seed, given.cache, given.cleanlab))
                    RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
                    print(f"{data} {kind} {rate:.0%} seed {seed}: {rows[-1]['audit']:.3f}", flush=True)


if __name__ == "__main__":
    main()
