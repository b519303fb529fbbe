"""What can be said of a few seeds: a mean with its interval, a paired difference with its p-value, and its correction.

Letters: x_1..x_n one value a seed, d_i = x_i - y_i the difference of a pair, s the standard deviation (divisor n - 1).

    interval    mean ± t(0.975, n - 1) · s / √n                          (Student 1908)
    paired      T = mean(d) / (s_d / √n),  p = 2 P(t_{n-1} > |T|)
    Holm        p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j))    (Holm 1979), of m comparisons in rising order

One seed has neither an interval nor a p-value, and none is made up: they are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of a subtraction, at fractions of one


class Estimate(NamedTuple):
    """A mean over `seeds` of them; `low` and `high` bound its 95% interval, or are None for a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


class Difference(NamedTuple):
    """A mean of paired differences, its 95% interval and the p-value of a paired t-test.

    The p-value is None for a single pair, and where all differences are the same number other than zero: without
    spread, a t-test says nothing.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of (n,) values with its interval.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    x = np.asarray(values, dtype=np.float64)  # (n,)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"expected one finite number a seed, came {list(values)}")
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, None, None, 1)
    if _same(x):
        return Estimate(mean, mean, mean, len(x))
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(x, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(low), float(high), len(x))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Mean of ours minus theirs, both (n,), seed by seed, with interval and p-value.

    Raises:
        ValueError: the two are not of one length, or `estimate` refuses the differences.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected pairs, came {len(ours)} and {len(theirs)} values; pass the seeds that both have")
    d = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)  # (n,)
    mean, low, high, count = estimate(d.tolist())
    if count == 1:
        return Difference(mean, None, None, None, 1)
    if _same(d):
        return Difference(mean, low, high, 1.0 if abs(mean) <= ROUNDING else None, count)
    from scipy.stats import ttest_rel

    return Difference(mean, low, high, float(ttest_rel(ours, theirs).pvalue), count)


def _same(x: np.ndarray) -> bool:
    return float(x.std(ddof=1)) <= ROUNDING


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number, in the order in which they came; None stays None and is not counted."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected
