"""HTTP server for health, readiness and metrics: GET /healthz, /readyz and /metrics.

The proxy, the controller and the CSI driver serve it on an address of its own. `/healthz` responds while the event loop
runs. `/readyz` says what is missing. No response names a caller or a path.
"""

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web

from connector_store.domain.base.errors import ParseError
from connector_store.http_listener import HttpListener
from connector_store.process_metrics import ProcessMetrics


class AdminServer:
    """Admin server of one process. It serves from `start` until `stop`.

    `component` is the program: proxy, controller or csi. `not_ready_reason` returns None when the process is ready.
    `metrics` returns the text of a scrape in pieces. The metrics of the process follow it.
    """

    def __init__(
        self, *, component: str, not_ready_reason: Callable[[], str | None], metrics: Callable[[], Iterable[bytes]]
    ) -> None:
        self._not_ready_reason = not_ready_reason
        self._metrics = metrics
        self._process = ProcessMetrics(component)
        self._listener = HttpListener()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address with the port that was chosen for port 0. Raises OSError if it is in use."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        address = await self._listener.start(app, host, port)
        self._process.start()
        return address

    async def stop(self) -> None:
        self._process.stop()
        await self._listener.stop()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        problem = self._not_ready_reason()
        return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=problem + "\n")

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        body = bytearray()
        for piece in self._metrics():
            body += piece
            # The text of 5,000 Connectors takes 0.3 s. Other connections must not wait for all of it.
            await asyncio.sleep(0)
        body += self._process.render()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def parse_listen_address(text: str, option: str = "connector_admin") -> tuple[str, int]:
    """Parse `HOST:PORT`, with IPv6 in brackets. `[::]` means all addresses, IPv4 too.

    Raises ParseError that names `option`.

    >>> parse_listen_address("127.0.0.1:9091")
    ('127.0.0.1', 9091)
    """
    host, colon, port = text.rpartition(":")
    unbracketed = host.removeprefix("[").removesuffix("]")
    if not colon or not unbracketed or (":" in unbracketed and not host.startswith("[")) or not _is_port(port):
        raise ParseError(option, "is not HOST:PORT; write 127.0.0.1:9091 for example")
    return unbracketed, int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 65536
