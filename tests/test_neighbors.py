"""Nearest neighbors: blocks against brute force, the approximate index, and the edges of the input."""

from __future__ import annotations

import sys

import pytest
import torch

from graphloss.inference.graphs import nearest_neighbors
from graphloss.inference.graphs.nearest_neighbors import memory, nearest
from graphloss.losses.graph import unit


def cloud(n: int, d: int = 12, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("n", "k", "rows", "columns"), [(97, 5, 16, 32), (97, 40, 10, 7), (64, 3, 64, 64), (33, 32, 8, 5)]
)
def test_blocks_equal_brute_force(n: int, k: int, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z = cloud(n)
    monkeypatch.setattr(nearest_neighbors, "ROWS", rows)
    monkeypatch.setattr(nearest_neighbors, "COLUMNS", columns)
    found = nearest(z, k)
    cosine = (z @ z.T).fill_diagonal_(-torch.inf)
    value, index = cosine.topk(k, dim=1)
    assert torch.equal(found.places, index)
    assert torch.allclose(found.cosine, value, atol=1e-6)


def test_k_beyond_the_others_is_all_others() -> None:
    found = nearest(cloud(5), 10)
    assert found.places.sort(dim=1).values.tolist() == [[j for j in range(5) if j != i] for i in range(5)]


@pytest.mark.parametrize("n", [0, 1])
def test_nobody_to_join(n: int) -> None:
    found = nearest(cloud(3)[:n], 4)
    assert found.places.shape == found.cosine.shape == (n, 0)


def test_duplicates_join_one_another_and_never_themselves() -> None:
    z = cloud(4).repeat(3, 1)
    found = nearest(z, 2)
    for i, row in enumerate(found.places.tolist()):
        assert sorted(row) == [j for j in range(12) if j % 4 == i % 4 and j != i]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    z = cloud(40).to(dtype)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert nearest(z, 3).cosine.dtype == expected


def test_wrong_input_is_said_with_its_repair() -> None:
    with pytest.raises(ValueError, match="at least 1 neighbor"):
        nearest(cloud(4), 0)
    with pytest.raises(ValueError, match=r"\(documents, dimensions\), got shape \(4,\)"):
        nearest(torch.ones(4), 1)
    with pytest.raises(ValueError, match="NaN"):
        nearest(torch.full((4, 2), float("nan")), 1)


def test_the_index_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r"graphloss\[large\]"):
        nearest(cloud(10), 2, approximate=True)
    monkeypatch.setattr(nearest_neighbors, "EXACT_DOCUMENTS", 9)
    with pytest.raises(ModuleNotFoundError, match="approximate=False"):
        nearest(cloud(10), 2)
    assert nearest(cloud(10), 2, approximate=False).places.shape == (10, 2)


def test_the_approximate_index_finds_nearly_the_same() -> None:
    z = torch.cat([cloud(600, 32), cloud(5, 32, seed=1).repeat(8, 1)])
    found, true = nearest(z, 5, approximate=True), nearest(z, 5)
    assert not (found.places == torch.arange(len(z))[:, None]).any()
    same = (found.places[:600, :, None] == true.places[:600, None, :]).any(2).float().mean()
    assert same > 0.95
    assert (found.cosine[600:] > 0.999).all()


def test_the_estimate_grows_with_documents_and_classes_not_with_their_square() -> None:
    small, large = memory(50_000, 384, 10, 20), memory(100_000, 384, 10, 20)
    assert 1.2 * small < large < 2.1 * small
    assert memory(100_000, 384, 10, 77) > large
    assert large < 1e9 < 100_000**2 * 4
