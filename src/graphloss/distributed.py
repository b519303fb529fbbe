"""Several processes, one graph: each embeds its part of a batch and receives the embeddings of all.

A launcher (`torchrun`, `accelerate launch`) starts W processes of the same command. z_r are the embeddings of the
documents of process r, θ the weights of the encoder. Every process computes the same loss L(z_0, ..., z_{W-1}) and one
term of its gradient, through its own documents::

    dL/dθ = sum_r (dz_r/dθ)^T dL/dz_r

The distributed wrapper takes the mean over the processes, so `gather` multiplies the gradient of a process's own rows
by W: the mean is then the sum. The head and a learned sigma use all rows on every process, so their gradients are
complete and equal, and the mean does not change them. The backward pass needs no communication of its own.

All processes must call `gather`, `on_first` and `on_all`: if one does not, the others wait.
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
"""Environment variables that a launcher sets in each process."""

OF_MPI = {
    "RANK": ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"),
    "WORLD_SIZE": ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),
    "LOCAL_RANK": ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "LOCAL_WORLD_SIZE": ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
}
"""`accelerate launch --cpu` starts the processes by `mpirun`, which sets other variables."""

PATIENCE = timedelta(days=1)
"""The others wait while the first process writes a report, or reads the next line of a pipe."""


def join() -> None:
    """Connect the processes of a launcher, each on its own device; without a launcher do nothing.

    Raises:
        ValueError: there are more processes on this machine than it has GPUs.
    """
    for name, theirs in OF_MPI.items():
        values = [os.environ[other] for other in theirs if other in os.environ]
        if values and "MASTER_ADDR" in os.environ:  # without it the processes cannot connect
            os.environ.setdefault(name, values[0])
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
    """Disconnect from the other processes at the end of the program."""
    if distributed := _connected():
        distributed.destroy_process_group()


def launched() -> int:
    """Number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED) else 1


def on_this_machine() -> int:
    """Number of processes that share the memory of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched() > 1 else 1


def world() -> int:
    """W, the number of connected processes."""
    distributed = _connected()
    return distributed.get_world_size() if distributed else 1


def rank() -> int:
    """Rank of this process, from 0."""
    distributed = _connected()
    return distributed.get_rank() if distributed else 0


def first() -> bool:
    """Whether this is the process that prints and writes for all."""
    return rank() == 0


def part() -> tuple[int, int]:
    """Rank of this process and number of processes, (r, W)."""
    return rank(), world()


def share(count: int, i: int, of: int) -> slice:
    """The i-th of `of` consecutive parts of `count` items, whose sizes differ by at most one."""
    return slice(count * i // of, count * (i + 1) // of)


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, by rank, with a gradient for this process's own: see the module's docstring.

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
        own = rows.view_as(rows)  # the hook applies to this use of the rows only
        own.register_hook(lambda grad: grad * count)
        found[rank()] = own
    return torch.cat(found)


def on_first(action: Callable[[], T]) -> T:
    """Run an action on the first process only and return its result on all.

    Its error is raised on all processes; its attribute `elsewhere` is true on all but the first.
    """
    distributed = _connected()
    if distributed is None or world() == 1:
        return action()
    outcome: list[Any] = [None, None]  # result, error
    if first():
        try:
            outcome[0] = action()
        except Exception as error:
            outcome[1] = error
    distributed.broadcast_object_list(outcome, src=0)
    result: T
    result, failure = outcome
    if failure is not None:
        failure.elsewhere = not first()
        raise failure
    return result


def on_all(action: Callable[[], T]) -> T:
    """Run an action on every process, on the first one before the others: a download or an error then happens once."""
    done: list[T] = []
    on_first(lambda: done.append(action()))
    return done[0] if done else action()


def _connected() -> Any:
    """`torch.distributed` if processes are connected, without importing torch."""
    distributed = sys.modules.get("torch.distributed")
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None
