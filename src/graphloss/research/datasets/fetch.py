"""Download of one public file: resumable, and compared with its known size and SHA-256.

The bytes go into NAME.part, which is kept after a failure, so that the next attempt requests only the rest (an HTTP
Range); a file of the wrong size or hash is removed. The standard library's `urllib` has all that is needed: ranges,
redirects, proxies and timeouts.
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
FINAL = 500  # HTTP errors below this are not retried, except for these two
RETRIED = (408, 429)

OnBytes = Callable[[str, int, int | None], None]
"""Called with the name of a file, the bytes received, and its size (None: unknown)."""


class Source(NamedTuple):
    """A public file: its local name, its addresses in order of preference, and its size and hash if known."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


class Fetched(NamedTuple):
    """A downloaded file; `compared` if its SHA-256 was known before and is the same."""

    path: Path
    url: str
    size: int
    sha256: str
    compared: bool


class _Failed(Exception):
    """One address did not deliver the file; the message is the reason."""


def fetch(
    source: Source,
    folder: Path,
    *,
    on_bytes: OnBytes = lambda name, here, total: None,
    tries: int = 3,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Fetched:
    """Download a file into a folder, or reuse that of an earlier call.

    Args:
        source: the file; without `sha256`, any content of the right size is accepted.
        folder: created if necessary.
        on_bytes: called after each block.
        tries: attempts per address; each resumes the one before.
        pause: seconds before the second attempt, doubled before each further one.
        timeout: seconds without a byte after which an attempt has failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / source.name, folder / f"{source.name}.part"
    if path.exists():
        path.replace(part)  # complete, from a call that was killed later; compared like any other
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
    kept = f" The {part.stat().st_size:,} bytes received are kept for the next try." if part.exists() else ""
    raise InputError(f"{source.name} could not be fetched. {'; '.join(problems)}.{kept}")


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
    """Download into the part, in several attempts."""
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _attempt(url, part, source, on_bytes, timeout)
        except urllib.error.HTTPError as error:
            problem = f"the server answered {error.code} {error.reason}".strip()
            if error.code < FINAL and error.code not in RETRIED:
                raise _Failed(problem) from None
        except urllib.error.URLError as error:
            problem = f"the server cannot be reached ({error.reason})"
        except TimeoutError:
            problem = f"the server sent nothing for {timeout:g} seconds"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise _Failed(f"{problem} (tried {tries} times)")


def _attempt(url: str, part: Path, source: Source, on_bytes: OnBytes, timeout: float) -> None:
    """Download into the part in one request, resuming it if the server supports ranges.

    Raises:
        OSError, http.client.HTTPException: the transfer failed; another attempt may succeed.
        _Failed: this is not the expected file.
    """
    here = part.stat().st_size if part.exists() else 0
    if here and here == source.size:
        return
    headers = {"User-Agent": "graphloss"}  # some servers refuse the library's own name
    if here:
        headers["Range"] = f"bytes={here}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not here:
            raise
        if error.headers.get("Content-Range") == f"bytes */{here}":
            return  # complete
        part.unlink()
        raise ConnectionError("the server has fewer bytes than were received; they were removed") from None
    with answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
            raise ConnectionError(f"the server answered {answer.status} {answer.reason}".strip())
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another range than the requested one")
        if not resumed:  # a server without ranges: from the start
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
