"""A finished run scored on a split of a corpus."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from graphloss import distributed
from graphloss.disk import typed
from graphloss.errors import InputError
from graphloss.inference import run_folder
from graphloss.inference.metrics import score
from graphloss.run.claim_folder import FILES
from graphloss.terminal import pasted
from graphloss.text.columns import Reading
from graphloss.text.corpus import Corpus, fingerprint_of, load_corpus, load_split
from graphloss.text.data_sources import find_again, full_path, is_lost
from graphloss.text.texts_and_labels import Documents
from graphloss.training.progress import Screen
from graphloss.training.settings import DataSettings, names
from graphloss.training.settings_errors import check_predictor, make


def evaluate(
    folder: Path,
    source: str | None,
    *,
    split: str,
    text: str | None,
    label: str | None,
    screen: Screen,
    no_header: bool = False,
    predictor: str | None = None,
) -> dict[str, Any]:
    """Score a finished run on a split of a corpus; by default on the corpus that it was trained on.

    In several processes all call this and share the documents.

    Returns:
        `accuracy`, `macro_f1`, `macro_silhouette`, `micro_silhouette`, `ece` (fractions of one) and
        `per_class`, with what was scored.

    Raises:
        InputError: the run or the data cannot be used, or the data has labels that the run does not know, or
            it is the single file of the training, which has no test split.
    """

    def checked() -> tuple[str, Documents]:  # by the first process alone, so that an error is printed once
        check_predictor(predictor)
        return _scored(folder, source, split=split, text=text, label=label, no_header=no_header, screen=screen)

    source, documents = distributed.on_first(checked)
    label_names = [_name(label) for label in run_folder.read_info(folder)["labels"]]
    _, model = distributed.on_all(lambda: run_folder.read_model(folder))
    known = set(model.texts or ())
    if learned := sum(document in known for document in documents.texts):
        screen.warn(f"{learned:,} of these {len(documents):,} texts are among those learned from: these scores flatter")
    embeddings = model.encode(documents.texts, progress=screen.draws, shared=True)
    truth = np.array(documents.with_classes(label_names).labels)
    scores = score(truth, model.probabilities(embeddings, predictor=predictor), embeddings, label_names)
    return {"run": str(folder), "data": source, "split": split, "documents": len(documents), **asdict(scores)}


def _scored(
    folder: Path,
    source: str | None,
    *,
    split: str,
    text: str | None,
    label: str | None,
    no_header: bool,
    screen: Screen,
) -> tuple[str, Documents]:
    """The source and the documents to score a run on."""
    info = run_folder.read_info(folder)
    recorded, label_names = info.get("data", {}), [_name(label) for label in info["labels"]]
    own, source = _own(folder, info, source)
    if source is None:
        raise InputError(
            f"{folder}: does not say what data it was trained on; name some: `graphloss evaluate {pasted(folder)} DATA`"
        )
    alone = Path(source).is_file()  # a single file was all for training and validation
    if own and split == "test" and alone:
        held = recorded.get("sizes", {}).get("validation")
        raise InputError(
            f"{source}: the data of this run has no test split, and the documents it learned from would flatter it; "
            f"score {'the validation documents with `--split validation`, or ' if held else ''}"
            f"other DATA: `graphloss evaluate {pasted(folder)} DATA`"
        )
    columns = {"text": text or recorded.get("text"), "label": label or recorded.get("label")}
    if split == "validation" and own:
        corpus = reread(folder, info, source, **columns)
        if corpus.fingerprint != recorded["fingerprint"]:
            raise InputError(
                f"{source}: the data has changed since the training; its validation documents are no longer known"
            )
        documents = corpus.validation
        if not documents:
            raise InputError(
                f"{folder}: no document was held out for validation, so that there is nothing to score; "
                f"give {'' if alone else '--split test, or '}other DATA: `graphloss evaluate {pasted(folder)} DATA`"
            )
    else:
        repeated = own and text is None and label is None
        how = reading(recorded, no_header=no_header, named=text is not None)
        documents = load_split(source, split, **columns, label_names=label_names, how=how, own=repeated)
        if repeated and split == "test" and recorded.get("test") not in (None, fingerprint_of(documents)):
            screen.warn(f"{source}: its test documents have changed since the training, so these are other scores")
    if columns_used := str(documents.columns):
        screen.say(f"{source}: {columns_used}")
    for line in documents.warnings:
        screen.warn(line)
    return source, documents


def reading(recorded: dict[str, Any], *, no_header: bool, named: bool) -> Reading:
    """How to read a table: as for training, but with a header where a column is `named`."""
    bare = no_header or (not named and recorded.get("no_header", False))
    return Reading(not bare, recorded.get("keep_na", False))


def reread(folder: Path, info: dict[str, Any], source: str, **columns: str | None) -> Corpus:
    """The corpus of a source, read as for training."""
    recorded = info["data"]
    settings = {name: recorded[name] for name in names(DataSettings) if name in recorded}
    files = {name: find_again(settings.get(name), folder) for name in FILES}
    data = make(DataSettings, settings | files | columns)
    return load_corpus(source, **data.reading(), seed=info["settings"]["seed"])


def _own(folder: Path, info: dict[str, Any], source: str | None) -> tuple[bool, str | None]:
    """Whether a source is what the run was trained on, and its place; None where neither user nor run names one."""
    recorded = info.get("data", {})
    if "source" not in recorded:
        return False, source
    found = str(find_again(recorded["source"], folder))
    if source is None:
        if is_lost(found):
            raise InputError(
                f"{folder}: was trained on {found!r}, which is not found from there any more; name it: "
                f"`graphloss evaluate {pasted(folder)} DATA`"
            )
        return True, found
    if full_path(source) == full_path(found):
        return True, source
    same = Path(source).name == Path(found).name and typed(source).exists()
    return same and reread(folder, info, source).fingerprint == recorded["fingerprint"], source


def _name(label: Any) -> str:
    """A label as files are read: 1.0 is "1"."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
