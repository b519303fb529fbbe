"""The linear head from a few labels, descriptions of the classes and unlabeled documents.

Letters: z (n, d) unit embeddings, U the m unlabeled documents among them, C classes, w (C,) weights of descriptions::

    1. regression     A = SHARPENING times the logits of `description_prior.informed_probe` on labels and lines
                      q = mean over U of softmax(A), the class prior
    2. information    I: from A, `STEPS` steps of Adam on  H(labels and lines, softmax I) + mean over U of H(softmax I)
                      + KL(mean over U of softmax I || q):  sure predictions in the estimated proportions
    3. graph          F: spread labels and lines over the corpus graph, class mass on U scaled to q, rows to one
    4. pseudo-labels  E = (1 - b/2) A + b/2 I,  T proportional to F softmax(E),  weights 1 - H(T) / log C
                      H: soft probe on labels, lines and T with inverse regularization max(1, C / CLASSES_PER_UNIT)
                      b = mean over the classes with a label or a line of  max(min(1, 2 w_c), [c has two labels])
    5. passes         while a > 0, `PASSES` times in all: T proportional to F softmax((1 - a) E + a H), and H anew
                      a = (1 - b) min(1, kappa / FULL_AGREEMENT),  kappa of A and F, Cohen's, on U
    6. few texts      head = (1 - t) fallback + t H,  t = m / (m + TRUST_DOCUMENTS)

Step 2 is information maximization (Krause, Perona, Gomes 2010; Boudiaf et al. 2020) with a prior on the classes, 3
label spreading (Zhou et al. 2003), 4 a product of experts (Hinton 2002) with the weights of Iscen et al. 2019.
Regression and information have a direction, the graph has clusters. b measures how far anything but a single label
confirms the direction: information maximization amplifies a wrong one, which the graph corrects pass by pass, where it
agrees with the regression beyond chance; where it does not, the classes are no clusters, and passes amplify noise.
docs/research/few_label_head.md has the figures behind each number.
"""

import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from graphloss.inference.description_prior import informed_probe, labeled_and_lines
from graphloss.inference.graphs.corpus_graph import assortativity, certainty, class_mass, corpus_graph, spread
from graphloss.inference.graphs.facility_location import sample_rows
from graphloss.inference.linear_probe import ABSENT_BIAS, Probe, soft_probe
from graphloss.losses.graph import unit
from graphloss.losses.propagation import normalized

SHARPENING = 3.0
"""Factor of the regression's logits: those of a regression on few labels are underconfident."""

STEPS, RATE = 75, 0.05
"""Of Adam in step 2, which stays near its start by stopping: 150 and 300 steps are no better."""

CLASSES_PER_UNIT = 10
"""Soft targets are many and partly wrong, so that their inverse regularization is less than the probe's."""

PASSES = 3
"""Fits of the head where its direction is unconfirmed."""

FULL_AGREEMENT = 0.5
"""Kappa of regression and graph from which on the passes follow the graph all the way."""

TRUST_DOCUMENTS = 200
"""Unlabeled documents that give the refitted head half of the weight."""

PROBABILITIES = 50_000_000
"""Largest number of pseudo-labels, m C; of more documents a random part takes part: 200 MB per matrix."""

FLOOR = 1e-6
"""Least probability by the graph: a document that no label reaches is left to the other expert."""


