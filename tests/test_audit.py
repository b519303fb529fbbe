"""The audit: labels judged without themselves, against a literal oracle and on labels that we made wrong."""

from __future__ import annotations

import oracles
import pytest
import torch
from sklearn.metrics import average_precision_score

from graphloss.inference import label_errors
from graphloss.inference.label_errors import ALPHA, EPSILON, doubtful, steps, suspicion
from graphloss.losses.graph import unit


def clusters(n: int, classes: int, noise: float = 0.4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centers = unit(torch.randn(classes, 16, generator=generator))
    return unit(centers[y] + noise * torch.randn(n, 16, generator=generator)), y


def flipped(y: torch.Tensor, share: float, classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    given = y.clone()
    given[rows] = (y[rows] + torch.randint(1, classes, (len(rows),), generator=generator)) % classes
    return given


def test_the_graph_leaves_each_label_out_in_both_rounds() -> None:
    z, y = clusters(40, 3)
    given = flipped(y, 0.1, 3)
    found = suspicion(z, given, 3, sigma=0.4)
    w = oracles.nearest(oracles.similarity(z.double(), 0.4), label_errors.NEIGHBORS)
    expected = oracles.doubted(w, given, found.probe.double(), ALPHA)
    torch.testing.assert_close(found.graph.double(), expected, rtol=1e-3, atol=1e-5)


def test_the_score_is_the_contest_of_the_best_other_label_with_the_given_one() -> None:
    z, y = clusters(30, 3)
    found = suspicion(z, flipped(y, 0.2, 3), 3, sigma=0.3)
    p, given = (found.probe + found.graph) / 2, flipped(y, 0.2, 3)
    for i in range(30):
        others = {c: float(p[i, c]) for c in range(3) if c != given[i]}
        best = max(others, key=others.__getitem__)
        assert int(found.proposed[i]) == best
        contest = (others[best] + EPSILON) / (others[best] + float(p[i, given[i]]) + 2 * EPSILON)
        assert float(found.score[i]) == pytest.approx(contest, rel=1e-5)


def test_labels_made_wrong_are_found_and_put_right() -> None:
    z, y = clusters(200, 4, 0.2)
    given = flipped(y, 0.1, 4)
    found, wrong = suspicion(z, given, 4, sigma=0.3), given != y
    assert average_precision_score(wrong.numpy(), found.score.numpy()) > 0.97
    assert (found.proposed[wrong] == y[wrong]).float().mean() > 0.95
    ranked = found.ranked()
    assert set(torch.nonzero(wrong)[:, 0].tolist()) <= set(ranked) and len(ranked) < 40
    assert [float(found.score[i]) for i in ranked] == sorted((float(found.score[i]) for i in ranked), reverse=True)


def test_a_label_alone_of_its_class_is_not_judged() -> None:
    z, y = clusters(40, 2)
    y[7] = 2
    found = suspicion(z, y, 3, sigma=0.3)
    assert found.score[7] == 0 and 7 not in found.ranked() and (found.score > 0).sum() == 39


def test_the_evidence_has_the_proposed_label_and_is_never_the_document_itself() -> None:
    z, y = clusters(90, 3)
    given = flipped(y, 0.1, 3)
    found = suspicion(z, given, 3, sigma=0.3, k=4)
    assert found.documents.shape == (90, 4)
    seen = 0
    for i in range(90):
        for place in found.documents[i][found.documents[i] >= 0].tolist():
            seen += 1
            assert place != i and given[place] == found.proposed[i]
    assert seen > 180
    assert (found.shares.sum(1) <= 1 + 1e-5).all() and (found.shares >= 0).all()
    whole = suspicion(z, given, 3, sigma=0.3, k=90)
    p = (whole.probe + whole.graph) / 2
    graph = whole.graph.gather(1, whole.proposed[:, None])[:, 0] / 2 / p.gather(1, whole.proposed[:, None])[:, 0]
    torch.testing.assert_close(whole.shares.sum(1), graph, rtol=1e-4, atol=1e-6)


def test_many_documents_are_judged_in_parts_that_keep_rare_classes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = clusters(240, 4, 0.2)
    y[:5] = 4
    z[:5] = clusters(5, 1, 0.1, seed=9)[0]
    given = flipped(y, 0.1, 4)
    given[:5] = 4
    told: list[int] = []
    monkeypatch.setattr(label_errors, "PART", 100)
    parts = label_errors._parts(given.numpy(), 0)
    assert sorted(torch.cat(parts).tolist()) == list(range(240)) and len(parts) == 3
    assert max(map(len, parts)) <= 100 and sum(bool((given[part] == 4).any()) for part in parts) == 1
    found = suspicion(z, given, 5, sigma=0.3, on_step=lambda: told.append(1))
    assert len(told) == steps(240) == 18 and (found.score > 0).all() and (found.score[:5] < 0.5).all()
    assert average_precision_score((given != y).numpy(), found.score.numpy()) > 0.8  # of 80 at a time


@pytest.mark.parametrize("labels", [[], [0], [0, 1], [1, 1]])
def test_too_few_documents_leave_no_suspicion(labels: list[int]) -> None:
    z = unit(torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0)))
    assert suspicion(z, torch.tensor(labels, dtype=torch.long), 2, sigma=0.3).ranked() == []


def test_duplicates_and_zeros_are_no_trouble() -> None:
    z = torch.zeros(12, 4)
    z[:6] = unit(torch.randn(1, 4, generator=torch.Generator().manual_seed(0)))
    y = torch.tensor([0, 0, 0, 0, 0, 1] + [1] * 6)
    found = suspicion(z, y, 2, sigma=0.01)
    assert torch.isfinite(found.score).all() and found.ranked()[0] == 5


def test_many_contradicted_labels_raise_doubts_and_few_or_none_do_not() -> None:
    z, y = clusters(200, 4, 0.2)
    given = flipped(y, 0.2, 4)
    assert doubtful(suspicion(z, given, 4, sigma=0.3), given)
    assert not doubtful(suspicion(z, y, 4, sigma=0.3), y)
    few = flipped(y, 0.03, 4)
    assert suspicion(z, few, 4, sigma=0.3).ranked() and not doubtful(suspicion(z, few, 4, sigma=0.3), few)


def test_labels_are_not_doubted_where_embeddings_know_nothing_of_them() -> None:
    z, y = clusters(200, 4, 0.2)
    chance = y[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    found = suspicion(z, chance, 4, sigma=0.3)
    assert (found.score > label_errors.SURE).float().mean() > label_errors.WRONG and not doubtful(found, chance)
