"""What the encoder learns from where labels are few and texts are many: the labels several times, and pseudo-labels.

The head that labels, descriptions and unlabeled text give (`inference.informed_head`) is fitted twice: on the untouched
encoder, and on one trained on the labels alone. Both together label the texts that they are surest of, and the encoder
as it was is trained on these beside the labels (self-training; Lee 2013). The head of the trained encoder learns from
the true labels again.

Where the untouched encoder separates the classes, a training on a few labels makes it worse; where it does not, its
predictions are wrong, which a few labels teach it quickly. How far training changes the predictions tells the two
apart (docs/research/trained.md has the figures).
"""

import numpy as np
from scipy.special import softmax
from sklearn.metrics import cohen_kappa_score

from graphloss.text.texts_and_labels import Documents

STEEPNESS = 4
"""Power of kappa that weighs the untouched encoder: 1 where both agree in all, a sixteenth where kappa is a half."""

FLOOR = 1e-9
"""Least probability in the product of two experts."""


def pooled(untouched: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Two classifications of m texts as one: a product of experts (Hinton 2002) by their agreement.

    log p is, but for a constant per text, w log(untouched) + (1 - w) log(trained), w = κ ** STEEPNESS. κ is Cohen's
    kappa of the two most likely classes, at least 0.

    Args:
        untouched: (m, C) probabilities by the untouched encoder.
        trained: (m, C) by the trained one.

    Returns:
        Probabilities (m, C).
    """
    one, other = (p.argmax(axis=1) for p in (untouched, trained))
    same = bool((one == other).all())  # of a single class kappa is 0 / 0
    kappa = 1.0 if same else max(0.0, float(cohen_kappa_score(one, other)))
    weight, logs = kappa**STEEPNESS, [np.log(np.maximum(p, FLOOR)) for p in (untouched, trained)]
    return softmax(weight * logs[0] + (1.0 - weight) * logs[1], axis=1)


def pseudo_labeled(texts: list[str], probabilities: np.ndarray, count: int) -> Documents:
    """The texts of the surest predictions, with these as labels.

    Every predicted class has its share of them, and one at least, however unsure the head is of it.

    Args:
        texts: m unlabeled.
        probabilities: (m, C) of their classes.
        count: pseudo-labels, at most m.
    """
    best, sureness = probabilities.argmax(axis=1), probabilities.max(axis=1)  # (m,)
    order = np.lexsort((-sureness, best))  # by class, the surest first
    size = np.bincount(best, minlength=probabilities.shape[1])
    place = np.empty(len(best))
    place[order] = np.concatenate([np.arange(n) / n for n in size if n])  # within the class, below 1
    chosen = np.lexsort((-sureness, place))[:count]
    return Documents([texts[row] for row in chosen], best[chosen].tolist())
