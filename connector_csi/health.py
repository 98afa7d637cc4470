"""/healthz, /readyz and /metrics for the node's kubelet.

Healthy means that kubelet can reach the driver on its sockets. Ready means that it can also publish new volumes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from aiohttp import web

from connector_csi.metrics import CsiMetrics
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_store.listening import listen
from connector_store.process_metrics import ProcessMetrics

PROBE_TIMEOUT: Final = 3.0
"""Seconds, as in the livenessprobe sidecar."""


async def probe_sockets(endpoint: Path, registration: Path) -> str | None:
    """Connect to both sockets by path, and call Probe on the first. Return the problem, or None."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(registration)), PROBE_TIMEOUT)
        writer.close()
    except (OSError, TimeoutError) as e:
        return f"registration socket: {type(e).__name__}"
    async with grpc.aio.insecure_channel(f"unix://{endpoint}") as channel:
        try:
            await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest(), timeout=PROBE_TIMEOUT)
        except grpc.aio.AioRpcError as e:
            # The driver has its maximum of calls, which may all wait for the API server. A restart would not help.
            if e.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                return f"driver socket: {e.code().name}"
    return None


@asynccontextmanager
async def serve_admin(
    host: str,
    port: int,
    *,
    endpoint: Path,
    registration: Path,
    metrics: CsiMetrics,
    not_ready_reason: Callable[[], str | None],
) -> AsyncIterator[tuple[str, int]]:
    """Serve as long as the context lasts. Yields the bound address."""

    async def healthz(_: web.Request) -> web.Response:
        problem = await probe_sockets(endpoint, registration)
        return web.Response(status=200 if problem is None else 503, text=(problem or "ok") + "\n")

    async def readyz(_: web.Request) -> web.Response:
        problem = not_ready_reason() or await probe_sockets(endpoint, registration)
        return web.Response(status=200 if problem is None else 503, text=(problem or "ok") + "\n")

    async def metrics_text(_: web.Request) -> web.Response:
        text = metrics.render() + process.render()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    process = ProcessMetrics("csi")
    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics_text)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(host, port)).start()
        address = runner.addresses[0]
        process.start()
        yield address[0], address[1]
    finally:
        process.stop()
        await runner.cleanup()
