"""A path as people type it: with `~`, or with something that no file can be called."""

from __future__ import annotations

import contextlib
from pathlib import Path

from graphloss.errors import InputError

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
