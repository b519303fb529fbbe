"""Several processes for a test, as a launcher starts them: they find one another over the network of this machine.

They are forked from a process that has imported the libraries once, which takes as long as all else together.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PRELOADED = [
    "pytorch_metric_learning.losses",
    "graphloss.training.fit",
    "graphloss.classifier",
    "graphloss.report.page",
    "together",
]


def together(count: int, action: Callable[..., Any], folder: Path, *given: Any) -> list[Any]:
    """What `action(*given)` returns in each of `count` processes, in their order.

    Args:
        count: W.
        action: a function of a module.
        folder: for what passes between the processes and this one.
        given: arguments of the action.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = [
        context.Process(target=_one, args=(rank, count, port, action, folder, given), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=600)
        process.kill()
    said = [path.read_text() for rank in range(count) if (path := folder / f"{rank}.failed").exists()]
    assert not said, "\n".join(said)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _one(rank: int, count: int, port: int, action: Callable[..., Any], folder: Path, given: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "CUDA_VISIBLE_DEVICES": ""}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    from graphloss import distributed

    try:
        distributed.join()
        torch.save(action(*given), folder / f"{rank}.pt")
        distributed.leave()
    except BaseException:
        (folder / f"{rank}.failed").write_text(f"process {rank}: {traceback.format_exc()}")
        raise
