"""TLS with the client: the stage from the first byte of its ClientHello to the first byte of plain text."""

import logging
import time
from collections.abc import Callable
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.sockets import Sockets
from addons.net.stage import ShutDown, TimerExpired, TimerKind
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
        timeout: float,
        create_session: Callable[[], TlsStream],
        on_established: Callable[[TlsStream, bytes], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._sockets = sockets
        self._create_session = create_session
        self._on_established = on_established
        self._on_failed = on_failed
        self._client: TlsStream | None = None
        self._received_size = 0
        sockets.start_timer(timeout, TimerKind.CLIENT)

    def start(self, initial_data: bytes) -> None:
        """`early` is what has come of it already."""
        if initial_data:
            self._receive(initial_data)

    def data_received(self, connection: Connection, data: memoryview) -> None:
        self._receive(data)

    def eof_received(self, connection: Connection) -> None:
        self._close("closed before CONNECT and TLS were whole")

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired):
            self._close("no TLS handshake in time")
        elif isinstance(event, ShutDown):
            self._close("")

    def connection_lost(self) -> None:
        """Nothing is left to do."""

    def _receive(self, data: bytes | memoryview) -> None:
        self._received_size += len(data)
        try:
            client = self._client
            if client is None:
                client = self._client = self._create_session()
            plain = client.receive(data)
        except ConnectionError as error:
            self._close(str(error))
            return
        if client.is_established:
            client.connection.tls = True
            client.connection.timestamp_tls_setup = time.time()
            client.connection.alpn = b"http/1.1"
            self._on_established(client, plain)
        elif self._received_size > MAX_HANDSHAKE:
            self._close(f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes")
        elif client.at_eof:
            self._close("closed before CONNECT and TLS were whole")

    def _close(self, reason: str) -> None:
        if reason:
            logger.debug("client %s: %s", self._sockets.source_ip, reason)
            self._on_failed(reason)
        self._sockets.close(self._sockets.client)
