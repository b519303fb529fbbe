"""One file from its public home: resumed where it broke off, and compared with the size and SHA-256 that are known.

The bytes go into NAME.part, which stays after a failure, so that the next try asks only for the rest (an HTTP Range);
what has the wrong size or hash is removed. The standard library's `urllib` does it: ranges, redirects, proxies and
timeouts are all that is needed, and no other library has to be there.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from graphloss.errors import InputError

BLOCK = 1 << 16  # bytes read at a time
FINAL = 500  # an answer below this, bar the two that ask for patience, is not worth asking for again
PATIENCE = (408, 429)

OnBytes = Callable[[str, int, int | None], None]
"""Told the name of a file, the bytes that are here, and the bytes it has (None: not known)."""


class Source(NamedTuple):
    """A file in public: the name it is kept under, addresses of the same bytes in order, and what is known of it."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


class Fetched(NamedTuple):
    """A file that is here; `compared` if its SHA-256 was known before and is the same."""

    path: Path
    url: str
    size: int
    sha256: str
    compared: bool


class _Failed(Exception):
    """One address did not give the file; says why."""


def fetch(
    source: Source,
    folder: Path,
    *,
    on_bytes: OnBytes = lambda name, here, total: None,
    tries: int = 3,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Fetched:
    """Get a file into a folder, or take what an earlier call left there.

    Args:
        source: what to get; without `sha256`, any content of the right size is taken.
        folder: made if it is not there.
        on_bytes: called after each block.
        tries: of each address; each goes on where the one before broke off.
        pause: seconds before the second try, doubled before each further one.
        timeout: seconds without a byte after which a try has failed.

    Raises:
        InputError: no address gave the file; says what happened at each, and what was kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / source.name, folder / f"{source.name}.part"
    if path.exists():
        path.replace(part)  # whole, from a call that was killed later; compared like any other
    problems = []
    for url in source.urls:
        try:
            _download(url, part, source, on_bytes, tries, pause, timeout)
            size, digest = part.stat().st_size, sha256(part)
            _compare(part, source, size, digest)
        except _Failed as problem:
            problems.append(f"{url}: {problem}")
            continue
        part.replace(path)
        return Fetched(path, url, size, digest, source.sha256 is not None)
    kept = f" The {part.stat().st_size:,} bytes that came are kept for the next try." if part.exists() else ""
    raise InputError(f"{source.name} could not be fetched. {'; '.join(problems)}.{kept}")


@contextmanager
def download_bar(*, quiet: bool = False) -> Iterator[OnBytes]:
    """A bar a file on standard error, where a person looks at it; gives what `fetch` takes as `on_bytes`."""
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


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(part: Path, source: Source, size: int, digest: str) -> None:
    if source.size is not None and size != source.size:
        problem = f"the file has {size:,} bytes, expected {source.size:,}"
    elif source.sha256 is not None and digest != source.sha256:
        problem = f"the file has the SHA-256 {digest}, expected {source.sha256}"
    else:
        return
    part.unlink()
    raise _Failed(f"{problem}; it was removed")


def _download(
    url: str, part: Path, source: Source, on_bytes: OnBytes, tries: int, pause: float, timeout: float
) -> None:
    """Fill the part, in several tries."""
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _attempt(url, part, source, on_bytes, timeout)
        except urllib.error.HTTPError as error:
            problem = f"the server answered {error.code} {error.reason}".strip()
            if error.code < FINAL and error.code not in PATIENCE:
                raise _Failed(problem) from None
        except urllib.error.URLError as error:
            problem = f"the server cannot be reached ({error.reason})"
        except TimeoutError:
            problem = f"the server was silent for {timeout:g} seconds"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise _Failed(f"{problem} (tried {tries} times)")


def _attempt(url: str, part: Path, source: Source, on_bytes: OnBytes, timeout: float) -> None:
    """Fill the part in one request, from where it ends if the server can.

    Raises:
        OSError, http.client.HTTPException: the transfer failed; another try may succeed.
        _Failed: this is not the file.
    """
    here = part.stat().st_size if part.exists() else 0
    if here and here == source.size:
        return
    headers = {"User-Agent": "graphloss"}  # some homes turn away the library's own name
    if here:
        headers["Range"] = f"bytes={here}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not here:
            raise
        if error.headers.get("Content-Range") == f"bytes */{here}":
            return  # all of it is here
        part.unlink()
        raise ConnectionError("the server has fewer bytes than are here; they were removed") from None
    with answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
            raise ConnectionError(f"the server answered {answer.status} {answer.reason}".strip())
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another range than it was asked for")
        if not resumed:  # it knows no ranges: from the start
            here = 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length else None
        if total and source.size and total != source.size:
            part.unlink(missing_ok=True)
            raise _Failed(f"the file has {total:,} bytes, expected {source.size:,}")
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                here += len(block)
                on_bytes(source.name, here, total or source.size)
        expected = total or source.size
        if expected is not None and here < expected:
            raise ConnectionError(f"the transfer ended after {here:,} of {expected:,} bytes")
