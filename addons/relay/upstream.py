"""A connection to a target with its TLS session, and what it is good for: one Connector, address, trust, identity."""

import logging
import time
from collections.abc import Callable

from mitmproxy.connection import Connection, ConnectionState

from addons.net.sockets import Sockets
from addons.net.tcp import TcpConnection
from addons.net.tls import RecordEnds, TlsStream
from connector_store.domain.credential.client_certificate import client_certificate_of
from connector_store.domain.objects.models import Target
from connector_store.trust import TrustStore

logger = logging.getLogger(__name__)


class Upstream:
    """The one owner of an open connection to a target; `stream` was made for `target`, with `trust`.

    It is with one client at a time, in the `Sockets` of that, or with none, from `part` to `join`.
    """

    def __init__(self, stream: TlsStream, target: Target, trust: TrustStore, sockets: Sockets) -> None:
        self.connection: Connection = stream.connection
        self.key = target.key
        self.made = time.monotonic()
        self.rests: float | None = None
        """Since when, on the monotonic clock: after an exchange that ended clean, both messages whole and the target
        waiting for another one, until the next one begins."""
        self.served = 0
        """Requests that it was given."""
        self.ended = False
        """The target sends nothing more."""
        self.whole = True
        """If it has ended, then by the end of its TLS session."""
        self.broken = ""
        """Why what came was not TLS: something of an answer may have been lost with it."""
        self._stream = stream
        self._records = stream.records or RecordEnds()
        self._target = target
        """What it served last, or was made for."""
        self._trust = trust
        self._sockets: Sockets | None = sockets
        """None while it is with nobody."""
        self._tcp: TcpConnection = sockets.tcp(self.connection)

    def serves(self, target: Target, trust: TrustStore) -> bool:
        """True if it may serve `target` now: it leads there, and the target has said nothing since the exchange before,
        read or not. To be asked at the moment of writing."""
        return self.leads_to(target, trust) and (not self.served or (self._records.between and self._tcp.quiet))

    def leads_to(self, target: Target, trust: TrustStore) -> bool:
        """True if Connector, address, trust and TLS identity are those that it was made for."""
        return (
            self._stream.established
            and not self.ended
            and trust is self._trust
            # The store gives the same one until something changes.
            and (target is self._target or self._same(target))
        )

    def _same(self, target: Target) -> bool:
        """True if a handshake for it would be the one that was made; then it is what is compared with next."""
        made_for = self._target
        same = (
            target.key == made_for.key
            and target.uid == made_for.uid
            and target.ca == made_for.ca
            and target.address.port == made_for.address.port
            and target.address.host == made_for.address.host
            and client_certificate_of(target.credential) == client_certificate_of(made_for.credential)
        )
        if same:
            self._target = target
        return same

    def begin(self, data: bytes) -> None:
        """Send the beginning of a request; what comes from now on answers it."""
        self.rests = None
        self.served += 1
        self._stream.send(data)

    def send(self, data: bytes) -> None:
        """Send plain text."""
        self._stream.send(data)

    def receive(self, data: memoryview) -> bytes:
        """Plain text of the target's; look at `ended` afterwards."""
        try:
            plain = self._stream.receive(data)
        except ConnectionError as error:
            self.broken = str(error)
            self.closed()
            return b""
        self.ended = self._stream.ended
        if plain:
            # Where it rests, nobody has asked for this; more of it may follow.
            self.rests = None
        return plain

    def closed(self) -> None:
        """Its connection gives nothing more."""
        if not self.ended:
            self.ended = True
            self.whole = False

    def finish(self, *, whole: bool) -> None:
        """Send nothing more; the target may go on."""
        self._stream.finish(whole=whole)

    def part(self, tell: Callable[[bool], None]) -> None:
        """Its client goes on without it. `tell` is called when it is good for nobody any more: the target has ended it
        (True), or said what was not asked for (False)."""
        if self._sockets is None:
            raise RuntimeError("it is with nobody")
        self._sockets.part(self.connection)
        self._sockets = None
        self._stream.carried_by(None)

        def received(data: memoryview) -> None:
            if self.receive(data):
                tell(False)
            elif self.ended:
                tell(True)

        def ended(_: bool) -> None:
            self.closed()
            tell(True)

        def failed(error: Exception) -> None:
            # The text might hold what was sent.
            logger.error("a kept connection failed: %s", type(error).__name__)
            tell(True)

        tcp = self._tcp
        tcp.deliver, tcp.ended, tcp.failed = received, ended, failed

    @property
    def at_rest(self) -> bool:
        """Of what was read nothing is left over, and nothing has to go out."""
        return self.rests is not None and not self.ended and self._records.between and not self._tcp.unsent

    @property
    def quiet(self) -> bool:
        """The kernel has nothing of it that nobody has read yet."""
        return self._tcp.quiet

    def join(self, sockets: Sockets) -> None:
        """Serve the client of `sockets` from now on."""
        if self._sockets is not None:
            raise RuntimeError("it is with somebody")
        try:
            self._stream.carried_by(sockets)
            sockets.adopt(self.connection, self._tcp)
        except BaseException:
            # It is nobody's any more.
            self._tcp.abort()
            raise
        self._sockets = sockets

    def leave(self) -> None:
        """Close it; its session may be resumed."""
        if self._sockets is not None:
            self._sockets.close(self.connection)
        else:
            self.connection.state = ConnectionState.CLOSED
            self._tcp.leave_alone()
            self._tcp.abort()
        self._trust.store_session(self._stream.tls, self.connection.sni or "")
