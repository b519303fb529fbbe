"""Two views and the graph of graphs: beside a literal propagation, its gradient, and what pseudo-labels do to edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graphloss.losses.functional import gloss

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CLASSES, LABELED, HIDDEN = 3, 7, 4
LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2] + [-1] * HIDDEN)


@pytest.fixture
def two_views(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import two_views

    return two_views


def batch(z: Tensor, logits: Tensor) -> Any:
    """Labeled texts, unlabeled ones, and their second views."""
    from short_training import Batch

    n = LABELED + HIDDEN
    numbers = torch.tensor([*range(n), *range(LABELED, n)])
    none = torch.zeros(n + HIDDEN, dtype=torch.bool)
    return Batch(z, logits, torch.cat([LABELS, LABELS[-HIDDEN:]]), numbers, none, torch.arange(n + HIDDEN) >= n, 0.0)


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n = LABELED + 2 * HIDDEN
    z, logits = (torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (5, CLASSES))
    return z.requires_grad_(), logits.requires_grad_()


def walk(z: Tensor, p: Tensor, sigma: float) -> Tensor:
    """Transition probabilities of the weighed graph, every weight by itself."""
    n, rows = len(z), []
    for i in range(n):
        row = []
        for j in range(n):
            w = torch.exp((z[i] @ z[j] / (z[i].norm() * z[j].norm()) - 1) / sigma**2)
            if LABELS[i] < 0 and LABELS[j] < 0:
                w = w * sum(float(p[i, c].detach() * p[j, c].detach()) for c in range(CLASSES))
            row.append(w * (i != j))
        rows.append(torch.stack(row) / sum(row))
    return torch.stack(rows)


def spread(t: Tensor, labels: Tensor) -> Tensor:
    """F (n, C), by walking until nothing changes; labeled nodes stay."""
    y = torch.stack([(labels == c).double() for c in range(CLASSES)], dim=1)
    f = y
    for _ in range(2000):
        f = torch.where((labels >= 0)[:, None], y, t @ f)
    return f


def literal(z: Tensor, logits: Tensor, sigma: float, consistency: float) -> Tensor:
    """The formula of the module, text by text."""
    n = LABELED + HIDDEN
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    second = torch.cat([z[:LABELED], z[n:]])
    total = sum(-torch.log(p[i, LABELS[i]]) for i in range(LABELED)) / LABELED * 0.5
    for i in range(LABELED):
        left = LABELS.clone()
        left[i] = -1  # really left out; the edges are those of the whole batch
        f = spread(walk(z[:n], p, sigma), left)
        total = total - 0.5 * torch.log(f[i, LABELS[i]]) / LABELED
    one, two = (spread(walk(view, p, sigma), LABELS) for view in (z[:n], second))
    for i in range(LABELED, n):
        target = ((p[i] + one[i]) / 2).detach() ** 2
        target = target / target.sum()
        total = total - 0.5 * consistency * (target * (torch.log(p[i + HIDDEN]) + torch.log(two[i]))).sum() / HIDDEN
    return torch.as_tensor(total)


@pytest.mark.parametrize("consistency", [0.0, 0.6])
def test_the_loss_and_its_gradients_are_those_of_the_literal_one(two_views: Any, consistency: float) -> None:
    z, logits = drawn()
    ours = two_views.graph_loss(batch(z, logits), sigma=0.6, consistency=consistency)
    theirs = literal(z, logits, 0.6, consistency)
    torch.testing.assert_close(ours, theirs)
    for of_ours, of_theirs in zip(
        torch.autograd.grad(ours, (z, logits)), torch.autograd.grad(theirs, (z, logits)), strict=True
    ):
        torch.testing.assert_close(of_ours, of_theirs)
        assert (of_ours.norm(dim=1) > 0).sum() >= LABELED


def test_gradients_by_differences(two_views: Any) -> None:
    z, logits = drawn(1)
    q = torch.softmax(logits.detach()[: LABELED + HIDDEN], dim=1)

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        logw = two_views.weighed(two_views.log_affinity(two_views.unit(x), 0.6), LABELS, q)
        f = two_views.propagated(logw, LABELS, CLASSES)
        return two_views.left_out(logw, LABELS), two_views.agreement(two_views.sharpened(q[-HIDDEN:]), f)

    x = z.detach()[: LABELED + HIDDEN].requires_grad_()
    assert torch.autograd.gradcheck(parts, x)
    assert all(torch.autograd.grad(parts(x)[which], x)[0].norm() > 0 for which in range(2))


def test_pseudo_labels_of_one_class_leave_the_graph_as_it_is_and_others_cut_it(two_views: Any) -> None:
    z, _ = drawn()
    x = z[: LABELED + HIDDEN]
    logw = two_views.log_affinity(two_views.unit(x), 0.6)
    sure = functional.one_hot(torch.zeros(len(x), dtype=torch.long), CLASSES).double()
    same = two_views.weighed(logw, LABELS, sure)
    torch.testing.assert_close(two_views.left_out(same, LABELS), gloss(x, LABELS, sigma=0.6).loss)
    f = two_views.propagated(same, LABELS, CLASSES)
    torch.testing.assert_close(f.sum(1), torch.ones(HIDDEN, dtype=torch.float64))
    sure = functional.one_hot(torch.tensor([0] * (LABELED + 2) + [1] * 2), CLASSES).double()
    cut = two_views.weighed(logw, LABELS, sure).softmax(dim=1)[LABELED:, LABELED:]
    assert (cut[:2, 2:] < 1e-4).all() and (cut[2:, :2] < 1e-4).all() and (cut[0, 1] > 1e-3)
    labeled = two_views.weighed(logw, LABELS, sure)[:LABELED]
    assert torch.equal(labeled, logw[:LABELED])  # no edge of a labeled text tells its label


def test_cross_entropy_and_supcon_have_the_same_texts_and_views(two_views: Any) -> None:
    z, logits = drawn()
    p = torch.softmax(logits.detach(), dim=1)
    first, second = p[LABELED : LABELED + HIDDEN], p[LABELED + HIDDEN :]
    target = first**2 / (first**2).sum(1, keepdim=True)
    plain = float(-p[range(LABELED), LABELS[:LABELED]].log().mean())
    agreed = float(-(target * second.log()).sum(1).mean())
    found = two_views.head_loss(batch(z, logits), consistency=0.7, contrast=None)
    assert float(found.detach()) == pytest.approx(plain + 0.7 * agreed)
    contrast = two_views.SupCon(0.3)
    numbers = torch.arange(HIDDEN) + 10
    contrasted = float(contrast(z, torch.cat([LABELS[:LABELED], numbers, numbers])).detach())
    found = two_views.head_loss(batch(z, logits), consistency=0.7, contrast=contrast)
    assert float(found.detach()) == pytest.approx((plain + contrasted) / 2 + 0.7 * agreed)


def test_words_are_dropped_but_one_stays(two_views: Any) -> None:
    rng = np.random.default_rng(0)
    text = " ".join(f"w{number}" for number in range(1000))
    kept = two_views.without_words(text, rng).split()
    assert 750 < len(kept) < 850 and kept == sorted(kept, key=lambda word: int(word[1:]))
    assert {two_views.without_words("one", rng) for _ in range(50)} == {"one"}
