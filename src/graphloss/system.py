"""How much memory this machine has left for a process, so that what would not fit is refused and not killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from graphloss import distributed
from graphloss.errors import InputError


def free() -> int | None:
    """Bytes free for this process beside the others on this machine; None where the system does not say."""
    said = [_of_machine(Path("/proc/meminfo")), _of_container(Path("/sys/fs/cgroup"))]
    known = [count for count in said if count is not None]
    return min(known) // distributed.on_this_machine() if known else None


def format_free(count: int, device: str = "") -> str:
    """So many free bytes in words, and for whom."""
    shared = distributed.on_this_machine()
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


def write_text(path: Path, text: str) -> None:
    """Write a file whole: under a hidden name first, then renamed, so that a kill never leaves half of it."""
    hidden = path.with_name(f".{path.name}.writing")
    hidden.write_text(text, encoding="utf-8")
    hidden.replace(path)


SHOWN = 60


def typed(name: str | Path) -> Path:
    """The path, `~` made a folder; whether anything is there is not asked.

    Raises:
        InputError: no file can have this name, as a text that was taken for one, or this user may not look there.
    """
    try:
        path = Path(name).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (path / "any").stat()  # looks into a folder too: whether one may enter it
    except PermissionError as error:
        raise InputError(
            f"{name}: this user may not look there ({error.strerror}); ask its owner, or give another path"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a null byte
        said = str(name)
        shown = said if len(said) <= SHOWN else said[:SHOWN] + "…"
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise InputError(f"{shown}: no file can be called so ({reason}); give the path of a file or folder") from error
    return path


def existing_run(folder: Path) -> Path:
    """The run folder that was given, if it is there: asked before any heavy library is loaded.

    Raises:
        InputError: there is no such folder.
    """
    if not typed(folder).is_dir():
        raise InputError(f"{folder}: no such run folder; `graphloss train` writes one and says its name at the end")
    return typed(folder)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a folder that is there, or of a file, which is made; False if another process holds it.

    Args:
        path: of the folder or file.
        wait: until the other process has ended its work.
    """
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time is the user's to see to
        yield True
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks: as on Windows
            pass
        yield True
    finally:
        os.close(handle)
