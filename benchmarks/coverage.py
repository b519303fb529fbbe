"""Which share of the labeled documents has another of its class in the graph of a batch, with and without a memory?

    GRAPHLOSS_DATA=FOLDER python benchmarks/coverage.py

The training labels of R52 and Ohsumed in batches of 32, drawn blindly or by class; 4 documents per class remembered
or none; the third epoch. Coverage depends on the labels alone, so that the embeddings are random. Written to
benchmarks/results/coverage.json; docs/research/smaller_questions.md shows it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from graphloss.losses.memory_bank import Memory
from graphloss.losses.modules import GLoss
from graphloss.text.corpus import load_corpus
from graphloss.training.sampler import ClassAwareBatchSampler

OUT = Path(__file__).parent / "results" / "coverage.json"
DATA, BATCH, REMEMBERED, EPOCHS, DIMENSIONS = ("r52", "ohsumed"), 32, 4, 3, 8


def batches(labels: torch.Tensor, epoch: int, by_class: bool) -> list[torch.Tensor]:
    """The documents of each batch of an epoch."""
    if not by_class:
        return list(torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch)).split(BATCH))
    sampler = ClassAwareBatchSampler(labels.tolist(), BATCH)
    sampler.set_epoch(epoch)
    return [torch.tensor(batch) for batch in sampler]


def covered(labels: torch.Tensor, remembered: int, by_class: bool) -> float:
    """Percent of the documents that were asked in the last epoch; `remembered` is a memory's size, 0 for none."""
    classes = int(labels.max()) + 1
    loss = GLoss(sigma=0.3, memory=Memory(classes, remembered, DIMENSIONS) if remembered else None)
    generator = torch.Generator().manual_seed(0)
    asked = 0.0
    for epoch in range(EPOCHS):
        for documents in batches(labels, epoch, by_class):
            z = torch.nn.functional.normalize(torch.randn(len(documents), DIMENSIONS, generator=generator))
            loss(z, labels[documents], documents=documents)
            asked += float(loss.coverage) * len(documents) * (epoch == EPOCHS - 1)
    return 100 * asked / len(labels)


def main() -> None:
    """Count, print and write."""
    rows = []
    for data in DATA:
        corpus = load_corpus(data, validation=0.0)
        labels = torch.tensor(corpus.train.labels)
        for by_class in (False, True):
            for remembered in (0, REMEMBERED):
                percent = covered(labels, remembered, by_class)
                rows.append({"data": data, "by_class": by_class, "remembered": remembered, "percent": percent})
                drawn = "by class" if by_class else "blindly"
                print(f"{data}, drawn {drawn}, memory {remembered or 'none'}: {percent:.2f}")
    OUT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
