"""Connection to a target with its TLS session. It serves one Connector, address, trust store and TLS identity."""

import logging
import time
from collections.abc import Callable

from mitmproxy.connection import Connection, ConnectionState

from addons.net.sockets import Sockets
from addons.net.tcp import TcpConnection
from addons.net.tls import RecordTracker, TlsStream
from connector_store.domain.credential.client_certificate import client_certificate_of
from connector_store.domain.objects.models import Target
from connector_store.trust import TrustStore

logger = logging.getLogger(__name__)


class UpstreamConnection:
    """Only owner of an open connection to a target. Its TLS session was created for `target` with `trust`.

    It is attached to the `Sockets` of one client, or to no client between `detach` and `attach`.
    """

    def __init__(self, stream: TlsStream, target: Target, trust: TrustStore, sockets: Sockets) -> None:
        self.connection: Connection = stream.connection
        self.key = target.key
        self.created_at = time.monotonic()
        self.idle_since: float | None = None
        """Monotonic seconds since which the connection waits for a request; None if it cannot take another one.

        It is set after a complete exchange on a connection that the target keeps open, until the next request.
        """
        self.exclusive_token: str | None = None
        """Token of the only caller whose requests the connection may get; None if it may get those of all callers.

        It is set with a request that has a body or asks for an upgrade. A target that breaks HTTP could read the body
        as another request, and send its response to the next caller.
        """
        self.request_count = 0
        """Number of requests sent on the connection."""
        self.at_eof = False
        """The target sends nothing more."""
        self.clean_eof = False
        """The target ended the connection with close_notify."""
        self.tls_error = ""
        """Error of the TLS session, empty if none. A part of the response may be lost."""
        self._stream = stream
        self._record_tracker = stream.record_tracker or RecordTracker()
        self._target = target
        """Target of the last request, or of the handshake."""
        self._trust = trust
        self._sockets: Sockets | None = sockets
        """None while no client is attached."""
        self._tcp: TcpConnection = sockets.tcp(self.connection)

    @property
    def ip(self) -> str:
        """IP address of the target."""
        return str(self.connection.peername[0]) if self.connection.peername is not None else ""

    def can_serve(self, target: Target, trust: TrustStore) -> bool:
        """Return True if a request to `target` can be sent now. Call it immediately before the request is sent.

        The connection must match, and the target must not have sent anything since the last exchange, read or unread.
        """
        return self.matches(target, trust) and (
            not self.request_count or (self._record_tracker.is_between_records and self._tcp.is_quiet)
        )

    def matches(self, target: Target, trust: TrustStore) -> bool:
        """Return True if Connector, address, trust store and TLS identity are those of the handshake."""
        return (
            self._stream.is_established
            and not self.at_eof
            and trust is self._trust
            # The store returns the same object until something changes.
            and (target is self._target or self._has_same_handshake(target))
        )

    def _has_same_handshake(self, target: Target) -> bool:
        """Return True if `target` needs the same handshake, and compare later targets with `target` then."""
        previous = self._target
        is_same = (
            target.key == previous.key
            and target.uid == previous.uid
            and target.ca == previous.ca
            and target.address.port == previous.address.port
            and target.address.host == previous.address.host
            and client_certificate_of(target.credential) == client_certificate_of(previous.credential)
        )
        if is_same:
            self._target = target
        return is_same

    def start_request(self, data: bytes) -> None:
        """Send the first bytes of a request. Data received from now on is its response."""
        self.idle_since = None
        self.request_count += 1
        self._stream.send(data)

    def send(self, data: bytes) -> None:
        """Send plaintext."""
        self._stream.send(data)

    def receive(self, data: memoryview) -> bytes:
        """Decrypt `data` and return the plaintext. Check `at_eof` afterwards."""
        try:
            plaintext = self._stream.receive(data)
        except ConnectionError as error:
            self.tls_error = str(error)
            self.on_eof()
            return b""
        self.at_eof = self.clean_eof = self._stream.at_eof
        if plaintext:
            # An idle connection receives data only without a request, and more may follow.
            self.idle_since = None
        return plaintext

    def on_eof(self) -> None:
        """Record that the connection ended. This is not a clean EOF unless close_notify was received before."""
        self.at_eof = True

    def send_eof(self, *, clean: bool) -> None:
        """Send EOF. The target can continue to send."""
        self._stream.send_eof(clean=clean)

    def detach(self, on_unusable: Callable[[bool], None]) -> None:
        """Detach the connection from its client.

        `on_unusable` is called when the connection cannot be reused: with True at EOF or after an error, with False
        after unsolicited data. Raises RuntimeError if no client is attached.
        """
        if self._sockets is None:
            raise RuntimeError("no client is attached")
        self._sockets.detach(self.connection)
        self._sockets = None
        self._stream.set_sink(None)

        def on_data(data: memoryview) -> None:
            if self.receive(data):
                on_unusable(False)
            elif self.at_eof:
                on_unusable(True)

        def on_eof(_: bool) -> None:
            self.on_eof()
            on_unusable(True)

        def on_error(error: Exception) -> None:
            # The text of the error could contain data that was sent.
            logger.error("an idle connection to a target failed: %s", type(error).__name__)
            on_unusable(True)

        tcp = self._tcp
        tcp.on_data, tcp.on_eof, tcp.on_error = on_data, on_eof, on_error

    @property
    def is_idle(self) -> bool:
        """True if the connection waits for a request, without a partial TLS record or unsent output."""
        return (
            self.idle_since is not None
            and not self.at_eof
            and self._record_tracker.is_between_records
            and not self._tcp.unsent_bytes
        )

    @property
    def has_unread_input(self) -> bool:
        """True if the kernel holds input or an EOF that the event loop has not read."""
        return not self._tcp.is_quiet

    def attach(self, sockets: Sockets) -> None:
        """Attach the connection to the client of `sockets`. Raises RuntimeError if another client is attached."""
        if self._sockets is not None:
            raise RuntimeError("a client is attached")
        try:
            self._stream.set_sink(sockets)
            sockets.attach(self.connection, self._tcp)
        except BaseException:
            # No client and no pool owns the connection now.
            self._tcp.abort()
            raise
        self._sockets = sockets

    def close(self) -> None:
        """Close the connection and keep its TLS session for resumption."""
        if self._sockets is not None:
            self._sockets.close(self.connection)
        else:
            self.connection.state = ConnectionState.CLOSED
            self._tcp.clear_callbacks()
            self._tcp.abort()
        self._trust.store_session(self._stream.tls, self.connection.sni or "")
