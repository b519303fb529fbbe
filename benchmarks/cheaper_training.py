"""Is a cheaper training as good? Whole trainings on a few labels, on three data sets, by the processor's seconds.

    GRAPHLOSS_DATA=FOLDER python benchmarks/cheaper_training.py [--seeds 5] [--only NAME ...]   train what is missing
    python benchmarks/cheaper_training.py --table                                               print the table

Data, labels and test texts are those of `defaults.py`, without a validation split and without blending:

    all layers       the default rate
    freeze N         `--freeze N`
    LoRA             updates of rank 16 of queries and values alone (peft), at rates of its own
    short at first   the first half of the epochs read half as many tokens

What a step of each costs is measured in `training_cost.py`. Cells are appended to `results/cheaper_training.jsonl`;
a second call goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from defaults import DATA, drawn, figures
from transformers import TrainerCallback

from graphloss.text.encoder import encode, load
from graphloss.text.encoder_source import resolve
from graphloss.text.texts_and_labels import Documents
from graphloss.training.fit import fit
from graphloss.training.preflight import check_settings, preflight
from graphloss.training.settings import TrainSettings

RESULTS = Path(__file__).parent / "results" / "cheaper_training.jsonl"
BASE: dict[str, Any] = {"blend": 1.0, "batch_size": 64}
VARIANTS: dict[str, dict[str, Any]] = {
    "all layers": {},
    "short at first": {"short": True},
    "freeze 2": {"freeze": 2},
    "freeze 3, rate 4e-4": {"freeze": 3, "learning_rate": 4e-4},
    "LoRA, rate 1e-3": {"adapted": True, "learning_rate": 1e-3},
    "LoRA, rate 3e-3": {"adapted": True, "learning_rate": 3e-3},
}


class ShortAtFirst(TrainerCallback):
    """Half of the tokens in the first half of the epochs."""

    def __init__(self, encoder: Any, tokens: int, epochs: int) -> None:
        self.encoder, self.tokens, self.epochs = encoder, tokens, epochs

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the length of the texts."""
        self.encoder.max_seq_length = self.tokens // 2 if (state.epoch or 0) < self.epochs / 2 else self.tokens


def cell(variant: str, data: str, seed: int) -> dict[str, Any]:
    """Train and score one cell."""
    (train, test, names), (_, _, tokens, epochs) = drawn(data, seed), DATA[data]
    how = dict(VARIANTS[variant])
    short, adapted = how.pop("short", False), how.pop("adapted", False)
    settings = TrainSettings(**(BASE | how | {"epochs": epochs, "max_length": tokens, "seed": seed}))
    encoder = load(resolve(None), max_length=tokens, device="cpu")
    if adapted:
        from peft import LoraConfig

        encoder.add_adapter(LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"]))
    callbacks: list[TrainerCallback] = [ShortAtFirst(encoder, tokens, epochs)] if short else []
    clock = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        checked = preflight(check_settings(settings, train, Documents([], []), names), encoder)
        fitted = fit(encoder, checked, folder=Path(folder), callbacks=callbacks)
    row = {"variant": variant, "data": data, "seed": seed, "processor_seconds": time.process_time() - clock}
    z, truth = encode(fitted.model.encoder, test.texts), np.array(test.labels)
    head, graph = fitted.model.predictor.head(z), fitted.model.predictor.graph(z)
    return row | {
        "head": figures(truth, head.numpy(), names),
        "mix": figures(truth, ((head + graph) / 2).numpy(), names),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy and macro-F1 of the head, and of head and graph, and the processor's time beside all layers'."""
    found = {(row["variant"], row["data"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| training | " + " | ".join(DATA) + " | mean, head | mean, head and graph | processor's time |",
        "| --- |" + " ---: |" * (len(DATA) + 3),
    ]
    for variant in VARIANTS:
        cells = {d: [found[variant, d, s] for s in seeds if (variant, d, s) in found] for d in DATA}
        if not all(cells.values()):
            continue

        def mean(predictor: str, metric: str, some: list[dict[str, Any]]) -> float:
            return 100 * float(np.mean([row[predictor][metric] for row in some]))

        shown = [f"{mean('head', 'accuracy', c):.1f} / {mean('head', 'macro_f1', c):.1f}" for c in cells.values()]
        for predictor in ("head", "mix"):
            both = (np.mean([mean(predictor, m, c) for c in cells.values()]) for m in ("accuracy", "macro_f1"))
            shown.append(" / ".join(f"{x:.1f}" for x in both))
        ratios = [
            row["processor_seconds"] / found["all layers", d, row["seed"]]["processor_seconds"]
            for d, c in cells.items()
            for row in c
        ]
        lines.append(f"| {variant} | " + " | ".join(shown) + f" | {np.mean(ratios):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if not options.table:
        torch.set_num_threads(1)
        done = {(row["variant"], row["data"], row["seed"]) for row in rows}
        for seed in range(options.seeds):
            for data in DATA:
                for variant in VARIANTS:
                    if variant in options.only and (variant, data, seed) not in done:
                        rows.append(cell(variant, data, seed))
                        with RESULTS.open("a") as stream:
                            stream.write(json.dumps(rows[-1]) + "\n")
                        print(variant, data, seed, {m: round(100 * v, 1) for m, v in rows[-1]["head"].items()})
    print(table(rows))


if __name__ == "__main__":
    main()
