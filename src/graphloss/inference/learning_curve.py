"""A learning curve: the gain to expect of more labels.

Letters: n labels of C classes, e_n the error, one minus macro-F1, of cross-fitted predictions on them; m more labels::

    e_(n+m) = e_n (1 + m / n)^-c          an inverse power law (Hestness et al. 2017)
    2^-c = 1 - 1 / (3 log2(2 + n / C))    its exponent: at two labels per class, doubling them lowers e_n by a sixth
    gain = e_n - e_(n+m),  an 80% interval from gain - BELOW / sqrt(n) to gain + ABOVE / sqrt(n), within e_n - 1 and e_n

The exponent was fitted on ten data sets; one fitted on nested subsets of the labels themselves forecasts no better.
With few labels per class the gain is a matter of luck, so that the sentence has the interval alone: no forecast could
be within 3 points in four cases of five (docs/research/suggestions.md).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphloss.inference.graphs.facility_location import sample_rows
from graphloss.inference.linear_probe import cross_fitted

FEWEST, MOST = 16, 1000  # labels of a forecast; labels that the error is measured on
BELOW, ABOVE = 0.44, 0.94
CLEAR = 40
"""Labels per class from which on the sentence has the forecast beside its interval."""

LITTLE = 0.01
"""A gain by doubling the labels below which more labels are not recommended."""


@dataclass(frozen=True)
class LearningCurve:
    """The curve through a number of labels.

    Attributes:
        labels: n.
        classes: C, those that have a label.
        error: e_n, from 0 to 1.
    """

    labels: int
    classes: int
    error: float

    def error_at(self, labels: int) -> float:
        """The error with so many labels."""
        exponent = -math.log2(1.0 - 1.0 / (3.0 * math.log2(2.0 + self.labels / self.classes)))
        return self.error * (labels / self.labels) ** -exponent

    def gain(self, more: int) -> tuple[float, float, float]:
        """What `more` labels add to macro-F1: the forecast, and its 80% interval."""
        gain, root = self.error - self.error_at(self.labels + more), math.sqrt(self.labels)
        return gain, max(gain - BELOW / root, self.error - 1.0), min(gain + ABOVE / root, self.error)

    def sentence(self, more: int) -> str:
        """The forecast in words, what it comes from, and whether to stop."""
        gain, least, most = (round(100 * part) for part in self.gain(more))
        source = f"by the cross-fitted error on {min(self.labels, MOST):,} labels"
        if self.labels < CLEAR * self.classes:
            return f"{more:,} more labels: {least:+d} to {most:+d} points of macro-F1, four times in five, {source}"
        stop = ", so look at wrong labels and at the worst classes first" if self.gain(self.labels)[0] < LITTLE else ""
        return f"{more:,} more labels: about {gain:+d} points of macro-F1 ({least:+d} to {most:+d}), {source}{stop}"


def learning_curve(z: Tensor, labels: Tensor, *, seed: int = 0) -> LearningCurve | None:
    """The curve fitted to all labels; None where there are fewer than `FEWEST`, or a single class.

    Args:
        z: (n, d) embeddings by an encoder that has not seen the labels.
        labels: (n,) classes; documents of -1 are left out.
        seed: of the folds, and of the `MOST` labels that the error is measured on where there are more.
    """
    from sklearn.metrics import f1_score

    z, labels = z[labels >= 0], labels[labels >= 0]
    n, classes = len(labels), len(labels.unique())
    if n < FEWEST or classes < 2:
        return None
    rows = sample_rows(n, MOST, seed)
    names, y = np.unique(labels[rows].numpy(), return_inverse=True)
    predicted = cross_fitted(z[rows], torch.from_numpy(y), len(names), seed=seed).argmax(dim=1).numpy()
    measured = LearningCurve(len(rows), classes, 1.0 - float(f1_score(y, predicted, average="macro")))
    return LearningCurve(n, classes, measured.error_at(n))
