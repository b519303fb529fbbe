"""Statistics over a few seeds: means with intervals, paired differences with p-values, and their correction.

Letters: x_1..x_n one value per seed, d_i = x_i - y_i the paired difference, s the standard deviation (divisor n - 1).

    interval    mean ± t(0.975, n - 1) · s / √n                          (Student 1908)
    paired      T = mean(d) / (s_d / √n),  p = 2 P(t_{n-1} > |T|)
    Holm        p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j))    (Holm 1979), of m comparisons in rising order

With a single seed, interval and p-value are None.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of a subtraction, at fractions of one


class Estimate(NamedTuple):
    """A mean over a number of `seeds`; `low` and `high` bound its 95% interval, None for a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


class Difference(NamedTuple):
    """A mean of paired differences, its 95% interval and the p-value of a paired t-test.

    The p-value is None for a single pair, and if all differences are equal and not zero: a t-test needs variance.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of (n,) finite values with its interval."""
    x = np.asarray(values, dtype=np.float64)  # (n,)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"expected one finite number per seed, got {list(values)}")
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, None, None, 1)
    if _same(x):
        return Estimate(mean, mean, mean, len(x))
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(x, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(low), float(high), len(x))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Mean of ours minus theirs, both (n,), seed by seed, with interval and p-value."""
    if len(ours) != len(theirs):
        raise ValueError(f"expected pairs, got {len(ours)} and {len(theirs)} values; pass the seeds that both have")
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
    """P-values corrected for their number, in the same order; None stays None and is not counted."""
    ordered = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p))
        corrected[index] = highest
    return corrected
