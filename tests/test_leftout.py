"""Left-out predictions: nobody answers for a label that it has seen, and the mix follows what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphloss.inference.head_graph_share import best_share, share_for
from graphloss.inference.linear_probe import FOLDS, cross_fitted, linear_probe
from graphloss.inference.predictor import Predictor
from graphloss.losses.graph import unit
from graphloss.text.stratified_selection import deal


def clusters(n: int, classes: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors about one direction a class, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centers = unit(torch.randn(classes, 16, generator=generator))
    return unit(centers[y] + noise * torch.randn(n, 16, generator=generator)), y


def test_each_fold_is_answered_by_a_probe_of_the_others() -> None:
    z, y = clusters(40, 4, 0.5)
    told: list[int] = []
    found = cross_fitted(z, y, 4, seed=1, on_fold=lambda: told.append(1))
    part = deal(y.numpy(), FOLDS, np.random.default_rng([1, 4]))
    for fold in range(FOLDS):
        rest = part != fold
        expected = linear_probe(z[rest], y[rest], 4).probabilities(z[~rest])
        torch.testing.assert_close(found[torch.from_numpy(~rest)], expected)
    assert len(told) == FOLDS and [int((part == fold).sum()) for fold in range(FOLDS)] == [8] * FOLDS
    assert all(len(set(part[y.numpy() == c])) == FOLDS for c in range(4))


def test_labels_without_sense_are_not_learned_by_heart() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = unit(torch.randn(150, 64, generator=generator)), torch.randint(3, (150,), generator=generator)
    seen = (linear_probe(z, y, 3).probabilities(z).argmax(1) == y).float().mean()
    left = (cross_fitted(z, y, 3).argmax(1) == y).float().mean()
    assert seen > 0.8 and left < 0.45


@pytest.mark.parametrize("labels", [[2], [0, 1], [1, 1, 1]])
def test_too_few_to_fit_on_still_gives_probabilities(labels: list[int]) -> None:
    z = unit(torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0)))
    found = cross_fitted(z, torch.tensor(labels), 3)
    torch.testing.assert_close(found.sum(1), torch.ones(len(labels)))


def one_sided(right: torch.Tensor, y: torch.Tensor, sure: float) -> torch.Tensor:
    """Probabilities of two classes that give `sure` to the true one where `right`, and to the other elsewhere."""
    p = torch.empty(len(y), 2)
    p[torch.arange(len(y)), y] = torch.where(right, sure, 1 - sure)
    p[torch.arange(len(y)), 1 - y] = torch.where(right, 1 - sure, sure)
    return p


def test_the_share_follows_the_one_that_is_right() -> None:
    y, always, never = torch.arange(40) % 2, torch.ones(40, dtype=torch.bool), torch.zeros(40, dtype=torch.bool)
    bad = one_sided(never, y, 0.9)
    for sure, departure in ((0.6, 0.5), (0.8, 0.25)):  # three quarters of 0.8 outweigh one of 0.9, of 0.6 do not
        good = one_sided(always, y, sure)
        assert best_share(good, bad, y) == 0.5 - departure and best_share(bad, good, y) == 0.5 + departure
        assert best_share(good, good, y) == 0.5 and best_share(bad, bad, y) == 0.5


def test_one_document_is_not_enough_to_leave_the_middle() -> None:
    y, ones = torch.arange(40) % 2, torch.ones(40, dtype=torch.bool)
    graph, few = one_sided(ones, y, 0.6), ones.clone()
    few[:1] = False
    assert best_share(one_sided(few, y, 0.9), graph, y) == 0.5
    few[:6] = False
    assert best_share(one_sided(few, y, 0.9), graph, y) == 1.0


def test_classes_weigh_the_same_however_large() -> None:
    y = torch.tensor([0] * 90 + [1] * 10)
    head = one_sided(torch.tensor([True] * 90 + [False] * 10), y, 0.9)  # knows the large class alone
    graph = one_sided(torch.tensor([True] * 60 + [False] * 30 + [True] * 10), y, 0.6)
    assert best_share(head, graph, y) == 1.0


def test_validation_documents_judge_too() -> None:
    z, y = clusters(60, 3, 0.3)
    generator = torch.Generator().manual_seed(1)
    predictor = Predictor(torch.randn(3, 16, generator=generator) * 20, torch.zeros(3), z, y, 0.3, 0.5)
    assert share_for(predictor, z[:0], y[:0]) == 0.5  # probe and graph are both right about the training documents
    new, truth = clusters(30, 3, 0.3)
    assert share_for(predictor, new, truth) > 0.5  # this head is no probe: only new documents can tell
