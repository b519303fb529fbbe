"""Several processes, one graph: each embeds its share of a batch, and every one sees the embeddings of all.

A launcher (`torchrun`, `accelerate launch`) starts W processes of the same command. z_r are the embeddings of the
documents of process r, θ the weights of the encoder. Every process computes the same loss L(z_0, ..., z_{W-1}), and
through its own documents holds one term of the gradient::

    dL/dθ = sum_r (dz_r/dθ)^T dL/dz_r

The distributed wrapper takes the mean over the processes, so `gather` hands W times the gradient down to a process's
own rows: the mean is then the sum. What sees all rows on every process, the head and a learned sigma, has its whole
gradient there, and the mean of equal gradients leaves it alone. Nothing need be sent on the way back.

`gather`, `on_first` and `on_all` are for all processes at once: one that stays away keeps the others waiting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets in the environment of each process."""

OF_MPI = {
    "RANK": ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"),
    "WORLD_SIZE": ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),
    "LOCAL_RANK": ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "LOCAL_WORLD_SIZE": ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
}
"""`accelerate launch --cpu` starts the processes by `mpirun`, which numbers them by names of its own."""

PATIENCE = timedelta(days=1)
"""The others wait while the first process writes a report, or for the next line of a pipe."""


def join() -> None:
    """Find the other processes where a launcher started several, each on a device of its own; else do nothing.

    Raises:
        ValueError: there are more processes on this machine than it has GPUs.
    """
    for name, theirs in OF_MPI.items():
        said = [os.environ[other] for other in theirs if other in os.environ]
        if said and "MASTER_ADDR" in os.environ:  # else nobody says where the processes are to find one another
            os.environ.setdefault(name, said[0])
    if launched() < 2:
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    if not torch.cuda.is_available():
        distributed.init_process_group("gloo", timeout=PATIENCE)
        return
    place, devices = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if place >= devices:
        raise ValueError(
            f"expected a GPU for each process, got process {place + 1} on a machine with {devices}; start {devices} "
            "processes, or set CUDA_VISIBLE_DEVICES= to share the CPU"
        )
    torch.cuda.set_device(place)
    distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)


def leave() -> None:
    """Let go of the other processes at the end of the program."""
    if distributed := _connected():
        distributed.destroy_process_group()


def launched() -> int:
    """How many processes the launcher started; 1 where there was none."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED) else 1


def on_this_machine() -> int:
    """How many of the processes share the memory of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched() > 1 else 1


def world() -> int:
    """W, the number of processes that have found one another."""
    distributed = _connected()
    return distributed.get_world_size() if distributed else 1


def rank() -> int:
    """The number of this process, from 0 on."""
    distributed = _connected()
    return distributed.get_rank() if distributed else 0


def first() -> bool:
    """Whether this is the process that speaks and writes for all."""
    return rank() == 0


def part() -> tuple[int, int]:
    """This process's number and that of all, (r, W)."""
    return rank(), world()


def share(count: int, i: int, of: int) -> slice:
    """The i-th of near-equal parts of `count` things in a row: they differ by one thing at most."""
    return slice(count * i // of, count * (i + 1) // of)


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, the first one's first, with a gradient for this one's: see the module's docstring.

    Args:
        rows: (n_r, ...) of this process, on any device; n_r may differ between processes, and be 0.

    Returns:
        (n_0 + ... + n_{W-1}, ...), the same to the bit on every process; `rows` itself where there is only one.
    """
    distributed = _connected()
    if distributed is None or (count := world()) == 1:
        return rows
    import torch

    x = rows.detach()
    if x.device.type == "cpu" and "cpu" not in str(distributed.get_backend_config()):  # a group for GPUs alone
        x = x.cuda()
    lengths = [x.new_zeros(1, dtype=torch.long) for _ in range(count)]
    distributed.all_gather(lengths, x.new_tensor([len(x)], dtype=torch.long))
    n = [int(length) for length in lengths]
    padded = x.new_zeros(max(n), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in n]
    distributed.all_gather(parts, padded)
    found = [part[:length].to(rows.device) for part, length in zip(parts, n, strict=True)]
    if rows.requires_grad:
        own = rows.view_as(rows)  # the hook is of these rows in this sum alone
        own.register_hook(lambda grad: grad * count)
        found[rank()] = own
    return torch.cat(found)


def on_first(action: Callable[[], T]) -> T:
    """What an action gives on the first process, on all of them; only there it is done.

    Its error is raised by all; elsewhere than on the first process it has an attribute `elsewhere`.
    """
    distributed = _connected()
    if distributed is None or world() == 1:
        return action()
    told: list[Any] = [None, None]
    if first():
        try:
            told[0] = action()
        except Exception as error:
            told[1] = error
    distributed.broadcast_object_list(told, src=0)
    if told[1] is not None:
        told[1].elsewhere = not first()
        raise told[1]
    given: T = told[0]
    return given


def on_all(action: Callable[[], T]) -> T:
    """An action of every process, the first one ahead of the others: a download, or an error, then happens once."""
    done: list[T] = []
    on_first(lambda: done.append(action()))
    return done[0] if done else action()


def _connected() -> Any:
    """`torch.distributed`, if processes have found one another; torch is not loaded to learn that there is only one."""
    distributed = sys.modules.get("torch.distributed")
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None
