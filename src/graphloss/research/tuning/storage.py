"""Where studies are kept: a data base that any number of processes and machines share, by optuna."""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

HEARTBEAT, GRACE = 15, 60
"""Seconds between a trial's signs of life, and without one until it is given up: its process was killed."""

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds to wait for another process that makes the tables."""


def open_storage(url: str) -> BaseStorage:
    """Open the data base that holds studies, and make its tables where there are none.

    Args:
        url: as SQLAlchemy writes it: `sqlite:///study.db`, `postgresql://user:password@host/name`, `mysql://...`.

    Raises:
        InputError: optuna or the data base's driver is missing, or the data base cannot be reached.
    """
    optuna = library()
    check_url(url)
    shown = _shown(url)
    kind, _, driver = url.partition("://")[0].partition("+")
    connect: dict[str, Any] = {}
    if kind == "sqlite":
        connect = {"timeout": 60}  # seconds that a process waits while another one writes
    elif driver in ("", "psycopg", "psycopg2", "pymysql", "mysqldb"):
        connect = {"connect_timeout": 10}

    def opened() -> BaseStorage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs={"connect_args": connect, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
            )

    try:
        for pause in PAUSES:
            try:
                return opened()
            except Exception as error:
                if not re.search("already exists|UNIQUE|duplicate", str(error)):
                    raise
                time.sleep(pause)  # of processes begun together another one is making the tables; then they are there
        return opened()
    except ImportError as error:
        package = getattr(error.__cause__, "name", None) or "its driver"
        raise InputError(
            f"storage '{shown}': needs the Python package of {package}; install it, or name another driver in the URL, "
            f"as in {kind}+DRIVER://"
        ) from error
    except Exception as error:  # each data base has errors of its own
        reason = first_line(getattr(error, "orig", None) or error).replace(url, shown)
        raise InputError(f"storage '{shown}': cannot be used ({reason}); check the URL and whether it runs") from error


def check_url(url: str) -> None:
    """Refuse what is no data base, or none that stays, without opening it.

    Raises:
        InputError: with examples.
    """
    if "://" not in url or url in ("sqlite://", "sqlite:///:memory:"):
        raise InputError(
            f"storage '{_shown(url)}': expected the URL of a data base that stays, for example sqlite:///study.db "
            "or postgresql://user:password@host/name"
        )


def _shown(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)


def library() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs optuna: pip install 'graphloss[tune]'") from error
    return optuna


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that a data base's errors go on for."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
