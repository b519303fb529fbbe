"""Locks between processes that share a folder.

A lock belongs to its process and the system takes it back when the process ends, however it ends: no lock is ever
stale.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
