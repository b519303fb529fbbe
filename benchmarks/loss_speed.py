"""How fast is a graph loss? Forward and backward of the literal float64 LU version against ours, in one run.

    python benchmarks/loss_speed.py [--sizes 128 512 1024 2048] [--threads N] [--repeats N]

The three are timed in turn, repeat after repeat, so that a busy machine slows all of them; the median of each is
reported and written to benchmarks/results/loss_speed.json with its environment.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import oracles  # noqa: E402

from graphloss.losses.functional import gloss, paper_loss  # noqa: E402

DIMENSIONS, CLASSES, SIGMA, GAMMA = 384, 20, 0.3, 0.7


def environment_of(threads: int) -> dict[str, object]:
    """The machine, as far as it explains a time."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "load_average_at_end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """Model name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def seconds(loss: Callable[[Tensor], Tensor], embeddings: Tensor) -> float:
    """Wall-clock of one forward and backward."""
    leaf = embeddings.clone().requires_grad_()
    start = time.perf_counter()
    loss(leaf).backward()
    return time.perf_counter() - start


def measure(n: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of each version for a batch of n documents."""
    generator = torch.Generator().manual_seed(n)
    embeddings = torch.randn(n, DIMENSIONS, generator=generator)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    embeddings += torch.randn(CLASSES, DIMENSIONS, generator=generator)[labels]
    shown = torch.zeros(n, dtype=torch.bool)
    shown[torch.randperm(n, generator=generator)[: int(GAMMA * n)]] = True
    versions: dict[str, Callable[[Tensor], Tensor]] = {
        "literal": lambda z: oracles.paper_loss(z, labels, shown, SIGMA, CLASSES),
        "paper": lambda z: paper_loss(z, labels, shown, sigma=SIGMA, num_classes=CLASSES).loss,
        "loo": lambda z: gloss(z, labels, sigma=SIGMA).loss,
    }
    times: dict[str, list[float]] = {name: [] for name in versions}
    for repeat in range(repeats + 2):
        for name, version in versions.items():
            taken = seconds(version, embeddings)
            if repeat >= 2:  # the first two warm caches and threads
                times[name].append(taken)
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1024, 2048])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "loss_speed.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    table = Table(title=f"forward + backward, ms (d = {DIMENSIONS}, C = {CLASSES}, {options.threads} threads)")
    for column in ("documents", "literal float64 LU", "paper", "ratio", "loo", "ratio"):
        table.add_column(column, justify="right")
    rows = []
    for n in options.sizes:
        ms = measure(n, options.repeats)
        ratio = {name: ms["literal"] / ms[name] for name in ("paper", "loo")}
        rows.append({"documents": n, "ms": ms, "ratio": ratio})
        table.add_row(
            str(n),
            f"{ms['literal']:.2f}",
            f"{ms['paper']:.2f}",
            f"{ratio['paper']:.1f}x",
            f"{ms['loo']:.2f}",
            f"{ratio['loo']:.1f}x",
        )
    Console().print(table)
    environment = environment_of(options.threads)
    settings = {"d": DIMENSIONS, "classes": CLASSES, "sigma": SIGMA, "gamma": GAMMA, "repeats": options.repeats}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"settings": settings, "rows": rows, "environment": environment}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
