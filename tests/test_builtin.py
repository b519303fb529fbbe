"""The built-in corpus: real prose that does not give its class away, the same every time."""

import re
import time
import warnings
from collections import Counter

from graphloss.text.builtin_corpus import LEAST, docstrings, prose
from graphloss.text.corpus import load_corpus, load_split


def test_size_classes_and_splits():
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = load_corpus("builtin")
    assert time.perf_counter() - start < 10
    assert corpus.test is not None
    parts = (corpus.train, corpus.validation, corpus.test)
    counts = Counter(label for part in parts for label in part.names)
    total = sum(counts.values())
    assert 900 < total < 2000
    assert len(counts) >= 10
    assert min(counts.values()) >= LEAST
    assert max(counts.values()) > 10 * min(counts.values())
    for part, share in zip(parts, (0.6, 0.15, 0.25), strict=True):
        assert abs(len(part) / total - share) < 0.02
        assert set(part.names) == set(counts)
    texts = [text for part in parts for text in part.texts]
    assert len(set(texts)) == total
    assert 25 < sum(len(text.split()) for text in texts) / total < 60
    assert not corpus.warnings


def test_no_text_names_its_class_or_holds_markup():
    seen = 0
    for texts, labels in docstrings().values():
        for text, label in zip(texts, labels, strict=True):
            seen += 1
            assert not re.search(rf"(?<![a-z])(?:scipy|{label})(?![a-z])", text, re.IGNORECASE), text
            assert not re.search(r">>>|----|:math:|:func:|^\.\. |`|\n", text), text
            assert not text.startswith("Parameters")
    assert seen > 900


def test_it_is_the_same_every_time():
    assert docstrings() == docstrings()
    assert load_corpus("builtin").fingerprint == load_corpus("builtin", seed=5).fingerprint
    assert load_split("builtin", "test").texts == docstrings()["test"][0]


def test_prose():
    docstring = """sosfilt(x, y=(1, 2), *, axis=-1)

    Filter a signal, as `scipy.signal.lfilter` and :func:`~scipy.signal.sos_filter` do.

    It is **stable** [1]_ for signals of `n` samples:

    .. math:: y = x

        indented

    .. versionadded:: 1.0
        Not before.

    Parameters
    ----------
    x : array
        The signal.

    >>> sosfilt(1)
    """
    expected = "Filter a, as lfilter and sos_filter do. It is stable for signals of n samples:"
    assert prose(docstring, "signal") == expected
    assert prose("", "signal") == ""
    assert prose("Parameters\n----------\nx : int", "signal") == ""


def test_the_titles_of_the_subpackages_describe_the_classes() -> None:
    corpus = load_corpus("builtin")
    lines = corpus.described()
    assert sorted(set(lines.names)) == corpus.label_names and len(lines) == len(corpus.label_names) >= 10
    found = dict(zip(lines.names, lines.texts, strict=True))
    assert found["signal"] == "Signal processing" and found["stats"] == "Statistical functions"
    assert not load_corpus("builtin", describe="off").described()
