"""The corpus graph: dense float64 oracles, closed forms, properties, inputs at the edge."""

from __future__ import annotations

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batches, quick
from torch import Tensor

from graphloss.inference.graphs import corpus_graph as cg
from graphloss.losses.graph import unit
from graphloss.losses.propagation import normalized, one_hot


def graph_of(edges: list[tuple[int, int]], n: int, weights: list[float] | None = None) -> cg.CorpusGraph:
    i, j = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    w = torch.ones(len(edges)) if weights is None else torch.tensor(weights)
    return cg.from_edges(i, j, 2 * w, n, dtype=torch.float64)  # each edge is given once, and halved


def kernel(graph: cg.CorpusGraph, alpha: float) -> Tensor:
    n = len(graph)
    return torch.linalg.inv(torch.eye(n, dtype=torch.float64) - alpha * graph.s.to_dense().double())


class TestOracles:
    @quick
    @given(batches())
    def test_the_graph_and_spreading(self, b: Batch) -> None:
        graph = cg.corpus_graph(unit(b.embeddings), k=4, sigma=b.sigma)
        w = oracles.corpus_similarity(b.embeddings, 4, b.sigma)
        assert torch.allclose(graph.degree, w.sum(1), rtol=1e-9)
        root = w.sum(1).rsqrt()
        assert torch.allclose(graph.s.to_dense(), root[:, None] * w * root[None, :], atol=1e-12)
        f = cg.spread(graph, b.labels, b.num_classes, alpha=0.9)
        expected = oracles.corpus_spread(w, b.labels, b.num_classes, 0.9)
        assert torch.allclose(f, expected, atol=3e-5 * expected.max().item())
        assert f.max() > 0

    def test_many_columns_are_solved_in_parts(self) -> None:
        graph = graph_of([(i, i + 1) for i in range(99)], 100)
        b = torch.randn(100, 2 * cg.COLUMNS + 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.allclose(cg.solve(graph, b, 0.95, tolerance=1e-10), kernel(graph, 0.95) @ b, atol=1e-7)


class TestClosedForms:
    def test_one_edge(self) -> None:
        # (I - aS)^-1 is [[1, a], [a, 1]] / (1 - a^2)
        f = cg.spread(graph_of([(0, 1)], 2), torch.tensor([0, 1]), 2, alpha=0.5)
        assert torch.allclose(f, torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64) / 0.75)

    def test_on_a_cycle_mass_decays_geometrically(self) -> None:
        # S = (shift + shift back) / 2: K_0j is proportional to r^j + r^(n - j) with a (r + 1 / r) / 2 = 1
        n, a = 11, 0.8
        r = (1 - (1 - a * a) ** 0.5) / a
        labels = torch.full((n,), -1)
        labels[0] = 0
        f = cg.spread(graph_of([(i, (i + 1) % n) for i in range(n)], n), labels, 1, alpha=a)[:, 0]
        j = torch.arange(n, dtype=torch.float64)
        expected = r**j + r ** (n - j)
        assert torch.allclose(f / f[0], expected / expected[0], atol=1e-5)

    def test_two_components_keep_to_themselves(self) -> None:
        edges = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
        f = cg.spread(graph_of(edges, 6), torch.tensor([0, -1, -1, -1, 1, -1]), 2)
        assert f.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
        assert (f[:3, 1] == 0).all() and (f[3:, 0] == 0).all()

    def test_class_mass_reaches_the_prior(self) -> None:
        g = torch.Generator().manual_seed(0)
        f = torch.rand(50, 3, generator=g, dtype=torch.float64) * torch.rand(50, 1, generator=g, dtype=torch.float64)
        rows, prior = torch.arange(50) < 40, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        scaled = normalized(f, prior) * cg.class_mass(f, rows, prior)
        assert torch.allclose(scaled[rows].mean(0), prior)


