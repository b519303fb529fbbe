"""A source as training and evaluation need it: divided into splits, checked, with a fingerprint."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.text import builtin_corpus
from graphloss.text.class_warnings import NONE_HELD_OUT, class_warnings, contradictions
from graphloss.text.columns import Columns, Reading
from graphloss.text.data_sources import SPLITS, goes_by_name
from graphloss.text.file_formats import check_file, check_room, column_names
from graphloss.text.read_descriptions import match_classes, names_as_descriptions, read_descriptions
from graphloss.text.read_splits import labeled_only, read_splits
from graphloss.text.read_texts import read_texts
from graphloss.text.stratified_selection import SHARE, few_shots, hold_out
from graphloss.text.texts_and_labels import Documents


@dataclass(frozen=True)
class Corpus:
    """The documents of a training: to learn from, for early stopping, and to score on.

    Attributes:
        name: short, for the name of a run.
        train: may hold unlabeled documents; `validation` and `test` hold labeled ones only.
        validation: a split of the data, or set aside from its train documents.
        test: None where the data has none.
        label_names: the classes of `train`, sorted; a class's place here is its index.
        fingerprint: SHA-256 of all texts and labels, in their order, and of a file's descriptions.
        warnings: sentences for the user, for example how many empty texts were dropped.
        columns: those that the train documents were read from, and whether they were guessed.
        descriptions: class -> lines about it, from a file or from its name; empty where there are none.
    """

    name: str
    train: Documents
    validation: Documents
    test: Documents | None
    label_names: list[str]
    fingerprint: str
    warnings: list[str]
    columns: Columns = field(default=Columns(), compare=False)
    descriptions: dict[str, list[str]] = field(default_factory=dict)

    def described(self) -> Documents:
        """The lines about the classes as documents; classes that are none of this corpus's are left out."""
        pairs = [(line, name) for name in self.label_names for line in self.descriptions.get(name, [])]
        return Documents.named([line for line, _ in pairs], [name for _, name in pairs], self.label_names)

    def scored(self) -> tuple[str, Documents]:
        """Name and documents of the split to score on: test, or validation without a test split."""
        return ("test", self.test) if self.test else ("validation", self.validation)


def load_corpus(
    source: str,
    *,
    text: str | None = None,
    label: str | None = None,
    shots: int | None = None,
    keep_unlabeled: bool = False,
    unlabeled: str | None = None,
    describe: str | None = None,
    add_classes: bool = False,
    validation: float | None = None,
    no_header: bool = False,
    keep_na: bool = False,
    seed: int = 0,
) -> Corpus:
    """Load the documents of a source, divided into splits.

    Where the source has no validation split, `hold_out` sets one aside from train, before `shots` counts, and then of
    any number of labels. With `shots`, N labeled documents per class stay in train and at most N per class in
    validation: who has few labels to train on has no more for validation.

    The other arguments are the options of `graphloss train`. `describe` is a file of descriptions (see
    `read_descriptions`), "off", or None for the label names themselves, of `builtin` the titles of its subpackages. The
    seed chooses what is set aside and what keeps its label.

    Raises:
        InputError: the data cannot be read, or nothing can be learned from it: no labels, a single class, labels in
            validation or test that train lacks.
    """
    if (validation is not None and not 0 <= validation < 1) or (shots is not None and shots < 1):
        raise InputError(f"expected 0 <= validation < 1 and shots >= 1, got validation={validation}, shots={shots}")
    texts = _unlabeled_texts(unlabeled, text, header=not no_header) if unlabeled is not None else []  # fails fast
    described = read_descriptions(describe) if describe not in (None, "off") else {}
    name, parts = (
        _pile(source)
        if described and _is_pile(source)
        else read_splits(source, text, label, Reading(not no_header, keep_na), labeled=not described)
    )
    train = parts["train"]
    warnings = [warning for part in parts.values() for warning in part.warnings]
    label_names = _classes(train, source, described, add=add_classes)
    warnings += class_warnings(label_names, train.names)
    for split in ("validation", "test"):
        if split in parts:
            _check_labels(parts[split], label_names, f"{source}: the {split} split")
    parts = {split: part.with_classes(label_names) for split, part in parts.items()}
    train = parts["train"]
    if "validation" in parts:
        held = parts["validation"]
    else:
        if validation is None and shots is not None:
            validation = SHARE  # of labels that would not be kept
        chosen = set(hold_out(train.names, validation, seed))
        held = train.take(sorted(chosen))
        train = train.take(i for i in range(len(train)) if i not in chosen)
        if validation and not held and train.labeled_count:
            warnings.append(NONE_HELD_OUT)
    if shots is not None:
        kept = few_shots(train.names, shots, seed)
        train = train.without_labels(set(range(len(train))) - set(kept)) if keep_unlabeled else train.take(kept)
        held = held.take(few_shots(held.names, shots, seed))
    if texts:
        known = {each.strip() for part in (train, held) for each in part.texts}
        pile = [each for each in texts if each.strip() not in known]
        if lost := len(texts) - len(pile):
            warnings.append(f"{unlabeled}: {lost:,} of {len(texts):,} texts are in {source} too, and count once")
        train += Documents(pile, [-1] * len(pile))
    test = parts.get("test")
    warnings += _repeated(train, held, test)
    descriptions = described
    if describe is None:
        own = source == "builtin"
        descriptions = builtin_corpus.descriptions() if own else names_as_descriptions(label_names, train.labeled_count)
    fingerprint, columns = fingerprint_of(train, held, test, described=described), parts["train"].columns
    return Corpus(name, train, held, test, label_names, fingerprint, warnings, columns, descriptions)


