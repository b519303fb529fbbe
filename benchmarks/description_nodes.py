"""Does the loss matter where a line per class is a node of every batch graph, so that each class can be reached?

    GRAPHLOSS_DATA=FOLDER python benchmarks/description_nodes.py run     train what is missing
    python benchmarks/description_nodes.py page                          write docs/research/description_nodes.md

Letters as in `graphloss.losses.graph`: documents and lines are nodes with labels y, w_ij = exp(cos_ij / σ²). A document
i is predicted from all other nodes, the lines of all classes among them::

    p_i = Σ_{j ≠ i, y_j = y_i} w_ij / Σ_{j ≠ i} w_ij          loss = mean_i -log p_i

so that with one label per class p_i is the share of the own class's line. Both ends of an edge learn. The mean is over
the documents, or over the lines too, which then must be told from each other.
"""

from __future__ import annotations

from typing import Any

import torch
from loss_trials import FREEZE, KEY, STEPS, TOKENS, Arm, Experiment, Task, command
from result_table import FOLDER, ResultTable
from sentence_transformers import SentenceTransformer
from short_training import Batch, train
from torch import Tensor, nn
from torch.nn import functional

from graphloss.losses.baselines import SupCon
from graphloss.losses.functional import gloss
from graphloss.losses.graph import log_affinity, log_share, unit

WEIGHT = 0.5


def node_loss(z: Tensor, labels: Tensor, is_line: Tensor, *, sigma: float, lines_too: bool = False) -> Tensor:
    """Mean of -log p over the documents, of which each sees all other nodes.

    Args:
        z: (n, d) embeddings of documents and lines.
        labels: (n,) class indices.
        is_line: (n,) boolean.
        sigma: bandwidth.
        lines_too: predict the lines as well.

    Returns:
        0-d; 0 with a live gradient where no other node has the class of any.
    """
    same = labels[:, None] == labels[None, :]  # (n, n)
    anchors = (same.sum(dim=1) > 1) & (~is_line | lines_too)  # (n,)
    z = unit(z)
    if not bool(anchors.any()):
        return (z * 0.0).sum()
    return -log_share(log_affinity(z, sigma)[anchors], same[anchors]).mean()


def fit(task: Task, arm: str, setting: dict[str, Any]) -> tuple[SentenceTransformer, nn.Linear]:
    """Train an arm."""
    options = dict(setting)
    rate = options.pop("rate")
    contrast = SupCon(options["t"]) if "t" in options else None

    def loss(batch: Batch) -> Tensor:
        plain = functional.cross_entropy(batch.logits, batch.labels)
        if arm.startswith("ce"):
            return plain
        if contrast is not None:
            graph = contrast(batch.z, batch.labels)
        elif arm == "gloss":
            graph = gloss(batch.z, batch.labels, sigma=options["σ"]).loss
        else:
            lines_too = options.get("lines predicted too", False)
            graph = node_loss(batch.z, batch.labels, batch.every, sigma=options["σ"], lines_too=lines_too)
        return torch.lerp(plain, graph, WEIGHT)

    texts, labels, every = task.texts, task.labels, task.lines
    if not arm.endswith("every"):
        texts, labels = texts + [line for line, _ in every], labels + [label for _, label in every]
        every = []
    return train(
        texts,
        labels,
        task.classes,
        loss,
        tokens=TOKENS,
        seed=task.seed,
        every=every,
        rate=rate,
        steps=STEPS,
        freeze=FREEZE,
    )


SHARES = tuple({"rate": rate, "t": t} for rate in (3e-4, 6e-4) for t in (0.1, 0.3))
WIDTHS = tuple({"rate": rate, "σ": sigma} for rate in (3e-4, 6e-4) for sigma in (0.3, 0.5))
PLAIN = tuple({"rate": rate} for rate in (1.5e-4, 3e-4, 6e-4, 1.2e-3))
NODES = tuple(
    each | ({"lines predicted too": True} if too else {})
    for each, too in zip(WIDTHS, (False, True, True, False), strict=True)
)
ARMS = {
    "ce": Arm("cross-entropy, lines as documents", PLAIN),
    "ce-every": Arm("cross-entropy, lines in every batch", PLAIN),
    "supcon": Arm("SupCon, lines as documents", SHARES),
    "gloss": Arm("G-Loss, lines as documents", WIDTHS),
    "gloss-every": Arm("G-Loss, lines as nodes of every batch", NODES),
}
ONE_BATCH = {("trec", 1), ("trec", 4), ("r8", 1), ("agnews", 1), ("agnews", 4), ("cr", 1), ("cr", 4)}
"""Columns whose labeled texts and lines are one batch: the lines are in every batch there in any case."""
DATA = ("trec", "banking77", "r8", "hwu64", "agnews", "cr")
TOP = f"""# Lines as nodes of every batch graph

Question: with a line per class and one or four labels, does it help that the line is a node of every batch graph, so
that each class can be reached and a single label can be predicted? Written by
`python benchmarks/description_nodes.py page` from `benchmarks/results/description_nodes.jsonl`, one row per training,
which `run` makes.

Every arm has the same labels and lines (of banking77 and hwu64 the names), the same head to start with, {STEPS} steps
of at most 32 labeled texts, {TOKENS} tokens per text, and no unlabeled text; the upper half of all-MiniLM-L6-v2 learns.
SupCon and G-Loss stand beside cross-entropy with weight {WEIGHT}. The head predicts 600 test texts. Lines *as
documents* are drawn into batches as labeled texts are; lines *in every batch* are there in each, for cross-entropy
too. As *nodes* they are shown to each document, and the graph loss is a mean over the documents, or over documents and
lines (*lines predicted too*). The gradient goes to both ends of an edge: without it the documents would have the same
gradient, and the lines none. Where labeled texts and lines are one batch (trec, agnews, cr, and r8 with one label) the
lines are in every batch in any case: one training stands for both arms of cross-entropy there.

"""
EXPERIMENT = Experiment(
    results=ResultTable(FOLDER / "description_nodes.jsonl", KEY),
    page=FOLDER.parents[1] / "docs" / "research" / "description_nodes.md",
    words="lines",
    arms=ARMS,
    tried=(("trec", 4), ("hwu64", 1)),
    reported=[(name, shots) for name in DATA for shots in (1, 4)],
    draws=5,
    fit=fit,
    top=TOP,
    same_as=lambda arm, column: "ce" if arm == "ce-every" and column in ONE_BATCH else arm,
    compared=[("gloss-every", other) for other in ("ce", "ce-every", "supcon", "gloss")]
    + [("gloss", "ce"), ("gloss", "supcon"), ("ce-every", "ce")],
)

if __name__ == "__main__":
    command(EXPERIMENT, __doc__)
