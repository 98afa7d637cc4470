"""TLS handshake with the client: the stage from the first byte of the ClientHello to the first plaintext byte."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.certificates import Certificates, Names
from addons.net.client_hello import MAX_HELLO, parse_server_name
from addons.net.sockets import Sockets
from addons.net.stage import ShutDown, TimerExpired, TimerKind
from addons.net.tls import TlsStream

logger = logging.getLogger(__name__)

MAX_HANDSHAKE: Final = MAX_HELLO
"""Maximum number of bytes of a client's handshake."""
TOO_MANY_CERTIFICATES: Final = "too many new certificates for this address"
"""Cause in the audit log."""


class Handshake:
    """Stage that performs a TLS handshake within `timeout` seconds, with a certificate for the names in `get_names`.

    `get_names` gets the server name in the ClientHello, or "". If the certificate must wait, the client is not read.
    `on_established` gets the session and the plaintext that arrived with the end of the handshake, and sets the next
    stage. `on_failed` gets the reason of a failure and the server name. With `outer`, the handshake runs within another
    session.
    """

    def __init__(
        self,
        sockets: Sockets,
        timeout: float,
        certificates: Certificates,
        get_names: Callable[[str], Names],
        on_established: Callable[[TlsStream, bytes], None],
        on_failed: Callable[[str, str], None],
        *,
        outer: TlsStream | None = None,
    ) -> None:
        self._sockets = sockets
        self._certificates = certificates
        self._get_names = get_names
        self._on_established = on_established
        self._on_failed = on_failed
        self._outer = outer
        self._client: TlsStream | None = None
        self._hello = b""
        """Received bytes before there is a session."""
        self._is_waiting = False
        """The ClientHello is complete, and the session waits for its certificate."""
        self._server_name = ""
        self._received_size = 0
        self._is_closed = False
        sockets.start_timer(timeout, TimerKind.CLIENT)

    def receive(self, data: bytes | memoryview) -> None:
        """Process data of the client, which another stage may have read."""
        self._received_size += len(data)
        client, outer = self._client, self._outer
        try:
            if client is not None:
                self._continue(client, client.receive(data))
                return
            decrypted = bytes(data) if outer is None else outer.receive(data)
        except ConnectionError as error:
            self._close(str(error))
            return
        self.receive_decrypted(decrypted)
        if outer is not None and outer.at_eof and self._client is None:
            self._close("closed before CONNECT and TLS were whole")

    def receive_decrypted(self, data: bytes) -> None:
        """Process the beginning of the handshake, after it was decrypted by the outer session, if any."""
        self._hello += data
        if not self._hello or self._is_waiting:
            return
        server_name = parse_server_name(self._hello)
        if server_name is not None:
            self._server_name = server_name
            self._reserve(self._get_names(server_name))
        elif self._received_size > MAX_HANDSHAKE:
            self._close(f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes")

    def data_received(self, connection: Connection, data: memoryview) -> None:
        self.receive(data)

    def eof_received(self, connection: Connection) -> None:
        self._close("closed before CONNECT and TLS were whole")

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired):
            self._close("no TLS handshake in time")
        elif isinstance(event, ShutDown):
            self._close("")

    def connection_lost(self) -> None:
        """Do nothing: the handshake owns no resources."""

    def _reserve(self, names: Names) -> None:
        """Start the session as soon as the limit on new certificates allows it."""
        wait = self._certificates.reserve(names, self._sockets.source_ip)
        if wait is None:
            self._close(TOO_MANY_CERTIFICATES)
        elif wait:
            self._is_waiting = True
            self._sockets.pause_reading()
            self._sockets.run_task(
                "the wait for a certificate", asyncio.sleep(wait), None, lambda _: self._end_wait(names)
            )
        else:
            self._start_session(names)

    def _end_wait(self, names: Names) -> None:
        self._is_waiting = False
        self._sockets.resume_reading()
        self._start_session(names)

    def _start_session(self, names: Names) -> None:
        session = self._certificates.create_session(names)
        client = self._client = TlsStream(self._sockets.client, session, self._sockets, outer=self._outer)
        hello, self._hello = self._hello, b""
        try:
            plaintext = client.receive(hello, is_outer_decrypted=True)
        except ConnectionError as error:
            self._close(str(error))
            return
        self._continue(client, plaintext)

    def _continue(self, client: TlsStream, plaintext: bytes) -> None:
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
        if self._is_closed:
            return
        self._is_closed = True
        if reason:
            logger.debug("client %s: %s", self._sockets.source_ip, reason)
            self._on_failed(reason, self._server_name)
        self._sockets.close(self._sockets.client)
