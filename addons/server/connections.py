"""Puts a gate in front of each client, and sees that nothing gets past it."""

import itertools
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from mitmproxy import connection, http
from mitmproxy.proxy import events, layer, server_hooks
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ClientConnectedHook, ClientDisconnectedHook
from mitmproxy.utils import asyncio_utils

from addons.access.unauthenticated import Unauthenticated
from addons.net.connect import TargetServer
from addons.net.events import Retire, TakeLeave
from addons.net.hooks import tell, tell_later
from addons.net.sockets import Sockets
from addons.net.tcp import TcpConnection
from addons.records.record import Record
from addons.relay.gate import Gate
from addons.server.assembly import Parts

logger = logging.getLogger(__name__)

FULL: Final = "too many connections whose caller is not known"
"""In the audit log."""
_PREFIX: Final = secrets.token_hex(8) + "-"
"""Of the identifiers of connections: flows of several runs may be saved in one file."""
_numbers: Final = itertools.count(1)


class Connections:
    """All client connections, from the begin of each to its end."""

    def __init__(self) -> None:
        self.asked: Callable[[str], bool] = lambda _: True
        """Whether an addon has the hook of this name; where nobody knows, they are asked."""
        self._parts: Parts | None = None
        self._open: dict[str, Sockets] = {}
        self._bounds: Unauthenticated | None = None

    @property
    def open(self) -> int:
        """Number of client connections."""
        return len(self._open)

    def take(self, parts: Parts) -> None:
        """Serve connections that come from now on with `parts`."""
        self._parts = parts

    def bound(self, bounds: Unauthenticated) -> None:
        """How many connections there may be before their callers are known."""
        self._bounds = bounds

    def parts(self) -> Parts:
        """RuntimeError before there are any. A method: mitmproxy reads the attributes of addons."""
        if self._parts is None:
            raise RuntimeError("the proxy is not configured")
        return self._parts

    def retire(self) -> None:
        """End each connection as soon as it has no request, and those to targets that nobody has."""
        self.parts().service.upstream_pool.close()
        for sockets in tuple(self._open.values()):
            sockets.deliver(Retire())

    def take_leave(self, reason: str) -> None:
        """End each connection, in the way of its protocol where it has one and is not in the middle of a piece."""
        for sockets in tuple(self._open.values()):
            sockets.deliver(TakeLeave(reason))

    def cut(self, reason: str) -> None:
        """End what is in a tunnel now, and say why in the audit log."""
        self.parts().service.streams.cut_all(reason)

    def accept(self, mode: ProxyMode, tcp: TcpConnection) -> None:
        """Serve a client from its first byte on, if no addon has anything against it."""
        client = _client(mode, tcp)
        if client is None:
            tcp.end()
        elif self.asked(ClientConnectedHook.name):
            asyncio_utils.create_task(self._ask(client, tcp), name="connector client", keep_ref=True)
        else:
            self._serve(client, tcp)

    async def _ask(self, client: connection.Client, tcp: TcpConnection) -> None:
        try:
            await tell(ClientConnectedHook(client))
            if client.error is None:
                self._serve(client, tcp)
                return
        except Exception as error:
            # Nobody awaits this task, and what it was to serve would stay open.
            logger.error("client connection refused: %s", type(error).__name__)
        tcp.end()
        self._ended(client)

    def _serve(self, client: connection.Client, tcp: TcpConnection) -> None:
        """The connection is closed unless its gate stands."""
        known = self._admit(client)
        if known is None:
            tcp.end()
            self._ended(client)
            return
        try:
            service = self.parts().service
            sockets = Sockets(client, tcp, service.farewell, self._over)
            sockets.known = known
            sockets.on_close(known)
            Gate(service, sockets)
        except Exception as error:
            known()
            tcp.end()
            self._ended(client)
            logger.error("client connection refused: %s", type(error).__name__)
        else:
            self._open[client.id] = sockets
            tcp.start()

    def _over(self, client: connection.Client) -> None:
        sockets = self._open.pop(client.id, None)
        # None where its gate never stood: that was told then.
        if sockets is not None:
            sockets.closed()
            self._ended(client)

    def _ended(self, client: connection.Client) -> None:
        client.timestamp_end = time.time()
        if self.asked(ClientDisconnectedHook.name):
            tell_later(ClientDisconnectedHook(client))

    def _admit(self, client: connection.Client) -> Callable[[], None] | None:
        """What ends counting the connection among those of strangers; None if it is one too many."""
        if self._bounds is None:
            return None
        source_ip = str(client.peername[0])
        known = self._bounds.admit(source_ip, open_now=len(self._open))
        if known is None:
            refused = Record(event="connect", connector=None, status=0, source_ip=source_ip, duration=0.0, cause=FULL)
            for record in self.parts().service.recorders:
                record(refused)
        return known

    def next_layer(self, data: layer.NextLayer) -> None:
        """mitmproxy asks only for connections without a gate, from before its listeners were taken over: close them."""
        data.layer = Closed(data.context)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Only our own layers reach out, and only to targets that were decided on."""
        if not isinstance(data.server, TargetServer):
            data.server.error = "not a Connector's target"

    def request(self, flow: http.HTTPFlow) -> None:
        """A replay would go around the decision, through mitmproxy's own layer."""
        if flow.is_replay == "request":
            flow.response = http.Response.make(403, b"a request through a Connector cannot be replayed\n")


class Closed(layer.Layer):
    """Closes its client connection."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield CloseConnection(self.context.client)


def _client(mode: ProxyMode, tcp: TcpConnection) -> connection.Client | None:
    """As mitmproxy's addons know it; None if it has gone already."""
    peername = tcp.transport.get_extra_info("peername")
    sockname = tcp.transport.get_extra_info("sockname")
    if peername is None or sockname is None:
        return None
    return connection.Client(
        id=f"{_PREFIX}{next(_numbers)}",
        peername=peername,
        sockname=sockname,
        timestamp_start=time.time(),
        proxy_mode=mode,
        state=connection.ConnectionState.OPEN,
    )
