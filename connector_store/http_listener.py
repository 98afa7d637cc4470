"""One aiohttp application at one address, from `start` until `stop`."""

import asyncio
from typing import Final

from aiohttp import web

from connector_store.listening import listen

KEEPALIVE_TIMEOUT: Final = 15.0
"""Seconds that an idle connection stays open."""
SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds that a running response may take when the process stops."""


class HttpListener:
    """Listener of one application."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None

    async def start(self, app: web.Application, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address with the port that was chosen for port 0. Raises OSError if it is in use."""
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=KEEPALIVE_TIMEOUT, shutdown_timeout=SHUTDOWN_TIMEOUT
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listen(host, port)).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        address: tuple[str, int] = runner.addresses[0][:2]
        return address

    async def stop(self) -> None:
        """Stop. Do nothing if the application was not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await asyncio.shield(runner.cleanup())
