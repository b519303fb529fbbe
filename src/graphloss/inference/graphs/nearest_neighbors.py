"""The k nearest neighbors of every document: exact in blocks, or by an approximate index for a very large corpus.

Letters: z (n, d) embeddings of unit length, k neighbors. Nothing of n times n is ever held: the exact search keeps one
tile of `ROWS` by `COLUMNS` similarities and the best k of each tile for one block of rows. Its time grows with n
squared (docs/research/performance.md has figures); beyond `EXACT_DOCUMENTS` the index of faiss takes over, an extra of
the package.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from graphloss import distributed
from graphloss.losses.graph import no_autocast, working

ROWS, COLUMNS = 1024, 8192
"""Documents of a tile: 34 MB of similarities."""

EXACT_DOCUMENTS = 120_000
"""Up to here the exact search is a matter of minutes."""

LINKS, EFFORT = 32, 128
"""Of the approximate index: links of a node, and nodes looked at for a query (Malkov, Yashunin 2018: M and ef)."""


class Neighbors(NamedTuple):
    """The neighbors of each document, nearest first, never itself.

    Attributes:
        places: (n, k) int64; -1 where the approximate index found none.
        cosine: (n, k) similarities, in the dtype of the embeddings.
    """

    places: Tensor
    cosine: Tensor


def nearest(z: Tensor, k: int, *, approximate: bool | None = None, shared: bool = False) -> Neighbors:
    """The k most similar other documents of each document.

    Args:
        z: (n, d) rows of unit length.
        k: neighbors; more than n - 1 means all others.
        approximate: use the index of faiss; by default beyond `EXACT_DOCUMENTS` documents.
        shared: all processes call this with the same embeddings, and each searches for a part of the documents; by the
            index, which several threads never build twice alike, the first one searches for all.

    Raises:
        ValueError: k is below 1, z has no two dimensions or is not finite.
        ModuleNotFoundError: the approximate index is wanted and faiss is not installed.
    """
    if z.dim() != 2:
        raise ValueError(f"expected embeddings (documents, dimensions), got shape {tuple(z.shape)}")
    if k < 1:
        raise ValueError(f"k must be at least 1 neighbor per document, got {k}")
    if not torch.isfinite(z).all():
        raise ValueError("expected finite embeddings, got NaN or infinity; look for a training that diverged")
    z = working(z.detach())
    k = min(k, max(len(z) - 1, 0))
    if k == 0:
        return Neighbors(torch.empty(len(z), 0, dtype=torch.int64, device=z.device), z.new_empty(len(z), 0))
    wanted = len(z) > EXACT_DOCUMENTS if approximate is None else approximate
    with no_autocast(z):
        if wanted:
            return distributed.on_first(lambda: _by_index(z, k)) if shared else _by_index(z, k)
        blocks = range(0, len(z), ROWS)
        if not shared or len(blocks) < distributed.world():
            return _in_blocks(z, k, blocks)
        own = _in_blocks(z, k, blocks[distributed.share(len(blocks), *distributed.part())])
        return Neighbors(*map(distributed.gather, own))


def memory(n: int, d: int, k: int, num_classes: int) -> int:
    """Bytes that the corpus graph and spreading need beside the embeddings (n, d), float32, a little too many."""
    search = ROWS * COLUMNS * 4 * 2 + (4 * n * (d + 3 * LINKS) if n > EXACT_DOCUMENTS else 0)
    edges = n * k * (4 + 8) + 2 * n * k * (8 + 8 + 8 + 8)  # neighbors; both directions while they are sorted
    columns = 8 * n * num_classes * 4  # five vectors of the solver, the labels, the answer, the targets
    return search + edges + columns


def _in_blocks(z: Tensor, k: int, blocks: range) -> Neighbors:
    """The neighbors of the documents of some blocks of rows, each by its first row."""
    n = len(z)
    index, cosine = [], []
    for top in blocks:
        rows = z[top : top + ROWS]  # (r, d)
        best: list[tuple[Tensor, Tensor]] = []
        for left in range(0, n, COLUMNS):
            c = rows @ z[left : left + COLUMNS].T  # (r, c)
            first, last = max(top, left), min(top + ROWS, left + COLUMNS, n)
            if first < last:  # the tile holds documents beside themselves
                own = torch.arange(first, last, device=z.device)
                c[own - top, own - left] = -torch.inf
            value, place = c.topk(min(k, c.shape[1]), dim=1)
            best.append((value, place + left))
        value, order = torch.cat([value for value, _ in best], 1).topk(k, dim=1)  # (r, k)
        index.append(torch.cat([place for _, place in best], 1).gather(1, order))
        cosine.append(value)
    return Neighbors(torch.cat(index), torch.cat(cosine))


def _by_index(z: Tensor, k: int) -> Neighbors:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the approximate index, used beyond {EXACT_DOCUMENTS:,} documents, needs faiss, which is not installed: "
            "pip install 'graphloss[large]'; or search exactly with approximate=False, whose time grows with n squared"
        ) from error
    x = z.float().cpu().contiguous().numpy()
    found = faiss.IndexHNSWFlat(x.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    found.hnsw.efConstruction = EFFORT
    found.hnsw.efSearch = max(EFFORT, 2 * k)
    found.add(x)
    cosine, index = (torch.from_numpy(values) for values in found.search(x, k + 1))  # (n, k + 1)
    # itself goes last and is cut off; among duplicates it may not have been found, and then the farthest goes
    itself = (index == torch.arange(len(z))[:, None]) | (index < 0)
    order = torch.where(itself, -torch.inf, cosine).argsort(dim=1, descending=True, stable=True)[:, :k]
    index, cosine = index.where(~itself, -1).gather(1, order), cosine.gather(1, order)
    return Neighbors(index.to(z.device), cosine.to(z.device, z.dtype))
