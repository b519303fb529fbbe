"""How much memory this machine has left for a process, so that what would not fit is refused and not killed."""

from __future__ import annotations

import os
from pathlib import Path

from graphloss import processes


def free() -> int | None:
    """Bytes free for this process beside the others on this machine; None where the system does not say."""
    said = [_of_machine(Path("/proc/meminfo")), _of_container(Path("/sys/fs/cgroup"))]
    known = [count for count in said if count is not None]
    return min(known) // processes.on_this_machine() if known else None


def said_free(count: int, device: str = "") -> str:
    """So many free bytes in words, and for whom."""
    shared = processes.on_this_machine()
    where, each = f" on {device}" if device else "", f" for each of {shared} processes" if shared > 1 else ""
    return f"{gib(count)} are free{where}{each}"


def gib(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB"


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
