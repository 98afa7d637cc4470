"""All client connections. Each begins with a gate, and no other part of mitmproxy may serve it."""

import itertools
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from mitmproxy import connection, http
from mitmproxy.proxy import events, layer, server_hooks
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ClientConnectedHook, ClientDisconnectedHook
from mitmproxy.utils import asyncio_utils

from addons.access.unauthenticated import Release, UnauthenticatedLimit
from addons.net.connect import TargetServer
from addons.net.hooks import run_hook, schedule_hook
from addons.net.sockets import Sockets
from addons.net.stage import Drain, ShutDown
from addons.net.tcp import TcpConnection
from addons.records.record import Record
from addons.relay.gate import Gate
from addons.server.assembly import ProxyParts

logger = logging.getLogger(__name__)

TOO_MANY_UNAUTHENTICATED: Final = "too many connections whose caller is not known"
"""Cause in the audit log."""
_PREFIX: Final = secrets.token_hex(8) + "-"
"""Prefix of connection identifiers, because flows of several runs may be saved in one file."""
_sequence: Final = itertools.count(1)


class Connections:
    """Client connections from accept to close, as an addon of mitmproxy."""

    def __init__(self) -> None:
        self.has_hook: Callable[[str], bool] = lambda _: True
        """Return True if an addon may have the hook of this name."""
        self._parts: ProxyParts | None = None
        self._sockets: dict[str, Sockets] = {}
        self._unauthenticated_limit: UnauthenticatedLimit | None = None

    @property
    def open_count(self) -> int:
        """Number of client connections."""
        return len(self._sockets)

    def set_parts(self, parts: ProxyParts) -> None:
        """Serve new connections with `parts`."""
        self._parts = parts

    def set_unauthenticated_limit(self, limit: UnauthenticatedLimit) -> None:
        """Set the limit on unauthenticated connections. Without one, every connection is refused."""
        self._unauthenticated_limit = limit

    def parts(self) -> ProxyParts:
        """Return the current parts. Raises RuntimeError before there are any.

        This is a method because mitmproxy reads the attributes of addons.
        """
        if self._parts is None:
            raise RuntimeError("the proxy is not configured")
        return self._parts

    def drain(self) -> None:
        """Close each connection as soon as it has no request, and close the idle connections to targets."""
        self.parts().context.upstream_pool.close()
        if self._unauthenticated_limit is not None:
            self._unauthenticated_limit.refuse_waiting()
        for sockets in tuple(self._sockets.values()):
            sockets.deliver(Drain())

    def shut_down(self, reason: str) -> None:
        """Close each connection that is not in the middle of an event or frame, as its protocol requires."""
        for sockets in tuple(self._sockets.values()):
            sockets.deliver(ShutDown(reason))

    def close_live(self, reason: str) -> None:
        """Close all live connections now, and write `reason` to the audit log."""
        self.parts().context.live_connections.close_all(reason)

    def accept(self, mode: ProxyMode, tcp: TcpConnection) -> None:
        """Serve a new client, unless an addon vetoes it."""
        client = _create_client(mode, tcp)
        if client is None:
            tcp.close()
        elif self.has_hook(ClientConnectedHook.name):
            asyncio_utils.create_task(self._run_connected_hook(client, tcp), name="connector client", keep_ref=True)
        else:
            self._serve(client, tcp)

    async def _run_connected_hook(self, client: connection.Client, tcp: TcpConnection) -> None:
        try:
            await run_hook(ClientConnectedHook(client))
            if client.error is None:
                self._serve(client, tcp)
                return
        except Exception as error:
            # No other code awaits this task, so an exception would leave the connection open.
            logger.error("client connection refused: %s", type(error).__name__)
        tcp.close()
        self._schedule_disconnected_hook(client)

    def _serve(self, client: connection.Client, tcp: TcpConnection) -> None:
        """Start to read a client as soon as the limit on unauthenticated connections allows it."""
        limit = self._unauthenticated_limit
        if limit is None:
            self._refuse(client, tcp)
            return
        limit.admit(
            str(client.peername[0]),
            partial(self._create_gate, client, tcp),
            partial(self._refuse_unread, client, tcp),
            open_count=len(self._sockets),
        )

    def _create_gate(self, client: connection.Client, tcp: TcpConnection, release: Release) -> None:
        """Create the gate of a client. On an error, close the connection."""
        try:
            context = self.parts().context
            sockets = Sockets(client, tcp, context.close_timeouts, self._on_closed)
            sockets.call_when_authenticated(release)
            sockets.add_close_callback(release)
            Gate(context, sockets)
        except Exception as error:
            release()
            self._refuse(client, tcp)
            logger.error("client connection refused: %s", type(error).__name__)
        else:
            self._sockets[client.id] = sockets
            tcp.start()

    def _on_closed(self, client: connection.Client) -> None:
        sockets = self._sockets.pop(client.id, None)
        # None if there was no gate. In that case, `_serve` scheduled the hook.
        if sockets is not None:
            sockets.notify_closed()
            self._schedule_disconnected_hook(client)

    def _schedule_disconnected_hook(self, client: connection.Client) -> None:
        client.timestamp_end = time.time()
        if self.has_hook(ClientDisconnectedHook.name):
            schedule_hook(ClientDisconnectedHook(client))

    def _refuse_unread(self, client: connection.Client, tcp: TcpConnection) -> None:
        """Close a client because of the limit on unauthenticated connections."""
        self._refuse(client, tcp)
        record = Record(
            event="connect",
            connector=None,
            status=0,
            source_ip=str(client.peername[0]),
            duration=time.time() - client.timestamp_start,
            cause=TOO_MANY_UNAUTHENTICATED,
        )
        for write in self.parts().context.recorders:
            write(record)

    def _refuse(self, client: connection.Client, tcp: TcpConnection) -> None:
        tcp.close()
        self._schedule_disconnected_hook(client)

    def next_layer(self, data: layer.NextLayer) -> None:
        """Close connections without a gate, which mitmproxy accepted before its listeners were taken over."""
        data.layer = ClosingLayer(data.context)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Allow only connections that this proxy opens itself, to targets of allowed requests."""
        if not isinstance(data.server, TargetServer):
            data.server.error = "not a Connector's target"

    def request(self, flow: http.HTTPFlow) -> None:
        """Refuse replays, which would bypass the access decision in mitmproxy's own layer."""
        if flow.is_replay == "request":
            flow.response = http.Response.make(403, b"a request through a Connector cannot be replayed\n")


class ClosingLayer(layer.Layer):
    """Layer that closes its client connection."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield CloseConnection(self.context.client)


def _create_client(mode: ProxyMode, tcp: TcpConnection) -> connection.Client | None:
    """Create mitmproxy's object for a client. Return None if the client has closed the connection already."""
    peername = tcp.transport.get_extra_info("peername")
    sockname = tcp.transport.get_extra_info("sockname")
    if peername is None or sockname is None:
        return None
    return connection.Client(
        id=f"{_PREFIX}{next(_sequence)}",
        peername=peername,
        sockname=sockname,
        timestamp_start=time.time(),
        proxy_mode=mode,
        state=connection.ConnectionState.OPEN,
    )
