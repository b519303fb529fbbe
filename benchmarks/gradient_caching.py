"""What does a graph of 4,096 documents cost where 128 are embedded at once? Peak memory and time a document.

    python benchmarks/gradient_caching.py [--graph 4096] [--batch 128] [--whole 512] [--tokens 16] [--threads N]

Each case is a process of its own that takes training steps (forward, backward, AdamW) of `graphloss train`'s model
(all-MiniLM-L6-v2, head, cross-entropy and G-Loss) on documents of random words:

    plain   as many graphs of one batch as make up the large graph
    cached  one large graph, its batches embedded one after another (`graphloss.losses.gradient_cache`)
    whole   one graph that is embedded as a whole, as large as memory is likely to hold, to see what the other two save

Memory is the most that the process had resident. Of the time, seconds of the processor are compared: they are what a
busy machine blurs least. Written to benchmarks/results/gradient_caching.json with its environment.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import environment_of
from rich.console import Console
from rich.table import Table

from graphloss.losses.modules import Combined, GLoss
from graphloss.text.encoder import load
from graphloss.text.encoder_source import resolve
from graphloss.training.trainable_model import GraphModel

HERE = Path(__file__).resolve().parent
CLASSES, FIRST_WORD, BEGIN, END = 20, 2000, 101, 102  # of BERT's vocabulary


def mebibytes() -> float:
    """The most memory that this process had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def run(graph: int, batch: int, steps: int, tokens: int) -> dict[str, float]:
    """Take training steps, and say what they cost; one step is taken before the clock starts."""
    encoder = load(resolve(None), device="cpu").train()
    head = torch.nn.Linear(encoder.get_embedding_dimension() or 0, CLASSES)
    model = GraphModel(encoder, head, Combined(GLoss()), at_once=batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    generator = torch.Generator().manual_seed(0)

    def step(n: int) -> None:
        words = torch.randint(FIRST_WORD, len(encoder.tokenizer), (n, tokens), generator=generator)
        words[:, 0], words[:, -1] = BEGIN, END
        features: dict[str, Any] = {"input_ids": words, "attention_mask": torch.ones_like(words)}
        features["token_type_ids"] = torch.zeros_like(words)
        model(features, torch.randint(CLASSES, (n,), generator=generator))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    step(16)
    before, wall, cpu = mebibytes(), time.perf_counter(), time.process_time()
    for _ in range(steps):
        step(graph)
    each = 1000 / (steps * graph)
    return {
        "documents": steps * graph,
        "mib_before": before,
        "mib": mebibytes(),
        "cpu_ms": each * (time.process_time() - cpu),
        "wall_ms": each * (time.perf_counter() - wall),
    }


def main() -> None:
    """Run the cases, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--whole", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gradient_caching.json")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        print(json.dumps(run(**options.case)))
        return

    cases = {
        "plain": {"graph": options.batch, "batch": options.batch, "steps": options.graph // options.batch},
        "cached": {"graph": options.graph, "batch": options.batch, "steps": 1},
        "whole": {"graph": options.whole, "batch": options.whole, "steps": 1},
    }
    rows: dict[str, dict[str, float]] = {}
    table = Table(title=f"all-MiniLM-L6-v2, documents of {options.tokens} tokens, {options.threads} threads")
    for column in ("", "graph", "embedded at once", "peak MiB", "ratio", "CPU ms per document", "ratio"):
        table.add_column(column, justify="right")
    for name, case in cases.items():
        command = [sys.executable, __file__, "--threads", str(options.threads)]
        command += ["--case", json.dumps(case | {"tokens": options.tokens})]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        first = rows.get("plain", found)
        found |= {"mib_ratio": found["mib"] / first["mib"], "cpu_ratio": found["cpu_ms"] / first["cpu_ms"]}
        rows[name] = case | found
        costs = (f"{found['mib']:,.0f}", f"{found['mib_ratio']:.2f}", f"{found['cpu_ms']:.1f}")
        table.add_row(name, f"{case['graph']:,}", f"{case['batch']:,}", *costs, f"{found['cpu_ratio']:.2f}")
    Console().print(table)
    environment = environment_of(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"tokens": options.tokens, "cases": rows, "environment": environment}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
