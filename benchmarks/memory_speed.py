"""What does a memory cost? A step of the loss with and without remembered documents, beside a step of the encoder.

    python benchmarks/memory_speed.py [--remembered 0 65536] [--classes 64] [--threads N] [--repeats N]

The encoder step is one of cross-entropy: forward, backward and AdamW of the packaged all-MiniLM-L6-v2 on 128 texts of
16 tokens. The loss, forward and backward with the writing of the memory, is timed on embeddings alone, in turn with it,
so that a busy machine slows both; medians go to benchmarks/results/memory_speed.json. The ratio is what a training
step with the loss costs in steps with cross-entropy: 1 + loss / encoder step.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from loss_speed import environment_of
from rich.console import Console
from rich.table import Table

from graphloss.encoder import embed, load
from graphloss.encoder_files import resolve
from graphloss.losses import GLoss, Memory

HERE = Path(__file__).resolve().parent
DOCUMENTS, TOKENS, DIMENSIONS, SIGMA = 128, 16, 384, 0.3


def encoder_step(classes: int) -> Callable[[], None]:
    """One step of cross-entropy with the packaged encoder."""
    encoder = load(resolve(None), device="cpu").train()
    head = torch.nn.Linear(DIMENSIONS, classes)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-5, fused=True)
    words = torch.randint(2000, 20000, (DOCUMENTS, TOKENS), generator=torch.Generator().manual_seed(0))
    features = {"input_ids": words, "attention_mask": torch.ones_like(words), "token_type_ids": torch.zeros_like(words)}
    labels = torch.arange(DOCUMENTS) % classes

    def step() -> None:
        optimiser.zero_grad()
        z = embed(encoder, dict(features))
        torch.nn.functional.cross_entropy(head(z), labels).backward()
        optimiser.step()

    return step


def loss_step(remembered: int, classes: int, leave_out: Literal["one", "batch"]) -> Callable[[], None]:
    """One step of the loss on random embeddings, with a full memory of so many documents."""
    generator = torch.Generator().manual_seed(0)
    each = remembered // classes
    memory = Memory(classes, each, DIMENSIONS) if remembered else None
    if memory is not None:
        labels = torch.arange(each * classes) % classes
        for rows in torch.arange(each * classes).split(4096):
            memory.add(torch.randn(len(rows), DIMENSIONS, generator=generator), labels[rows], rows)
        assert len(memory.remembered()[1]) == remembered
    loss = GLoss(sigma=SIGMA, memory=memory, leave_out=leave_out if remembered else "one")
    x = torch.randn(DOCUMENTS, DIMENSIONS, generator=generator, requires_grad=True)
    documents = torch.arange(DOCUMENTS)
    labels_of_batch = documents % classes

    def step() -> None:
        x.grad = None
        loss(x, labels_of_batch, documents).backward()

    return step


def main() -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--remembered", type=int, nargs="+", default=[0, 65536])
    parser.add_argument("--classes", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "memory_speed.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    cases: list[tuple[int, Literal["one", "batch"]]] = [
        (remembered, leave_out)
        for remembered in options.remembered
        for leave_out in (("one", "batch") if remembered else ("one",))
    ]
    steps = {"encoder": encoder_step(options.classes)}
    steps |= {f"{remembered} {how}": loss_step(remembered, options.classes, how) for remembered, how in cases}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 2:  # the first two warm caches and threads
                times[name].append(time.perf_counter() - start)
    ms = {name: 1000 * statistics.median(values) for name, values in times.items()}

    table = Table(
        title=f"{DOCUMENTS} documents, d = {DIMENSIONS}, {options.classes} classes, {options.threads} threads; "
        f"encoder step ({TOKENS} tokens, cross-entropy): {ms['encoder']:.0f} ms"
    )
    for column in ("remembered", "left out", "loss, ms", "step / cross-entropy step"):
        table.add_column(column, justify="right")
    rows = []
    for remembered, how in cases:
        loss = ms[f"{remembered} {how}"]
        ratio = 1 + loss / ms["encoder"]
        rows.append({"remembered": remembered, "leave_out": how, "ms": loss, "ratio": ratio})
        table.add_row(f"{remembered:,}", how, f"{loss:.1f}", f"{ratio:.3f}")
    Console().print(table)
    result = {
        "settings": {"documents": DOCUMENTS, "tokens": TOKENS, "d": DIMENSIONS, "classes": options.classes},
        "encoder_ms": ms["encoder"],
        "rows": rows,
        "repeats": options.repeats,
        "environment": environment_of(options.threads),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