def informed_head(
    embeddings: Tensor,
    labels: Tensor,
    lines: Tensor,
    classes: Tensor,
    num_classes: int,
    *,
    weight: Tensor,
    fallback: Probe | None = None,
    shared: bool = False,
) -> tuple[Probe, Tensor, float]:
    """Fit the head; classes with neither label nor line are never predicted.

    Args:
        embeddings: (n, d), scaled to unit length here.
        labels: (n,) classes, -1 for the m unlabeled documents, at least one.
        lines: (k, d) embeddings of description lines; k may be 0.
        classes: (k,) their classes.
        num_classes: C.
        weight: w (C,) of the lines, see `description_prior.gate`; zero for a class without any.
        fallback: the head of which step 6 keeps a part; A when left out.
        shared: see `corpus_graph.corpus_graph`.

    Returns:
        The head, the class prior q (C,), and the assortativity of its predictions on the graph (Newman 2003).

    Raises:
        ValueError: shapes disagree, a class is out of range, an embedding is not finite, or there is neither a label
            nor a line.
    """
    for rows, y, least in ((embeddings, labels, -1), (lines, classes, 0)):
        check_rows(rows, y, num_classes, least)
    z, y, weights = labeled_and_lines(embeddings, labels, lines, classes, weight)  # (k, d), (k,), (k,)
    unlabeled = unit(embeddings[labels < 0].detach().float())  # (m, d)
    unlabeled = unlabeled[sample_rows(len(unlabeled), max(1, PROBABILITIES // num_classes))]
    if not len(z) or not len(unlabeled):
        raise ValueError(f"expected labels or lines, and unlabeled documents, got {len(z)} and {len(unlabeled)}")
    everything, m = torch.cat([z, unlabeled]), len(unlabeled)  # (k + m, d)
    regression = scaled(informed_probe(embeddings, labels, lines, classes, num_classes, weight=weight), SHARPENING)
    prior = regression.probabilities(unlabeled).mean(dim=0)  # (C,)
    graph = corpus_graph(everything, shared=shared)
    labels, each = torch.cat([y, y.new_full((m,), -1)]), torch.cat([weights, weights.new_zeros(m)])  # (k + m,)
    flow = normalized(spread(graph, labels, num_classes, weights=each)[len(y) :].cpu(), prior)  # (m, C)
    flow = normalized(flow * class_mass(flow, torch.ones(m, dtype=torch.bool), prior), prior)
    confirmed = confirmation(y[: len(y) - len(lines)], classes, weight)
    expert = regression
    if confirmed > 0:
        informed = maximize_information(regression, z, y, weights, unlabeled, prior)
        expert = interpolate(regression, informed, confirmed / 2)
    kappa = agreement(regression.logits(unlabeled).argmax(dim=1), flow.argmax(dim=1))
    follow = (1.0 - confirmed) * min(1.0, kappa / FULL_AGREEMENT)  # a
    head = expert
    for _ in range(PASSES if follow > 0 else 1):
        pseudo = pool(flow, interpolate(expert, head, follow).logits(unlabeled))  # (m, C)
        head = soft_probe(
            everything,
            pseudo,
            torch.cat([weights, certainty(pseudo[:, prior > 0])]),
            classes=y,
            inverse_regularization=max(1.0, int((prior > 0).sum()) / CLASSES_PER_UNIT),
        )
    head = interpolate(fallback or regression, head, trust(m))
    return head, prior, assortativity(graph, torch.cat([y, head.probabilities(unlabeled).argmax(dim=1)]))


def trust(documents: int) -> float:
    """t, the weight of the refitted head with so many unlabeled documents."""
    return documents / (documents + TRUST_DOCUMENTS)


def confirmation(labels: Tensor, classes: Tensor, weight: Tensor) -> float:
    """b, of labels (l,), classes of lines (k,) and weights (C,)."""
    labeled, described = (torch.bincount(each.long(), minlength=len(weight)) for each in (labels, classes))
    informed = torch.where(described > 0, 2.0 * weight, 0.0)  # fully where they inform more likely than not
    found = torch.maximum((labeled > 1).float(), informed).clamp_max(1.0)
    return found[labeled + described > 0].mean().item()


def agreement(one: Tensor, other: Tensor) -> float:
    """Cohen's kappa of two classifications (m,); 0 where it is negative, or both have one class alone."""
    if one.unique().numel() == 1 and other.unique().numel() == 1:
        return 0.0
    return max(0.0, float(cohen_kappa_score(one, other)))


def information(
    x: Tensor, weight: Tensor, bias: Tensor, classes: Tensor, weights: Tensor, unlabeled: Tensor, prior: Tensor
) -> Tensor:
    """The objective of step 2, a scalar.

    Args:
        x: (l, d) labeled documents and lines.
        weight: (C, d).
        bias: (C,).
        classes: (l,) their classes.
        weights: (l,) not all 0.
        unlabeled: (m, d).
        prior: (C,) q.
    """
    log_p = torch.log_softmax(x @ weight.T + bias, dim=1)  # (l, C)
    supervised = -(weights * log_p.gather(1, classes[:, None])[:, 0]).sum() / weights.sum()
    log_p = torch.log_softmax(unlabeled @ weight.T + bias, dim=1)  # (m, C)
    p = log_p.exp()
    mean = p.mean(dim=0).clamp_min(1e-9)
    divergence = (mean * (mean.log() - prior.clamp_min(1e-9).log())).sum()
    return supervised - (p * log_p).sum(dim=1).mean() + divergence


def maximize_information(
    start: Probe, z: Tensor, classes: Tensor, weights: Tensor, unlabeled: Tensor, prior: Tensor
) -> Probe:
    """The head after `STEPS` steps on `information`, whose arguments see; embeddings are centered meanwhile."""
    present = prior > 0  # (C,) a class without label or line stays as it is
    classes = (present.long().cumsum(0) - 1)[classes]
    center = torch.cat([z, unlabeled]).mean(dim=0)
    weight = start.weight[present].clone().requires_grad_()
    bias = (start.bias[present] + start.weight[present] @ center).requires_grad_()
    search = torch.optim.Adam([weight, bias], lr=RATE)
    x, others = z - center, unlabeled - center
    with torch.enable_grad():
        for _ in range(STEPS):
            search.zero_grad()
            information(x, weight, bias, classes, weights, others, prior[present]).backward()
            search.step()
    found = Probe(start.weight.clone(), start.bias.clone())
    found.weight[present] = weight.detach()
    found.bias[present] = bias.detach() - weight.detach() @ center
    return found


def pool(flow: Tensor, logits: Tensor) -> Tensor:
    """The product of two experts, rows scaled to sum to one: F (m, C) and logits (m, C)."""
    return torch.softmax(flow.clamp_min(FLOOR).log() + logits, dim=1)


def scaled(probe: Probe, by: float) -> Probe:
    """A head whose logits are those of another times a number."""
    absent = probe.bias <= ABSENT_BIAS
    return Probe(by * probe.weight, torch.where(absent, probe.bias, by * probe.bias))


def interpolate(one: Probe, other: Probe, share: float) -> Probe:
    """A mixture of two linear heads, which is one: `share` of the other."""
    return Probe(torch.lerp(one.weight, other.weight, share), torch.lerp(one.bias, other.bias, share))


def check_rows(embeddings: Tensor, labels: Tensor, num_classes: int, least: int) -> None:
    """Raise a ValueError where embeddings (n, d) and their labels (n,) do not fit together."""
    if embeddings.dim() != 2 or labels.shape != (len(embeddings),):
        raise ValueError(
            f"expected embeddings (n, d) and labels (n,), got {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) and not (labels.min() >= least and labels.max() < num_classes):
        unlabeled = " (-1 is unlabeled)" if least < 0 else ""
        raise ValueError(
            f"expected classes from {least} to {num_classes - 1}{unlabeled}, got {labels.min()} to {labels.max()}"
        )
