"""Baseline losses with the signature of G-Loss: (embeddings (n, d), labels (n,)) -> scalar.

Letters: z the embeddings x scaled to unit length, cos_ij = z_i . z_j, t the temperature, m the margin; P_i the other
documents of i's class, N_i those of other classes, A the documents that have a P_i::

    SupCon   mean_{i in A}  -1/|P_i| sum_{p in P_i} log( e^{cos_ip / t} / sum_{j != i} e^{cos_ij / t} )
    NCA      mean_{i in A}  -log( sum_{p in P_i} e^{cos_ip / t} / sum_{j != i} e^{cos_ij / t} )
    Triplet  mean over the terms above zero of  |x_i - x_p| - |x_i - x_n| + m,  p in P_i, n in N_i
    Cosine   mean_{i < j}  (cos_ij - [y_i = y_j])^2

SupCon: Khosla et al. 2020, "Supervised contrastive learning", equation 2. NCA: Goldberger et al. 2004. Triplet and
cosine: as compared with in arXiv 2604.25853; all triplets after Hermans et al. 2017, "In defense of the triplet loss".

Unlabeled documents are dropped: unlike G-Loss, the baselines cannot use them. If no term is left, the loss is 0 with a
live gradient.

SupCon and Triplet are pytorch-metric-learning's with other reducers: its mean over the terms above zero leaves out
documents that SupCon fits already. NCA is leave-one-out G-Loss at sigma^2 = t without unlabeled documents: the
library's NCA leaves out a document whose share underflows, which most needs a gradient. The library has no Cosine.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphloss.losses.functional import check_batch, check_numbers, gloss
from graphloss.losses.graph import no_autocast, unit, working

LEAST_TEMPERATURE = 1e-3
"""Below it the nearest document has all the weight, and float32 cannot resolve differences of cos / t."""

CHUNK = 2**21
"""Triplets computed at once, about 100 MB: a whole batch up to 128 documents."""
LARGEST = 1e17
"""Of an embedding's entries in `Triplet`, which does not scale them."""


class BaselineLoss(nn.Module):
    """Common to the baselines: drop unlabeled documents, compute in float32 under autocast, report coverage."""

    coverage: Tensor
    """0-d: share of the labeled documents of the last batch that are anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.coverage = torch.tensor(0.0)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, 0-d, float64 for float64 embeddings and float32 for any other.

        Args:
            embeddings: (n, d), any floating dtype.
            labels: (n,) class indices, -1 for unlabeled.

        Raises:
            ValueError: shapes or dtypes that do not fit, with what was expected.
        """
        labels = check_batch(embeddings, labels)
        with no_autocast(embeddings):
            labeled = labels >= 0  # (n,)
            x, y = working(embeddings)[labeled], labels[labeled]  # (l, d), (l,)
            anchors = self.find_anchors(y[:, None] == y[None, :])  # (l,)
            self.coverage = anchors.to(x.dtype).mean() if len(anchors) else x.new_zeros(())
            return self.compute(x, y, anchors) if bool(anchors.any()) else (x * 0.0).sum()

    def extra_repr(self) -> str:
        """Name the option in the module's repr."""
        return ", ".join(f"{name}={vars(self)[name]}" for name in ("temperature", "margin") if name in vars(self))

    def find_anchors(self, same: Tensor) -> Tensor:
        """(l,) boolean: the documents that have a term, here those with a positive if there is a second class.

        Args:
            same: (l, l) boolean, true for pairs of one class.
        """
        return (same.sum(dim=1) > 1) & ~same.all(dim=1)

    def compute(self, x: Tensor, y: Tensor, anchors: Tensor) -> Tensor:
        """Mean of the terms, 0-d, of embeddings (l, d) with labels (l,) and at least one anchor (l,)."""
        raise NotImplementedError


class SupCon(BaselineLoss):
    """Supervised contrastive loss: every other document of the class is a positive.

    NCA is satisfied with one near document of the class; SupCon draws all of them equally close. A batch needs two
    classes and two documents of one.

    Args:
        temperature: t; 0.07 to 0.5 are usual, at least `LEAST_TEMPERATURE`.

    Examples:
        >>> loss = SupCon(temperature=0.1)
        >>> z = torch.randn(8, 16, requires_grad=True)
        >>> loss(z, torch.arange(8) % 2).backward()
        >>> float(loss.coverage)
        1.0
    """

    def __init__(self, temperature: float = 0.1) -> None:
        from pytorch_metric_learning import distances, losses, reducers

        super().__init__()
        self.temperature = _checked_temperature(temperature)
        dot = distances.DotProductSimilarity(normalize_embeddings=False)  # of `unit` vectors: theirs explodes at zero
        self.total = losses.SupConLoss(temperature, distance=dot, reducer=reducers.SumReducer())

    def compute(self, x: Tensor, y: Tensor, anchors: Tensor) -> Tensor:
        """The library's sum, to which only anchors contribute, over their number."""
        total: Tensor = self.total(unit(x), y)
        return total / anchors.sum()


