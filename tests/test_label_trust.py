"""Trust in labels: beside a literal sum over pairs, and what it does to losses and to a training."""

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batch, batches, quick
from torch import Tensor
from torch.nn import functional

from graphloss.losses import label_trust
from graphloss.losses.functional import gloss
from graphloss.losses.label_trust import LabelTrust
from graphloss.losses.modules import Combined, GLoss
from graphloss.text.texts_and_labels import Documents
from graphloss.training.batches import distinct, rows_of

SIGMA = 0.3


def literal(x: Tensor, labels: Tensor, power: float) -> Tensor:
    """Trust (N,) by one sum per pair of documents, float64."""
    w = oracles.similarity(x.double(), SIGMA)
    powers = []
    for i, c in enumerate(labels.tolist()):
        others = [j for j in range(len(labels)) if j != i]
        own = [j for j in others if labels[j] == c]
        p = sum((w[i, j] for j in own), torch.tensor(0.0)) / sum(w[i, j] for j in others)
        powers.append(p**power if own else torch.tensor(1.0))
    found = []
    for i, c in enumerate(labels.tolist()):
        members = [j for j in range(len(labels)) if labels[j] == c]
        found.append(powers[i] / (sum(powers[j] for j in members) / len(members)))
    return torch.stack([each.double() for each in found])


@pytest.mark.parametrize("power", [2.0, 0.7, 0.0])
@pytest.mark.parametrize("tile", [2**24, 90, 1])
def test_trust_by_the_oracle(power: float, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_trust, "TILE", tile)
    b = batch(18, 3, seed=5)
    b.labels[:6] = b.labels[torch.arange(6).roll(1)]
    some = torch.tensor([3, 0, 17, 8])
    found = LabelTrust(b.embeddings, b.labels, sigma=SIGMA, power=power)(b.embeddings[some], b.labels[some], some)
    torch.testing.assert_close(found.double(), literal(b.embeddings, b.labels, power)[some], rtol=1e-4, atol=1e-5)
    assert (found.std() > 0.1) == (power > 0) and not found.requires_grad


@quick
@given(batches(unlabeled=False))
def test_the_mean_of_a_class_is_one(b: Batch) -> None:
    found = LabelTrust(b.embeddings, b.labels, sigma=SIGMA)(b.embeddings, b.labels, torch.arange(len(b.labels)))
    assert bool((found >= 0).all())
    for c in b.labels.unique():
        own = found[b.labels == c]
        assert float(own.mean()) == pytest.approx(1.0, rel=1e-4)


def test_a_class_whose_powers_all_underflow_keeps_its_share() -> None:
    x = functional.one_hot(torch.tensor([0, 1, 2, 2, 2]), 4).float()
    trust = LabelTrust(x, torch.tensor([0, 0, 1, 1, 1]), sigma=0.05)
    found = trust(x, torch.tensor([0, 0, 1, 1, 1]), torch.arange(5))
    assert trust.log_p[:2].exp().max() < 0.5 and (2 * trust.log_p[2:] > -1).all()
    torch.testing.assert_close(found, torch.ones(5))
    far = LabelTrust(torch.eye(6)[[0, 1, 0, 1]], torch.tensor([0, 0, 1, 1]), sigma=0.05)
    assert (2 * far.log_p).exp().max() == 0.0
    torch.testing.assert_close(far(torch.eye(6)[[0]], torch.tensor([0]), torch.tensor([0])), torch.ones(1))


def test_embeddings_that_are_not_finite_are_not_remembered() -> None:
    b = batch(12, 2, seed=1)
    trust, untouched = (LabelTrust(b.embeddings, b.labels, sigma=SIGMA) for _ in range(2))
    broken = b.embeddings.clone()
    broken[3], broken[5, 0] = torch.nan, torch.inf
    found = trust(broken, b.labels, torch.arange(12))
    torch.testing.assert_close(found, untouched(b.embeddings, b.labels, torch.arange(12)))
    assert all(bool(each.isfinite().all()) for each in (found, trust.embeddings, trust.log_p))


def test_a_batch_is_seen_by_those_after_it() -> None:
    b = batch(12, 2, seed=3)
    moved = b.embeddings + torch.randn(12, 16, generator=b.generator, dtype=torch.float64)
    trust = LabelTrust(b.embeddings, b.labels, sigma=SIGMA)
    first, second = torch.arange(6), torch.arange(6, 12)
    trust(moved[first], b.labels[first], first)
    w = torch.cat([moved[first], b.embeddings[second]])
    log_p = oracles.loo(oracles.similarity(w, SIGMA), b.labels, 2, 1.0)[first, b.labels[first]].log()
    torch.testing.assert_close(trust.log_p[first].double(), log_p, rtol=1e-4, atol=1e-4)
    trust(moved[second], b.labels[second], second)
    found = trust(moved, b.labels, torch.arange(12))
    torch.testing.assert_close(found.double(), literal(moved, b.labels, 2.0), rtol=1e-4, atol=1e-5)


