"""Is a run folder what was written: checksums of every file and of `graphloss.json`, and values that make sense.

`graphloss.json` holds the SHA-256 of every file that a model needs (`files`) and one over its own other content
(`checksum`: JSON with sorted keys and no blanks). They guard against damage and mixed-up files, not against forgers:
who edits a folder can seal it again, and so can its owner with `graphloss verify RUN --seal`.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from graphloss.errors import InputError
from graphloss.inference.predictor_names import PREDICTORS

FORMAT = 4
REPAIR = "copy the run folder again or train anew; if it was changed on purpose, `graphloss verify RUN --seal`"
LISTS = ("doubted_labels", "least_sure")
DICTIONARIES = ("metrics", "versions", "environment", "encoder", "self_training", "learning_curve")
LARGEST_SIGMA = 1e18
"""Beyond it, and below its inverse, σ² leaves what float32 can hold."""


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files of those names that there are, and of all files in the folders of those names."""
    found = {}
    for name in names:
        path = folder / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = _digest(file)
    return found


def file_faults(folder: Path, recorded: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    """One line per file of those names that is missing, was changed, or was not there when the folder was written."""
    for name, digest in recorded.items():
        path = folder / name
        try:
            if not path.is_file():
                yield f"{path}: {'is no file' if path.exists() else 'missing'}; {REPAIR}"
            elif _digest(path) != digest:
                yield f"{path}: damaged, it is not the file that was written (another SHA-256); {REPAIR}"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror}); ask its owner, or give another run"
    for name in names:
        path = folder / name
        for file in [path, *path.rglob("*")] if path.exists() else []:
            if not file.is_dir() and (inside := file.relative_to(folder).as_posix()) not in recorded:
                yield f"{folder / inside}: does not belong to this run; take it out, or {REPAIR}"


def sealed(info: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `graphloss.json` with its checksum, as reading gives it back."""
    plain = json.loads(json.dumps(dict(info) | {"format": FORMAT}, allow_nan=False))
    plain.pop("checksum", None)
    return plain | {"checksum": _content(plain)}


def parse(path: Path, *, edited: bool = False) -> dict[str, Any]:
    """Read a `graphloss.json` and check all its values; of an `edited` one, the checksum need not fit."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        info = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        if not isinstance(info, dict):
            raise TypeError("no object of names and values")
        if isinstance(number := info.get("format"), bool) or not isinstance(number, int):
            raise TypeError(f"format is {number!r} and no number")
        content = _content(info)
        if number == FORMAT and not edited and info.get("checksum") != content:
            raise ValueError("its content is not what was written, by its checksum")
        found = _faults(info) if number == FORMAT else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); ask its owner, or give another run") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); {REPAIR}") from error
    if number != FORMAT:
        what = "upgrade graphloss" if number > FORMAT else "train again with this graphloss"
        raise InputError(f"{path}: written in format {number}, this graphloss reads format {FORMAT}; {what}")
    if found:
        raise InputError(f"{path}: damaged, {'; '.join(found)}; {REPAIR}")
    return dict(info)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _content(info: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in info.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _faults(info: Mapping[str, Any]) -> list[str]:
    """What makes no sense in a `graphloss.json`."""
    finished = info.get("status") == "finished"
    kinds = {"labels": list, "settings": dict, **({"predictor": dict, "files": dict} if finished else {"data": dict})}
    kinds |= {name: list if name in LISTS else dict for name in (*LISTS, *DICTIONARIES) if info.get(name)}
    found = [
        f"expected {name} to be a {kind.__name__}, got {info.get(name)!r:.60}"
        for name, kind in kinds.items()
        if not isinstance(info.get(name), kind)
    ]
    if info.get("status") not in ("running", "finished"):
        found.append(f"expected a status running or finished, got {info.get('status')!r}")
    if found:
        return found
    labels, data, seed = info["labels"], info.get("data", {}), info["settings"].get("seed", 0)
    if not labels or not all(isinstance(label, str | int | float) for label in labels):
        found.append(f"expected labels that are texts or numbers, got {labels!r:.60}")
    elif len(set(labels)) < len(labels):
        found.append("expected distinct labels, and one is there twice")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        found.append(f"expected a seed from 0 to 2^32 - 1, got {seed!r:.60}")
    named = ("source", "fingerprint", "text", "label", "unlabeled")
    if not isinstance(data, dict) or not all(isinstance(data.get(k) or "", str) for k in named):
        found.append(f"expected data with a source and a fingerprint, got {data!r:.60}")
    elif not finished and not {"source", "fingerprint"} <= data.keys():
        found.append("expected data with a source and a fingerprint")
    if finished:
        found += _predictor_faults(info["predictor"]) + _description_faults(info.get("described"))
    return found


def _description_faults(described: Any) -> list[str]:
    if described is None:
        return []
    numbers = {"lines": math.inf, "weight": 1, "unlabeled_weight": 1, "right": math.inf, "checked": math.inf}
    found = described if isinstance(described, dict) else {}
    whole = all(_number(found.get(name)) and 0 <= found[name] <= most for name, most in numbers.items())
    evidence = _number(found.get("over_chance")) and (found.get("over_labels") is None or _number(found["over_labels"]))
    if whole and evidence and isinstance(found.get("texts"), dict) and isinstance(found.get("classes"), int):
        return []
    return [f"expected described with {', '.join(numbers)}, evidence and texts, got {described!r:.60}"]


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _predictor_faults(chosen: Mapping[str, Any]) -> list[str]:
    found = []
    if chosen.get("kind") not in PREDICTORS:
        found.append(f"expected a predictor of kind {', '.join(PREDICTORS)}, got {chosen.get('kind')!r:.60}")
    bounds = {"sigma": (1 / LARGEST_SIGMA, LARGEST_SIGMA), "graph_share": (0.0, 1.0), "neighbor_weight": (0.0, 1.0)}
    for name, (least, most) in bounds.items():
        value = chosen.get(name)
        if not _number(value) or not least <= value <= most:
            found.append(f"expected a {name} from {least:g} to {most:g}, got {value!r:.60}")
    return found
