"""The page for labeling over HTTP, on this machine alone: the one door to starlette and uvicorn.

It listens on the loopback address alone, and every request needs the token of the page's address and a host name of
this machine: no other user, no other page of the browser and no rebound name can read a text or send an answer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from graphloss.errors import InputError
from graphloss.run.label_session import Desk

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
LARGEST = 10_000
"""Bytes of an answer."""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"
)


@dataclass(frozen=True)
class Listener:
    """A socket on the loopback address, and the token that every request needs."""

    socket: socket.socket
    token: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"


@contextlib.contextmanager
def listening(port: int) -> Iterator[Listener]:
    """Listen on a port of the loopback address, 0 for a free one; nothing is answered yet."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the page needs {' and '.join(missing)}; install: pip install 'graphloss[serve]'")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        if os.name != "nt":  # there it would take a port from another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"--port {port}: cannot be used ({reason}); give another, or leave --port out for a free one"
            ) from error
        yield Listener(listener, secrets.token_urlsafe(24))


def serve(desk: Desk, listener: Listener, on_address: Callable[[str], None] = lambda address: None) -> None:
    """Serve until the process is interrupted (SIGINT or SIGTERM); `on_address` gets the address of the page."""
    import uvicorn

    config = uvicorn.Config(
        application(desk, listener.token, listener.port),
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, so that the file is written
    on_address(listener.address)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener.socket])


def application(desk: Desk, token: str, port: int) -> Starlette:
    """The page and its requests, as an ASGI application; the methods of the desk are called in threads.

    The token is the first part of every path; a request's `Host` has to name this machine and the port.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    html = (files("graphloss.run") / "assets" / "label.html").read_text(encoding="utf-8")

    def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
        return HTMLResponse(html.replace("{nonce}", nonce), headers=HEADERS | policy)

    def state(request: Request) -> Response:
        return JSONResponse(desk.state(), headers=HEADERS)

    def points(request: Request) -> Response:
        return JSONResponse(desk.points(), headers=HEADERS)

    async def answer(request: Request) -> Response:
        try:
            length = int(request.headers.get("content-length", "-1"))
            if not 0 <= length <= LARGEST or request.headers.get("content-type") != "application/json":
                raise ValueError
            body = json.loads(await request.body())
            turn, kind, label = int(body["turn"]), str(body["answer"]), body.get("label")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return JSONResponse({"error": "not an answer"}, 400, headers=HEADERS)
        try:
            found = await run_in_threadpool(desk.answer, turn, kind, label)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400, headers=HEADERS)
        except OSError as error:
            message = f"not kept, for the journal cannot be written ({error.strerror}); make room and answer again"
            return JSONResponse({"error": message}, 507, headers=HEADERS)
        if found is None:
            return JSONResponse(await run_in_threadpool(desk.state), 409, headers=HEADERS)
        return JSONResponse(found, headers=HEADERS)

    routes = [
        Route(f"/{token}/", page),
        Route(f"/{token}/state", state),
        Route(f"/{token}/map", points),
        Route(f"/{token}/answer", answer, methods=["POST"]),
    ]
    guard = Middleware(Guard, token=token, hosts=(f"{HOST}:{port}", f"localhost:{port}"))
    return Starlette(routes=routes, middleware=[guard])


class Guard:
    """ASGI middleware: refuse what does not come from the page, with 403."""

    def __init__(self, app: Any, token: str, hosts: tuple[str, ...]) -> None:
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        token, host = scope["path"].split("/")[1:2], Request(scope).headers.get("host", "")
        if host in self.hosts and token and secrets.compare_digest(token[0].encode(), self.token.encode()):
            await self.app(scope, receive, send)
        else:
            message = "Open the address that `graphloss label` has printed; without its token nothing is shown.\n"
            await PlainTextResponse(message, 403, headers=HEADERS)(scope, receive, send)
