"""Download of one public file, whole, from the first of its addresses that delivers it.

The standard library's `urllib` has all that is needed: redirects, proxies and timeouts.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from graphloss.disk import whole
from graphloss.errors import InputError

BLOCK = 1 << 16  # bytes read at a time
FINAL = 500  # HTTP errors below this are not retried, except for these two
RETRIED = (408, 429)

OnBytes = Callable[[str, int, int | None], None]
"""Called with the name of a file, the bytes received, and its size (None: unknown)."""


class Source(NamedTuple):
    """A public file: its local name, and its addresses in order of preference."""

    name: str
    urls: tuple[str, ...]


def fetch(
    source: Source,
    folder: Path,
    *,
    on_bytes: OnBytes = lambda name, here, total: None,
    tries: int = 3,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a file into a folder, or take the one that an earlier call has left there.

    Args:
        source: the file.
        folder: created if necessary.
        on_bytes: called after each block.
        tries: attempts per address.
        pause: seconds before the second attempt, doubled before each further one.
        timeout: seconds without a byte after which an attempt has failed.

    Raises:
        InputError: no address has delivered it; the message has the reason of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, problems = folder / source.name, []
    if path.exists():
        return path
    for url in source.urls:
        for attempt in range(tries):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                _download(url, path, on_bytes, timeout)
                return path
            except urllib.error.HTTPError as error:
                problem = f"the server answered {error.code} {error.reason}".strip()
                if error.code < FINAL and error.code not in RETRIED:
                    break
            except urllib.error.URLError as error:
                problem = f"the server cannot be reached ({error.reason})"
            except TimeoutError:
                problem = f"the server sent nothing for {timeout:g} seconds"
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
        problems.append(f"{url}: {problem}" + (f" (tried {attempt + 1} times)" if attempt else ""))
    raise InputError(f"{source.name} could not be fetched. {'; '.join(problems)}.")


def _download(url: str, path: Path, on_bytes: OnBytes, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "graphloss"})  # some refuse the library's own name
    with urllib.request.urlopen(request, timeout=timeout) as answer, whole(path) as hidden, hidden.open("wb") as file:
        length, here = answer.headers.get("Content-Length"), 0
        total = int(length) if length else None
        while block := answer.read(BLOCK):
            file.write(block)
            here += len(block)
            on_bytes(path.name, here, total)
        if total is not None and here < total:
            raise http.client.HTTPException(f"the transfer ended after {here:,} of {total:,} bytes")


@contextmanager
def download_bar(*, quiet: bool = False) -> Iterator[OnBytes]:
    """A progress bar per file on standard error, if it is a terminal; yields `on_bytes` for `fetch`."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn())
    tasks = {}
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:

        def on_bytes(name: str, here: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=here, total=total)

        yield on_bytes
