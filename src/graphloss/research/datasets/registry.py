"""Public sources of the known data sets.

Files are not compared, but the documents in them: `train` and `test` of a `PublicDataset` are fingerprints,
independent of order and spacing, of the documents of our experiments (for the first five, the benchmark of the G-Loss
paper).

The reviews have the split of Tang, Qu and Mei (2015) as in TextGCN, the Reuters topics come from Cardoso-Cachopo's
files with all terms; of Moschitti's first 20,000 abstracts of OHSUMED those with a single category are used, as in
TextGCN.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from graphloss.research.datasets.fetch import Source
from graphloss.research.datasets.parsers import (
    Document,
    Read,
    read_abstracts,
    read_intents,
    read_newsgroups,
    read_reviews,
    read_topics,
)


class PublicDataset(NamedTuple):
    """A public data set.

    Attributes:
        sizes: number of documents of train, validation and test.
        train, test: `fingerprint` of the documents of train with validation, and of test.
        even: validation has the same number of documents of every class instead of the same share.
    """

    files: tuple[Source, ...]
    read: Read
    sizes: tuple[int, int, int]
    classes: int
    train: str
    test: str
    even: bool = False


def fingerprint(documents: Sequence[Document]) -> str:
    """SHA-256 of the documents as a multiset, independent of their order and spacing."""
    lines = sorted(f"{label}\t{' '.join(text.split())}" for text, label in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


GITHUB = "https://raw.githubusercontent.com"
TEXT_GCN = f"{GITHUB}/yao8839836/text_gcn/5fa0c35dbe09453a8f724c3f3eb8b6f172deb18c/data/mr"
FTCC = f"{GITHUB}/cyrilou242/ftcc/1b434a4b460c40dae6998afd710981d81cc453d8/data"
POLYAI = f"{GITHUB}/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data"


def _files(home: str, *names: str) -> tuple[Source, ...]:
    """Files of one folder of the web."""
    return tuple(Source(name, (f"{home}/{name}",)) for name in names)


DATASETS = {
    "mr": PublicDataset(
        files=_files(TEXT_GCN, "text_train.txt", "label_train.txt", "text_test.txt", "label_test.txt"),
        read=read_reviews,
        sizes=(6_397, 711, 3_554),
        classes=2,
        train="364432f6e38a400a863c613276024737fe7e518f4f3c56f257315c761afc5521",
        test="77019a4afcf0954948926727c0753b385b24cb8d9a8264305e978760a44615c6",
    ),
    "r8": PublicDataset(
        files=_files(f"{FTCC}/R8", "train.txt", "test.txt"),
        read=read_topics,
        sizes=(4_936, 549, 2_189),
        classes=8,
        train="033ac22c733de66c4fbfb3f011a0694d270ec274410c2f92fc39d09b9c9682fb",
        test="3cd92767174f3fe5bc108f43fcc5c4b970ef00bcdfeaeeb3646b81720f5ceb95",
    ),
    "r52": PublicDataset(
        files=_files(f"{FTCC}/R52", "train.txt", "test.txt"),
        read=read_topics,
        sizes=(5_865, 667, 2_568),
        classes=52,
        train="a56f14307c041751c668a9f9cc765af8f331534efbc5a16b1b237e6fd352dfc6",
        test="17feec4207c0164a6aa4823dd85885944dd56152de0728dbee690177c78555fe",
    ),
    "ohsumed": PublicDataset(
        files=_files("http://disi.unitn.it/moschitti/corpora", "ohsumed-first-20000-docs.tar.gz"),
        read=read_abstracts,
        sizes=(3_021, 336, 4_043),
        classes=23,
        train="96609b32a3773887ada48456fabd493e08e91730504ee7f8641ace0adece48bf",
        test="4ec8cd6036e198c6697d55843bb19af9736c21aef2c1d9b9c2b1f873b54f0d23",
    ),
    "20ng": PublicDataset(
        files=(
            Source(
                "20news-bydate.tar.gz",
                (
                    "https://ndownloader.figshare.com/files/5975967",
                    "http://qwone.com/~jason/20Newsgroups/20news-bydate.tar.gz",
                ),
            ),
        ),
        read=read_newsgroups,
        sizes=(10_182, 1_132, 7_532),
        classes=20,
        train="93debb7523bbf5a53e68c3b3b81c75a9299fa469a209d256c173f456f4de8cb1",
        test="3e217c3ba9db68db562da44b5c546a5f839ddc09a4726d897ed69d95b251d14b",
    ),
    "banking77": PublicDataset(
        files=_files(POLYAI, "train.csv", "test.csv"),
        read=read_intents,
        sizes=(9_233, 770, 3_080),
        classes=77,
        train="c96fb90ddbedac2f4e74676e35650c16c0664d007dd1b078869aec9f7d652ac2",
        test="79d10545ec1d35cc74a788fd60b8b43eeac5d953763f203f60380567cf0f1dd5",
        even=True,
    ),
}
