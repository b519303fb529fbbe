"""What does a training step cost? Beside a step of cross-entropy, and beside the step of the published recipe.

    python benchmarks/step_speed.py [--data banking77 mr r8] [--remembered 65536] [--threads N] [--repeats N]
        [--published N]

Whole steps of all-MiniLM-L6-v2 with a head, on 128 real texts of at most 128 tokens: tokens, forward, backward,
clipping, optimizer. Every repeat draws a batch as the training draws it and gives it to each case in turn, another one
first each time, so that a busy machine slows all of them; what is reported is the median over the repeats of the ratios
within one:

    cross-entropy   the model of `graphloss train --loss ce`
    gloss           the same with G-Loss beside cross-entropy
    gloss, trust    the same with both weighed by the trust in the labels of the whole split (`--clean auto`)
    gloss N         the same with N remembered documents in the graph
    published       the recipe of arXiv 2604.25853: every text padded to 128 tokens, one pass of the encoder for the
                    logits and another for the graph, similarity, normalizations and LU in float64, Adam. Written anew,
                    literally (`tests/oracles.py`); its texts are tokenized before the clock starts. `--published` says
                    in how many of the repeats it takes part: it is slow

Seconds of the processor come first: they are what a busy machine blurs least. Still two whole steps differ by chance
more than by their loss, so that the loss, with the trust, is also timed inside its step, from the embeddings to the
gradient that arrives back at them: `1 + loss` is one plus the median of that, above cross-entropy's own, over the
median step of cross-entropy.

Data sets are found as `graphloss train` finds them. Written to benchmarks/results/step_speed.json with its environment,
in place of the rows of the same data set and case; others stay.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from machine import environment_of
from rich.console import Console
from rich.table import Table

from graphloss.losses.label_trust import LabelTrust
from graphloss.losses.memory_bank import Memory
from graphloss.losses.modules import Combined, GLoss
from graphloss.text.corpus import load_corpus
from graphloss.text.encoder import load
from graphloss.text.encoder_source import resolve
from graphloss.training.batches import ClassAwareBatchSampler, collate
from graphloss.training.trainable_model import GraphModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import oracles  # noqa: E402

DOCUMENTS, LENGTH, SIGMA, GAMMA, WEIGHT, CLIP = 128, 128, 0.3, 0.7, 0.5, 1.0
Batch = list[tuple[str, int, int]]
Step = Callable[[Batch], None]
WALL, CPU = 0, 1


def batches(texts: list[str], labels: list[int]) -> Iterator[Batch]:
    """(text, label, number) of the documents of one batch after another, as the training draws them."""
    sampler = ClassAwareBatchSampler(labels, DOCUMENTS)
    while True:
        yield from ([(texts[row], labels[row], row) for row in batch] for batch in sampler)
        sampler.set_epoch(sampler.epoch + 1)


def full_memory(classes: int, remembered: int, dimensions: int) -> Memory:
    """A memory whose every ring is full, of at least so many documents that are in no batch."""
    each = -(-remembered // classes)
    memory = Memory(classes, each, dimensions)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(each * classes) % classes
    for rows in torch.arange(each * classes).split(4096):
        memory.add(torch.randn(len(rows), dimensions, generator=generator), labels[rows], rows + 10**9)
    assert len(memory.remembered()[1]) == each * classes
    return memory


class Timed(Combined):
    """The loss, with a clock: processor seconds from the embeddings to the gradient that arrives back at them."""

    seconds = began = 0.0

    def forward(self, embeddings: torch.Tensor, *args: Any) -> Any:
        """The loss of a batch; the way back is timed from `began` on."""
        start = time.process_time()
        result = super().forward(embeddings, *args)
        self.seconds = time.process_time() - start
        embeddings.register_hook(self._arrived)
        return result

    def _arrived(self, grad: torch.Tensor) -> None:
        self.seconds += time.process_time() - self.began


class TimedTrust(LabelTrust):
    """The trust in the labels, with a clock."""

    seconds = 0.0

    def forward(self, *args: Any) -> Any:
        """The weights of a batch."""
        start = time.process_time()
        result = super().forward(*args)
        self.seconds = time.process_time() - start
        return result


def our_steps(labels: list[int], classes: int, remembered: list[int]) -> tuple[dict[str, Step], dict[str, list[float]]]:
    """Steps of one model whose loss is exchanged, everything else being the same, and what the loss took in each."""
    encoder = load(resolve(None), device="cpu", max_length=LENGTH).train()
    dimensions = encoder.get_embedding_dimension()
    assert dimensions is not None
    model = GraphModel(encoder, torch.nn.Linear(dimensions, classes), torch.nn.Identity(), at_once=DOCUMENTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    losses: dict[str, torch.nn.Module | None] = {"cross-entropy": None, "gloss": GLoss(sigma=SIGMA)}
    for count in remembered:
        memory = full_memory(classes, count, dimensions)
        losses[f"gloss {count:,}"] = GLoss(sigma=SIGMA, memory=memory, num_classes=classes)

    trusted = "gloss, trust"
    losses[trusted] = GLoss(sigma=SIGMA)
    start = torch.randn(len(labels), dimensions, generator=torch.Generator().manual_seed(0))
    trust = TimedTrust(start, torch.tensor(labels))
    taken: dict[str, list[float]] = {name: [] for name in losses}

    def with_loss(name: str) -> Step:
        def step(batch: Batch) -> None:
            model.objective = timed_loss = Timed(losses[name], WEIGHT)
            model.trust = trust if name == trusted else None
            loss = model(**collate(encoder, batch))["loss"]
            timed_loss.began = time.process_time()
            loss.backward()
            taken[name].append(timed_loss.seconds + (trust.seconds if name == trusted else 0.0))
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {name: with_loss(name) for name in losses}, taken


def published_step(classes: int) -> tuple[Callable[[Batch], Any], Callable[[Any], None]]:
    """The published recipe: what is done with the texts before, and the step."""
    encoder = load(resolve(None), device="cpu", max_length=LENGTH).train()
    head = torch.nn.Linear(encoder.get_embedding_dimension() or 0, classes)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-5)
    generator = torch.Generator().manual_seed(0)

    def tokens(batch: Batch) -> Any:
        words = encoder.tokenizer(
            [text for text, _, _ in batch],
            padding="max_length",
            truncation=True,
            max_length=LENGTH,
            return_tensors="pt",
        )
        return dict(words), torch.tensor([label for _, label, _ in batch])

    def step(given: Any) -> None:
        features, labels = given
        assert features["input_ids"].shape == (len(labels), LENGTH)
        ce = torch.nn.functional.cross_entropy(head(encoder(dict(features))["sentence_embedding"]), labels)
        z = encoder(dict(features))["sentence_embedding"]
        shown = torch.zeros(len(labels), dtype=torch.bool)
        shown[torch.randperm(len(labels), generator=generator)[: int(GAMMA * len(labels))]] = True
        loss = (1 - WEIGHT) * ce + WEIGHT * oracles.paper_loss(z, labels, shown, SIGMA, classes).float()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return tokens, step


def timed(step: Callable[[Any], None], given: Any) -> tuple[float, float]:
    """Wall-clock and processor seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step(given)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str, remembered: list[int], repeats: int, published: int) -> list[dict[str, Any]]:
    """The cases on one data set: seconds, and ratios to the first case within each repeat."""
    corpus = load_corpus(name)
    classes = len(corpus.label_names)
    steps, taken = our_steps(corpus.train.labels, classes, remembered)
    tokens, slow = published_step(classes) if published else (None, None)
    drawn = batches(corpus.train.texts, corpus.train.labels)
    for step in steps.values():  # caches and the optimizer's state
        step(next(drawn))
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in steps}
    for repeat in range(repeats):
        batch = next(drawn)
        cases = list(steps)
        turn = repeat % len(cases)
        for case in cases[turn:] + cases[:turn]:
            times[case].append(timed(steps[case], batch))
        if tokens is not None and slow is not None and repeat < published:
            given = tokens(batch)
            times.setdefault("published", []).append(timed(slow, given))
    rows = []
    for case, found in times.items():
        row: dict[str, Any] = {"data": name, "case": case, "repeats": len(found)}
        if case in taken:
            loss, plain = (statistics.median(taken[each][1:]) for each in (case, "cross-entropy"))
            row["loss_cpu_seconds"] = loss
            row["one_plus_loss"] = 1 + (loss - plain) / statistics.median(each[CPU] for each in times["cross-entropy"])
        for clock, what in ((CPU, "cpu"), (WALL, "wall")):
            row[f"{what}_seconds"] = statistics.median(each[clock] for each in found)
            for beside in ("cross-entropy", "gloss"):
                pairs = zip(found, times[beside], strict=False)  # the published step takes part in the first few
                row[f"{what}_over_{beside}"] = statistics.median(one[clock] / other[clock] for one, other in pairs)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["banking77", "mr", "r8"])
    parser.add_argument("--remembered", type=int, nargs="*", default=[65536])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--published", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "step_speed.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    table = Table(title=f"one step on {DOCUMENTS} texts, all-MiniLM-L6-v2, {options.threads} threads")
    for column in ("data", "step", "repeats", "1 + loss", "CPU s", "/ ce", "/ gloss", "wall s", "/ ce", "/ gloss"):
        table.add_column(column, justify="right")
    rows = []
    for name in options.data:
        for row in measure(name, options.remembered, options.repeats, options.published):
            rows.append(row)
            cells = [
                cell
                for what in ("cpu", "wall")
                for cell in (
                    f"{row[f'{what}_seconds']:.2f}",
                    f"{row[f'{what}_over_cross-entropy']:.3f}",
                    f"{row[f'{what}_over_gloss']:.2f}",
                )
            ]
            part = f"{row['one_plus_loss']:.4f}" if "one_plus_loss" in row else ""
            table.add_row(name, row["case"], str(row["repeats"]), part, *cells)
    Console(width=120).print(table)
    kept = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    new = {(row["data"], row["case"]) for row in rows}
    rows = [row for row in kept if (row["data"], row["case"]) not in new] + rows
    result = {
        "settings": {"documents": DOCUMENTS, "tokens": LENGTH, "sigma": SIGMA, "gamma": GAMMA, "weight": WEIGHT},
        "rows": rows,
        "environment": environment_of(options.threads),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
