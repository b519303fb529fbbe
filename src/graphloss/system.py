"""How much memory this machine has left for a process, so that what would not fit is refused and not killed."""

from __future__ import annotations

import contextlib
import os
import shutil
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


@contextlib.contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file or folder whole: under a hidden name, flushed to the disk, renamed, so that a kill leaves no half.

    Permissions follow the umask, whatever wrote. Nothing stays under the hidden name if the writing fails.

    Args:
        path: the file or folder.
        shared: other processes may write it at the same time, so that the hidden name is this process's own.

    Yields:
        The hidden name, where nothing is yet.

    Raises:
        OSError: it cannot be written there; what had the name before is still there.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.writing" if shared else f".{path.name}.writing")
    _remove(hidden)
    hidden.touch()
    mode = hidden.stat().st_mode & 0o777
    hidden.unlink()
    try:
        yield hidden
        parts = [hidden, *hidden.rglob("*")]
        for part in parts:
            if not part.is_dir():
                part.chmod(mode)
        for part in parts:
            _flush(part)
        if path.is_dir():
            _remove(path)
        hidden.replace(path)
        _flush(path.parent)
    finally:
        _remove(hidden)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a text file whole: see `whole`."""
    with whole(path, shared=shared) as hidden:
        hidden.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the disk hold what was written; folders cannot be flushed everywhere."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
