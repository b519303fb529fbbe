"""Storage of studies: a database shared by any number of processes and machines, by optuna."""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError, first_line
from graphloss.research.tuning import killed_trials

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

HEARTBEAT = 15
"""Seconds between the heartbeats of a trial."""

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds to wait for another process that creates the tables."""


def open_storage(url: str) -> BaseStorage:
    """Open the database of studies, and create its tables if necessary; its URL as SQLAlchemy writes it."""
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
                grace_period=killed_trials.GRACE,
                heartbeat_stale_trial_callback=killed_trials.repeat,
            )

    try:
        for pause in PAUSES:
            try:
                return opened()
            except Exception as error:
                if not re.search("already exists|UNIQUE|duplicate", str(error)):
                    raise
                time.sleep(pause)  # another process, started at the same time, is creating the tables
        return opened()
    except ImportError as error:
        package = getattr(error.__cause__, "name", None) or "its driver"
        raise InputError(
            f"storage '{shown}': needs the Python package of {package}; install it, or name another driver in the URL, "
            f"as in {kind}+DRIVER://"
        ) from error
    except Exception as error:  # each driver has its own errors
        reason = first_line(getattr(error, "orig", None) or error).replace(url, shown)
        raise InputError(f"storage '{shown}': cannot be used ({reason}); check the URL and whether it runs") from error


def check_url(url: str) -> None:
    """Refuse an invalid URL or an in-memory database, without opening it."""
    if "://" not in url or url in ("sqlite://", "sqlite:///:memory:"):
        raise InputError(
            f"storage '{_shown(url)}': expected the URL of a persistent database, for example sqlite:///study.db "
            "or postgresql://user:password@host/name"
        )


def _shown(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)


def library() -> Any:
    """Import optuna, or say how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs optuna: pip install 'graphloss[tune]'") from error
    return optuna
