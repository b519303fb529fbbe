"""What makes a training step cheaper on a processor, and what does not.

    python benchmarks/training_cost.py [--data banking77] [--repeats N] [--threads N] [--without compile]

Whole steps (forward, backward, clipping, AdamW) of all-MiniLM-L6-v2 with head, cross-entropy and G-Loss on 64 texts of
at most 48 tokens, the same texts for every case, all cases in turn so that a busy machine slows all of them; the median
of the ratios within one turn is reported, in seconds of the processor and of the wall:

    all layers     as `graphloss train` begins
    freeze N       `--freeze N` from the second epoch on, when the lower layers' results are remembered
    bf16           `--precision bf16`
    half length    texts cut to half the tokens that the longest of them has
    LoRA           the weights stay as they are beside updates of rank 16 of every linear layer, or of queries and
                   values alone (needs peft)
    compile        torch.compile of the transformer; its first step is the time of compiling

What each does to accuracy is another question: docs/research/experiments.md has it for frozen layers and LoRA.
Written to benchmarks/results/training_cost.json with its environment.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import environment_of
from rich.console import Console
from rich.table import Table

from graphloss.losses.modules import Combined, GLoss
from graphloss.text.corpus import load_corpus
from graphloss.text.encoder import load
from graphloss.text.encoder_source import resolve
from graphloss.training.batches import ClassAwareBatchSampler, collate
from graphloss.training.frozen_layers import frozen
from graphloss.training.trainable_model import GraphModel

HERE = Path(__file__).resolve().parent
DOCUMENTS, LENGTH, SIGMA = 64, 48, 0.3
CASES: dict[str, dict[str, Any]] = {
    "all layers": {},
    "freeze 2": {"freeze": 2},
    "freeze 3": {"freeze": 3},
    "freeze 4": {"freeze": 4},
    "bf16": {"bf16": True},
    "half length": {"half": True},
    "LoRA": {"adapted": "all-linear"},
    "LoRA, q and v": {"adapted": ["query", "value"]},
    "compile": {"compile": True},
}
Batch = list[tuple[str, int, int]]


def stepper(
    classes: int,
    held: contextlib.ExitStack,
    longest: int,
    *,
    freeze: int = 0,
    bf16: bool = False,
    half: bool = False,
    adapted: str | list[str] | None = None,
    compile: bool = False,
) -> Callable[[Batch], None]:
    """The step of one case, with an encoder of its own."""
    torch.manual_seed(0)
    encoder = load(resolve(None), device="cpu", max_length=max(4, longest // 2) if half else LENGTH).train()
    held.enter_context(frozen(encoder, freeze))
    if adapted is not None:
        from peft import LoraConfig

        encoder.add_adapter(LoraConfig(r=16, lora_alpha=32, target_modules=adapted))
    if compile:
        transformer: Any = encoder[0].auto_model
        transformer.forward = torch.compile(transformer.forward, dynamic=True)
    model = GraphModel(encoder, torch.nn.Linear(encoder.get_embedding_dimension() or 0, classes), Combined(GLoss()))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**collate(encoder, batch))["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[Batch], None], batch: Batch) -> dict[str, float]:
    """Processor and wall seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step(batch)
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def main() -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="banking77")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without", nargs="*", choices=tuple(CASES), default=[])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training_cost.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    corpus = load_corpus(options.data)
    labels = corpus.train.labels
    chosen = next(iter(ClassAwareBatchSampler(labels, DOCUMENTS)))
    batch = [(corpus.train.texts[row], labels[row], row) for row in chosen]
    rows: dict[str, dict[str, float]] = {}
    with contextlib.ExitStack() as held:
        words = load(resolve(None), device="cpu", max_length=LENGTH).preprocess([text for text, _, _ in batch])
        longest = int(words["attention_mask"].sum(1).max())
        steps = {
            name: stepper(len(corpus.label_names), held, longest, **case)
            for name, case in CASES.items()
            if name not in options.without
        }
        first = {name: timed(step, batch) for name, step in steps.items()}  # caches, remembered layers, compiling
        found: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
        for _ in range(options.repeats):
            for name, step in steps.items():
                found[name].append(timed(step, batch))
    table = Table(title=f"{options.data}, {DOCUMENTS} texts, {options.threads} threads")
    for column in ("step", "first, CPU s", "CPU s", "/ all layers", "wall s", "/ all layers"):
        table.add_column(column, justify="right")
    for name, times in found.items():
        row = {"first_cpu": first[name]["cpu"]}
        for clock in ("cpu", "wall"):
            row[clock] = statistics.median(each[clock] for each in times)
            pairs = zip(times, found["all layers"], strict=True)
            row[f"{clock}_ratio"] = statistics.median(one[clock] / other[clock] for one, other in pairs)
        rows[name] = row
        table.add_row(
            name,
            f"{row['first_cpu']:.2f}",
            f"{row['cpu']:.2f}",
            f"{row['cpu_ratio']:.2f}",
            f"{row['wall']:.2f}",
            f"{row['wall_ratio']:.2f}",
        )
    Console().print(table)
    environment = environment_of(options.threads)
    result = {"data": options.data, "documents": DOCUMENTS, "repeats": options.repeats, "cases": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result | {"environment": environment}, indent=2) + "\n")


if __name__ == "__main__":
    main()
