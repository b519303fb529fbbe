"""Head, graph and their mean, against literal loops and the harmonic function they claim to be."""

from __future__ import annotations

import math

import pytest
import torch

from graphloss.graph import unit
from graphloss.prediction import Predictor


@pytest.fixture
def predictor() -> Predictor:
    generator = torch.Generator().manual_seed(0)
    support = unit(torch.randn(12, 5, generator=generator))
    return Predictor(
        torch.randn(3, 5, generator=generator),
        torch.randn(3, generator=generator),
        support,
        torch.arange(12) % 3,
        0.3,
        0.5,
    )


@pytest.fixture
def z() -> torch.Tensor:
    return unit(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)))


def test_the_graph_is_a_weighted_vote_of_the_training_documents(predictor: Predictor, z: torch.Tensor) -> None:
    found = predictor.graph(z)
    for i in range(len(z)):
        weights = [math.exp(-float((z[i] - s).square().sum()) / (2 * 0.3**2)) for s in predictor.support]
        for c in range(3):
            share = sum(w for w, label in zip(weights, predictor.support_labels, strict=True) if label == c) / sum(
                weights
            )
            assert float(found[i, c]) == pytest.approx(share, rel=1e-4)


def test_the_graph_is_the_harmonic_function_of_one_hidden_node(predictor: Predictor, z: torch.Tensor) -> None:
    from graphloss.graph import log_affinity

    for i in range(len(z)):
        nodes = torch.cat([predictor.support, z[i : i + 1]]).double()
        w = log_affinity(nodes, 0.3).exp()
        laplacian = torch.diag(w.sum(1)) - w
        y = torch.nn.functional.one_hot(predictor.support_labels, 3).double()
        harmonic = torch.linalg.solve(laplacian[12:, 12:], w[12:, :12] @ y)
        torch.testing.assert_close(predictor.graph(z[i : i + 1]).double(), harmonic, rtol=1e-4, atol=1e-6)


def test_the_mean_of_both_sums_to_one_and_each_document_is_judged_alone(predictor: Predictor, z: torch.Tensor) -> None:
    both = predictor.probabilities(z)
    torch.testing.assert_close(both, (predictor.head(z) + predictor.graph(z)) / 2)
    torch.testing.assert_close(both.sum(1), torch.ones(7))
    torch.testing.assert_close(torch.cat([predictor.probabilities(row[None]) for row in z]), both)


def test_no_documents_give_no_rows(predictor: Predictor) -> None:
    assert predictor.probabilities(torch.empty(0, 5)).shape == (0, 3)
