"""Puts our sockets and a gate in place of mitmproxy's layers, and sees that nothing gets past them."""

import logging
from collections.abc import Callable
from typing import Final

from mitmproxy import connection, ctx, http
from mitmproxy.proxy import events, layer, server_hooks
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.context import Context

from addons.access.unauthenticated import Unauthenticated
from addons.net.connect import TargetServer
from addons.net.events import Retire, TakeLeave
from addons.net.sockets import Sockets
from addons.records.record import Record
from addons.relay.gate import Gate
from addons.server.assembly import Parts

logger = logging.getLogger(__name__)

FULL: Final = "too many connections whose caller is not known"
"""In the audit log."""


class Connections:
    """Hooks of mitmproxy for the begin and the end of client connections."""

    def __init__(self) -> None:
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
        self.parts().service.kept.close()
        for sockets in tuple(self._open.values()):
            sockets.deliver(Retire())

    def take_leave(self, reason: str) -> None:
        """End each connection, in the way of its protocol where it has one and is not in the middle of a piece."""
        for sockets in tuple(self._open.values()):
            sockets.deliver(TakeLeave(reason))

    def cut(self, reason: str) -> None:
        """End what is in a tunnel now, and say why in the audit log."""
        self.parts().service.streams.cut_all(reason)

    def client_connected(self, client: connection.Client) -> None:
        """Before anything is read. The connection is refused until its gate stands."""
        client.error = "no gate"
        known = self._admit(client)
        if known is None:
            return
        try:
            handler = ctx.master.addons.get("proxyserver").connections[client.id]
            service = self.parts().service
            sockets = Sockets(handler, service.farewell)
            sockets.known = known
            sockets.on_close(known)
            Gate(service, sockets)
            handler.layer = Served(handler.layer.context)
            self._open[client.id] = sockets
        except Exception as error:
            known()
            logger.error("client connection refused: %s", type(error).__name__)
        else:
            client.error = None

    def _admit(self, client: connection.Client) -> Callable[[], None] | None:
        """What ends counting the connection among those of strangers; None if it is one too many."""
        if self._bounds is None:
            return None
        source_ip = str(client.peername[0])
        known = self._bounds.admit(source_ip, open_now=len(self._open))
        if known is None:
            refused = Record(event="connect", connector=None, status=0, source_ip=source_ip, duration=0.0, cause=FULL)
            for tell in self.parts().service.recorders:
                tell(refused)
        return known

    def client_disconnected(self, client: connection.Client) -> None:
        sockets = self._open.pop(client.id, None)
        if sockets is not None:
            sockets.closed()

    def next_layer(self, data: layer.NextLayer) -> None:
        """mitmproxy asks only for connections without a gate, and there are none: whatever this is, close it."""
        data.layer = Closed(data.context)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Only our own layers reach out, and only to targets that were decided on."""
        if not isinstance(data.server, TargetServer):
            data.server.error = "not a Connector's target"

    def request(self, flow: http.HTTPFlow) -> None:
        """A replay would go around the decision, through mitmproxy's own layer."""
        if flow.is_replay == "request":
            flow.response = http.Response.make(403, b"a request through a Connector cannot be replayed\n")


class Served(layer.Layer):
    """The layer of a connection that is served by `Sockets`: it gives mitmproxy no commands."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # It would be a cycle: the layer is in its own context.
        context.layers.clear()

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Of its connection's end the sockets know first."""
        yield from ()


class Closed(layer.Layer):
    """Closes its client connection."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield CloseConnection(self.context.client)
