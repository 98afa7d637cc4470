"""TLS with the client: the stage from the first byte of its ClientHello to the first byte of plain text."""

import logging
import time
from collections.abc import Callable
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.events import TakeLeave, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream

logger = logging.getLogger(__name__)

MAX_HANDSHAKE: Final = 32768
"""Bytes that a client may send before its handshake is done: a ClientHello has 2 kB, with post-quantum keys."""


class Handshake:
    """`make` begins the session when something comes; once it stands, `then` puts the next stage in this one's place.

    It has `seconds`. `then` gets the session, and what came with the end of the handshake; `failed`, for the records,
    why there is none.
    """

    def __init__(
        self,
        sockets: Sockets,
        seconds: float,
        make: Callable[[], TlsStream],
        then: Callable[[TlsStream, bytes], None],
        failed: Callable[[str], None],
    ) -> None:
        self._sockets = sockets
        self._make = make
        self._then = then
        self._failed = failed
        self._client: TlsStream | None = None
        self._taken = 0
        sockets.arm(seconds, Wait.CLIENT)

    def begin(self, early: bytes) -> None:
        """`early` is what has come of it already."""
        if early:
            self._take(early)

    def received(self, connection: Connection, data: memoryview) -> None:
        self._take(data)

    def ended(self, connection: Connection) -> None:
        self._leave("closed before CONNECT and TLS were whole")

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TimeUp):
            self._leave("no TLS handshake in time")
        elif isinstance(event, TakeLeave):
            self._leave("")

    def closed(self) -> None:
        """Nothing is left to do."""

    def _take(self, data: bytes | memoryview) -> None:
        self._taken += len(data)
        try:
            client = self._client
            if client is None:
                client = self._client = self._make()
            plain = client.receive(data)
        except ConnectionError as error:
            self._leave(str(error))
            return
        if client.established:
            client.connection.tls = True
            client.connection.timestamp_tls_setup = time.time()
            client.connection.alpn = b"http/1.1"
            self._then(client, plain)
        elif self._taken > MAX_HANDSHAKE:
            self._leave(f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes")
        elif client.ended:
            self._leave("closed before CONNECT and TLS were whole")

    def _leave(self, why: str) -> None:
        if why:
            logger.debug("client %s: %s", self._sockets.source_ip, why)
            self._failed(why)
        self._sockets.close(self._sockets.client)
