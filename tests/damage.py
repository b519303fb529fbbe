"""Kinds of damage to a run folder: what a disk, a copy or a careless hand does to it, a name and a function each.

A damage takes the run folder and the folder of another run of the same shape, changes the first, and leaves the second
as it is. None of them is something that a reader may overlook: each changes an answer, or what could be known of one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from graphloss.inference.checksums import DICTIONARIES, LISTS, sealed

INFO = "graphloss.json"
PLACES = (0.0, 0.02, 0.25, 0.5, 0.75, 0.98)
NUMBERS: tuple[Any, ...] = (0, float("nan"), -1, 7, 1e308, "0.3", None, True, [], float("inf"))
WRONG = {
    "sigma": (0, 0.0, -1, -0.3, "0.3", None, True, [], 1e308),
    "graph_share": (-0.1, 7, "0.5", None, True, 1e308),
    "neighbor_weight": (-0.1, 7, "0", None, False, 1e308),
    "kind": ("vote", "", None, 1, ["mix"]),
}
"""Values of the predictor that make no sense, even where the folder is sealed with them."""


class Damage(NamedTuple):
    """What it is, the file that the message must name, and the deed."""

    name: str
    file: str
    do: Callable[[Path, Path], None]


def all_damages(run: Path) -> list[Damage]:
    """Every kind that fits the files and values of this run."""
    return [*_files(run), *_encoder(), *_infos(run), *_sealed_infos(run), *_tensors()]


def _files(run: Path) -> Iterator[Damage]:
    names = [path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_file()]
    for name in names:
        yield Damage(f"{name} deleted", name, lambda run, _, n=name: (run / n).unlink())
        yield Damage(f"{name} emptied", name, lambda run, _, n=name: (run / n).write_bytes(b""))
        yield Damage(f"{name} a folder", name, lambda run, _, n=name: _folder(run / n))
        yield Damage(f"{name} longer", name, lambda run, _, n=name: _change(run / n, lambda b: b + b"x"))
        for share in PLACES:
            yield Damage(f"{name} flipped at {share}", name, lambda run, _, n=name, s=share: _flip(run / n, s))
        for share in (0.1, 0.5, 0.99):
            cut = lambda run, _, n=name, s=share: _change(run / n, lambda b: b[: int(s * len(b))])  # noqa: E731
            yield Damage(f"{name} cut to {share}", name, cut)
        if name in ("head.safetensors", "support.safetensors", "support.parquet"):
            swap = lambda run, other, n=name: shutil.copy(other / n, run / n) and None  # noqa: E731
            yield Damage(f"{name} of another run", name, swap)


def _encoder() -> Iterator[Damage]:
    for name, values in {
        "encoder/config.json": {"hidden_size": 64, "num_hidden_layers": 1, "hidden_act": "relu", "vocab_size": 7},
        "encoder/config_sentence_transformers.json": {"default_prompt_name": "query", "prompts": {"query": "say: "}},
    }.items():
        for key, value in values.items():
            yield Damage(f"{name}: {key}", name, lambda run, _, n=name, k=key, v=value: _set(run / n, (k,), v))
    for name in ("encoder/extra.safetensors", "encoder/adapter_config.json", "encoder/3_Dense/config.json"):
        yield Damage(f"{name} added", name, lambda run, _, n=name: _add(run / n))
    yield Damage("no encoder", "encoder", lambda run, _: shutil.rmtree(run / "encoder"))
    yield Damage("unlabeled support added", "unlabeled.safetensors", lambda run, _: _add(run / "unlabeled.safetensors"))


def _infos(run: Path) -> Iterator[Damage]:
    """Values changed and the checksum left: whatever stands there then."""
    info = json.loads((run / INFO).read_text(encoding="utf-8"))
    for path, value in _leaves(info):
        for other in NUMBERS if isinstance(value, int | float) and not isinstance(value, bool) else (None, "other", 7):
            if other != value:
                where = ".".join(map(str, path))
                yield Damage(f"{where} = {other!r}", INFO, lambda run, _, p=path, o=other: _set(run / INFO, p, o))
        yield Damage(f"{'.'.join(map(str, path))} removed", INFO, lambda run, _, p=path: _drop(run / INFO, p))
    labels = info["labels"]
    for kind, found in {
        "reversed": labels[::-1],
        "twice": [labels[0], *labels[:-1]],
        "fewer": labels[:-1],
        "more": [*labels, "z"],
        "none": [],
        "a text": "abc",
        "numbers": [1, 2, 3],
        "nested": [[label] for label in labels],
    }.items():
        yield Damage(f"labels {kind}", INFO, lambda run, _, f=found: _set(run / INFO, ("labels",), f))
    for kind, content in {
        "a list": b"[]",
        "null": b"null",
        "half": b'{"format": 3, "labels"',
        "deep": b"[" * 100_000,
        "UTF-16": json.dumps(info).encode("utf-16"),
        "NULs": b"\0" * 500,
        "format 2": b'{"format": 2}',
        "format 99": b'{"format": 99}',
        "format NaN": b'{"format": NaN}',
        "format true": b'{"format": true}',
    }.items():
        yield Damage(f"info: {kind}", INFO, lambda run, _, c=content: (run / INFO).write_bytes(c) and None)
    yield Damage("info of another run", INFO, lambda run, other: _other_labels(run, other))


def _sealed_infos(run: Path) -> Iterator[Damage]:
    """Values without sense under a checksum that fits."""
    info = json.loads((run / INFO).read_text(encoding="utf-8"))
    for key, values in WRONG.items():
        for value in values:
            yield Damage(
                f"sealed: {key} = {value!r}", INFO, lambda run, _, k=key, v=value: _seal(run, "predictor", k, v)
            )
    for labels in ([], ["a", "a", "b"], ["a", None, "b"], "abc", {"a": 0}, [["a"], ["b"], ["c"]]):
        yield Damage(f"sealed: labels {labels!r}", INFO, lambda run, _, found=labels: _seal(run, None, "labels", found))
    for labels in (info["labels"][:-1], [*info["labels"], "z"]):
        file = "head.safetensors"
        yield Damage(f"sealed: labels {labels!r}", file, lambda run, _, found=labels: _seal(run, None, "labels", found))
    for key in ("labels", "settings", "predictor", "files", "status"):
        for value in (None, 7, "x"):
            yield Damage(f"sealed: {key} = {value!r}", INFO, lambda run, _, k=key, v=value: _seal(run, None, k, v))
    for key in (*LISTS, *DICTIONARIES):
        for value in (7, "x"):
            yield Damage(f"sealed: {key} = {value!r}", INFO, lambda run, _, k=key, v=value: _seal(run, None, k, v))
    for key in ("text", "label", "unlabeled"):
        data = {"source": "a.csv", "fingerprint": "f", key: 5}
        yield Damage(f"sealed: data of {key} 5", INFO, lambda run, _, d=data: _seal(run, None, "data", d))
    for seed in (-1, 2**40, "0", None, 0.5):
        yield Damage(f"sealed: seed {seed!r}", INFO, lambda run, _, s=seed: _seal(run, "settings", "seed", s))


def _tensors() -> Iterator[Damage]:
    """Numbers without sense in files whose checksums fit."""
    head, support = "head.safetensors", "support.safetensors"
    for file, name, kind, change in (
        (head, "weight", "NaN", lambda t: t * float("nan")),
        (head, "weight", "infinite", lambda t: t + float("inf")),
        (head, "weight", "narrow", lambda t: t[:, :-1].contiguous()),
        (head, "weight", "one axis", lambda t: t.flatten()),
        (head, "bias", "short", lambda t: t[:-1]),
        (head, "bias", "NaN", lambda t: t * float("nan")),
        (support, "labels", "too large", lambda t: t + 1),
        (support, "labels", "negative", lambda t: t - 1),
        (support, "labels", "short", lambda t: t[:-1]),
        (support, "embeddings", "NaN", lambda t: t * float("nan")),
        (support, "embeddings", "none", lambda t: t[:0]),
        (support, "embeddings", "short", lambda t: t[:-1]),
    ):
        said = support if kind == "narrow" else file
        deed = lambda run, _, f=file, n=name, c=change: _tensor(run, f, n, c)  # noqa: E731
        yield Damage(f"sealed: {name} {kind}", said, deed)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0xFF
    path.write_bytes(bytes(content))


def _add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every single value of a JSON object, with the names that lead to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif not isinstance(value, list):
        yield path, value


def _set(file: Path, path: tuple[Any, ...], value: Any) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    assert inner.get(path[-1], None) is not value or value is None
    inner[path[-1]] = value
    file.write_text(json.dumps(found), encoding="utf-8")


def _drop(file: Path, path: tuple[Any, ...]) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    file.write_text(json.dumps(found), encoding="utf-8")


def _seal(run: Path, part: str | None, key: str, value: Any) -> None:
    info = json.loads((run / INFO).read_text(encoding="utf-8"))
    (info[part] if part else info)[key] = value
    (run / INFO).write_text(json.dumps(sealed(info)), encoding="utf-8")


def _other_labels(run: Path, other: Path) -> None:
    """The file of another run, whole in itself, beside the files of this one."""
    info = json.loads((other / INFO).read_text(encoding="utf-8"))
    info["files"] = dict.fromkeys(info["files"], "0" * 64)
    (run / INFO).write_text(json.dumps(info), encoding="utf-8")


def _tensor(run: Path, file: str, name: str, change: Callable[[Any], Any]) -> None:
    from safetensors.torch import load_file, save_file

    from graphloss.inference.checksums import digests

    tensors = load_file(run / file)
    save_file(tensors | {name: change(tensors[name])}, run / file)
    info = json.loads((run / INFO).read_text(encoding="utf-8"))
    info["files"] |= digests(run, [file])
    (run / INFO).write_text(json.dumps(sealed(info)), encoding="utf-8")
