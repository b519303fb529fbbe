"""Texts that stand for a pile: greedy facility location on embeddings, by lazy evaluation.

Letters: x (n, d) directions of embeddings from the mean of the pile, of unit length; s_ij = max(x_i · x_j, 0); L the
labeled texts, S the chosen ones, w (n,) weights::

    F(S) = sum_i w_i c_i,  c_i = max of s_ij over j in L and S
    gain(j) = sum_i w_i max(s_ij - c_i, 0)               what j adds to F
    w_i = (sum_j s_ij^4)^-FLATTENING                     where nothing is known: small groups of texts count, too

F is monotone and submodular, so that the greedy order, the largest gain next, has at least the part 1 - 1/e of the best
F at every length (Nemhauser, Wolsey, Fisher 1978): one may stop anywhere. A gain only falls while S grows, so that an
old one is an upper bound, and only the texts at the head of the queue are computed anew (Minoux 1978). Nothing of n
times n is held. In a pile of more than `EXACT_TEXTS` the sums run over `SAMPLE` drawn at random; any can be chosen.
"""

import heapq
from typing import NamedTuple

import torch
from torch import Tensor

from graphloss.losses.graph import unit

FLATTENING = 0.5
"""Chosen on ten data sets (docs/research/suggestions.md)."""

EXACT_TEXTS, SAMPLE = 20_000, 5_000
"""Texts up to which the sums run over all, and how many drawn at random they run over beyond."""

NEAR_DUPLICATE = 0.95
"""Similarity to a chosen or labeled text from which on a text is not chosen."""

ROUNDING = 1e-5  # length of a direction that is none: the text is the mean
BLOCK, TOGETHER = 1024, 32  # texts whose gains are computed at once: at the beginning, and at the head of the queue
DIGITS = 6  # of a gain as a part of all weight: less is rounding, and the earlier text is chosen


class Cover(NamedTuple):
    """Texts in the order of their choice, and how many of the pile were less similar to L and to all before them."""

    chosen: list[int]
    stands_for: list[int]


def directions(z: Tensor, beside: Tensor) -> Tensor:
    """Directions (n + m, d) of a pile's embeddings (n, d), then of others (m, d), from the mean of the pile.

    What all texts share does not discriminate.
    """
    z = unit(z.detach().float())
    both = torch.cat([z, unit(beside.detach().float())])
    away = both - z.mean(dim=0)
    differ = away.norm(dim=1, keepdim=True) > ROUNDING  # (n + m, 1)
    return unit(torch.where(differ, away, 0.0)) if differ[: len(z)].any() else both  # one text, again and again


def nearest_labeled(x: Tensor, labeled: Tensor) -> Tensor:
    """Similarity (n,) of texts x (n, d) to the most similar of labeled ones (l, d); 0 where there are none."""
    c = torch.zeros(len(x))
    for block in labeled.split(BLOCK) if len(labeled) else ():
        c = torch.maximum(c, (x @ block.T).amax(dim=1))
    return c


def greedy_cover(x: Tensor, labeled: Tensor, count: int, *, weights: Tensor | None = None, seed: int = 0) -> Cover:
    """Choose texts of a pile that the labeled ones do not stand for yet.

    Args:
        x: (n, d) of the pile, rows of unit length, see `directions`.
        labeled: (l, d) of the texts of L; they and their near-duplicates in the pile are not chosen.
        count: texts to choose.
        weights: (n,) w, positive; those above when left out.
        seed: of the draw of `SAMPLE` texts.

    Returns:
        The same for the same input, of equal gains the earlier text; fewer than `count` where only near-duplicates of
        labeled and chosen texts are left.
    """
    n = len(x)
    rows = sample_rows(n, n if n <= EXACT_TEXTS else SAMPLE, seed)
    t = x[rows]  # (r, d) the texts that the sums run over
    w = _flattening(t) if weights is None else weights[rows]  # (r,)
    w = w / w.sum()
    nearest = nearest_labeled(x, labeled)  # (n,)
    free, c = nearest < NEAR_DUPLICATE, nearest[rows]  # (n,), (r,)

    def gains(places: Tensor) -> list[float]:
        added = (t @ x[places].T).sub_(c[:, None]).clamp_min_(0.0)  # (r, b)
        return [round(gain, DIGITS) for gain in (w @ added).tolist()]

    queue = [
        (-gain, place)
        for places in free.nonzero()[:, 0].split(BLOCK)
        for gain, place in zip(gains(places), places.tolist(), strict=True)
    ]
    heapq.heapify(queue)
    computed = dict.fromkeys((place for _, place in queue), 0)  # how many had been chosen when its gain was computed
    found = Cover([], [])
    while queue and len(found.chosen) < count:
        _, place = heapq.heappop(queue)
        if free[place] and computed[place] < len(found.chosen):
            stale = [place, *(heapq.heappop(queue)[1] for _ in range(min(TOGETHER, len(queue))))]
            for gain, place in zip(gains(torch.tensor(stale)), stale, strict=True):
                computed[place] = len(found.chosen)
                heapq.heappush(queue, (-gain, place))
        elif free[place]:
            s = t @ x[place]  # (r,)
            found.chosen.append(place)
            found.stands_for.append(round(int((s > c).sum()) * n / len(rows)))
            c = torch.maximum(c, s)
            free &= x @ x[place] < NEAR_DUPLICATE
            free[place] = False
    return found


def sample_rows(count: int, most: int, seed: int = 0) -> Tensor:
    """At most so many of `count` rows, drawn at random, in their order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def _flattening(t: Tensor) -> Tensor:
    """Weights (r,) of texts t (r, d) that fall with the number of texts close by."""
    density = [(block @ t.T).clamp_min(0.0).pow(4).sum(dim=1) for block in t.split(BLOCK)]
    return torch.cat(density).clamp_min(1.0) ** -FLATTENING
