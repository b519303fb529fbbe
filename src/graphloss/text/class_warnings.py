"""Warnings about labels: names that look alike, measurements, labels of one text that contradict each other."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from graphloss.text.texts_and_labels import Documents

LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝкмтнвαεικνορτυχηβ01ı‐‑–—−‘’“”",  # Cyrillic, Greek, digits, dashes and quotes
    "aeopcyxijsdhqwkmthbaeikvoptuxhboli-----''\"\"",
)
NONE_HELD_OUT = "no class has two documents, so none could be set aside for validation"
SHOWN = 5
MEASURED = 10
"""Different numbers from which on labels may be measured ones."""
MANY = 5
"""Documents of every other class from which on a class of one document is odd."""
ALL_DIFFERENT = 20
"""Labels from which on they look like numbers of rows if each stands once."""


def class_warnings(names: Sequence[str], labels: Iterable[str | None]) -> list[str]:
    """Warnings for the user about the names of the classes and all labels."""
    return [
        *_alike(names),
        *_several(names),
        *_marks(names),
        *_lone(known := [label for label in labels if label is not None]),
        *_measured(known),
    ]


def contradictions(part: Documents, split: str) -> list[str]:
    """A warning that counts the texts with more than one label."""
    classes: dict[str, int] = {}
    torn = set()
    for document, label in zip(part.texts, part.labels, strict=True):
        if label >= 0 and classes.setdefault(text := document.strip(), label) != label:
            torn.add(text)
    told = f"texts that stand in {split} more than once, with labels that contradict each other: {len(torn):,}"
    return [told] if torn else []


def look(name: str) -> str:
    """What a person sees of a name: without case, blanks, leading zeros, marks of no width, other forms of letters."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    plain = re.sub(r"^0+(?=\d)", "", plain)
    shown = "".join(letter for letter in plain if unicodedata.category(letter) not in ("Cf", "Cc"))
    return re.sub(r"[\s_]+", "", shown.translate(LOOK_ALIKES))


def _alike(names: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(look(name), []).append(name)
    found = [" and ".join(map(ascii, group)) for group in groups.values() if len(group) > 1]
    if not found:
        return []
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return [
        "classes that differ by case, blanks, leading zeros, Unicode form or look-alike letters alone: "
        f"{'; '.join(found[:SHOWN])}{more}; if they are one, give them one name"
    ]


def _several(names: Sequence[str]) -> list[str]:
    """Names that are put together of parts, some of which stand in others too."""
    found = []
    for mark in ";|":
        parts = [[part.strip() for part in name.split(mark)] for name in names]
        counts = Counter(part for own in parts for part in set(own))
        found += [mark.join(own) for own in parts if len(own) > 1 and any(counts[part] > 1 for part in own)]
    if not found:
        return []
    return [f"labels like {found[0]!r} may be several in one; each of these {len(found):,} is a class of its own"]


def _marks(names: Sequence[str]) -> list[str]:
    """Names without a letter or digit, such as "-" and "?", where all others have one."""
    found = [name for name in names if not any(map(str.isalnum, name))]
    if not found or any(set(look(name)) - set("-–—?._*/~'\"()[]<> ") for name in found):
        return []
    listed = " and ".join(map(ascii, found))
    return [f"the class {listed} has no letter; if it marks a missing label, leave those cells empty"]


def _lone(labels: Sequence[str]) -> list[str]:
    """Classes of one document among large ones, as a slip of the pen or a row of sums makes them."""
    counts = Counter(labels)
    lone = sorted(name for name, count in counts.items() if count == 1)
    least = min((count for count in counts.values() if count > 1), default=0)
    if not lone or least < MANY or 2 * len(lone) > len(counts):
        return []
    more = f" and {len(lone) - SHOWN} more" if len(lone) > SHOWN else ""
    return [
        f"labels that stand once, and all others at least {least:,} times: "
        f"{', '.join(map(ascii, lone[:SHOWN]))}{more}; a slip, or a row of sums, is a class of its own until it is "
        "corrected or taken out"
    ]


def _measured(labels: Sequence[str]) -> list[str]:
    if len(labels) >= ALL_DIFFERENT and len(set(labels)) == len(labels):
        return [f"each of the {len(labels):,} labels stands once; is another column meant (--label)?"]
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return []
    different = len(set(numbers))
    broken = any(number != round(number) for number in numbers if math.isfinite(number))
    if different < MEASURED or not (broken or different > len(labels) / 2):
        return []
    return [
        f"the labels look like measured numbers ({different:,} different ones from {min(numbers):g} to "
        f"{max(numbers):g}), and each is a class of its own; is another column meant (--label)?"
    ]
