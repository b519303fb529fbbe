"""Does the loss matter where two views of an unlabeled text must agree, and pseudo-labels weigh the graph's edges?

    GRAPHLOSS_DATA=FOLDER python benchmarks/two_views.py run     train what is missing
    python benchmarks/two_views.py page                          write docs/research/two_views.md

A batch has labeled texts and two views of unlabeled ones: dropout alone, and dropout after a part of the words is gone.
Letters as in `graphloss.losses.graph`, v = 1, 2 the view; L labeled, U unlabeled nodes; p^v the head's probabilities::

    W_ij  = exp(cos_ij / σ²) · g_ij      g_ij = p_i^1 · p_j^1 between two unlabeled texts, else 1
    F^v_U = (I - P_UU)^-1 P_UL Y_L       P = D^-1 W, of the graph of L and view v of U
    t     = sharpened mean of p^1 and F^1
    loss  = (1 - λ) cross-entropy + λ left-out G-Loss of L + μ mean_U (H(t, p^2) + H(t, F^2)) / 2

after CoMatch (Li, Xiong, Hoi 2021), whose pseudo-labels are smoothed by neighbors too, and whose pseudo-label graph
weighs the pairs of the embedding graph. g is no part of the gradient; edges of labeled texts have none, or the label
that is left out would show. Cross-entropy and SupCon have the same texts and views: t is sharpened p^1 alone, and for
SupCon the two views of a text are of one class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from loss_trials import FREEZE, KEY, STEPS, TOKENS, Arm, Experiment, Task, command
from result_table import FOLDER, ResultTable
from sentence_transformers import SentenceTransformer
from short_training import Batch, train
from torch import Tensor, nn
from torch.nn import functional

from graphloss.losses.baselines import SupCon
from graphloss.losses.graph import log_affinity, log_share, unit
from graphloss.losses.propagation import loo_log_kernel, one_hot

WEIGHT, DROPPED, SHARPENING, LEAST = 0.5, 0.2, 0.5, 1e-6
LABELED, UNLABELED = 80, 16
"""Texts per batch."""


def weighed(logw: Tensor, labels: Tensor, p: Tensor) -> Tensor:
    """Log-similarity (n, n), edges between unlabeled texts weighed by the agreement of their probabilities (n, C)."""
    hidden = labels < 0  # (n,)
    agreement = (p.detach() @ p.detach().T).clamp_min(LEAST).log()  # (n, n)
    return logw + torch.where(hidden[:, None] & hidden[None, :], agreement, 0.0)


def propagated(logw: Tensor, labels: Tensor, classes: int) -> Tensor:
    """F_U (u, C) of the unlabeled nodes, from all labels."""
    hidden = labels < 0  # (n,)
    walk = logw.softmax(dim=1)[hidden]  # (u, n)
    system = torch.eye(len(walk), dtype=walk.dtype) - walk[:, hidden]
    return torch.linalg.solve(system, walk @ one_hot(labels, classes, walk.dtype))


def left_out(logw: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p over the labeled texts that have another one of their class; each is left out in turn."""
    y = labels[labels >= 0]  # (l,)
    same = y[:, None] == y[None, :]  # (l, l)
    anchors = same.sum(dim=1) > 1
    if not bool(anchors.any()):
        return (logw * 0.0).sum()
    return -log_share(loo_log_kernel(logw, labels)[anchors], same[anchors]).mean()


def sharpened(p: Tensor) -> Tensor:
    """Targets (u, C), no part of the gradient."""
    sharp = p.detach().clamp_min(LEAST) ** (1 / SHARPENING)
    return sharp / sharp.sum(dim=1, keepdim=True)


def agreement(target: Tensor, p: Tensor) -> Tensor:
    """Mean over u texts of H(target, p), both (u, C)."""
    return -(target * p.clamp_min(LEAST).log()).sum() / max(1, len(p))


def graph_loss(batch: Batch, *, sigma: float, consistency: float) -> Tensor:
    """G-Loss with two views: the two sums of the module's formula that know the graph, and the head's own."""
    p, first = batch.logits.softmax(dim=1), ~batch.second  # (n, C), (n,)
    labels, hidden = batch.labels[first], batch.labels[first] < 0
    z = unit(batch.z)
    views = [z[first], torch.cat([z[first][~hidden], z[batch.second]])]  # labeled texts come first in both
    q = p[first]
    graphs = [weighed(log_affinity(view, sigma), labels, q) for view in views]
    plain = functional.cross_entropy(batch.logits[first][~hidden], labels[~hidden])
    value = torch.lerp(plain, left_out(graphs[0], labels), WEIGHT)
    if not bool(hidden.any()):
        return value
    one, two = (propagated(graph, labels, p.shape[1]) for graph in graphs)
    target = sharpened((q[hidden] + one) / 2)
    return value + consistency * (agreement(target, p[batch.second]) + agreement(target, two)) / 2


