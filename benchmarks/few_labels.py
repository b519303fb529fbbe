"""What does the command give somebody with few labels? Five seeds, defaults otherwise, beside the untouched probe.

    GRAPHLOSS_DATA=FOLDER python benchmarks/few_labels.py [--seeds 5] [--out FOLDER]

Runs `graphloss train` and `graphloss evaluate` as a user would, one after the other, appends one line per run to
`results/few_labels.jsonl` and prints the table. Runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

GRAPHLOSS = Path(sys.executable).parent / "graphloss"
RESULTS = Path(__file__).parent / "results" / "few_labels.jsonl"
TASKS = {"banking77": ["--shots", "8"], "r8": ["--shots", "16", "--max-length", "64"]}


def run(task: str, seed: int, out: Path) -> dict[str, object]:
    """Train and evaluate once."""
    folder = out / f"{task}-{seed}"
    subprocess.run(
        [GRAPHLOSS, "train", task, *TASKS[task], "--out", folder, "--seed", str(seed), "--quiet"], check=True
    )
    said = subprocess.run(
        [GRAPHLOSS, "evaluate", folder, task, "--json"], check=True, capture_output=True, text=True
    ).stdout
    scores, info = json.loads(said), json.loads((folder / "graphloss.json").read_text())
    kept = ("accuracy", "macro_f1", "macro_silhouette", "ece")
    return {
        "task": task,
        "seed": seed,
        "options": TASKS[task],
        "documents": scores["documents"],
        "seconds": info["seconds"],
        "best_epoch": info["best_epoch"],
        "predictor": info["predictor"],
        "model": {name: scores[name] for name in kept},
        "probe": {name: info["metrics"]["probe"][name] for name in kept},
        "settings": info["settings"],
        "versions": info["versions"],
        "environment": info["environment"],
    }


def table(rows: list[dict[str, object]]) -> str:
    """Mean and range over the seeds."""
    lines = [
        "| task | seeds | accuracy | untouched, probe | macro-F1 | untouched, probe | seconds of training |",
        "| --- |" + " ---: |" * 6,
    ]
    for task, options in TASKS.items():
        mine = [row for row in rows if row["task"] == task]
        if not mine:
            continue

        def cell(who: str, what: str, mine: list[dict[str, object]] = mine) -> str:
            values = [100 * row[who][what] for row in mine]  # type: ignore[index]
            return f"{np.mean(values):.2f} ({min(values):.1f} to {max(values):.1f})"

        seconds = [float(row["seconds"]) for row in mine]  # type: ignore[arg-type]
        cells = [
            cell("model", "accuracy"),
            cell("probe", "accuracy"),
            cell("model", "macro_f1"),
            cell("probe", "macro_f1"),
        ]
        lines.append(
            f"| {task} {' '.join(options)} | {len(mine)} | "
            + " | ".join(cells)
            + f" | {np.mean(seconds):.0f} (most {max(seconds):.0f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/few_labels"))
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {(row["task"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        for task in TASKS:
            if (task, seed) not in done:
                rows.append(run(task, seed, given.out))
                with RESULTS.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
