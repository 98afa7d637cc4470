"""A TLS proxy in front of a real API server that answers some paths itself: with 429, 500, or not at all."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web

from lab.control_plane import ControlPlane

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})


class FrontProxy:
    """`async with Front(plane).serving() as front: front.url`; `front.answers["tokenreviews"] = 429`."""

    SILENT: Final = 0
    """No answer, ever."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._certificate = plane.ca.issue("front", common_name="front", hosts=["127.0.0.1"])
        self.statuses: dict[str, int] = {}
        """Last segment of a path -> the status that it gets, with Retry-After 7."""
        self.held: set[str] = set()
        """Last segments of paths whose responses wait until they are not in this set, such as those of open watches."""
        self.requested: list[str] = []
        """Last segments of the requested paths, in order."""
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FrontProxy"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._certificate)
        trust = ssl.create_default_context(cadata=self._plane.ca_pem)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self.session = session
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        last = request.path.rsplit("/", 1)[-1]
        self.requested.append(last)
        status = self.statuses.get(last)
        if status == self.SILENT:
            await asyncio.Event().wait()
        if status is not None:
            body = {"kind": "Status", "code": status, "message": f"made up: {status}"}
            return web.json_response(body, status=status, headers={"Retry-After": "7"})
        return await self._forward(request)

    def upstream(self, request: web.Request) -> str:
        """Return the API server's URL for a request to the front proxy."""
        return self._plane.url + request.path_qs

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        never = aiohttp.ClientTimeout(total=None)
        async with self.session.request(
            request.method, self.upstream(request), headers=headers, data=await request.read() or None, timeout=never
        ) as upstream_response:
            response_headers = {
                name: value for name, value in upstream_response.headers.items() if name.lower() not in _HOP
            }
            response = web.StreamResponse(status=upstream_response.status, headers=response_headers)
            await response.prepare(request)
            async for data in upstream_response.content.iter_any():
                while request.path.rsplit("/", 1)[-1] in self.held:  # noqa: ASYNC110 - tests change it in another thread
                    await asyncio.sleep(0.01)
                await response.write(data)
            await response.write_eof()
            return response
