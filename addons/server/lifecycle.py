"""Lifecycle of the proxy: parse the options, create the parts, run their work, and stop it."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, Any, Final, NoReturn, cast

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.termlog import TermLogHandler
from mitmproxy.log import MitmFormatter
from mitmproxy.utils import asyncio_utils

from addons.access.live_connections import LiveConnections
from addons.server import assembly, cluster, descriptors, options, sessions_listener
from addons.server.connections import Connections
from addons.server.draining import Draining
from addons.server.flow_setting import add_content_view
from addons.server.listeners import Listeners
from addons.server.options import Config
from addons.server.process import HookIndex, harden
from addons.server.summary import format_summary
from connector_store.admin import AdminServer
from connector_store.asyncio_private import reduce_tls_buffers
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import LogFormat
from connector_store.kube.config_loader import in_pod
from connector_store.logs import LineBufferedStream, initial_format, make_formatter
from connector_store.store import Store

logger = logging.getLogger(__name__)

_listening_logger = logging.getLogger("mitmproxy.proxy.mode_servers")
"""Logger of mitmproxy's listen addresses."""

POLL_INTERVAL: Final = 0.1
"""Seconds between checks whether the proxy is ready."""


class Lifecycle:
    """Addon of mitmproxy that starts and stops the proxy."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._config: Config | None = None
        self._records: assembly.Records | None = None
        self._parts: assembly.ProxyParts | None = None
        self._draining: Draining | None = None
        self._problem: str | None = None
        self._has_failed = False
        self._rebinds = False
        """mitmproxy listens on all addresses before it reads the options, and must be moved to loopback."""
        self._tasks: list[asyncio.Task[None]] = []

    def load(self, loader: Loader) -> None:
        harden()
        reduce_tls_buffers()
        try:
            options.declare(loader)
        except ParseError as error:
            _exit_with_error(error)

    def configure(self, updated: set[str]) -> None:
        """Parse the options at the start. Later changes of this proxy's options are refused."""
        starting = self._config is None
        try:
            options.check_mitmproxy_options()
            if starting:
                self._create_parts(options.read_config(in_pod=in_pod()))
            elif any(name.startswith("connector_") for name in updated):
                raise ParseError("connector_*", "is read at the start only; restart the proxy")
        except (ParseError, OSError) as error:
            if starting:
                _exit_with_error(error)
            raise exceptions.OptionsError(f"kubernetes connector: {error}") from error

    def running(self) -> None:
        if self._config is None or self._parts is None:
            return
        self._draining = Draining(self._connections, ctx.master)
        descriptors.silence_accept_errors(asyncio.get_running_loop())
        self._start_task("descriptors", descriptors.log_exhaustion())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
        if self._parts.context.shows_flows:
            add_content_view()
        else:
            self._connections.has_hook = HookIndex(ctx.master.addons).has_hook
        self._start_task("listeners", self._listen(self._config))
        if isinstance(self._config.source, ClusterSource):
            self._start_task("connection to the cluster", self._connect(self._config, self._config.source))
        else:
            self._start_work(self._parts)

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._parts is not None:
            self._parts.context.resolver.close()
            self._parts.context.upstream_pool.close()
        if self._records is not None:
            self._records.close()
        if self._has_failed:
            # mitmproxy has no other way to exit with a code other than 0.
            sys.exit(1)

    def not_ready_reason(self) -> str | None:
        if self._has_failed or (self._draining is not None and self._draining.has_begun):
            return "the proxy is about to end"
        if self._problem is not None:
            return self._problem
        return self._parts.not_ready_reason() if self._parts is not None else "the proxy is not configured"

    def _create_parts(self, config: Config) -> None:
        _set_log_format(initial_format(os.environ, config.explicit))
        records = assembly.create_records(config)
        if isinstance(config.source, ClusterSource):
            self._set_parts(cluster.create_waiting_parts(config, records))
        else:
            # Imported only if needed, because the file watcher and the manifest parser use 3 MB of memory.
            from addons.server import folder

            self._set_parts(folder.create_parts(config, Path(config.source.path), records))
        self._config, self._records = config, records
        self._connections.set_unauthenticated_limit(assembly.limit_unauthenticated(config, records.metrics))
        self._rebinds = options.listens_on_loopback(config, in_pod=in_pod())
        if self._rebinds:
            _listening_logger.setLevel(logging.WARNING)
            ctx.options.update(listen_host=options.LOOPBACK)

    def _set_parts(self, parts: assembly.ProxyParts) -> None:
        _set_log_format(parts.settings.log_format)
        self._parts = parts
        self._connections.set_parts(parts)

    async def _connect(self, config: Config, source: ClusterSource) -> None:
        if self._records is None:
            return
        try:
            parts = await cluster.create_parts(
                config, source, self._records, self._set_problem, on_log_format=_set_log_format
            )
        except ParseError:
            raise
        except ValueError as error:
            raise ParseError("connector_source", str(error)) from error
        self._set_parts(parts)
        self._problem = None
        self._start_work(parts)

    def _set_problem(self, problem: str) -> None:
        self._problem = problem

    def _start_work(self, parts: assembly.ProxyParts) -> None:
        for name, work in parts.work:
            self._start_task(name, work())

    async def _listen(self, config: Config) -> None:
        """Take over the listeners first, so that the proxy serves clients before the admin address reports it ready."""
        if self._rebinds:
            await self._rebind()
        listeners = Listeners(ctx.master.addons.get("proxyserver"), self._connections.accept)
        await listeners.take_over()
        self._start_task("admin", self._serve_admin())
        if self._records is not None and self._records.recent_use is not None:
            self._start_task("recent use", self._records.recent_use.run())
        self._start_task("sessions", self._serve_sessions())
        self._start_task("summary", self._log_summary(config))
        await listeners.watch()

    async def _serve_admin(self) -> None:
        """Serve health and metrics until cancelled. Raises ParseError if the address cannot be used."""
        if self._config is None or self._records is None or self._config.admin is None:
            return
        admin = AdminServer(
            component="proxy", not_ready_reason=self.not_ready_reason, metrics=self._records.metrics.render
        )
        try:
            host, port = await admin.start(*self._config.admin)
        except OSError as error:
            raise options.listen_error("connector_admin", self._config.admin, error) from error
        logger.info("health and metrics at http://%s:%d", host, port)
        try:
            await asyncio.Event().wait()
        finally:
            await admin.stop()

    async def _serve_sessions(self) -> None:
        """Serve the sessions page until cancelled. Raises ParseError if the address cannot be used."""
        if self._config is None or self._records is None or self._records.recent_use is None:
            return
        await sessions_listener.serve(self._config, self._records.recent_use, self._state_parts, in_pod=in_pod())

    def _state_parts(self) -> tuple[Store, LiveConnections]:
        context = self._connections.parts().context
        return context.store, context.live_connections

    async def _log_summary(self, config: Config) -> None:
        """Log the summary once the proxy is ready."""
        while self._parts is None or self.not_ready_reason() is not None:  # noqa: ASYNC110 - several parts decide on it
            await asyncio.sleep(POLL_INTERVAL)
        logger.info(
            format_summary(
                config.source,
                self._parts.context.store,
                ctx.master.addons.get("proxyserver").listen_addrs(),
                confdir=config.confdir,
            )
        )

    async def _rebind(self) -> None:
        """Listen on the configured address. mitmproxy listens on all addresses before it loads an addon."""
        server = ctx.master.addons.get("proxyserver")
        await server.servers.update([])
        _listening_logger.setLevel(logging.NOTSET)
        await server.setup_servers()

    def _on_sigterm(self) -> None:
        """Drain on SIGTERM. mitmproxy alone would exit at once and break all live connections."""
        if self._draining is None or self._parts is None or self._draining.has_begun:
            ctx.master.shutdown()
            return
        self._start_task("draining", self._draining.run(self._parts.settings))

    def _start_task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio_utils.create_task(self._supervise(work, name), name=f"connector {name}", keep_ref=True)
        self._tasks.append(task)

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:
            # Without this task, the proxy would serve outdated data.
            self._has_failed = True
            if isinstance(error, ParseError):
                logger.error("%s; stopping", error)
            else:
                logger.error("%s ended: %s: %s; stopping", name, type(error).__name__, error)
            ctx.master.shutdown()


def _set_log_format(form: LogFormat) -> None:
    """Set the format of mitmproxy's log on the terminal. Its other UIs have no such log, or draw it themselves."""
    termlog = ctx.master.addons.get("termlog")
    if termlog is not None:
        set_handler_format(form, termlog.logger)


def set_handler_format(form: LogFormat, handler: TermLogHandler) -> None:
    """Set the format of a log handler, and write whole lines, because another thread writes audit lines to it."""
    if not isinstance(handler.file, LineBufferedStream):
        handler.file = cast(IO[str], LineBufferedStream(handler.file))
    handler.setFormatter(make_formatter(form, handler.file, MitmFormatter(handler.has_vt_codes)))


def _exit_with_error(error: ParseError | OSError) -> NoReturn:
    """Write one line to stderr and exit with code 1."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(1)
