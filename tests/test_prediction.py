"""Head, graph and their mean, against literal loops and the harmonic function they claim to be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from graphloss.inference import predictor as predictor_module
from graphloss.inference.predictor import NEIGHBORS, Predictor
from graphloss.losses.graph import unit
from graphloss.training.settings import PREDICTORS


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
def beside(predictor: Predictor) -> Predictor:
    """The same with nine unlabeled documents, whose neighbors give two fifths of the answer."""
    pile = unit(torch.randn(9, 5, generator=torch.Generator().manual_seed(2)))
    return replace(
        predictor, unlabeled_support=pile, neighbor_weight=0.4, graph_share=0.25, sigma=0.5
    )  # neighbors keep to 0.3


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
    from graphloss.losses.graph import log_affinity

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


def test_knn_asks_the_ten_nearest_alone(predictor: Predictor, z: torch.Tensor) -> None:
    found = predictor.by("knn").probabilities(z)
    for i in range(len(z)):
        near = sorted(range(12), key=lambda j: -float(z[i] @ predictor.support[j]))[:NEIGHBORS]
        weights = {j: math.exp(float(z[i] @ predictor.support[j]) / 0.3**2) for j in near}
        for c in range(3):
            share = sum(w for j, w in weights.items() if predictor.support_labels[j] == c) / sum(weights.values())
            assert float(found[i, c]) == pytest.approx(share, rel=1e-4)
    assert not torch.allclose(found, predictor.graph(z)) and NEIGHBORS < 12


def test_the_neighbors_say_their_label_or_what_the_head_says_of_them(beside: Predictor, z: torch.Tensor) -> None:
    assert beside.unlabeled_support is not None
    found, both = replace(beside, neighbor_weight=1.0).probabilities(z), beside.probabilities(z)
    everyone = [*beside.support, *beside.unlabeled_support]
    says = [[float(label == c) for c in range(3)] for label in beside.support_labels]
    says += beside.head(beside.unlabeled_support).tolist()
    for i in range(len(z)):
        near = sorted(range(21), key=lambda j: -float(z[i] @ everyone[j]))[:NEIGHBORS]
        weights = {j: math.exp(float(z[i] @ everyone[j]) / 0.3**2) for j in near}
        for c in range(3):
            share = sum(w * says[j][c] for j, w in weights.items()) / sum(weights.values())
            assert float(found[i, c]) == pytest.approx(share, rel=1e-4)
    mean = 0.6 * (0.75 * beside.head(z) + 0.25 * beside.graph(z)) + 0.4 * found
    torch.testing.assert_close(both, mean)
    for kind in ("head", "graph", "knn"):  # they ask what they say, whatever taught the head
        assert torch.equal(
            beside.by(kind).probabilities(z), replace(beside, unlabeled_support=None).by(kind).probabilities(z)
        )


def test_the_head_speaks_of_unlabeled_neighbors_where_the_graph_has_all_the_rest(
    beside: Predictor, z: torch.Tensor
) -> None:
    found = replace(beside, graph_share=1.0).evidence(z, k=12)
    torch.testing.assert_close(found.shares.sum(1) + found.head, torch.ones(7))
    assert (found.head > 0.01).any()


def test_fewer_documents_than_neighbors(beside: Predictor, z: torch.Tensor) -> None:
    assert beside.unlabeled_support is not None
    few = replace(
        beside,
        support=beside.support[:2],
        support_labels=beside.support_labels[:2],
        unlabeled_support=beside.unlabeled_support[:1],
    )
    torch.testing.assert_close(replace(few, neighbor_weight=1.0).probabilities(z).sum(1), torch.ones(7))


def test_each_kind_answers_as_it_says(predictor: Predictor, z: torch.Tensor) -> None:
    assert torch.equal(predictor.by("head").probabilities(z), predictor.head(z))
    assert torch.equal(predictor.by("graph").probabilities(z), predictor.graph(z))
    assert predictor.by(None) is predictor
    assert torch.equal(predictor.by("graph").by("mix").probabilities(z), predictor.probabilities(z))
    with pytest.raises(ValueError, match="'vote'; choose one of mix"):
        predictor.by("vote")


@pytest.mark.parametrize("kind", PREDICTORS)
def test_a_document_never_changes_the_answer_to_another(kind: str, beside: Predictor, z: torch.Tensor) -> None:
    together = beside.by(kind).probabilities(z)
    alone = torch.cat([beside.by(kind).probabilities(row[None]) for row in z])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(together.sum(1), torch.ones(7))


@pytest.mark.parametrize("with_pile", [False, True])
@pytest.mark.parametrize("kind", PREDICTORS)
def test_the_shares_of_all_documents_and_the_head_make_up_the_answer(
    kind: str,
    with_pile: bool,
    predictor: Predictor,
    beside: Predictor,
    z: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor_module, "ROWS", 3)  # several blocks
    chosen = (beside if with_pile else predictor).by(kind)
    found = chosen.evidence(z, k=50)
    assert found.documents.shape == found.shares.shape == (7, 12)
    torch.testing.assert_close(found.shares.sum(1) + found.head, torch.ones(7))
    answer = chosen.probabilities(z).argmax(1)
    listed = 0
    for i in range(7):
        there = found.documents[i][found.documents[i] >= 0].tolist()
        listed += len(there)
        assert len(set(there)) == len(there) and all(predictor.support_labels[j] == answer[i] for j in there)
        assert found.shares[i].tolist() == sorted(found.shares[i].tolist(), reverse=True)
        assert (found.shares[i] > 0).sum() == len(there)
    assert listed == 0 if kind == "head" else listed > 14
    few = chosen.evidence(z, k=2)
    assert torch.equal(few.documents, found.documents[:, :2]) and torch.equal(few.shares, found.shares[:, :2])


def test_a_share_is_what_the_answer_loses_without_the_document(predictor: Predictor, z: torch.Tensor) -> None:
    found, p = predictor.evidence(z, k=1), predictor.probabilities(z)
    for i in range(7):
        j, c = int(found.documents[i, 0]), int(p[i].argmax())
        weights = torch.exp(predictor.support.double() @ z[i].double() / 0.3**2)
        assert float(found.shares[i, 0]) == pytest.approx(float(weights[j] / weights.sum() / 2 / p[i, c]), rel=1e-4)


def test_a_neighbor_gives_its_weight_beside_that_of_the_graph(beside: Predictor, z: torch.Tensor) -> None:
    assert beside.unlabeled_support is not None
    found, p = beside.evidence(z, k=12), beside.probabilities(z)
    everyone = torch.cat([beside.support, beside.unlabeled_support]).double()
    graph = torch.exp(beside.support.double() @ z.T.double() / 0.5**2).T  # (7, 12)
    graph = graph / graph.sum(1, keepdim=True)
    for i in range(7):
        near = sorted(range(21), key=lambda j: -float(z[i].double() @ everyone[j]))[:NEIGHBORS]
        weights = {j: math.exp(float(z[i].double() @ everyone[j]) / 0.3**2) for j in near}
        for j, share in zip(found.documents[i].tolist(), found.shares[i].tolist(), strict=True):
            if j >= 0:
                part = 0.6 * 0.25 * float(graph[i, j]) + 0.4 * weights.get(j, 0.0) / sum(weights.values())
                assert share == pytest.approx(part / float(p[i].max()), rel=1e-3)


def test_a_left_out_document_is_asked_as_if_it_were_new(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "ROWS", 5)
    found = predictor.left_out()
    for i in range(12):
        others = [j for j in range(12) if j != i]
        rest = replace(predictor, support=predictor.support[others], support_labels=predictor.support_labels[others])
        torch.testing.assert_close(found[i], rest.graph(predictor.support[i][None])[0])
    lone = replace(predictor, support=predictor.support[:1], support_labels=predictor.support_labels[:1])
    torch.testing.assert_close(lone.left_out(), torch.full((1, 3), 1 / 3))


def test_no_documents_give_no_rows(predictor: Predictor) -> None:
    for kind in PREDICTORS:
        assert predictor.by(kind).probabilities(torch.empty(0, 5)).shape == (0, 3)
        assert predictor.by(kind).evidence(torch.empty(0, 5)).documents.shape == (0, 5)
    assert replace(predictor, neighbor_weight=0.5).probabilities(torch.empty(0, 5)).shape == (0, 3)
