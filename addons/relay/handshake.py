"""TLS handshake with the client: the stage from the first byte of the ClientHello to the first plaintext byte."""

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
"""Maximum number of bytes of a client's handshake. A ClientHello with post-quantum keys has 2 kB."""


class Handshake:
    """Stage that performs a TLS handshake within `timeout` seconds.

    `create_session` is called when the first data arrives. `on_established` gets the session and the plaintext that
    arrived with the end of the handshake, and sets the next stage. `on_failed` gets the reason of a failure.
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
        """Process data of the handshake that another stage has read."""
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
        """Do nothing: the handshake owns no resources."""

    def _receive(self, data: bytes | memoryview) -> None:
        self._received_size += len(data)
        try:
            client = self._client
            if client is None:
                client = self._client = self._create_session()
            plaintext = client.receive(data)
        except ConnectionError as error:
            self._close(str(error))
            return
        if client.is_established:
            client.connection.tls = True
            client.connection.timestamp_tls_setup = time.time()
            client.connection.alpn = b"http/1.1"
            self._on_established(client, plaintext)
        elif self._received_size > MAX_HANDSHAKE:
            self._close(f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes")
        elif client.at_eof:
            self._close("closed before CONNECT and TLS were whole")

    def _close(self, reason: str) -> None:
        if reason:
            logger.debug("client %s: %s", self._sockets.source_ip, reason)
            self._on_failed(reason)
        self._sockets.close(self._sockets.client)
