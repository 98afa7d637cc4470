"""HTTP server on loopback for who is connected: the page, /sessions, /connectors, /refusals and /changes.

- On a laptop, JSON needs the secret of this process, because other users of the machine can connect.
- In a pod, only port-forward leads here, whose right is Kubernetes' own.
- Host and Sec-Fetch-Site are checked, so that pages of other origins cannot read it, even with DNS rebinding.
"""

import asyncio
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Final

from aiohttp import web

from addons.sessions.snapshots import Snapshot, Snapshots, changes
from addons.sessions.state import Item, State
from connector_store.domain.base.errors import ParseError
from connector_store.http_listener import HttpListener
from connector_store.version import VERSION

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of rows, and of characters in them, of one response."""
MAX_STREAM_ROWS: Final = 1_000
MAX_STREAM_BYTES: Final = 1024 * 1024
"""The same for each kind of object in the stream. A subscriber that does not read keeps one snapshot in memory."""
MAX_SUBSCRIBERS: Final = 32
"""Maximum number of streams."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds for a subscriber to read a piece of the stream before it is closed."""
PIECE_SIZE: Final = 64 * 1024
"""Characters of the stream that are written at once."""
HEARTBEAT: Final = 5.0
"""Seconds between two lines of a stream without changes, so that a subscriber notices a proxy that is gone."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE_FILES: Final = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
_CONTENT_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def check_loopback(host: str) -> None:
    """Raise ParseError if `host` is not an address of loopback."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ParseError("connector_sessions", f"{host} is not an address of loopback; write 127.0.0.1:9092 or [::1]:0")


class SessionsServer:
    """Server of one process. `secret` is None if everyone who can connect may read."""

    def __init__(self, state: State, *, secret: str | None) -> None:
        self._state = state
        self._secret = secret
        self._port = 0
        self._snapshots = Snapshots(self._take_snapshot)
        self._build = asyncio.Lock()
        self._listener = HttpListener()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address with the port that was chosen for port 0. Raises OSError if it is in use."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        for path, name in PAGE_FILES.items():
            app.router.add_get(path, _page_handler(name))
        app.router.add_get("/sessions", self._list_handler(self._state.sessions))
        app.router.add_get("/connectors", self._list_handler(self._state.connectors))
        app.router.add_get("/refusals", self._list_handler(self._state.refusals))
        app.router.add_get("/changes", self._stream)
        address = await self._listener.start(app, host, port)
        self._port = address[1]
        return address

    async def stop(self) -> None:
        await self._listener.stop()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse requests of other origins, and requests for JSON without the secret."""
        if not self._is_own_host(request.headers.getall("Host", [])):
            return _refuse(421, "Host is not that of this server; use localhost or 127.0.0.1")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _refuse(403, "requests of pages of another origin are refused; open the URL from the address bar")
        if self._secret is not None and request.path not in PAGE_FILES:
            credential = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(credential, f"Bearer {self._secret}".encode()):
                return _refuse(401, "the secret is missing or not right; open the URL that the proxy printed")
        return await handler(request)

    def _is_own_host(self, hosts: list[str]) -> bool:
        """Check Host against DNS rebinding. In a pod, the port is that of the client's port-forward."""
        if len(hosts) != 1:
            return False
        name, colon, port = hosts[0].rpartition(":")
        if not colon or hosts[0].endswith("]"):
            name, port = hosts[0], "80"
        return name.lower() in _LOOPBACK_NAMES and (self._secret is None or port == str(self._port))

    def _list_handler(
        self, items: Callable[[], AsyncIterator[Item]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def respond(request: web.Request) -> web.Response:
            # One at a time, so that many readers do not multiply the cost.
            async with self._build:
                rows, total = await _collect(items(), MAX_ROWS, MAX_BYTES)
            head = json.dumps({"version": VERSION, "proxy": socket.gethostname(), "time": time.time(), "total": total})
            body = f'{head[:-1]}, "items": [{",".join(rows.values())}]}}\n'
            return web.Response(text=body, content_type="application/json")

        return respond

    async def _take_snapshot(self) -> Snapshot:
        async with self._build:
            snapshot: dict[str, str] = {}
            for name in ("sessions", "connectors", "refusals"):
                items = getattr(self._state, name)
                rows, total = await _collect(items(), MAX_STREAM_ROWS, MAX_STREAM_BYTES)
                snapshot |= rows
                snapshot[f"total/{name}"] = str(total)
            return snapshot

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._snapshots.subscriber_count >= MAX_SUBSCRIBERS:
            return _refuse(503, f"more than {MAX_SUBSCRIBERS} streams are open; close a page")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        self._snapshots.subscribe()
        try:
            await self._send_changes(response)
        except (OSError, TimeoutError):
            # The subscriber is gone, or does not read.
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._snapshots.unsubscribe()
        return response

    async def _send_changes(self, response: web.StreamResponse) -> None:
        """Send the changes between the snapshots that the subscriber has time for."""
        info = {"version": VERSION, "proxy": socket.gethostname(), "laptop": self._secret is not None}
        await _write(response, json.dumps({"hello": info}) + "\n")
        version, sent_at = 0, 0.0
        sent: Snapshot = {}
        while True:
            version, snapshot = await self._snapshots.next(version)
            piece: list[str] = []
            size = 0
            for line in changes(sent, snapshot):
                piece.append(line)
                size += len(line)
                if size >= PIECE_SIZE:
                    await _write(response, "".join(piece))
                    piece, size = [], 0
            sent = snapshot
            if piece or time.monotonic() - sent_at >= HEARTBEAT:
                piece.append(f'{{"now":{time.time():.3f}}}\n')
                await _write(response, "".join(piece))
                sent_at = time.monotonic()


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(text.encode())
    # All subscribers get a snapshot in the same turn of the loop, and a write to a fast one does not wait.
    await asyncio.sleep(0)


async def _collect(items: AsyncIterator[Item], max_rows: int, max_bytes: int) -> tuple[dict[str, str], int]:
    """Return the first items that fit, and the number of all items."""
    rows: dict[str, str] = {}
    total = size = 0
    async for key, text in items:
        total += 1
        size += len(text)
        if total <= max_rows and size <= max_bytes:
            rows[key] = text
    return rows, total


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _page_handler(name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def respond(request: web.Request) -> web.Response:
        # A few kB, and rarely read: a thread would cost more.
        text = files("addons.sessions").joinpath("page", name).read_text("utf-8")
        return web.Response(text=text, content_type=_CONTENT_TYPES[name.rpartition(".")[2]])

    return respond


def _refuse(status: int, reason: str) -> web.Response:
    return web.Response(status=status, text=reason + "\n")
