"""The graph's share of the mix, chosen by predictions that have not seen the label they are compared with.

Letters: n labeled documents, C classes; p^h the head's and p^g the graph's held-out probabilities, y the labels.

    right_i(γ)  = [ argmax_c (1 - γ) p^h_ic + γ p^g_ic = y_i ],   w_i = 1 / (C n_{y_i}), so that classes weigh the same
    gain(γ)     = Σ_i w_i (right_i(γ) - right_i(½)),   noise(γ) = sqrt( Σ_i w_i² (right_i(γ) - right_i(½))² )
    γ*          = argmax gain - noise where that is above 0, and ½ otherwise; of equals the nearest to ½

Validation documents were not trained on: head and graph predict them as they are. For training documents, the graph's
predictions are exact leave-one-out; the head was fitted on their labels, so that a cross-fitted logistic regression on
the same embeddings stands in for it. The encoder was trained on them too, which flatters both: they are compared with
one another and never reported as scores. They are compared by errors and not by likelihood, because a graph over
fine-tuned embeddings is overconfident; and γ leaves ½ only for a gain above its own standard error.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.linear_probe import cross_fitted
from graphloss.inference.predictor import Predictor

MOST_DOCUMENTS = 1_024  # training documents that choose the share: five fits of 77 classes to so many take 3 seconds
SHARES = (0.5, 0.25, 0.75, 0.0, 1.0)  # of equals the first wins, which is the nearest to half


def share_for(predictor: Predictor, z: Tensor, labels: Tensor) -> float:
    """The graph's share of a predictor's mix, chosen on its training documents and the validation documents.

    Args:
        predictor: head and graph; at most `MOST_DOCUMENTS` of its n training documents are used.
        z: (m, d) unit-length embeddings of the validation documents; m may be 0.
        labels: (m,) their classes.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(predictor.support))[:MOST_DOCUMENTS])
    few = replace(predictor, support=predictor.support[chosen], support_labels=predictor.support_labels[chosen])
    truth, classes = few.support_labels.long(), len(predictor.weight)
    return best_share(
        torch.cat([cross_fitted(few.support, truth, classes), predictor.head(z)]),
        torch.cat([few.left_out(), predictor.graph(z)]),
        torch.cat([truth, labels.long()]),
    )


def best_share(head: Tensor, graph: Tensor, labels: Tensor) -> float:
    """The graph's share γ* of the mix, out of `SHARES`; see the module's docstring.

    Args:
        head: (n, C) held-out probabilities of the head.
        graph: (n, C) held-out probabilities of the graph.
        labels: (n,) classes.
    """
    weight = 1.0 / torch.bincount(labels).double()[labels]  # (n,); its scale cancels
    right = {share: (torch.lerp(head, graph, share).argmax(1) == labels).double() * weight for share in SHARES}
    worth = {}
    for share in SHARES:
        gain = right[share] - right[0.5]  # (n,)
        worth[share] = float(gain.sum() - gain.square().sum().sqrt())
    return max(SHARES, key=lambda share: worth[share])  # that of ½ is 0
