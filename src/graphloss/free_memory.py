"""Free memory: of this machine, within the limit of a container, for each process."""

from pathlib import Path

from graphloss import distributed


def free() -> int:
    """Bytes free for this process, shared with the others on this machine, within the limit of a container."""
    machine, container = _of_machine(), _of_container(Path("/sys/fs/cgroup"))
    return (machine if container is None else min(machine, container)) // distributed.on_this_machine()


def format_free(count: int, device: str = "") -> str:
    """A number of free bytes in words, with device and processes."""
    shared = distributed.on_this_machine()
    where, each = f" on {device}" if device else "", f" for each of {shared} processes" if shared > 1 else ""
    return f"{gib(count)} are free{where}{each}"


def gib(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB"


def _of_machine() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _of_container(group: Path) -> int | None:
    """Bytes below the memory limit of a container (cgroup 2), None without one; cached file pages count as free."""
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(int(most) - used + int(stat.get("inactive_file", 0)), 0)
