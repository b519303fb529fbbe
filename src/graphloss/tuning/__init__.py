"""Tuning: what is searched, which documents judge, the study that processes share, and the search itself."""

from graphloss.tuning.runs import show, tune_corpus
from graphloss.tuning.search import Tuned, Watcher, tune
from graphloss.tuning.space import space_for
from graphloss.tuning.storage import open_storage

__all__ = ["Tuned", "Watcher", "open_storage", "show", "space_for", "tune", "tune_corpus"]
