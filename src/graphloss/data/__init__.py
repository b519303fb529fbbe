"""Texts and label names from a file, a folder, a name or the Hub, divided into train, validation and test.

`load_corpus` gives what training needs, `load_split` one split to evaluate on, `read_texts` texts to predict on, one
after another. All that a person may have got wrong in the data is said here, before any model is loaded.
"""

from graphloss.data.columns import whole
from graphloss.data.corpus import Corpus, load_corpus, load_split
from graphloss.data.description import Description, describe
from graphloss.data.fetch import download_bar
from graphloss.data.prepare import Prepared, check_names, prepare_corpus
from graphloss.data.selection import few_shots, hold_out
from graphloss.data.sources import Entry, goes_by_name, list_corpora
from graphloss.data.splits import Split
from graphloss.data.texts import read_texts

__all__ = [
    "Corpus",
    "Description",
    "Entry",
    "Prepared",
    "Split",
    "check_names",
    "describe",
    "download_bar",
    "few_shots",
    "goes_by_name",
    "hold_out",
    "list_corpora",
    "load_corpus",
    "load_split",
    "prepare_corpus",
    "read_texts",
    "whole",
]