class NCA(BaselineLoss):
    """Neighborhood components analysis: the probability that a soft nearest neighbor is of the document's class.

    One near document of the class is enough, unlike in SupCon; G-Loss is this loss with paths through unlabeled
    documents. A batch needs two documents of a class.

    Args:
        temperature: t, sigma squared of `losses.GLoss`; at least `LEAST_TEMPERATURE`.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = _checked_temperature(temperature)

    def find_anchors(self, same: Tensor) -> Tensor:
        """Documents with a positive."""
        return same.sum(dim=1) > 1

    def compute(self, x: Tensor, y: Tensor, anchors: Tensor) -> Tensor:
        """G-Loss of labeled documents alone."""
        return gloss(x, y, sigma=self.temperature**0.5).loss


class Triplet(BaselineLoss):
    """All valid triplets of a batch, by Euclidean distances of the unscaled embeddings.

    The mean is over the terms above zero, so the loss stays near the margin while ever fewer triplets are left. On unit
    vectors distances are at most 2, so from m = 2 on every triplet has a positive term. A batch needs two classes and
    two documents of one. It has up to n^3 / 4 triplets, half a million at n = 128 and 33 million at n = 512. They are
    computed in chunks, which bounds the memory but not the time.

    Args:
        margin: m, at least 0; published: 5; on unit vectors 0.1 to 1 is usual.
    """

    def __init__(self, margin: float = 5.0) -> None:
        from pytorch_metric_learning import distances, losses, reducers

        super().__init__()
        check_numbers(margin=margin)
        if not 0.0 <= margin < float("inf"):
            raise ValueError(f"margin must be a number of at least 0, got {margin}; on unit vectors 0.1 to 1 is usual")
        self.margin = margin
        plain = distances.LpDistance(normalize_embeddings=False)
        self.each = losses.TripletMarginLoss(margin, distance=plain, reducer=reducers.DoNothingReducer())

    def compute(self, x: Tensor, y: Tensor, anchors: Tensor) -> Tensor:
        """The library's terms, in chunks of anchors; several chunks are recomputed in the backward pass."""
        if bool(x.isfinite().all()) and (largest := float(x.detach().abs().max())) > LARGEST:
            raise ValueError(
                f"embeddings must be at most {LARGEST:g} in size, for their squared distances to be numbers, got "
                f"{largest:g}; scale them, or let the encoder normalize them"
            )
        chunks = anchors.nonzero()[:, 0].split(max(CHUNK // len(y) ** 2, 1))  # (a,) each
        recomputed = partial(checkpoint, self._terms, use_reentrant=False, preserve_rng_state=False)
        run: Callable[..., tuple[Tensor, Tensor]] = self._terms if len(chunks) == 1 else recomputed
        total, count = x.new_zeros(()), torch.zeros_like(anchors.sum())
        for rows in chunks:
            part, above = run(x, y, rows)
            total, count = total + part, count + above
        return total / count.clamp_min(1)

    def _terms(self, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the terms of some anchors (a,), and how many are above zero; both 0-d."""
        same = y[rows][:, None] == y[None, :]  # (a, l)
        others = torch.arange(len(y), device=y.device)[None, :] != rows[:, None]  # (a, l)
        triplets = ((same & others)[:, :, None] & ~same[:, None, :]).nonzero(as_tuple=True)  # anchor, p, n: each (t,)
        terms: Any = self.each(x[rows], y[rows], triplets, x, y)["loss"]["losses"]  # (t,)
        return terms.sum(), (terms > 0).sum()


class Cosine(BaselineLoss):
    """Mean squared error of each pair's cosine against 1 for the same class and 0 for another.

    Every pair counts the same, and with C even classes all but 1 in C pairs are of different classes: the loss mostly
    makes classes orthogonal. A batch needs two documents.
    """

    def find_anchors(self, same: Tensor) -> Tensor:
        """All documents, if there is a pair."""
        return torch.ones_like(same[0]) if len(same) > 1 else torch.zeros_like(same.any(dim=0))

    def compute(self, x: Tensor, y: Tensor, anchors: Tensor) -> Tensor:
        """Mean over all ordered pairs, which equals the mean over i < j."""
        z = unit(x)  # (l, d)
        same = (y[:, None] == y[None, :]).to(z.dtype)  # (l, l)
        error = (z @ z.T - same).square().fill_diagonal_(0.0)  # (l, l)
        return error.sum() / (len(y) * (len(y) - 1))


def _checked_temperature(temperature: float) -> float:
    check_numbers(temperature=temperature)
    if not LEAST_TEMPERATURE <= temperature < float("inf"):
        raise ValueError(
            f"temperature must be at least {LEAST_TEMPERATURE}, got {temperature}; good values lie between 0.05 and 0.5"
        )
    return temperature
