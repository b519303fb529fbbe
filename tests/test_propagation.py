"""Propagation: closed forms, oracles, gradients, properties."""

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batch, batches, quick, split
from torch import Tensor
from torch.nn import functional

from graphloss.losses import propagation as pr
from graphloss.losses import solvers
from graphloss.losses.graph import MASKED, log_affinity, log_norm, unit


def harmonic(logw: Tensor, labels: Tensor, num_classes: int, *, shown: Tensor | None = None) -> Tensor:
    """The harmonic function (n, C) by `solvers.absorb`: a hidden node is the mean of its neighbors."""
    seen = labels >= 0 if shown is None else shown & (labels >= 0)
    y = pr.one_hot(torch.where(seen, labels, -1), num_classes, logw.dtype)  # (n, C)
    hidden = (~seen).nonzero()[:, 0]  # (u,)
    if hidden.numel() == 0:
        return y
    rows = logw[hidden]  # (u, n)
    p = torch.softmax(rows, dim=1)
    f_u = solvers.absorb(p[:, hidden], p @ y, log_norm(rows, p) / 2, pr.frequencies(y))  # (u, C)
    return y.index_copy(0, hidden, f_u)


def left_out(logw: Tensor, labels: Tensor, num_classes: int, alpha: float = 1.0) -> Tensor:
    """What the kernel predicts of each labeled document without its own label: rows of K, the diagonal left out."""
    seen = labels >= 0
    y = pr.one_hot(labels[seen], num_classes, logw.dtype)  # (l, C)
    if len(y) < 2:
        return pr.frequencies(y).expand(len(y), num_classes)
    k = torch.softmax(pr.loo_log_kernel(logw, labels, alpha), dim=1)  # (l, l)
    return pr.normalized(k.masked_fill(torch.eye(len(y), dtype=torch.bool), 0.0) @ y, pr.frequencies(y))


