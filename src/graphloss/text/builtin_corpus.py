"""The built-in corpus: docstrings of the installed SciPy, each to be filed under the subpackage it comes from.

Real prose, unequal classes and no download: about 1,250 short texts in 14 classes, 340 to 10 documents each with SciPy
1.17. Another SciPy gives somewhat other texts, and another fingerprint of the corpus.
"""

import importlib
import inspect
import pkgutil
import re
import warnings
from types import ModuleType

import numpy as np

from graphloss.errors import InputError
from graphloss.text.stratified_selection import by_class

LEAST = 10
"""A subpackage with fewer documents is no class: split three ways, too little of it would be left."""

SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}

_SIGNATURE = re.compile(r"^[\w.]+\((?:[^()]|\([^()]*\))*\)(?:\s*->.*)?$", re.DOTALL)
_TITLE = re.compile(r"^(\w.*?) \(:mod:", re.MULTILINE)
_RULE = re.compile(r"^\s*([-=~])\1{2,}\s*$")
_ROLE = re.compile(r":[\w:]+:`~?([^`<]*?)(?:\s*<[^`]*>)?`")


def docstrings() -> dict[str, tuple[list[str], list[str]]]:
    """Collect the corpus and divide it, the same way every time.

    Returns:
        For "train", "validation" and "test", texts and as many labels, mixed.

    Raises:
        InputError: SciPy's docstrings are not there, as under `python -OO`.
    """
    documents = _documents()
    if not documents:
        raise InputError("the built-in corpus needs SciPy's docstrings; run Python without -OO, or give a file.")
    labels = [label for _, label in documents]
    rng = np.random.default_rng(0)
    places: dict[str, list[int]] = {split: [] for split in SHARES}
    for members in by_class(labels).values():
        order = [members[place] for place in rng.permutation(len(members))]
        held, tested = (round(len(order) * SHARES[split]) for split in ("validation", "test"))
        places["validation"] += order[:held]
        places["test"] += order[held : held + tested]
        places["train"] += order[held + tested :]
    mixed = {split: [chosen[place] for place in rng.permutation(len(chosen))] for split, chosen in places.items()}
    return {split: ([documents[i][0] for i in chosen], [labels[i] for i in chosen]) for split, chosen in mixed.items()}


def descriptions() -> dict[str, list[str]]:
    """A line about each subpackage: the title of its docstring; none for one without a title."""
    import scipy

    found = {}
    for info in pkgutil.iter_modules(scipy.__path__):
        package = _package(info.name) if info.ispkg and not info.name.startswith("_") else None
        if title := _TITLE.search(package.__doc__ or "" if package else ""):
            found[info.name] = [title[1]]
    return found


def _package(name: str) -> ModuleType | None:
    with warnings.catch_warnings():  # old names warn that they will go
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"scipy.{name}")
        except ImportError:
            return None


def _documents() -> list[tuple[str, str]]:
    """Texts and subpackages, in alphabetical order of subpackage and name; no text stands twice."""
    import scipy

    found: dict[str, str] = {}
    torn: set[str] = set()
    packages = (info.name for info in pkgutil.iter_modules(scipy.__path__) if info.ispkg)
    for module in sorted(name for name in packages if not name.startswith("_")):
        for document in _of_subpackage(module):
            if found.setdefault(document, module) != module:
                torn.add(document)
    kept = [(document, module) for document, module in found.items() if document not in torn]
    sizes = {module: sum(other == module for _, other in kept) for module in {module for _, module in kept}}
    return [(document, module) for document, module in kept if sizes[module] >= LEAST]


def _of_subpackage(name: str) -> list[str]:
    """The texts of the functions and classes that a subpackage itself makes public."""
    package = _package(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        public = sorted(getattr(package, "__all__", ()))
        things = [thing for thing in (getattr(package, each, None) for each in public) if callable(thing)]
        texts = [prose(inspect.getdoc(thing) or "", name) for thing in things]
    return [text for text in texts if len(text.split()) >= 3]


def prose(docstring: str, own_name: str) -> str:
    """The running text above a docstring's first section, without markup and without the answer.

    Args:
        docstring: in the NumPy style.
        own_name: the subpackage's name, which would give the class away; it goes wherever it stands as a word.

    Returns:
        One line: the summary and the extended summary, without signature, directives, formulas and examples.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    ends = (place for place, line in enumerate(lines) if place and lines[place - 1].strip() and _RULE.match(line))
    lines = lines[: next(ends, len(lines) + 1) - 1]
    kept = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        indented = paragraph.startswith((" ", "\t"))
        if not indented and not paragraph.startswith(("..", ">>>")) and not _SIGNATURE.match(paragraph.strip()):
            kept.append(paragraph)
    text = _ROLE.sub(r"\1", " ".join(kept))
    text = re.sub(r"[`*|~]|::|\[\d+\]_", "", text)
    text = re.sub(rf"(?<![a-z])(?:scipy|{re.escape(own_name)})(?![a-z])[._]?", " ", text, flags=re.IGNORECASE)
    return re.sub(r" ([.,;:)])", r"\1", " ".join(text.split()))
