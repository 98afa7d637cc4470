"""Puts a gate in front of every client connection, and sees that nothing gets past it."""

import logging
from collections.abc import Callable

from mitmproxy import connection, ctx
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import CloseConnection

from addons.gate import Gate
from addons.line import Line
from addons.service import Service

logger = logging.getLogger(__name__)


class Doorkeeper:
    """Hooks of mitmproxy for the begin and the end of client connections."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._lines: dict[str, Line] = {}

    @property
    def lines(self) -> tuple[Line, ...]:
        """The client connections that are open."""
        return tuple(self._lines.values())

    def client_connected(self, client: connection.Client) -> None:
        """Before anything is read. The connection is refused until its gate stands."""
        client.error = "no gate"
        try:
            handler = ctx.master.addons.get("proxyserver").connections[client.id]
            line = Line(handler)
            handler.layer = Gate(handler.layer.context, self._service(), line)
            self._lines[client.id] = line
        except Exception as error:
            logger.error("client connection refused: %s", type(error).__name__)
        else:
            client.error = None

    def client_disconnected(self, client: connection.Client) -> None:
        line = self._lines.pop(client.id, None)
        if line is not None:
            line.closed()

    def next_layer(self, data: layer.NextLayer) -> None:
        """mitmproxy asks only for connections without a gate, and there are none: whatever this is, close it."""
        data.layer = Closed(data.context)


class Closed(layer.Layer):
    """Closes its client connection."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield CloseConnection(self.context.client)