def load_split(
    source: str,
    split: str = "test",
    *,
    text: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    how: Reading = Reading(),  # noqa: B008 (immutable)
    own: bool = False,
) -> Documents:
    """Load the labeled documents of one split, to evaluate on. A single file has no splits: all of it is taken.

    A label that is not among `label_names`, the classes that a model knows, is an error. With `own`, the columns are
    those of the source's train split; if a split lacks one, another is taken.
    """
    if split not in SPLITS:
        raise InputError(f"expected a split out of {', '.join(SPLITS)}, got {split!r}")
    _, parts = read_splits(source, text, label, how, only=split, own=own)
    if split not in parts:
        raise InputError(f"{source} has no {split} split with labels.")
    part = labeled_only(parts[split], f"{source}: the {split} split")
    if not part:
        reasons = "".join(f" {line}." for line in parts[split].warnings)
        raise InputError(f"{source}: no document of the {split} split has a label to compare with.{reasons}")
    if label_names is not None:
        _check_labels(part, label_names, f"{source}: the {split} split", known_to="the model")
        part = part.with_classes(label_names)
    part.warnings.extend(contradictions(part, split))
    return part


def _unlabeled_texts(file: str, text: str | None, *, header: bool) -> list[str]:
    """The texts of a file; the column that holds them in the labeled data need not be there, then it is guessed."""
    path = typed(file)
    if not path.is_dir():
        check_file(path)
        if text and text.isdecimal() and header and text not in column_names(path):
            header = False  # a column by its number, as `suggest --no-header` calls it
        text = text if text in column_names(path, header=header) else None
        check_room(path)
    remedy = "Rename the one that does to 'text', or write a .txt file with a text per line."
    if not (texts := [document for _, document in read_texts(path, text=text, header=header, remedy=remedy)]):
        raise InputError(f"{file}: holds no text; expected the unlabeled documents, a row or a line each.")
    return texts


def _is_pile(source: str) -> bool:
    """Whether a source is a text file: one document per line, none of them labeled."""
    path = typed(source)
    is_text = not goes_by_name(source) and path.suffix.lower() == ".txt" and path.is_file()
    return is_text and column_names(path) == ["text"]


def _pile(source: str) -> tuple[str, dict[str, Documents]]:
    path = typed(source)
    check_room(path)
    texts = [document for _, document in read_texts(path)]
    if not texts:
        raise InputError(f"{source}: holds no text; expected the documents, a line each.")
    return path.stem, {"train": Documents(texts, [-1] * len(texts))}


def _classes(train: Documents, source: str, described: dict[str, list[str]], *, add: bool) -> list[str]:
    """The sorted classes: those of train, and described ones where nothing is labeled or they are to be added."""
    found = sorted({name for name in train.names if name is not None})
    match_classes(described, found, known_from=source, add=add)
    if described and (add or not found):
        found = sorted({*found, *described})
        if len(found) == 1:
            raise InputError(f"{source}: only {found[0]!r} is described, and at least two classes are needed.")
    if not found:
        raise InputError(
            f"{source}: no document has a label. Label some of each class, choose a column (--label), or "
            "describe the classes: --describe FILE."
        )
    if len(found) == 1:
        raise InputError(f"{source}: all labels are {found[0]!r}, and at least two classes are needed to tell apart.")
    return found


def _check_labels(part: Documents, label_names: Sequence[str], where: str, known_to: str = "the train split") -> None:
    allowed = {None, *label_names}
    if counts := Counter(str(name) for name in part.names if name not in allowed):
        listed = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(counts.items())[:10])
        more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
        raise InputError(
            f"{where} has labels that {known_to} does not know: {listed}{more}. "
            f"It knows {', '.join(map(repr, list(label_names)[:10]))}{', …' if len(label_names) > 10 else ''}. "
            "Correct the labels, or take these documents out."
        )


def _repeated(train: Documents, held: Documents, test: Documents | None) -> list[str]:
    """Warnings of identical texts: with contradictory labels in a split, and leaked from train into other splits."""
    warnings, known = contradictions(train, "train"), {document.strip() for document in train.texts}
    for split, part in (("validation", held), ("test", test)):
        if part and (same := sum(document.strip() in known for document in part.texts)):
            warnings.append(f"{same:,} of {len(part):,} {split} texts stand in train too, which flatters its scores")
        warnings += contradictions(part, split) if part else []
    return warnings


def fingerprint_of(*parts: Documents | None, described: dict[str, list[str]] | None = None) -> str:
    """SHA-256 of all texts and labels of these splits, in their order, and of the descriptions."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"split {len(part) if part else 0}\n".encode())
        for document, name in zip(part.texts, part.names, strict=True) if part else ():
            for cell in (document, name):
                # lengths between the cells, so that no two different corpora are the same bytes
                raw = b"" if cell is None else cell.encode()
                digest.update(b"%d:" % (-1 if cell is None else len(raw)) + raw)
    if described:  # a training must not be resumed with other lines
        digest.update(json.dumps(described).encode())
    return digest.hexdigest()
