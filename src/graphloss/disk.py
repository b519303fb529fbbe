"""The disk: paths as they are typed, files and folders written whole, locks."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from graphloss.errors import InputError


@contextlib.contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file or folder whole: under a hidden name, flushed to the disk, then renamed.

    Permissions follow the umask. If writing fails, the hidden file is removed.

    Args:
        path: the file or folder.
        shared: other processes may write it at the same time; the hidden name then contains this process's id.

    Yields:
        The hidden path, where nothing exists yet.

    Raises:
        OSError: it cannot be written there; an earlier file or folder at `path` is unchanged.
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
            flush(part)
        if path.is_dir():
            _remove(path)
        hidden.replace(path)
        flush(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing itself says no name
        raise
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


def flush(path: Path) -> None:
    """Flush a file or folder to the disk; Windows cannot flush folders."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


SHOWN = 60


def typed(name: str | Path) -> Path:
    """A path from the user, with `~` expanded; it need not exist.

    Raises:
        InputError: this is not a valid file name, or the user has no permission to read there.
    """
    try:
        path = Path(name).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (path / "any").stat()  # also checks the permission to enter a folder
    except PermissionError as error:
        raise InputError(f"{name}: no permission ({error.strerror}); ask its owner, or give another path") from error
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a null byte
        text = str(name)
        shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise InputError(f"{shown}: not a valid file name ({reason}); give the path of a file or folder") from error
    return path


NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file; yields False if another process holds it. A killed process releases it too.

    Args:
        path: the lock file, created here and never removed.
        wait: for the other process to finish.
    """
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        mine = True
        try:
            held.enter_context(FileLock(path).acquire(blocking=wait))
        except Timeout:
            mine = False
        except OSError as error:
            if error.errno not in NO_LOCKS:  # a file system without locks: the user must run one process at a time
                raise
        yield mine
