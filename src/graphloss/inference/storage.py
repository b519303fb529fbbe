"""The run folder: what training leaves on disk, and all that using the result needs.

    encoder/              a plain sentence-transformers model
    head.safetensors      weight (C, d), bias (C,): the linear classifier on unit-length embeddings
    support.safetensors   embeddings (n, d) float16 and labels (n,) of the labeled training documents
    support.parquet       their texts, in the same order: what `predict --explain` shows and `audit` judges
    pile.safetensors      embeddings (m, d) float16 of unlabeled training documents, where some taught the head
    graphloss.json        labels, settings, versions, data, metrics; `status` "finished" once all else is in place
    metrics.jsonl         one line an evaluation
    predictions.parquet   the scored split, document by document, with its map
    audit.jsonl           the training labels that are contradicted, once `audit` was asked for them
    report.html, README.md
    checkpoints/          only while training is unfinished

Every file is written under a hidden name and then renamed. JSON, safetensors and Parquet alone are read: no pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from graphloss.errors import InputError
from graphloss.inference.model import FittedModel
from graphloss.inference.predictor import Predictor
from graphloss.system import typed, write_text

FORMAT = 2  # 1 knew no pile, and its readers would answer without it
INFO, METRICS, HEAD, SUPPORT, PILE, ENCODER = (
    "graphloss.json",
    "metrics.jsonl",
    "head.safetensors",
    "support.safetensors",
    "pile.safetensors",
    "encoder",
)
TEXTS, PREDICTIONS, AUDIT = "support.parquet", "predictions.parquet", "audit.jsonl"
REPORT, CARD, CHECKPOINTS = "report.html", "README.md", "checkpoints"


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write `graphloss.json`, in today's format also where an older graphloss has begun the run."""
    numbered = {"format": FORMAT}
    write_text(
        folder / INFO, json.dumps(numbered | info | numbered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_audit(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `audit.jsonl`, whole."""
    write_text(folder / AUDIT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_metrics(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `metrics.jsonl` anew: after a resume it holds no line that the resumed training did not go through."""
    write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path, model: FittedModel) -> None:
    """Write encoder, head, support set and pile, each whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    predictor = model.predictor
    parts = {
        HEAD: {"weight": predictor.weight, "bias": predictor.bias},
        SUPPORT: {"embeddings": predictor.support.half(), "labels": predictor.support_labels},
    }
    if predictor.pile is None:
        (folder / PILE).unlink(missing_ok=True)
    else:
        parts[PILE] = {"embeddings": predictor.pile.half()}
    for name, tensors in parts.items():
        hidden = folder / f".{name}.writing"
        save_file({key: value.contiguous() for key, value in tensors.items()}, hidden)
        hidden.replace(folder / name)
    if model.texts is None:
        (folder / TEXTS).unlink(missing_ok=True)
    else:
        hidden = folder / f".{TEXTS}.writing"
        pq.write_table(pa.table({"text": pa.array(model.texts, pa.string())}), hidden)
        hidden.replace(folder / TEXTS)
    hidden = folder / f".{ENCODER}.writing"
    shutil.rmtree(hidden, ignore_errors=True)
    model.encoder.save_pretrained(str(hidden), create_model_card=False)
    shutil.rmtree(folder / ENCODER, ignore_errors=True)
    hidden.replace(folder / ENCODER)


def read_info(folder: Path) -> dict[str, Any]:
    """Read `graphloss.json` of a run, finished or not.

    Raises:
        InputError: there is no run, it cannot be read or is damaged, or a newer graphloss wrote it.
    """
    if not typed(folder).is_dir():
        raise InputError(f"{folder}: no such run folder; `graphloss train` writes one and says its name at the end")
    path = folder / INFO
    if not path.is_file():
        raise InputError(
            f"{folder}: not a run folder, it holds no {INFO}; give the folder that `graphloss train` named"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        number = info["format"]
        if number <= FORMAT:
            parts = {"labels": list, "settings": dict}
            parts |= {"predictor": dict} if info["status"] == "finished" else {"data": dict}
            for name, kind in parts.items():
                if not isinstance(info[name], kind):
                    raise TypeError(f"{name} is no {kind.__name__}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); ask its owner, or give another run") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); train again into another folder"
        ) from error
    if number > FORMAT:
        raise InputError(
            f"{folder}: written in format {number}, this graphloss reads up to {FORMAT}; upgrade graphloss"
        )
    return dict(info)


def read_model(folder: Path, *, device: str | None = None) -> tuple[dict[str, Any], FittedModel]:
    """Read a finished run for use.

    Raises:
        InputError: the run is unfinished or damaged; the message says which file is at fault and what to do.
    """
    info = read_info(folder)
    if info["status"] != "finished":
        raise InputError(f"{folder}: training has not finished; go on with `graphloss train --resume --out {folder}`")
    chosen = info["predictor"]
    neighbor_weight = float(chosen.get("neighbor_weight", 0.0))
    names = (ENCODER, HEAD, SUPPORT, *([PILE] if neighbor_weight else []))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise InputError(f"{folder}: damaged, {' and '.join(missing)} missing; copy the run folder again or train anew")
    head, support = _tensors(folder / HEAD, ("weight", "bias")), _tensors(folder / SUPPORT, ("embeddings", "labels"))
    if head["weight"].shape[0] != len(info["labels"]):
        raise InputError(
            f"{folder}: damaged, {HEAD} has {head['weight'].shape[0]} classes and {INFO} {len(info['labels'])}"
        )
    pile = _tensors(folder / PILE, ("embeddings",))["embeddings"].float() if neighbor_weight else None
    from graphloss.text.encoder import load

    encoder = load(str(folder / ENCODER), device=device).eval()
    predictor = Predictor(
        head["weight"],
        head["bias"],
        support["embeddings"].float(),
        support["labels"],
        sigma=float(chosen["sigma"]),
        graph_share=float(chosen["graph_share"]),
        kind=str(chosen.get("kind", "mix")),
        pile=pile,
        neighbor_weight=neighbor_weight,
    )
    texts, seed = _texts(folder / TEXTS, len(predictor.support)), int(info["settings"].get("seed", 0))
    described = int(info.get("described", {}).get("lines", 0))
    return info, FittedModel(encoder, predictor, info["labels"], texts, seed, described)


def _texts(path: Path, count: int) -> list[str] | None:
    """Texts of the labeled training documents; None where the file is not there, which only `--explain` misses."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        found = pq.read_table(path, columns=["text"])["text"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}: {error}); copy the run folder again or train anew"
        ) from error
    if len(found) != count:
        raise InputError(
            f"{path}: damaged, {len(found)} texts for {count} embeddings; copy the run folder again or train anew"
        )
    return [str(text) for text in found]


def _tensors(path: Path, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged ({error}); copy the run folder again or train anew") from error
    if lost := [name for name in names if name not in found]:
        raise InputError(f"{path}: damaged, no {' and no '.join(lost)} in it; copy the run folder again or train anew")
    return found
