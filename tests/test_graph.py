"""Graph: unit rows, similarity, sparsification, bandwidth rules, the row reductions."""

import itertools
import math

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batch, batches, quick

from graphloss.losses import graph
from graphloss.losses.sigma import MAX_SIGMA, MIN_SIGMA, RULES, bandwidth

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


class TestUnit:
    def test_rows_have_length_one(self) -> None:
        z = graph.unit(torch.randn(20, 7, dtype=torch.float64) * 3)
        assert torch.allclose(z.norm(dim=1), torch.ones(20, dtype=torch.float64))

    @pytest.mark.parametrize("factor", [1e-30, 1e-20, 1e-3, 1e20, 1e30])
    def test_any_scale_of_a_row_gives_the_same_row(self, factor: float) -> None:
        x = torch.randn(5, 9)
        assert torch.allclose(graph.unit(x * factor), graph.unit(x), atol=1e-6)

    def test_zero_row_stays_zero_with_a_live_finite_gradient(self) -> None:
        x = torch.randn(4, 6)
        x[2] = 0
        x.requires_grad_()
        z = graph.unit(x)
        z.sum().backward()
        assert torch.equal(z[2], torch.zeros(6))
        assert torch.isfinite(x.grad).all()
        assert x.grad[2].norm() > 0

    def test_gradient(self) -> None:
        x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(graph.unit, (x,))

    @pytest.mark.parametrize(
        ("given_dtype", "expected"),
        [
            (torch.float16, torch.float32),
            (torch.bfloat16, torch.float32),
            (torch.float32, torch.float32),
            (torch.float64, torch.float64),
        ],
    )
    def test_dtype(self, given_dtype: torch.dtype, expected: torch.dtype) -> None:
        assert graph.unit(torch.randn(3, 4).to(given_dtype)).dtype == expected

    def test_no_dimensions(self) -> None:
        with pytest.raises(ValueError, match="0 dimensions"):
            graph.unit(torch.zeros(3, 0))


class TestLogAffinity:
    @quick
    @given(batches())
    def test_is_the_log_of_the_similarity(self, b: Batch) -> None:
        logw = graph.log_affinity(graph.unit(b.embeddings), b.sigma)
        assert torch.allclose(logw.exp(), oracles.similarity(b.embeddings, b.sigma), rtol=1e-9, atol=0)

    def test_gradient_in_embeddings_and_bandwidth(self) -> None:
        x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        off = ~torch.eye(6, dtype=torch.bool)
        sigma = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, s: graph.log_affinity(graph.unit(x), s)[off], (x, sigma))

    def test_twice_differentiating_raises(self) -> None:
        x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(graph.log_affinity(x, 0.5)[0, 1] ** 2, x, create_graph=True)

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_nearest_neighbors_of_either_end(self, k: int) -> None:
        b = batch(15, 3)
        w = graph.log_affinity(graph.unit(b.embeddings), 0.5, k=k).exp()
        assert torch.allclose(w, oracles.nearest(oracles.similarity(b.embeddings, 0.5), k), rtol=1e-9, atol=0)
        assert 15 * k <= int((w > 0).sum()) <= 2 * 15 * k

    def test_more_neighbors_than_documents_keeps_all(self) -> None:
        z = graph.unit(batch(6, 2).embeddings)
        assert torch.equal(graph.log_affinity(z, 0.5, k=50), graph.log_affinity(z, 0.5))

    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
    def test_bad_sigma(self, sigma: float) -> None:
        with pytest.raises(ValueError, match="sigma must be a positive number"):
            graph.log_affinity(torch.eye(3), sigma)

    def test_bad_k(self) -> None:
        with pytest.raises(ValueError, match="at least 1 neighbor"):
            graph.log_affinity(torch.eye(3), 0.5, k=0)


class TestBandwidth:
    @pytest.mark.parametrize("rule", ["root", "mst"])
    def test_equals_the_oracle(self, rule: str) -> None:
        b = batch(25, 3, unlabeled=0.3)
        sigma = bandwidth(graph.unit(b.embeddings.requires_grad_()), b.labels, rule)
        assert sigma.shape == ()
        assert not sigma.requires_grad
        assert float(sigma) == pytest.approx(oracles.bandwidth(b.embeddings.detach(), b.labels, rule))

    def test_mst_with_one_class_answers_as_root(self) -> None:
        z, labels = graph.unit(torch.randn(9, 4)), torch.zeros(9, dtype=torch.long)
        assert torch.equal(bandwidth(z, labels, "mst"), bandwidth(z, labels, "root"))

    @pytest.mark.parametrize(("rule", "n"), [*itertools.product(RULES, [0, 1, 2, 3]), ("root", 5000), ("mst", 5000)])
    def test_is_always_positive_and_finite(self, rule: str, n: int) -> None:
        z = graph.unit(torch.ones(n, 4))  # duplicates, of different classes
        sigma = bandwidth(z, torch.arange(n) % 2, rule)
        assert (sigma >= MIN_SIGMA).all()
        assert (sigma <= MAX_SIGMA).all()

    def test_unknown_rule(self) -> None:
        with pytest.raises(ValueError, match="choose one of root, mst, or"):
            bandwidth(torch.eye(3), torch.arange(3), "scott")


class TestRows:
    def test_logsumexp(self) -> None:
        x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
        assert torch.allclose(graph.logsumexp(x), x.logsumexp(1))
        assert torch.autograd.gradcheck(graph.logsumexp, (x,))

    def test_log_share(self) -> None:
        x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
        mask = torch.rand(7, 9) < 0.4
        mask[:, 0] = True
        expected = x.masked_fill(~mask, -torch.inf).logsumexp(1) - x.logsumexp(1)
        assert torch.allclose(graph.log_share(x, mask), expected)
        assert torch.autograd.gradcheck(lambda x: graph.log_share(x, mask), (x,))

    def test_log_share_far_below_the_smallest_number(self) -> None:
        x = torch.tensor([[0.0, -500.0, -501.0], [0.0, -2.0, -1.0]], requires_grad=True)
        mask = torch.tensor([[False, True, True], [True, False, False]])
        log_p = graph.log_share(x, mask)
        log_p.sum().backward()
        inside = torch.tensor([-500.0, -501.0])
        assert log_p[0].item() == pytest.approx(inside.logsumexp(0).item())
        assert torch.allclose(x.grad[0], torch.cat([-torch.ones(1), inside.softmax(0)]))

    def test_log_share_of_a_nearly_certain_row(self) -> None:
        x = torch.tensor([[0.0, -25.0, -26.0]], requires_grad=True)
        log_p = graph.log_share(x, torch.tensor([[True, False, False]]))
        log_p.sum().backward()
        rest = math.exp(-25) + math.exp(-26)
        assert log_p.item() == pytest.approx(-rest, rel=1e-5)
        assert x.grad[0].tolist() == pytest.approx([rest, -math.exp(-25), -math.exp(-26)], rel=1e-5)

    def test_components(self) -> None:
        edges = torch.zeros(8, 8, dtype=torch.bool)
        for i, j in [(0, 5), (5, 2), (1, 7), (3, 4), (4, 6)]:
            edges[i, j] = edges[j, i] = True
        assert graph.components(edges).tolist() == [0, 1, 0, 3, 3, 0, 3, 1]
        assert graph.components(edges[:0, :0]).tolist() == []

    def test_components_of_a_long_path(self) -> None:
        edges = torch.diag(torch.ones(299, dtype=torch.bool), 1)
        order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
        edges = (edges | edges.T)[order][:, order]
        assert graph.components(edges).unique().tolist() == [0]
