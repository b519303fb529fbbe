"""The run folder: what training leaves on disk, and all that using the result needs.

    encoder/              a plain sentence-transformers model
    head.safetensors      weight (C, d), bias (C,): the linear classifier on unit-length embeddings
    support.safetensors   embeddings (n, d) float16 and labels (n,) of the labeled training documents
    support.parquet       their texts, in the same order: for `predict --explain` and `audit`
    unlabeled.safetensors embeddings (m, d) float16 of unlabeled training documents, after self-training with some
    graphloss.json        labels, settings, versions, data, metrics, and the checksums of the files above and of
                          metrics and predictions (`checksums`); `status` "finished" once all else is in place
    metrics.jsonl         one line per evaluation
    predictions.parquet   the scored split, document by document, with its map
    audit.jsonl           the training labels that `audit` has found contradicted
    report.html, README.md
    checkpoints/          only while training is unfinished

Every file is written whole (`disk.whole`). JSON, safetensors and Parquet alone are read: no pickle.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphloss.disk import typed, whole, write_text
from graphloss.errors import InputError
from graphloss.inference.checksums import REPAIR, digests, file_faults, parse, sealed
from graphloss.terminal import counted, pasted

if TYPE_CHECKING:
    import torch

    from graphloss.inference.fitted_model import FittedModel
    from graphloss.inference.predictor import Predictor

INFO, METRICS, HEAD, SUPPORT, UNLABELED, ENCODER = (
    "graphloss.json",
    "metrics.jsonl",
    "head.safetensors",
    "support.safetensors",
    "unlabeled.safetensors",
    "encoder",
)
TEXTS, PREDICTIONS, AUDIT = "support.parquet", "predictions.parquet", "audit.jsonl"
REPORT, CARD, CHECKPOINTS = "report.html", "README.md", "checkpoints"
SEALED = (ENCODER, HEAD, SUPPORT, UNLABELED, TEXTS, METRICS, PREDICTIONS)
"""What `graphloss.json` has checksums of, as far as a run has it."""


def existing_run(folder: Path) -> Path:
    """Check that a run folder exists, before any heavy library is loaded.

    Raises:
        InputError: there is no such folder.
    """
    if not (path := typed(folder)).is_dir():
        raise InputError(f"{folder}: no such run folder; `graphloss train` writes one and prints its name at the end")
    return path


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write `graphloss.json`; that of a finished run with the checksum of every file there is."""
    files = {"files": digests(folder, SEALED)} if info["status"] == "finished" else {}
    write_text(folder / INFO, json.dumps(sealed(info | files), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_audit(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `audit.jsonl`, whole."""
    write_text(folder / AUDIT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_metrics(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `metrics.jsonl` anew: after a resume, without evaluations that the resumed training repeats."""
    write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path, model: FittedModel) -> None:
    """Write encoder, head, and support sets, each whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from graphloss.text.encoder import quiet_libraries

    predictor = model.predictor
    parts = {
        HEAD: {"weight": predictor.weight, "bias": predictor.bias},
        SUPPORT: {"embeddings": predictor.support.half(), "labels": predictor.support_labels},
    }
    if predictor.unlabeled_support is None:
        (folder / UNLABELED).unlink(missing_ok=True)
    else:
        parts[UNLABELED] = {"embeddings": predictor.unlabeled_support.half()}
    try:
        for name, tensors in parts.items():
            with whole(folder / name) as hidden:
                save_file({key: value.contiguous() for key, value in tensors.items()}, hidden)
        with whole(folder / ENCODER) as hidden, quiet_libraries():
            model.encoder.save_pretrained(str(hidden), create_model_card=False)
    except SafetensorError as error:  # its only fault in writing is the disk's
        raise OSError(errno.EIO, str(error), str(folder)) from error
    if model.texts is None:
        (folder / TEXTS).unlink(missing_ok=True)
    else:
        with whole(folder / TEXTS) as hidden:
            pq.write_table(pa.table({"text": pa.array(model.texts, pa.string())}), hidden)


def read_info(folder: Path, *, edited: bool = False) -> dict[str, Any]:
    """Read `graphloss.json` of a run, finished or not; `edited` passes over its own checksum."""
    existing_run(folder)
    path = folder / INFO
    if not path.is_file():
        raise InputError(
            f"{folder}: not a run folder, it holds no {INFO}; give the folder that `graphloss train` named"
        )
    return parse(path, edited=edited)


def faults(folder: Path, info: dict[str, Any]) -> list[str]:
    """What is wrong with the files of a finished run, one line each; an empty list where it is whole."""
    expected = [ENCODER, HEAD, SUPPORT, *([UNLABELED] if info["predictor"]["neighbor_weight"] else [])]
    recorded = info["files"]
    lost = [name for name in expected if not any(file == name or file.startswith(f"{name}/") for file in recorded)]
    return [f"{folder / name}: missing; {REPAIR}" for name in lost] + list(file_faults(folder, recorded, SEALED))


def seal(folder: Path) -> None:
    """Take the files of a finished run, and the values of its `graphloss.json`, as they are now for what was written.

    A run that could not be used even so is refused.
    """
    info = finished_info(folder, edited=True)
    write = info | {"files": digests(folder, SEALED)}
    if wrong := faults(folder, write):
        raise InputError("\n".join(wrong))
    _fitted_model(folder, info)
    write_info(folder, info)


def finished_info(folder: Path, *, edited: bool = False) -> dict[str, Any]:
    """Read `graphloss.json` of a finished run: see `read_info`."""
    info = read_info(folder, edited=edited)
    if info["status"] != "finished":
        resume = f"graphloss train --resume --out {pasted(folder)}"
        raise InputError(f"{folder}: training has not finished; resume with `{resume}`")
    return info


def checked_info(folder: Path) -> dict[str, Any]:
    """Read `graphloss.json` of a finished run and compare every file with its checksum."""
    info = finished_info(folder)
    if wrong := faults(folder, info):
        raise InputError(wrong[0] if len(wrong) == 1 else f"{wrong[0]}\nand {counted(len(wrong) - 1, 'more fault')}")
    return info


def read_model(folder: Path, *, device: str | None = None) -> tuple[dict[str, Any], FittedModel]:
    """Read a finished run for use, after everything in it has been checked.

    Raises:
        InputError: the run is unfinished or damaged; the message says which file is at fault and what to do.
    """
    info = checked_info(folder)
    return info, _fitted_model(folder, info, device=device)


def _fitted_model(folder: Path, info: dict[str, Any], *, device: str | None = None) -> FittedModel:
    """Read all that predicts, its parts checked against each other."""
    predictor = read_predictor(folder, info)
    texts, seed = _texts(folder / TEXTS, len(predictor.support)), int(info["settings"].get("seed", 0))
    from graphloss.inference.fitted_model import FittedModel
    from graphloss.text.encoder import load

    encoder = load(str(folder / ENCODER), device=device).eval()
    size, expected = encoder.get_embedding_dimension(), predictor.weight.shape[1]
    if size != expected:
        raise InputError(
            f"{folder / ENCODER}: damaged, embeddings of {size} numbers, and {HEAD} has {expected}; {REPAIR}"
        )
    described = min((info.get("described") or {"lines": 0})["lines"], len(predictor.support))
    return FittedModel(encoder, predictor, info["labels"], texts, seed, described)


def read_predictor(folder: Path, info: dict[str, Any]) -> Predictor:
    """Read what predicts from embeddings, its tensors checked."""
    from graphloss.inference.predictor import Predictor

    chosen, classes = info["predictor"], len(info["labels"])
    head = _tensors(folder / HEAD, {"weight": 2, "bias": 1})
    support = _tensors(folder / SUPPORT, {"embeddings": 2, "labels": 1})
    dimension, places = head["weight"].shape[1], support["labels"]
    parts = {SUPPORT: support["embeddings"]}
    if chosen["neighbor_weight"]:
        parts[UNLABELED] = _tensors(folder / UNLABELED, {"embeddings": 2})["embeddings"]
    if len(head["weight"]) != classes or len(head["bias"]) != classes:
        raise InputError(f"{folder / HEAD}: damaged, {len(head['weight'])} classes, and {INFO} has {classes}; {REPAIR}")
    for name, rows in parts.items():
        if not len(rows) or rows.shape[1] != dimension:
            found = f"embeddings {tuple(rows.shape)}"
            raise InputError(f"{folder / name}: damaged, {found} and {HEAD} has {dimension} dimensions; {REPAIR}")
    if len(places) != len(support["embeddings"]) or bool((places < 0).any() | (places >= classes).any()):
        raise InputError(f"{folder / SUPPORT}: damaged, expected one label from 0 to {classes - 1} a row; {REPAIR}")
    return Predictor(
        head["weight"].float(),
        head["bias"].float(),
        support["embeddings"].float(),
        places,
        sigma=float(chosen["sigma"]),
        graph_share=float(chosen["graph_share"]),
        kind=chosen["kind"],
        unlabeled_support=parts[UNLABELED].float() if UNLABELED in parts else None,
        neighbor_weight=float(chosen["neighbor_weight"]),
    )


def _texts(path: Path, count: int) -> list[str] | None:
    """Texts of the labeled training documents; None where the file is not there, which only `--explain` needs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        found = pq.read_table(path, columns=["text"])["text"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); {REPAIR}") from error
    if len(found) != count:
        raise InputError(f"{path}: damaged, {len(found)} texts for {count} embeddings; {REPAIR}")
    return [str(text) for text in found]


def _tensors(path: Path, ranks: dict[str, int]) -> dict[str, torch.Tensor]:
    """The finite tensors of a file by name, of so many axes each."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged ({error}); {REPAIR}") from error
    for name, rank in ranks.items():
        if name not in found or found[name].ndim != rank or not bool(found[name].isfinite().all()):
            raise InputError(f"{path}: damaged, expected finite numbers {name} of {rank} axes in it; {REPAIR}")
    return found
