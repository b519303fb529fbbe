"""Does it scale? From the start to the first step, predicting, the graph and what to label of 100,000 documents.

    python benchmarks/scale.py start [--rows 25000 50000 100000] [--threads N]
    python benchmarks/scale.py predict [--data banking77] [--repeats N] [--threads N]
    python benchmarks/scale.py corpus [--rows 100000 150000] [--threads N]
    python benchmarks/scale.py suggest [--rows 100000] [--threads N]

    start     `graphloss train FILE` on a CSV file of so many rows of 12 words in 20 classes, made on the spot: seconds
              until the first optimizer step has been taken, beyond loading the encoder with its libraries, and the most
              memory that the process had resident by then
    predict   texts a second of `graphloss predict` (the model is loaded) and of `encode` of sentence-transformers, in
              turn, with the same encoder on the same 1,536 texts of the test split, more than are answered together;
              the graph has as many documents as the train split; once more with 20,000 unlabeled documents beside it
    corpus    nearest neighbors and graph of random embeddings of 384 numbers around 77 centers, and one spreading of 8
              labels per class over it; beyond 120,000 documents by the approximate index, whose recall is the share of
              the true 10 nearest neighbors among those found, over 1,000 documents

Each size is a process of its own. Seconds of the processor stand beside the wall's, which a busy machine makes longer.
Written to benchmarks/results/scale.json, each question with its environment.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import environment_of
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
WORDS, CLASSES = 12, 20
TEXTS = 1536
DIMENSIONS, CENTERS, LABELS, COUNT = 384, 77, 8, 32


def mebibytes() -> float:
    """The most memory that this process had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def clocked(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work gives, its wall-clock and its processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    given = work()
    return given, time.perf_counter() - wall, time.process_time() - cpu


def write_rows(path: Path, rows: int) -> None:
    """A CSV file of documents that a third of the words tells the class of, out of the encoder's own vocabulary."""
    from graphloss.text.encoder import load
    from graphloss.text.encoder_source import resolve

    rng = random.Random(0)
    words = sorted(word for word in load(resolve(None), device="cpu").tokenizer.get_vocab() if word.isalpha())
    vocabulary = rng.sample(words, 8000)
    own = [rng.sample(vocabulary, 40) for _ in range(CLASSES)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        for row in range(rows):
            here = own[row % CLASSES]
            text = [rng.choice(here if rng.random() < 0.33 else vocabulary) for _ in range(WORDS)]
            table.writerow([" ".join(text), f"class {row % CLASSES}"])


class FirstStep(BaseException):
    """Thrown when the first step has been taken, through whatever catches exceptions."""


def start(path: str, rows: int) -> dict[str, float]:
    """The command until its first optimizer step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    began, began_cpu = time.perf_counter(), time.process_time()
    import graphloss.text.encoder
    from graphloss.cli.application import app

    load, spent = graphloss.text.encoder.load, [0.0, 0.0]

    def timed(*args: Any, **options: Any) -> Any:
        encoder, wall, cpu = clocked(lambda: load(*args, **options))
        spent[0], spent[1] = spent[0] + wall, spent[1] + cpu
        return encoder

    def stop(*_: Any) -> None:
        raise FirstStep

    graphloss.text.encoder.load = timed
    register_optimizer_step_post_hook(stop)
    with tempfile.TemporaryDirectory() as folder:
        try:
            app(["train", path, "--out", f"{folder}/run", "--quiet"], standalone_mode=False)
        except FirstStep:
            wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "rows": rows,
        "wall": wall - spent[0],
        "cpu": cpu - spent[1],
        "load_wall": spent[0],
        "load_cpu": spent[1],
        "mib": mebibytes(),
    }


def predict(data: str, repeats: int) -> list[dict[str, float]]:
    """Predicting and encoding in turn: a row for each repeat."""
    from graphloss.inference import run_folder
    from graphloss.inference.fitted_model import FittedModel
    from graphloss.inference.linear_probe import linear_probe
    from graphloss.inference.predictor import Predictor
    from graphloss.inference.self_training import KEPT_DOCUMENTS
    from graphloss.run import predict
    from graphloss.text.corpus import load_corpus, load_split
    from graphloss.text.encoder import load
    from graphloss.text.encoder_source import resolve
    from graphloss.training.fit_result import Fitted
    from graphloss.training.settings import TrainSettings

    corpus = load_corpus(data)
    texts = load_split(data, "test").texts[:TEXTS]
    encoder = load(resolve(None), device="cpu").eval()
    labels = corpus.train.labels
    generator = torch.Generator().manual_seed(0)
    # the time does not depend on what the numbers are: head and graph of the size that this corpus gives
    z = torch.nn.functional.normalize(torch.randn(len(labels), DIMENSIONS, generator=generator))
    probe = linear_probe(z[:500], labels[:500], len(corpus.label_names))
    predictor = Predictor(probe.weight, probe.bias, z, torch.tensor(labels), 0.3, graph_share=0.5)
    model = FittedModel(encoder, predictor, corpus.label_names, corpus.train.texts)
    pile = torch.nn.functional.normalize(torch.randn(KEPT_DOCUMENTS, DIMENSIONS, generator=generator))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        run_folder.write_model(run, model)
        run_folder.write_info(run, Fitted(model).info(TrainSettings(), run) | {"status": "finished"})
        info, kept = run_folder.read_model(run)
        path = Path(folder) / "texts.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["text"], *([text] for text in texts)])
        kept.encoder.encode(texts[:32])  # warms caches
        for repeat in range(repeats):
            sides = {
                "predict": lambda: sum(1 for _ in predict.predict(run, str(path), text="text")),
                "predict_pile": lambda: sum(1 for _ in predict.predict(run, str(path), text="text")),
                "encode": lambda: len(kept.encoder.encode(texts, batch_size=32)),
            }
            row: dict[str, float] = {}
            for name in sorted(sides, reverse=bool(repeat % 2)):
                neighbor_weight = 0.45 if name == "predict_pile" else 0.0
                chosen = replace(
                    kept, predictor=replace(predictor, unlabeled_support=pile, neighbor_weight=neighbor_weight)
                )
                with mock.patch.object(run_folder, "read_model", lambda folder, chosen=chosen: (info, chosen)):
                    count, row[f"{name}_wall"], row[f"{name}_cpu"] = clocked(sides[name])
                assert count == len(texts)
            found.append(row | {"texts": len(texts), "support": len(labels)})
    return found


def resident(what: str) -> float:
    """Mebibytes of this process: resident now (VmRSS), or the most since `forget_peak` (VmHWM); Linux alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 2**10


def forget_peak() -> None:
    """Let the most that was resident begin anew; Linux alone."""
    Path("/proc/self/clear_refs").write_text("5")


def recall(z: torch.Tensor, found: torch.Tensor, asked: int = 1000) -> float:
    """The share of the true nearest neighbors of some documents that are among the found ones (n, k)."""
    some = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))[:asked]
    c = z[some] @ z.T  # (asked, n)
    c[torch.arange(asked), some] = -torch.inf
    true = c.topk(found.shape[1], dim=1).indices
    return float((true[:, :, None] == found[some][:, None, :]).any(dim=2).float().mean())


