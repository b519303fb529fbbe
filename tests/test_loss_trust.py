"""Left-out trust inside G-Loss (`benchmarks/trusted_gloss.py`): by its oracle, and where the answer is known."""

import sys
from itertools import product
from pathlib import Path

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batch, batches, quick
from torch import Tensor
from torch.nn import functional

from graphloss.losses.functional import gloss

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import loss_trust_page as tables
from trusted_gloss import (
    Memory,
    generalized_cross_entropy,
    left_out_trust,
    trusted_gloss,
    weighted_cross_entropy,
)

SIGMA = 0.3


def trust_for(count: int, seed: int = 0, zeros: int = 3) -> Tensor:
    """(n,) trusts of very unequal size, a few of them zero."""
    generator = torch.Generator().manual_seed(seed)
    trust = torch.rand(count, generator=generator, dtype=torch.float64) ** 3 * 4
    trust[torch.randperm(count, generator=generator)[:zeros]] = 0.0
    return trust


def value_and_gradient(b: Batch, trust: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    x = b.embeddings.clone().requires_grad_()
    loss = trusted_gloss(x, b.labels, trust, sigma=SIGMA, alpha=alpha)
    loss.backward()
    return loss.detach(), x.grad


@pytest.mark.parametrize("alpha", [1.0, 0.8])
@pytest.mark.parametrize("unlabeled", [0.0, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_the_oracle(alpha: float, unlabeled: float, dtype: torch.dtype, tolerance: float) -> None:
    b, trust = batch(20, 3, unlabeled=unlabeled, seed=2, dtype=dtype), trust_for(20)
    x = b.embeddings.double().clone().requires_grad_()
    expected = oracles.trusted_loss(oracles.similarity(x, SIGMA), b.labels, 3, alpha, trust)
    (h,) = torch.autograd.grad(expected, x)
    loss, g = value_and_gradient(b, trust, alpha)
    assert loss.dtype == dtype and h.norm() > 0
    assert float(loss) == pytest.approx(float(expected.detach()), rel=tolerance)
    assert (g.double() - h).norm() / h.norm() < tolerance


@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_gradcheck(alpha: float) -> None:
    b, trust = batch(9, 2, unlabeled=0.3, seed=1), trust_for(9, zeros=1)
    x = b.embeddings.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: trusted_gloss(z, b.labels, trust, sigma=0.5, alpha=alpha), x)


@pytest.mark.parametrize("alpha", [1.0, 0.8])
@quick
@given(batches())
def test_all_trusted_alike_it_is_gloss(alpha: float, b: Batch) -> None:
    for level in (1.0, 0.2):
        loss, g = value_and_gradient(b, torch.full((len(b.labels),), level, dtype=torch.float64), alpha)
        x = b.embeddings.clone().requires_grad_()
        expected = gloss(x, b.labels, sigma=SIGMA, alpha=alpha).loss
        expected.backward()
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-9, abs=1e-12)
        assert torch.allclose(g, x.grad, rtol=1e-7, atol=1e-10)


def test_without_trust_a_document_is_neither_target_nor_source() -> None:
    b, trust = batch(20, 3, seed=4), trust_for(20, zeros=2)
    silent = (trust == 0).nonzero()[:, 0].tolist()
    loss, g = value_and_gradient(b, trust)
    assert len(silent) == 2 and not g[silent].any() and all(g[row].any() for row in range(20) if row not in silent)
    kept = [row for row in range(20) if row not in silent]
    less = b._replace(embeddings=b.embeddings[kept], labels=b.labels[kept])
    without, h = value_and_gradient(less, trust[kept])
    assert float(loss) == pytest.approx(float(without), rel=1e-12)
    torch.testing.assert_close(g[kept], h)


@pytest.mark.parametrize("trust", [torch.zeros(6), torch.tensor([1.0, 0, 1, 0, 1, 0])])
def test_nobody_who_can_vouch_is_zero_with_a_live_gradient(trust: Tensor) -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = trusted_gloss(x, torch.tensor([0, 0, 1, 1, 2, 2]), trust, sigma=SIGMA)
    loss.backward()
    assert float(loss.detach()) == 0.0 and x.grad is not None and not x.grad.any()


def test_trust_by_hand() -> None:
    b = batch(18, 3, seed=5)
    b.labels[:6] = b.labels[torch.arange(6).roll(1)]
    f = oracles.loo(oracles.similarity(b.embeddings, SIGMA), b.labels, 3, 1.0)
    a = f[torch.arange(18), b.labels] ** 0.7
    expected = torch.stack([a[i] / a[b.labels == c].mean() for i, c in enumerate(b.labels)])
    found = left_out_trust(b.embeddings.double(), b.labels, sigma=SIGMA, q=0.7)
    torch.testing.assert_close(found, expected)
    assert found.std() > 0.1
    torch.testing.assert_close(left_out_trust(b.embeddings.double(), b.labels, sigma=SIGMA, q=0.0), torch.ones_like(a))


def test_a_label_that_all_others_contradict_is_trusted_least() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(24) % 3
    x = functional.one_hot(y, 8).double() + 0.2 * torch.randn(24, 8, generator=generator, dtype=torch.float64)
    wrong = y.clone()
    wrong[0] = 1
    found = left_out_trust(x, wrong, sigma=SIGMA, q=0.7)
    assert int(found.argmin()) == 0 and found[0] < 0.1 < 0.5 < found[1:].min()


def test_the_only_document_of_a_class_keeps_its_trust() -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = left_out_trust(x, torch.tensor([0, 0, 1, 2, 2]), sigma=SIGMA, q=0.7)
    assert float(found[2]) == 1.0 and bool(found.isfinite().all())


def test_the_memory_knows_every_text_that_was_seen() -> None:
    b = batch(12, 2, seed=3)
    memory = Memory(12, sigma=SIGMA)
    order = torch.tensor([4, 2, 0, 7, 9, 11, 1, 3, 5, 6, 8, 10])
    z = functional.normalize(b.embeddings.double(), dim=1).requires_grad_()
    for rows, seen in ((order[:6], order[:6]), (order[6:], order)):
        found = memory.trust(z[rows], b.labels[rows], rows, 0.7)
        everything = torch.full((12,), torch.nan, dtype=torch.float64)
        everything[seen] = left_out_trust(z[seen], b.labels[seen], sigma=SIGMA, q=0.7)
        torch.testing.assert_close(found, everything[rows])
        assert not found.requires_grad


def test_cross_entropies_between_their_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(12, 3, generator=generator, dtype=torch.float64), torch.arange(12) % 3
    plain, own = functional.cross_entropy(logits, y), logits.softmax(1)[torch.arange(12), y]
    torch.testing.assert_close(weighted_cross_entropy(logits, y, torch.full((12,), 0.3)), plain)
    some = torch.arange(12) < 5
    torch.testing.assert_close(
        weighted_cross_entropy(logits, y, some.double()), functional.cross_entropy(logits[:5], y[:5])
    )
    torch.testing.assert_close(generalized_cross_entropy(logits, y, 1e-6), plain, rtol=1e-5, atol=0)
    torch.testing.assert_close(generalized_cross_entropy(logits, y, 1.0), (1 - own).mean())


def test_the_page_pairs_the_cells_that_all_losses_have() -> None:
    ahead = {0.0: 0.0, 0.2: 0.02, 0.4: 0.05}
    rows: dict[tuple[str, float, int, str], dict[str, float]] = {}
    for name, rate, draw in product(("r8", "trec"), ahead, range(3)):
        plain = 0.8 - rate / 2 + 0.01 * draw
        for arm, more in (("trust", ahead[rate] + 0.001 * draw), ("ce", 0.0)):
            rows[name, rate, draw, arm] = dict.fromkeys(tables.MEASURES, plain + more) | {"memorized": 0.5}
    del rows["trec", 0.4, 2, "trust"]
    pairs = tables.whole(rows, ("ce", "trust"), [*ahead])
    assert pairs == [("r8", 0), ("r8", 1), ("r8", 2), ("trec", 0), ("trec", 1)]
    assert tables.counted(pairs) == "3 draws of r8, 2 draws of trec"
    found = tables.differences(rows, ("ce", "trust"), [tables.F1], {"20 and 40%": [0.2, 0.4]})
    ((each, p),) = found.values()
    assert each.mean == pytest.approx(3.58) and each.seeds == 5 and p is not None and p < 0.05
    assert tables.verdict(found) == "ahead of cross-entropy"
    assert "| to cross-entropy | +3.6 (+3.5 to +3.7), p 0.000 |" in tables.shown_differences(found)
    assert "| cross-entropy | 61.0 | 61.0 | 61.0 | -20.0 | 50% |" in tables.means(rows, ("ce",), 0.4)
