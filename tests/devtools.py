"""A headless Chromium by its DevTools protocol: a page, its keyboard, and what its script says."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEYS = {"Enter": 13, "Backspace": 8, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27}


class Page:
    """One page, over a web socket: text frames, masked, as RFC 6455 has them."""

    def __init__(self, address: str) -> None:
        where = urlparse(address)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (f"GET {where.path} HTTP/1.1", f"Host: {where.netloc}", "Upgrade: websocket", "Connection: Upgrade")
        lines += (f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", "")
        self.socket.sendall("\r\n".join(lines).encode())
        self.stream = self.socket.makefile("rb")
        assert b"101" in self.stream.readline()
        while self.stream.readline().strip():
            pass
        self.number = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method; its result."""
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.socket.sendall(b"\x81" + size + mask + masked)
        while (answer := json.loads(self._message())).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _message(self) -> bytes:
        parts = []
        while True:
            first, size = self.stream.read(2)
            if size > 125:
                size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
            data = self.stream.read(size)
            if first & 0x0F in (0, 1):
                parts.append(data)
                if first & 0x80:
                    return b"".join(parts)

    def value(self, script: str) -> Any:
        """What an expression of the page's script is."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < deadline, f"{script}; {self.value('document.body.innerText')}"
            time.sleep(0.02)

    def open(self, address: str, ready: str) -> None:
        """Go to an address, until an expression is true there."""
        self.send("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && {ready}")

    def press(self, *keys: str) -> None:
        """Press and release keys one after another: names of `KEYS`, or characters."""
        for key in keys:
            code = {"windowsVirtualKeyCode": KEYS[key]} if key in KEYS else {"text": key}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **code)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with an empty page."""
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*")
    command = [CHROMIUM, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            deadline, ready = time.monotonic() + 120, folder / "DevToolsActivePort"
            while not (ready.exists() and ready.read_text().strip()):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            port = ready.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=60) as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            yield Page(pages[0]["webSocketDebuggerUrl"])
        finally:
            process.terminate()