def head_loss(batch: Batch, *, consistency: float, contrast: SupCon | None) -> Tensor:
    """Cross-entropy, or SupCon beside it, with the same texts and views."""
    labeled, p = batch.labels >= 0, batch.logits.softmax(dim=1)
    value = functional.cross_entropy(batch.logits[labeled], batch.labels[labeled])
    if contrast is not None:
        own = batch.logits.shape[1] + batch.texts  # the class of an unlabeled text is the text
        value = torch.lerp(value, contrast(batch.z, torch.where(labeled, batch.labels, own)), WEIGHT)
    if not bool(batch.second.any()):
        return value
    return value + consistency * agreement(sharpened(p[~labeled & ~batch.second]), p[batch.second])


def without_words(text: str, rng: np.random.Generator) -> str:
    """The text without a part of its words; one is left at least."""
    words = text.split()
    kept = [word for word, draw in zip(words, rng.random(len(words)), strict=True) if draw >= DROPPED]
    return " ".join(kept or words[:1])


def fit(task: Task, arm: str, setting: dict[str, Any]) -> tuple[SentenceTransformer, nn.Linear]:
    """Train an arm."""
    consistency, views = setting.get("μ", 0.0), arm.endswith("views")
    contrast = SupCon(setting["t"]) if "t" in setting else None

    def loss(batch: Batch) -> Tensor:
        if "σ" in setting:
            return graph_loss(batch, sigma=setting["σ"], consistency=consistency)
        return head_loss(batch, consistency=consistency, contrast=contrast)

    return train(
        task.texts,
        task.labels,
        task.classes,
        loss,
        tokens=TOKENS,
        seed=task.seed,
        unlabeled=task.unlabeled,
        unlabeled_per_batch=UNLABELED if views else 0,
        second_view=without_words if views else None,
        rate=setting["rate"],
        steps=STEPS,
        batch_size=LABELED,
        freeze=FREEZE,
    )


RATES, HALF = (6e-4, 3e-4, 1.2e-3, 1.5e-4), ((6e-4, 0), (3e-4, 0), (6e-4, 1), (3e-4, 1))
VIEWS: tuple[dict[str, float], ...] = tuple({"rate": rate, "μ": (1.0, 0.3)[place]} for rate, place in HALF)
ARMS = {
    "ce": Arm("cross-entropy", tuple({"rate": rate} for rate in RATES)),
    "supcon": Arm("SupCon", tuple({"rate": rate, "t": (0.1, 0.3)[place]} for rate, place in HALF)),
    "gloss": Arm("G-Loss", tuple({"rate": rate, "σ": (0.3, 0.5)[place]} for rate, place in HALF)),
    "ce-views": Arm("cross-entropy, two views", VIEWS),
    "supcon-views": Arm("SupCon, two views", tuple({**each, "t": 0.3} for each in VIEWS)),
    "gloss-views": Arm("G-Loss, two views, graph of graphs", tuple({**each, "σ": 0.5} for each in VIEWS)),
}
OWN = [(f"{arm}-views", arm) for arm in ("gloss", "ce", "supcon")]
TOP = f"""# Two views and a graph of graphs

Question: with unlabeled texts in the batch, two views of each, does a graph loss gain what consistency of the head does
not? Written by `python benchmarks/two_views.py page` from `benchmarks/results/two_views.jsonl`, one row per training,
which `run` makes.

The second view of a text lacks a fifth of its words; both have dropout. *Cross-entropy, two views*: the head's
probabilities of the second view follow the sharpened ones of the first (FixMatch, UDA). *SupCon, two views*: the same,
and the views of a text attract each other. *G-Loss, two views, graph of graphs* (after CoMatch): the target is the mean
of the head and of the labels propagated over the first view's graph, in which the agreement of pseudo-labels weighs the
edges between unlabeled texts; the head and the propagated labels of the second view follow it. The other arms have the
labels alone. No arm has lines. {STEPS} steps of up to {LABELED} labeled and {UNLABELED} unlabeled texts,
{TOKENS} tokens per text; the upper half of all-MiniLM-L6-v2 learns; SupCon and G-Loss stand beside cross-entropy with
weight {WEIGHT}. The head predicts 600 test texts.

"""
EXPERIMENT = Experiment(
    results=ResultTable(FOLDER / "two_views.jsonl", KEY),
    page=FOLDER.parents[1] / "docs" / "research" / "two_views.md",
    words="none",
    arms=ARMS,
    tried=(("trec", 8),),
    reported=(("trec", 8), ("banking77", 1), ("r8", 4), ("mr", 8), ("ohsumed", 4)),
    draws=3,
    fit=fit,
    top=TOP,
    compared=[("gloss-views", "ce-views"), ("gloss-views", "supcon-views"), *OWN, ("gloss", "ce"), ("gloss", "supcon")],
)

if __name__ == "__main__":
    command(EXPERIMENT, __doc__)