def corpus(rows: int) -> dict[str, float]:
    """The graph over random embeddings, and one spreading."""
    from graphloss.inference.graphs.corpus_graph import corpus_graph, spread
    from graphloss.inference.graphs.nearest_neighbors import Neighbors, nearest
    from graphloss.training.memory_estimate import of_corpus_graph

    generator = torch.Generator().manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(CENTERS, DIMENSIONS, generator=generator))
    y = torch.arange(rows) % CENTERS
    z = torch.nn.functional.normalize(centers[y] + 0.08 * torch.randn(rows, DIMENSIONS, generator=generator))
    labels = torch.where(torch.arange(rows) < LABELS * CENTERS, y, -1)
    found: list[Neighbors] = []

    def kept(*args: Any, **options: Any) -> Neighbors:
        found.append(nearest(*args, **options))
        return found[-1]

    forget_peak()
    before = resident("VmRSS")
    with mock.patch("graphloss.inference.graphs.corpus_graph.nearest", kept):
        graph, wall, cpu = clocked(lambda: corpus_graph(z))
    f, spread_wall, spread_cpu = clocked(lambda: spread(graph, labels, CENTERS))
    above = resident("VmHWM") - before
    return {
        "rows": rows,
        "graph_wall": wall,
        "graph_cpu": cpu,
        "spread_wall": spread_wall,
        "spread_cpu": spread_cpu,
        "right": float((f.argmax(1) == y).float().mean()),
        "mib_above_embeddings": above,
        "mib_estimated": of_corpus_graph(rows, DIMENSIONS, CENTERS) / 2**20,
        "recall": recall(z, found[0].places),
    }


