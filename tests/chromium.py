"""A real browser without a window, driven by Chromium's DevTools protocol; skips where there is none."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PATIENCE_S = 60.0
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "u": 85}


class Tab:
    """One page."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._numbers = loop, socket, itertools.count()

    def call(self, method: str, **how: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, how), PATIENCE_S))

    async def _call(self, method: str, how: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": how})
        while True:
            told: dict[str, Any] = json.loads(await self._socket.receive_str())
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])

    def evaluate(self, script: str) -> Any:
        """What an expression of JavaScript gives; promises are waited for."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key])

    def resize(self, width_px: int, height_px: int, *, is_phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width_px, height=height_px,
                  deviceScaleFactor=1, mobile=is_phone)  # fmt: skip

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


class Browser:
    """A running Chromium."""

    def __init__(self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession, port: int) -> None:
        self._loop, self._session, self._port = loop, session, port

    def open(self, url: str) -> Tab:
        ask = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(ask, timeout=PATIENCE_S) as told:
            address = json.load(told)["webSocketDebuggerUrl"]
        connected = self._session.ws_connect(address, max_msg_size=0)
        tab = Tab(self._loop, self._loop.run_until_complete(connected))
        tab.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return tab


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    started = subprocess.Popen(
        [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(_session())
    try:
        deadline, told = time.monotonic() + PATIENCE_S, folder / "DevToolsActivePort"
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < deadline and started.poll() is None
            time.sleep(0.05)
        yield Browser(loop, session, int(told.read_text().split()[0]))
    finally:
        loop.run_until_complete(session.close())
        loop.close()
        started.kill()
        started.wait()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()
