"""Lines as nodes of every batch graph: the loss beside a literal one, its gradient, and what it is with one label."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from graphloss.losses.functional import gloss

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def node_loss(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import description_nodes

    return description_nodes.node_loss


def batch(shots: int, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Documents, then a line per class."""
    labels = torch.arange(classes).repeat(shots + 1)
    z = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(shots), dtype=torch.float64)
    return z.requires_grad_(), labels, torch.arange(len(labels)) >= shots * classes


def literal(z: Tensor, labels: Tensor, is_line: Tensor, sigma: float, lines_too: bool) -> Tensor:
    """One node after the other, every weight by itself."""
    terms = []
    for i in range(len(z)):
        if bool(is_line[i]) and not lines_too:
            continue
        own = total = torch.zeros((), dtype=torch.float64)
        for j in range(len(z)):
            if j != i:
                cosine = (z[i] @ z[j]) / (z[i].norm() * z[j].norm())
                w = torch.exp((cosine - 1) / sigma**2)
                total = total + w
                own = own + w if labels[j] == labels[i] else own
        if own > 0:
            terms.append(-torch.log(own / total))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("lines_too", [False, True])
@pytest.mark.parametrize("shots", [1, 3])
def test_the_loss_and_its_gradient_are_those_of_the_literal_one(node_loss: Any, shots: int, lines_too: bool) -> None:
    z, labels, is_line = batch(shots)
    ours = node_loss(z, labels, is_line, sigma=0.5, lines_too=lines_too)
    theirs = literal(z, labels, is_line, 0.5, lines_too)
    torch.testing.assert_close(ours, theirs)
    (of_ours,), (of_theirs,) = torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z)
    torch.testing.assert_close(of_ours, of_theirs)
    assert (of_ours.norm(dim=1) > 0).all()  # documents and lines learn
    assert torch.autograd.gradcheck(lambda x: node_loss(x, labels, is_line, sigma=0.5, lines_too=lines_too), z)


def test_with_one_label_per_class_it_is_the_share_of_the_own_line(node_loss: Any) -> None:
    z, labels, is_line = batch(1)
    x = torch.nn.functional.normalize(z.detach(), dim=1)
    shares = []
    for i in range(4):
        weights = torch.exp(x[i] @ x.T / 0.09)
        weights[i] = 0
        shares.append(float(weights[4 + i] / weights.sum()))  # 4 + i is the line of its class
    expected = -sum(math.log(share) for share in shares) / 4
    assert float(node_loss(z.detach(), labels, is_line, sigma=0.3)) == pytest.approx(expected)
    assert gloss(z[:4], labels[:4], sigma=0.3).coverage == 0  # without lines nothing can be predicted


def test_lines_that_are_predicted_too_are_documents_of_every_batch(node_loss: Any) -> None:
    z, labels, is_line = batch(2)
    both = node_loss(z, labels, is_line, sigma=0.3, lines_too=True)
    torch.testing.assert_close(both, gloss(z, labels, sigma=0.3).loss)
    documents, lines = 8, 4
    of_documents = float(node_loss(z.detach(), labels, is_line, sigma=0.3)) * documents
    of_lines = float(node_loss(z.detach(), labels, ~is_line, sigma=0.3)) * lines
    assert float(both.detach()) == pytest.approx((of_documents + of_lines) / (documents + lines))


def test_lines_that_do_not_learn_change_nothing_for_the_documents(node_loss: Any) -> None:
    z, labels, is_line = batch(2)
    (whole,) = torch.autograd.grad(node_loss(z, labels, is_line, sigma=0.3), z)
    still = torch.where(is_line[:, None], z.detach(), z)
    (part,) = torch.autograd.grad(node_loss(still, labels, is_line, sigma=0.3), z)
    torch.testing.assert_close(part[~is_line], whole[~is_line])
    assert (part[is_line] == 0).all() and (whole[is_line].norm(dim=1) > 0).all()


def test_lines_are_in_every_batch_where_all_is_one_batch(node_loss: Any) -> None:
    import description_nodes
    from short_training import DEFAULT, Sizes

    classes = {"trec": 6, "banking77": 77, "r8": 8, "hwu64": 64, "agnews": 4, "cr": 2}
    found = set()
    for name, shots in description_nodes.EXPERIMENT.reported:
        count = classes[name] * (shots + 1)
        if count <= Sizes.of(count, DEFAULT).batch:
            found.add((name, shots))
    assert found == description_nodes.ONE_BATCH and len(description_nodes.EXPERIMENT.reported) == 12


def test_the_page_has_the_best_trial_and_the_differences(node_loss: Any, tmp_path: Path) -> None:
    import loss_trials
    from description_nodes import EXPERIMENT

    table = loss_trials.ResultTable(tmp_path / "rows.jsonl", loss_trials.KEY)
    experiment = EXPERIMENT._replace(results=table, tried=[("trec", 4)], reported=[("trec", 4), ("r8", 4)], draws=2)
    rank = {arm: place for place, arm in enumerate(experiment.arms)}

    def put(name: str, draw: int, arm: str, trial: int, accuracy: float) -> None:
        scores = dict.fromkeys(loss_trials.SCORES, accuracy)
        table.put(dict(zip(loss_trials.KEY, (name, 4, draw, arm, trial), strict=True)) | scores)

    for arm, place in rank.items():
        for trial in range(4):
            put("trec", 100, arm, trial, 0.5 + (0.01 if trial == place % 4 else 0.0))
        for name, draw in (("trec", 0), ("trec", 1), ("r8", 0)):
            if experiment.same_as(arm, (name, 4)) == arm:
                put(name, draw, arm, place % 4, 0.6 + 0.01 * place * (1 + draw))
    assert {arm: loss_trials.chosen(experiment, arm) for arm in rank} == {arm: rank[arm] % 4 for arm in rank}
    shown = loss_trials.page(experiment)
    assert "| draws | 2 | 1 |  |  |" in shown and "| SupCon, lines as documents | rate 0.0006, t 0.1 | 51.0 |" in shown
    assert "| cross-entropy, lines in every batch | 60.0 / 60.0 | 61.0 / 61.0 | 60.5 / 60.5 | 60.5 |" in shown
    ahead = "G-Loss, lines as nodes of every batch − cross-entropy, lines as documents | 3 | +5.3 (-0.4 to +11.1), p"
    assert ahead in shown  # of +4, +8 and +4


def test_without_a_node_of_the_class_the_gradient_is_zero(node_loss: Any) -> None:
    z, _, is_line = batch(1)
    value = node_loss(z, torch.arange(8), is_line, sigma=0.3)
    assert value == 0 and torch.equal(torch.autograd.grad(value, z)[0], torch.zeros_like(z))