def test_a_label_that_all_others_contradict_is_trusted_least() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(24) % 3
    x = functional.one_hot(y, 8).float() + 0.2 * torch.randn(24, 8, generator=generator)
    wrong = y.clone()
    wrong[0] = 1
    found = LabelTrust(x, wrong)(x, wrong, torch.arange(24))
    assert int(found.argmin()) == 0 and found[0] < 0.01 < 0.5 < found[1:].min()


def test_copies_of_a_document_do_not_vouch_for_it() -> None:
    b = batch(12, 2, seed=1)
    trust, alone = (LabelTrust(b.embeddings, b.labels, sigma=SIGMA) for _ in range(2))
    twice = torch.tensor([4, 4, 7])
    found = trust(b.embeddings[twice], b.labels[twice], twice)
    torch.testing.assert_close(found[1:], alone(b.embeddings[twice[1:]], b.labels[twice[1:]], twice[1:]))
    assert found[0] == found[1]
    copies = Documents(["a", "b", "a", "a"], [0, 1, 0, 1])
    assert rows_of(copies) == [("a", 0, 0), ("b", 1, 1), ("a", 0, 0), ("a", 1, 2)]
    assert distinct(copies) == Documents(["a", "b", "a"], [0, 1, 1])


def test_single_and_unlabeled_documents_weigh_one() -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 0, 1, 2, 2])
    found = LabelTrust(x, y)(x[1:], torch.tensor([0, 1, -1, 2]), torch.tensor([1, 2, -1, 4]))
    assert found[1:3].tolist() == [1.0, 1.0] and bool(found.isfinite().all())
    none = LabelTrust(x[:0], y[:0])(x[:2], torch.tensor([-1, -1]), torch.tensor([-1, -1]))
    assert none.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_weights_of_documents_in_the_loss(alpha: float) -> None:
    b = batch(14, 3, unlabeled=0.3, seed=2)
    w = torch.rand(14, generator=b.generator, dtype=torch.float64)
    result = gloss(b.embeddings, b.labels, sigma=SIGMA, alpha=alpha, sample_weight=w)
    own = w[result.anchors]
    assert float(result.loss) == pytest.approx(float((own * -result.log_p[result.anchors]).sum() / own.sum()))
    x = b.embeddings.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: gloss(z, b.labels, sigma=0.5, alpha=alpha, sample_weight=w).loss, x)
    for scale in (1e-30, 1e30):
        again = gloss(b.embeddings, b.labels, sigma=SIGMA, alpha=alpha, sample_weight=w * scale).loss
        assert float(again) == pytest.approx(float(result.loss))
    plain = gloss(b.embeddings, b.labels, sigma=SIGMA, alpha=alpha).loss
    even = gloss(b.embeddings, b.labels, sigma=SIGMA, alpha=alpha, sample_weight=torch.full((14,), 0.3)).loss
    assert float(even) == pytest.approx(float(plain))
    none = gloss(x, b.labels, sigma=SIGMA, alpha=alpha, sample_weight=torch.zeros(14)).loss
    none.backward()
    assert float(none.detach()) == 0.0 and x.grad is not None and not x.grad.any()


def test_both_parts_of_a_combination_are_weighted() -> None:
    b = batch(12, 3, seed=4)
    w = torch.rand(12, generator=b.generator, dtype=torch.float64)
    logits = torch.randn(12, 3, generator=b.generator, dtype=torch.float64)
    result = Combined(GLoss(sigma=SIGMA), weight=0.3)(b.embeddings, logits, b.labels, sample_weight=w)
    ce = float((w * functional.cross_entropy(logits, b.labels, reduction="none")).sum() / w.sum())
    graph = float(gloss(b.embeddings, b.labels, sigma=SIGMA, sample_weight=w).loss)
    assert float(result.loss) == pytest.approx(0.7 * ce + 0.3 * graph)


@pytest.mark.parametrize("weight", [torch.ones(3), -torch.ones(4), torch.full((4,), torch.nan), torch.ones(4).long()])
def test_weights_without_sense_are_refused(weight: Tensor) -> None:
    z, y = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    for call in (
        lambda: gloss(z, y, sigma=SIGMA, sample_weight=weight),
        lambda: Combined(None)(z, z[:, :2], y, sample_weight=weight),
    ):
        with pytest.raises((TypeError, ValueError), match="sample_weight must be"):
            call()
    with pytest.raises(ValueError, match="belongs to mode"):
        GLoss(mode="paper")(z, y, sample_weight=torch.ones(4))
