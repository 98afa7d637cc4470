"""Chromium without a window, driven by the Chrome DevTools Protocol over its WebSocket.

https://chromedevtools.github.io/devtools-protocol
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

PATIENCE: Final = 120.0
"""Seconds that a browser needs at most to start, or to answer a command, on a busy machine."""
_OPTIONS: Final = (
    "--headless", "--remote-debugging-port=0", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    # The sandbox of Chromium does not run as root.
    "--no-sandbox",
)  # fmt: skip


class Tab:
    """One tab. It gives `login` to each server that asks for one, as a user who types it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, login: tuple[str, str]) -> None:
        self._socket = socket
        self._login = login
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.login_count = 0
        """How often a server asked for a login."""

    async def open(self, url: str) -> None:
        """Open a URL as from the address bar, and wait until the page is loaded, or its download has begun."""
        self._loaded.clear()
        if (await self.call("Page.navigate", url=url)).get("isDownload"):
            return
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, and wait for it if it is a promise."""
        result = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def is_loaded(self) -> bool:
        """Return True if the page is loaded. A tab that has just begun has no page yet, which is an error."""
        result = await self.call("Runtime.evaluate", expression="document.readyState")
        return bool(result.get("result", {}).get("value") == "complete")

    async def call(self, method: str, **parameters: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self._send(method, parameters)

    def _send(self, method: str, parameters: dict[str, Any]) -> asyncio.Future[Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        frame = json.dumps({"id": number, "method": method, "params": parameters})
        self._sending = asyncio.ensure_future(self._socket.send_str(frame))
        return answer

    async def receive(self) -> None:
        """Receive answers and events until the browser ends."""
        async for message in self._socket:
            event = json.loads(message.data)
            parameters = event.get("params", {})
            match event.get("method"):
                case None:
                    self._resolve(event)
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Fetch.requestPaused":
                    self._send("Fetch.continueRequest", {"requestId": parameters["requestId"]})
                case "Fetch.authRequired":
                    self.login_count += 1
                    user, password = self._login
                    answer = {"response": "ProvideCredentials", "username": user, "password": password}
                    self._send(
                        "Fetch.continueWithAuth",
                        {"requestId": parameters["requestId"], "authChallengeResponse": answer},
                    )
                case _:
                    pass

    def _resolve(self, event: dict[str, Any]) -> None:
        answer = self._answers.pop(event["id"])
        if "error" in event:
            # A request can be gone before it is continued.
            answer.set_result({"error": event["error"]})
        else:
            answer.set_result(event["result"])


def find_chromium() -> str:
    """Return Debian's Chromium. Skip the test if it is not installed."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed; install it with: scripts/install --node")
    return program


@asynccontextmanager
async def browser_tab(folder: Path, login: tuple[str, str]) -> AsyncIterator[Tab]:
    """Start a browser whose profile is in `folder`, with one tab."""
    program = find_chromium()
    environment = os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(
        program, *_OPTIONS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        port = await _debugging_port(folder / "DevToolsActivePort", process)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(await _page_url(session, port), max_msg_size=0) as socket,
        ):
            tab = Tab(socket, login)
            receiving = asyncio.ensure_future(tab.receive())
            try:
                await tab.call("Page.enable")
                await tab.call("Fetch.enable", handleAuthRequests=True)
                # Otherwise, the end of the first page's load could count as that of the page that a test opens.
                async with asyncio.timeout(PATIENCE):
                    while not await tab.is_loaded():  # noqa: ASYNC110 - reports nothing
                        await asyncio.sleep(0.02)
                yield tab
            finally:
                receiving.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _debugging_port(path: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, f"chromium ended with {process.returncode}"
            if lines := _read_lines(path):
                return int(lines[0])
            await asyncio.sleep(0.02)


def _read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def _page_url(session: aiohttp.ClientSession, port: int) -> str:
    """Return the WebSocket of the first tab, which a browser may open a moment after it listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                targets: list[dict[str, str]] = await response.json()
            for target in targets:
                if target["type"] == "page":
                    return target["webSocketDebuggerUrl"]
            await asyncio.sleep(0.02)
