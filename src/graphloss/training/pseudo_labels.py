"""What the encoder learns from where labels are few and texts are many: the labels several times, and pseudo-labels.

The encoder is first trained on the labels alone. The head that labels, descriptions and unlabeled text then give
(`inference.informed_head`) labels the texts that it is surest of, and the encoder as it was is trained on these beside
the labels (self-training; Lee 2013). Predictions of the untouched encoder are no pseudo-labels where there is a label:
where it does not separate the classes they are wrong, which a few labels would teach it quickly
(docs/research/trained.md has the figures). The head of the trained encoder learns from the true labels again.
"""

from __future__ import annotations

import numpy as np

from graphloss.text.texts_and_labels import Documents


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
