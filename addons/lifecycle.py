"""From options to a running proxy: makes the parts, starts the tasks, ends them."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.utils import asyncio_utils

from addons import options, wiring
from addons.landing import Landing
from addons.service import Service
from connector_store.domain.errors import ParseError

logger = logging.getLogger(__name__)


class Lifecycle:
    """load, configure, running and done of the proxy."""

    def __init__(self) -> None:
        self._parts: wiring.Parts | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def service(self) -> Service:
        """A method: mitmproxy reads the attributes of addons while it loads them."""
        if self._parts is None:
            raise RuntimeError("the proxy is not configured")
        return self._parts.service

    def landing(self) -> Landing:
        if self._parts is None:
            raise RuntimeError("the proxy is not configured")
        return self._parts.landing

    def load(self, loader: Loader) -> None:
        # Honoured by OpenSSL bindings that we do not make ourselves; nobody may read what goes to a target.
        os.environ.pop("SSLKEYLOGFILE", None)
        options.declare(loader)

    def configure(self, updated: set[str]) -> None:
        """Parse the options once; ours are not changed while the proxy runs."""
        try:
            options.check_foreign()
            if self._parts is None:
                self._parts = wiring.make()
            elif any(name.startswith("connector_") for name in updated):
                raise ParseError("connector_*", "is read at the start only; restart the proxy")
        except ParseError as error:
            raise exceptions.OptionsError(f"kubernetes connector: {error}") from error

    def running(self) -> None:
        parts = self._parts
        if parts is None:
            return
        self._start(parts.serve_admin(), "admin")
        self._start(parts.source(), "source")
        self._start(parts.service.streams.run(), "recheck of streams")

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        if self._parts is not None:
            self._parts.close()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio_utils.create_task(self._supervise(work, name), name=f"connector {name}", keep_ref=True)
        self._tasks.append(task)

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:
            # Without this part the proxy would serve what is no longer so.
            logger.error("%s ended: %s: %s; stopping", name, type(error).__name__, error)
            ctx.master.shutdown()
