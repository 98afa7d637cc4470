"""A connection to a target with its TLS session, and what it is good for: one Connector, address, trust, identity."""

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
    """The one owner of an open connection to a target; `stream` was made for `target`, with `trust`.

    It is with one client at a time, in the `Sockets` of that, or with none, from `part` to `join`.
    """

    def __init__(self, stream: TlsStream, target: Target, trust: TrustStore, sockets: Sockets) -> None:
        self.connection: Connection = stream.connection
        self.key = target.key
        self.created_at = time.monotonic()
        self.idle_since: float | None = None
        """Since when, on the monotonic clock: after an exchange that ended clean, both messages whole and the target
        waiting for another one, until the next one begins."""
        self.request_count = 0
        """Requests that it was given."""
        self.at_eof = False
        """The target sends nothing more."""
        self.clean_eof = True
        """If it has ended, then by the end of its TLS session."""
        self.tls_error = ""
        """Why what came was not TLS: something of an answer may have been lost with it."""
        self._stream = stream
        self._record_tracker = stream.record_tracker or RecordTracker()
        self._target = target
        """What it served last, or was made for."""
        self._trust = trust
        self._sockets: Sockets | None = sockets
        """None while it is with nobody."""
        self._tcp: TcpConnection = sockets.tcp(self.connection)

    def can_serve(self, target: Target, trust: TrustStore) -> bool:
        """True if it may serve `target` now: it leads there, and the target has said nothing since the exchange before,
        read or not. To be asked at the moment of writing."""
        return self.matches(target, trust) and (
            not self.request_count or (self._record_tracker.is_between_records and self._tcp.is_quiet)
        )

    def matches(self, target: Target, trust: TrustStore) -> bool:
        """True if Connector, address, trust and TLS identity are those that it was made for."""
        return (
            self._stream.is_established
            and not self.at_eof
            and trust is self._trust
            # The store gives the same one until something changes.
            and (target is self._target or self._has_same_handshake(target))
        )

    def _has_same_handshake(self, target: Target) -> bool:
        """True if a handshake for it would be the one that was made; then it is what is compared with next."""
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
        """Send the beginning of a request; what comes from now on answers it."""
        self.idle_since = None
        self.request_count += 1
        self._stream.send(data)

    def send(self, data: bytes) -> None:
        """Send plain text."""
        self._stream.send(data)

    def receive(self, data: memoryview) -> bytes:
        """Plain text of the target's; look at `ended` afterwards."""
        try:
            plain = self._stream.receive(data)
        except ConnectionError as error:
            self.tls_error = str(error)
            self.on_eof()
            return b""
        self.at_eof = self._stream.at_eof
        if plain:
            # Where it rests, nobody has asked for this; more of it may follow.
            self.idle_since = None
        return plain

    def on_eof(self) -> None:
        """Its connection gives nothing more."""
        if not self.at_eof:
            self.at_eof = True
            self.clean_eof = False

    def send_eof(self, *, clean: bool) -> None:
        """Send nothing more; the target may go on."""
        self._stream.send_eof(clean=clean)

    def detach(self, on_unusable: Callable[[bool], None]) -> None:
        """Its client goes on without it. `tell` is called when it is good for nobody any more: the target has ended it
        (True), or said what was not asked for (False)."""
        if self._sockets is None:
            raise RuntimeError("it is with nobody")
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
            # The text might hold what was sent.
            logger.error("a kept connection failed: %s", type(error).__name__)
            on_unusable(True)

        tcp = self._tcp
        tcp.on_data, tcp.on_eof, tcp.on_error = on_data, on_eof, on_error

    @property
    def is_idle(self) -> bool:
        """Of what was read nothing is left over, and nothing has to go out."""
        return (
            self.idle_since is not None
            and not self.at_eof
            and self._record_tracker.is_between_records
            and not self._tcp.unsent_bytes
        )

    @property
    def has_unread_input(self) -> bool:
        """The kernel has nothing of it that nobody has read yet."""
        return self._tcp.is_quiet

    def attach(self, sockets: Sockets) -> None:
        """Serve the client of `sockets` from now on."""
        if self._sockets is not None:
            raise RuntimeError("it is with somebody")
        try:
            self._stream.set_sink(sockets)
            sockets.attach(self.connection, self._tcp)
        except BaseException:
            # It is nobody's any more.
            self._tcp.abort()
            raise
        self._sockets = sockets

    def close(self) -> None:
        """Close it; its session may be resumed."""
        if self._sockets is not None:
            self._sockets.close(self.connection)
        else:
            self.connection.state = ConnectionState.CLOSED
            self._tcp.clear_callbacks()
            self._tcp.abort()
        self._trust.store_session(self._stream.tls, self.connection.sni or "")
