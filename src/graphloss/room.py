"""Is there room? What a training will hold in memory, estimated before the work, where running out means a kill."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from graphloss import neighbours, processes
from graphloss.catalogue import check_memory
from graphloss.config import TrainSettings
from graphloss.corpus_graph import K
from graphloss.errors import InputError
from graphloss.schedule import graph_size_for

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PLAIN, SOLVED = 7, 13
"""Float32 matrices n x n that a loss holds at its peak, a little too many: measured 4 to 6 where every label is given,
9 to 13 where a system is solved (hidden documents, damping) and in SupCon."""

COPIES = 5
"""Of the embeddings of all documents, while a corpus graph teaches a head."""


def check(
    settings: TrainSettings, encoder: SentenceTransformer, *, labelled: int, unlabelled: int, classes: int
) -> None:
    """Refuse settings whose memory, graphs or corpus graph would not fit, before any work is done.

    Args:
        settings: how to train.
        encoder: says the dimensions of an embedding and the device.
        labelled: training documents with a label.
        unlabelled: and those without.
        classes: C.

    Raises:
        InputError: what is needed, what is free, and what would fit.
    """
    dimensions = encoder.get_embedding_dimension() or 1
    check_memory(settings.memory, classes, dimensions)
    _check_graph(settings, encoder.device, labelled)
    if unlabelled and (settings.corpus_graph == "auto" or settings.soft_weight):
        _check_corpus_graph(labelled + unlabelled, dimensions, classes)


def of_graph(count: int, settings: TrainSettings) -> int:
    """Bytes that the loss needs for a graph of so many documents, a little too many; 0 for cross-entropy alone."""
    if settings.loss == "ce":
        return 0
    solved = settings.hidden > 0 or settings.alpha < 1 or settings.loss in ("supcon", "triplet")
    return 4 * (SOLVED if solved else PLAIN) * count**2


def of_corpus_graph(count: int, dimensions: int, classes: int) -> int:
    """Bytes that the corpus graph of so many documents needs, with their embeddings, a little too many."""
    return neighbours.memory(count, dimensions, K, classes) + 4 * COPIES * count * dimensions


def available(device: torch.device) -> int | None:
    """Bytes free on a device for this process, beside the others; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    said = [_of_machine(Path("/proc/meminfo")), _of_container(Path("/sys/fs/cgroup"))]
    known = [bytes_ for bytes_ in said if bytes_ is not None]
    return min(known) // processes.on_this_machine() if known else None


def _check_graph(settings: TrainSettings, device: torch.device, labelled: int) -> None:
    asked = graph_size_for(labelled, settings)
    count = min(asked, labelled) + settings.hidden
    needed, free = of_graph(count, settings), available(device)
    if free is None or needed <= free:
        return
    fits = math.floor(count * math.sqrt(free / needed)) - settings.hidden
    option = "--graph-size" if settings.graph_size else "--batch-size"
    raise InputError(
        f"{option} {asked}: the loss on a graph of {count:,} documents needs about {_gib(needed)}, and "
        f"{_gib(free)} are free on {device.type}{_each()}; "
        + (f"give {option} {fits} or less" if fits >= 2 else "give a smaller --hidden")
    )


def _check_corpus_graph(count: int, dimensions: int, classes: int) -> None:
    if count > neighbours.EXACT_DOCUMENTS and importlib.util.find_spec("faiss") is None:
        raise InputError(
            f"the corpus graph over {count:,} documents, more than {neighbours.EXACT_DOCUMENTS:,}, needs the index of "
            "faiss, which is not installed: pip install 'graphloss[large]'; or leave unlabelled documents away, or "
            "give --corpus-graph off"
        )
    needed, free = of_corpus_graph(count, dimensions, classes), available(torch.device("cpu"))
    if free is not None and needed > free:
        raise InputError(
            f"the corpus graph over {count:,} documents needs about {_gib(needed)}, and {_gib(free)} are free"
            f"{_each()}: about {int(count * free / needed):,} documents would fit; leave unlabelled documents away, or "
            "give --corpus-graph off"
        )


def _of_machine(meminfo: Path) -> int | None:
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:  # no word of what is free: what there is at all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_container(group: Path) -> int | None:
    """What the limit of a container (cgroup 2) leaves; pages of files that were read count as free."""
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(int(most) - used + int(stat.get("inactive_file", 0)), 0)


def _each() -> str:
    """What a figure is for, where processes share a machine."""
    return f" for each of {count} processes" if (count := processes.on_this_machine()) > 1 else ""


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