class TestProperties:
    @quick
    @given(batches())
    def test_permuting_documents_and_classes(self, b: Batch) -> None:
        order = torch.randperm(len(b.labels), generator=b.generator)
        names = torch.randperm(b.num_classes, generator=b.generator)
        renamed = torch.where(b.labels >= 0, names[b.labels.clamp_min(0)], -1)
        z = unit(b.embeddings)
        graph, other = cg.corpus_graph(z, k=3), cg.corpus_graph(z[order], k=3)
        f, g = cg.spread(graph, b.labels, b.num_classes), cg.spread(other, renamed[order], b.num_classes)
        assert torch.allclose(f[order], g[:, names], atol=1e-4 * f.abs().max().item())

    @quick
    @given(batches())
    def test_classes_send_out_the_same_whatever_their_number_of_labels(self, b: Batch) -> None:
        graph = cg.corpus_graph(unit(b.embeddings), k=4)
        f = cg.spread(graph, b.labels, b.num_classes)
        weights = torch.rand(len(b.labels), generator=b.generator) + 0.1
        given = b.labels >= 0
        y = torch.zeros(len(b.labels), b.num_classes, dtype=torch.float64)
        y[given, b.labels[given]] = weights[given].double()
        expected = kernel(graph, cg.ALPHA) @ (y / y.sum(0).clamp_min(1e-9))
        weighted = cg.spread(graph, b.labels, b.num_classes, weights=weights)
        assert torch.allclose(weighted.double(), expected, atol=3e-5 * f.abs().max().item()) and (f >= 0).all()
        same = cg.spread(graph, b.labels, b.num_classes, weights=torch.full_like(weights, 7.0))
        assert torch.allclose(f, same, atol=1e-4 * f.abs().max().item())

    def test_float32_agrees_with_float64(self) -> None:
        g = torch.Generator().manual_seed(1)
        x, labels = torch.randn(300, 16, generator=g, dtype=torch.float64), torch.full((300,), -1)
        labels[:12] = torch.arange(12) % 4
        for sigma in (0.1, 0.3):
            single = cg.spread(cg.corpus_graph(unit(x.float()), sigma=sigma), labels, 4)
            double = cg.spread(cg.corpus_graph(unit(x), sigma=sigma), labels, 4)
            assert single.dtype == torch.float32
            assert torch.allclose(single.double(), double, atol=1e-4)

    @quick
    @given(batches())
    def test_assortativity_is_newmans(self, b: Batch) -> None:
        w = oracles.corpus_similarity(b.embeddings, 4, b.sigma)
        classes = b.labels.clamp_min(0)
        y = one_hot(classes, b.num_classes, torch.float64)
        e = y.T @ w @ y / w.sum()  # the mixing matrix
        a = e.sum(1)
        chance = (a @ a).item()
        expected = max(0.0, (e.trace().item() - chance) / (1 - chance)) if chance < 1 - 1e-9 else 0.0
        found = cg.assortativity(cg.corpus_graph(unit(b.embeddings), k=4, sigma=b.sigma), classes)
        assert found == pytest.approx(expected, abs=1e-6)

    def test_assortativity_of_clusters_and_of_one_class(self) -> None:
        apart = graph_of([(0, 1), (2, 3)], 4)
        assert cg.assortativity(apart, torch.tensor([0, 0, 1, 1])) == pytest.approx(1.0)
        assert cg.assortativity(apart, torch.tensor([0, 1, 0, 1])) == 0.0
        assert cg.assortativity(apart, torch.zeros(4, dtype=torch.int64)) == 0.0
        assert cg.assortativity(graph_of([], 3), torch.tensor([0, 1, 0])) == 0.0

    def test_certainty(self) -> None:
        f = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
        expected = 1 - torch.tensor([0.0, 1.0, torch.tensor(2.0).log() / torch.tensor(3.0).log()])
        assert torch.allclose(cg.certainty(f), expected, atol=1e-6)
        assert cg.certainty(torch.ones(4, 1)).tolist() == [1.0] * 4


class TestEdges:
    def test_an_isolated_node_has_no_answer_and_a_label_of_its_own(self) -> None:
        f = cg.spread(graph_of([(0, 1)], 4), torch.tensor([0, -1, -1, 1]), 2)
        assert f[2].tolist() == [0.0, 0.0] and f[3].tolist() == [0.0, 1.0]

    def test_nothing_labeled(self) -> None:
        graph, labels = graph_of([(0, 1), (1, 2)], 3), torch.full((3,), -1)
        assert (cg.spread(graph, labels, 2) == 0).all()

    def test_everything_labeled_has_no_mass_to_balance(self) -> None:
        graph, labels = graph_of([(0, 1), (1, 2)], 3), torch.tensor([0, 1, 0])
        factor = cg.class_mass(cg.spread(graph, labels, 2), labels < 0, torch.tensor([0.5, 0.5], dtype=torch.float64))
        assert factor.tolist() == [1.0, 1.0]

    def test_a_class_without_a_label_gets_nothing(self) -> None:
        graph, labels = graph_of([(0, 1), (1, 2), (2, 3)], 4), torch.tensor([0, -1, -1, 2])
        f = cg.spread(graph, labels, 3)
        assert (f[:, 1] == 0).all() and (f[:, [0, 2]] > 0).all()
        prior = torch.tensor([0.4, 0.2, 0.4], dtype=torch.float64)
        assert torch.isfinite(cg.class_mass(f, labels < 0, prior)).all()

    def test_duplicates_beyond_k_are_a_component(self) -> None:
        g = torch.Generator().manual_seed(0)
        z = unit(torch.cat([torch.randn(1, 8, generator=g).repeat(20, 1), torch.randn(30, 8, generator=g)]))
        labels = torch.full((50,), -1)
        labels[0], labels[30] = 0, 1
        f = cg.spread(cg.corpus_graph(z, k=3), labels, 2)
        assert torch.isfinite(f).all()

    @pytest.mark.parametrize("n", [0, 1])
    def test_no_edge_at_all(self, n: int) -> None:
        graph = cg.corpus_graph(torch.ones(n, 1))
        assert len(graph) == n and cg.spread(graph, torch.zeros(n, dtype=torch.int64), 2).shape == (n, 2)

    def test_a_small_sigma_leaves_no_document_without_an_edge(self) -> None:
        z = unit(torch.randn(60, 64, generator=torch.Generator().manual_seed(0)))
        graph = cg.corpus_graph(z, sigma=0.06)
        assert torch.isfinite(graph.s.values()).all()
        assert (graph.s.to_dense().sum(1) > 0).all()

    def test_wrong_input_is_said_with_its_repair(self) -> None:
        graph = graph_of([(0, 1)], 2)
        with pytest.raises(ValueError, match="0 < alpha < 1, got 1"):
            cg.spread(graph, torch.tensor([0, 1]), 2, alpha=1.0)
        with pytest.raises(ValueError, match="sigma must be a positive number, got 0"):
            cg.corpus_graph(torch.eye(3), sigma=0)