def suggest(rows: int) -> dict[str, float]:
    """What to label first and next, once the texts are embedded."""
    from graphloss.inference import suggestion
    from graphloss.inference.graphs import facility_location
    from graphloss.inference.graphs.facility_location import directions, greedy_cover

    generator = torch.Generator().manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(CENTERS, DIMENSIONS, generator=generator))
    y = torch.multinomial(1.0 / torch.arange(1, CENTERS + 1), rows, replacement=True, generator=generator)
    z = centers[y] + 0.08 * torch.randn(rows, DIMENSIONS, generator=generator)
    z[::50] = z[1::50] + 0.001 * torch.randn(len(z[::50]), DIMENSIONS, generator=generator)
    z, texts = torch.nn.functional.normalize(z), [f"text {row}" for row in range(rows)]
    forget_peak()
    before = resident("VmRSS")
    with (
        mock.patch("graphloss.text.encoder.load"),
        mock.patch("graphloss.text.encoder.encode", lambda _, texts, **__: z if texts else z[:0]),
    ):
        first, wall, cpu = clocked(lambda: suggestion.suggest(texts, COUNT))
        labels: list[Any] = [None] * rows
        for each in first:
            labels[each["row"]] = int(y[each["row"]])
        following, next_wall, next_cpu = clocked(lambda: suggestion.suggest(texts, COUNT, labels=labels))
    above = resident("VmHWM") - before
    assert len({each["row"] for each in [*first, *following]}) == 2 * COUNT

    x = directions(z[:20_000], z[:0])
    exact = greedy_cover(x, x[:0], COUNT, weights=torch.ones(len(x))).chosen
    with mock.patch.object(facility_location, "EXACT_TEXTS", 0):
        by_part = greedy_cover(x, x[:0], COUNT, weights=torch.ones(len(x))).chosen
    values = [(x @ x[chosen].T).amax(dim=1).clamp_min(0).sum() for chosen in (by_part, exact)]
    return {
        "rows": rows,
        "wall": wall,
        "cpu": cpu,
        "next_wall": next_wall,
        "next_cpu": next_cpu,
        "mib_above_embeddings": above,
        "value": float(values[0] / values[1]),
    }


def alone(question: str, threads: int, **case: Any) -> Any:
    """The answer to one case from a process of its own."""
    command = [sys.executable, __file__, question, "--threads", str(threads), "--case", json.dumps(case)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def show(title: str, rows: list[dict[str, float]]) -> None:
    """A table of all that was measured."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        cells = [row[name] for name in rows[0]]
        table.add_row(*(f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for value in cells))
    Console(width=140).print(table)


def main() -> None:
    """Measure, print the table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=("start", "predict", "corpus", "suggest"))
    parser.add_argument("--rows", type=int, nargs="+", default=None)
    parser.add_argument("--data", default="banking77")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scale.json")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        print(json.dumps(globals()[options.question](**options.case)))
        return

    answer: dict[str, Any] = {}
    if options.question == "start":
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for count in options.rows or [25_000, 50_000, 100_000]:
                path = Path(folder) / f"{count}.csv"
                write_rows(path, count)
                rows.append(alone("start", options.threads, path=str(path), rows=count))
        if len(rows) > 1:
            kib = 1024 * (rows[-1]["mib"] - rows[0]["mib"]) / (rows[-1]["rows"] - rows[0]["rows"])
            answer["kib_a_row"] = kib
    elif options.question == "predict":
        rows = alone("predict", options.threads, data=options.data, repeats=options.repeats)
        for clock in ("cpu", "wall"):
            for side in ("", "_pile"):
                ratios = [row[f"encode_{clock}"] / row[f"predict{side}_{clock}"] for row in rows]
                answer[f"throughput{side}_{clock}"] = statistics.median(ratios)
    else:
        counts = options.rows or {"corpus": [100_000, 150_000], "suggest": [100_000]}[options.question]
        rows = [alone(options.question, options.threads, rows=count) for count in counts]
    show(f"{options.question}, {options.threads} threads", rows)
    for name, value in answer.items():
        print(f"{name.replace('_', ' ')}: {value:.3f}")
    environment = environment_of(options.threads)
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    kept[options.question] = answer | {"rows": rows, "environment": environment}
    options.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