def damped(logw: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    return left_out(logw, labels, num_classes, 0.9)


OPERATORS = {"harmonic": harmonic, "left out": left_out, "left out, damped": damped}


def graph_of(edges: list[tuple[int, int]], n: int) -> Tensor:
    """Log-similarity of an unweighted graph."""
    logw = torch.full((n, n), MASKED, dtype=torch.float64)
    for i, j in edges:
        logw[i, j] = logw[j, i] = 0.0
    return logw


def log_similarity(b: Batch) -> Tensor:
    return log_affinity(unit(b.embeddings), b.sigma)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return functional.one_hot(labels.clamp_min(0), num_classes).double() * (labels >= 0)[:, None]


class TestClosedForms:
    def test_complete_graph_gives_the_shown_frequencies(self) -> None:
        labels = torch.tensor([0, 0, 0, 1, 2, 2, -1, -1, -1])
        f = harmonic(torch.zeros(9, 9, dtype=torch.float64).fill_diagonal_(MASKED), labels, 3)
        assert torch.allclose(f[6:], torch.tensor([3 / 6, 1 / 6, 2 / 6], dtype=torch.float64).expand(3, 3))

    def test_complete_graph_left_out_gives_the_others_frequencies(self) -> None:
        labels = torch.tensor([0, 0, 0, 1, 1, -1, -1])
        f = left_out(torch.zeros(7, 7, dtype=torch.float64).fill_diagonal_(MASKED), labels, 2)
        expected = torch.tensor([[2 / 4, 2 / 4]] * 3 + [[3 / 4, 1 / 4]] * 2, dtype=torch.float64)
        assert torch.allclose(f, expected)

    def test_cycle_interpolates_linearly_between_two_shown_nodes(self) -> None:
        n, other = 12, 5
        labels = torch.full((n,), -1)
        labels[0], labels[other] = 0, 1
        f = harmonic(graph_of([(i, (i + 1) % n) for i in range(n)], n), labels, 2)[:, 1]
        there = torch.arange(other + 1, dtype=torch.float64) / other
        back = 1 - torch.arange(1, n - other, dtype=torch.float64) / (n - other)
        assert torch.allclose(f, torch.cat([there, back]))

    def test_path_tells_row_normalization_from_the_papers(self) -> None:
        # 0 - 1 - 2 - 3, shown 0 and 2. The walk goes from 1 either way alike; the paper's is drawn to the end node
        logw = graph_of([(0, 1), (1, 2), (2, 3)], 4)
        labels = torch.tensor([0, -1, 1, -1])
        assert harmonic(logw, labels, 2)[1].tolist() == pytest.approx([0.5, 0.5])
        hidden = torch.tensor([1, 3])
        t, log_pi = solvers.paper_walk(logw, hidden)
        f = solvers.absorb(t[:, hidden], t @ one_hot(labels, 2), log_pi / 2, torch.full((2,), 0.5, dtype=torch.float64))
        assert f[0].tolist() == pytest.approx([0.5**0.5, 1 - 0.5**0.5])
        assert f[1].tolist() == pytest.approx([0.0, 1.0])


class TestOracles:
    @quick
    @given(batches())
    def test_harmonic(self, b: Batch) -> None:
        shown = split(b.labels, b.generator)
        w = oracles.similarity(b.embeddings, b.sigma)
        expected = oracles.harmonic(w / w.sum(1, keepdim=True), one_hot(b.labels, b.num_classes), shown)
        f = harmonic(log_similarity(b), b.labels, b.num_classes, shown=shown)
        assert torch.allclose(f[~shown], expected, rtol=1e-6, atol=1e-9)
        assert torch.equal(f[shown], one_hot(b.labels, b.num_classes)[shown])

    @quick
    @given(batches())
    def test_paper_walk(self, b: Batch) -> None:
        hidden = torch.tensor([0, 2, 5])
        t, log_pi = solvers.paper_walk(log_similarity(b), hidden)
        assert torch.allclose(t, oracles.paper_transition(oracles.similarity(b.embeddings, b.sigma))[hidden], rtol=1e-8)
        flow = log_pi.exp()[:, None] * t[:, hidden]  # reversible: as much there as back
        assert torch.allclose(flow, flow.T, rtol=1e-8)

    @pytest.mark.parametrize("unlabeled", [0.0, 0.5])
    @pytest.mark.parametrize("alpha", [0.5, 0.95, 1.0])
    def test_left_out(self, alpha: float, unlabeled: float) -> None:
        b = batch(24, 3, unlabeled=unlabeled, seed=3)
        assert unlabeled == 0 or 2 < int((b.labels < 0).sum()) < 20
        expected = oracles.loo(oracles.similarity(b.embeddings, b.sigma), b.labels, 3, alpha)
        f = left_out(log_similarity(b), b.labels, 3, alpha)
        assert torch.allclose(f, expected[b.labels >= 0], rtol=1e-7, atol=1e-10)

    def test_iterating_the_walk_converges_to_the_solve(self) -> None:
        b = batch(40, 3, unlabeled=0.4)
        logw = log_similarity(b)
        p, y = logw.softmax(1), one_hot(b.labels, 3)
        f = torch.full_like(y, 1 / 3)
        for _ in range(3000):
            f = torch.where(b.labels[:, None] >= 0, y, p @ f)
        assert torch.allclose(harmonic(logw, b.labels, 3), f, atol=1e-8)


class TestSmallPrecision:
    @pytest.mark.parametrize("n", [4, 8, 16, 64, 200])
    def test_float32_survives_hidden_documents_that_hardly_reach_a_label(self, n: int) -> None:
        # sigma 0.13 in few dimensions: mutual neighbors leave one another with probabilities down to 1e-10
        seen = 0
        for seed in range(6):
            b = batch(n, 2, d=4, sigma=0.13, seed=seed, dtype=torch.float32)
            shown = split(b.labels, b.generator, 0.3)
            if len(b.labels[shown].unique()) < 2:
                continue
            seen += 1
            f = harmonic(log_similarity(b), b.labels, 2, shown=shown)
            x = b._replace(embeddings=b.embeddings.double())
            assert f.dtype == torch.float32
            assert torch.allclose(f.double(), harmonic(log_similarity(x), b.labels, 2, shown=shown), atol=1e-4)
        assert seen >= 2

    def test_a_device_without_float64_gets_a_leak_and_no_float64(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(solvers, "_NO_FLOAT64", ("cpu",))
        monkeypatch.setattr(Tensor, "double", lambda self: pytest.fail("float64 on a device that lacks it"))
        b = batch(32, 3, sigma=0.1, unlabeled=0.4, spread=2.0, dtype=torch.float32)
        labels = torch.where(b.labels == 1, -1, b.labels)  # a whole class hidden and far away
        x = b.embeddings.clone().requires_grad_()
        f = harmonic(log_affinity(unit(x), 0.1), labels, 3)
        f[:, 0].sum().backward()
        assert torch.allclose(f.sum(1), torch.ones(32), atol=1e-5)
        assert torch.isfinite(x.grad).all()
        assert x.grad.norm() > 0

    def test_the_result_does_not_depend_on_autocast(self) -> None:
        b = batch(32, 3, unlabeled=0.4, dtype=torch.float32)
        plain = harmonic(log_similarity(b), b.labels, 3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = unit(b.embeddings)
            t = torch.softmax(log_affinity(z, b.sigma)[b.labels < 0], 1)
        assert t.dtype == torch.float32
        assert plain.dtype == torch.float32

    def test_a_component_without_labels_is_the_prior_with_a_gradient_of_zero(self) -> None:
        logw = graph_of([(0, 1), (1, 2), (3, 4)], 5).requires_grad_()
        f = harmonic(logw, torch.tensor([0, -1, 1, -1, -1]), 2)
        f[3:, 0].sum().backward()
        assert torch.allclose(f[3:], torch.full((2, 2), 0.5, dtype=torch.float64))
        assert torch.equal(logw.grad, torch.zeros_like(logw))


class TestGradients:
    def test_solve(self) -> None:
        a = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
        b = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda a, b: solvers.solve(a @ a.T + torch.eye(5), b), (a, b))

    def test_absorb(self) -> None:
        g = torch.Generator().manual_seed(0)
        w, a, r = (torch.rand(s, generator=g, dtype=torch.float64) for s in ((6, 6), (6,), (6, 3)))
        prior = torch.full((3,), 1 / 3, dtype=torch.float64)

        def f(w: Tensor, a: Tensor, r: Tensor) -> Tensor:
            return solvers.absorb(a.exp()[:, None] * (w + w.T), r, -a / 2, prior)

        expected = torch.linalg.solve(
            torch.diag((w + w.T).sum(1) + r.sum(1) / a.exp()) - (w + w.T), r / a.exp()[:, None]
        )
        assert torch.allclose(f(w, a, r), expected)
        assert torch.autograd.gradcheck(f, tuple(x.requires_grad_() for x in (w, a, r)))

    def test_paper_walk(self) -> None:
        x = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
        hidden = torch.tensor([1, 4, 5])
        assert torch.autograd.gradcheck(lambda x: solvers.paper_walk(log_affinity(unit(x), 0.5), hidden)[0], (x,))

    @pytest.mark.parametrize("name", OPERATORS)
    def test_every_operator(self, name: str) -> None:
        b = batch(9, 2, d=4, sigma=0.5, unlabeled=0.3)
        assert 0 < int((b.labels < 0).sum()) < 7

        def f(x: Tensor) -> Tensor:
            return OPERATORS[name](log_affinity(unit(x), 0.5), b.labels, 2)

        assert torch.autograd.gradcheck(f, (b.embeddings.requires_grad_(),))

    def test_twice_differentiating_raises(self) -> None:
        b = batch(9, 2, d=4, sigma=0.5, unlabeled=0.3)
        logw = log_similarity(b).requires_grad_()
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(harmonic(logw, b.labels, 2).square().sum(), logw, create_graph=True)


class TestProperties:
    @quick
    @given(batches())
    def test_rows_are_probabilities(self, b: Batch) -> None:
        for operator in OPERATORS.values():
            f = operator(log_similarity(b), b.labels, b.num_classes)
            assert f.shape[1] == b.num_classes and len(f) in (len(b.labels), int((b.labels >= 0).sum()))
            assert (f >= 0).all()
            assert torch.allclose(f.sum(1), torch.ones(len(f), dtype=f.dtype))

    @quick
    @given(batches())
    def test_permuting_nodes_and_classes_permutes_the_answer(self, b: Batch) -> None:
        order = torch.randperm(len(b.labels), generator=b.generator)
        rename = torch.randperm(b.num_classes, generator=b.generator)
        renamed = torch.where(b.labels >= 0, rename[b.labels.clamp_min(0)], -1)
        for operator in OPERATORS.values():
            f = operator(log_similarity(b), b.labels, b.num_classes)
            kept = order if len(f) == len(order) else (b.labels >= 0).cumsum(0)[order[b.labels[order] >= 0]] - 1
            moved = b._replace(embeddings=b.embeddings[order])
            g = operator(log_similarity(moved), renamed[order], b.num_classes)
            assert torch.allclose(g[:, rename], f[kept], rtol=1e-5, atol=1e-8)

    @quick
    @given(batches())
    def test_rotating_and_scaling_changes_nothing(self, b: Batch) -> None:
        d = b.embeddings.shape[1]
        rotation, _ = torch.linalg.qr(torch.randn(d, d, generator=b.generator, dtype=torch.float64))
        scale = torch.rand(len(b.labels), 1, generator=b.generator, dtype=torch.float64) + 0.1
        moved = b._replace(embeddings=scale * b.embeddings @ rotation)
        for operator in OPERATORS.values():
            f = operator(log_similarity(b), b.labels, b.num_classes)
            g = operator(log_similarity(moved), b.labels, b.num_classes)
            assert torch.allclose(f, g, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_spreading_wants_alpha_inside(alpha: float) -> None:
    with pytest.raises(ValueError, match="0 < alpha < 1"):
        pr.loo_log_kernel(graph_of([(0, 1)], 2), torch.tensor([0, -1]), alpha)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("labels", [[], [0], [-1], [0, -1], [-1, -1], [0, 1], [0, 0, 0]])
def test_tiny_graphs_have_an_answer(name: str, labels: list[int]) -> None:
    n = len(labels)
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    f = OPERATORS[name](log_affinity(unit(x), 0.3), torch.tensor(labels, dtype=torch.long), 2)
    assert f.shape == (n if name == "harmonic" else sum(label >= 0 for label in labels), 2)
    assert torch.allclose(f.sum(1), torch.ones(len(f)))
