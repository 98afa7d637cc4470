"""After a 101: bytes pass as they are, in both directions, until a side ends (exec, attach, port-forward)."""

import logging

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.live import Live
from addons.http1.websocket import FrameEnds, going_away, not_allowed
from addons.net.events import TakeLeave
from addons.net.sockets import Sockets
from addons.net.tls import Stream
from addons.relay.exchange import Exchange
from addons.relay.shared import Shared
from addons.relay.upstream import Upstream
from connector_store.domain.base.names import ObjectKey

logger = logging.getLogger(__name__)


class Pipe:
    """The stage of a client connection whose request was upgraded: `exchange` lives as long as the pipe does."""

    def __init__(
        self, shared: Shared, sockets: Sockets, client: Stream, upstream: Upstream, exchange: Exchange
    ) -> None:
        self._shared = shared
        self._sockets = sockets
        self._client = client
        self._upstream = upstream
        self._exchange = exchange
        self._first_end = ""
        """Which side has ended, where one has."""
        response = exchange.response
        self._frames: FrameEnds | None = response.frames if response is not None else None
        shared.streams.add(self)

    def begin(self, early: bytes) -> None:
        """`early` is what the client has said after its request."""
        if early:
            self._to_target(early)
        self._sockets.release()
        if self._upstream.ended:
            self._target_ended()

    # What is live, for `Streams`

    @property
    def key(self) -> ObjectKey | None:
        return self._exchange.asked.key if self._exchange.asked is not None else None

    @property
    def live(self) -> Live | None:
        """What it was admitted with."""
        return self._exchange.live

    def cut(self, reason: str) -> None:
        """End both sides at once; a WebSocket between two frames is told why."""
        if self._frames is not None and self._frames.between and not self._upstream.ended:
            self._to_client(not_allowed(reason))
        self._exchange.ended(reason, self._shared.recorders)
        self._sockets.cut()

    def look(self) -> None:
        """A client that is not read, as the target takes nothing, does not tell that it has gone."""
        if not self._exchange.over and self._sockets.client_dead:
            self._end("the client closed the connection")

    # The stage

    def received(self, connection: Connection, data: memoryview) -> None:
        if connection is self._client.connection:
            self._from_client(data)
        elif connection is self._upstream.connection and not self._upstream.ended:
            self._from_target(data)

    def ended(self, connection: Connection) -> None:
        if connection is not self._client.connection:
            if not self._upstream.ended:
                self._upstream.closed()
                self._target_ended()
        elif not self._client.ended:
            self._client.ended = self._client.cut_off = True
            self._client_ended()

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TakeLeave):
            self._take_leave(event.reason)

    def closed(self) -> None:
        self._shared.streams.remove(self)
        self._exchange.ended("the connection ended", self._shared.recorders)

    def _from_client(self, data: memoryview) -> None:
        if self._client.ended:
            return
        try:
            plain = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._sockets.close(self._client.connection)
            return
        if plain:
            self._to_target(plain)
        if self._client.ended:
            self._client_ended()

    def _to_target(self, data: bytes) -> None:
        self._exchange.bytes_in += len(data)
        self._upstream.send(data)

    def _from_target(self, data: memoryview) -> None:
        plain = self._upstream.receive(data)
        if plain:
            self._to_client(plain)
        if self._upstream.ended:
            self._target_ended()

    def _to_client(self, data: bytes) -> None:
        self._exchange.bytes_out += len(data)
        if self._frames is not None:
            self._frames.receive(data)
        self._client.send(data)

    # The end

    def _client_ended(self) -> None:
        """The client sends nothing more; the other direction may go on."""
        if not self._upstream.ended:
            self._first_end = "the client closed the connection"
            self._upstream.finish(whole=not self._client.cut_off)
        else:
            self._end(self._first_end)

    def _target_ended(self) -> None:
        """The target sends nothing more; the other direction may go on."""
        whole = self._upstream.whole
        how = "closed the connection" if whole else "ended without its TLS session"
        self._first_end = self._first_end or f"the target {how}"
        self._client.finish(whole=whole)
        if self._client.ended:
            self._close(self._first_end)

    def _take_leave(self, reason: str) -> None:
        """Say goodbye in the way of the protocol; not in the middle of a frame: then it is asked again."""
        if self._frames is not None:
            if not self._frames.between:
                return
            if not self._upstream.ended:
                self._to_client(going_away(reason))
        self._close(reason)

    def _close(self, reason: str) -> None:
        self._exchange.ended(reason, self._shared.recorders)
        self._upstream.leave()
        self._client.finish()
        self._sockets.linger(patient=True)

    def _end(self, reason: str) -> None:
        self._exchange.ended(reason, self._shared.recorders)
        self._upstream.leave()
        self._client.finish()
        self._sockets.close(self._client.connection)
