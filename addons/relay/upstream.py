"""A connection to a target with its TLS session, and what it is good for: one address, one trust, one identity."""

from mitmproxy.connection import Connection

from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from connector_store.domain.client_certificate import identity_of
from connector_store.domain.models import Target
from connector_store.trust import TrustStore


class Upstream:
    """The one owner of an open connection to a target; `stream` was made for `target`, with `trust`."""

    def __init__(self, stream: TlsStream, target: Target, trust: TrustStore, sockets: Sockets) -> None:
        self.connection: Connection = stream.connection
        self.served = 0
        """Requests that it was given."""
        self.ended = False
        """The target sends nothing more."""
        self.whole = True
        """If it has ended, then by the end of its TLS session."""
        self._stream = stream
        self._host, self._port, self._ca = target.address.host, target.address.port, target.ca
        self._identity = identity_of(target.credential)
        self._trust = trust
        self._sockets = sockets

    def serves(self, target: Target, trust: TrustStore) -> bool:
        """True if it may serve `target`: address, trust and TLS identity are those that it was made for.

        To be asked at the moment of writing.
        """
        address = target.address
        return (
            self._stream.established
            and not self.ended
            and trust is self._trust
            and target.ca == self._ca
            and identity_of(target.credential) == self._identity
            and address.port == self._port
            and address.host == self._host
        )

    def send(self, data: bytes) -> None:
        """Send plain text."""
        self._stream.send(data)

    def receive(self, data: memoryview) -> bytes:
        """Plain text of the target's; look at `ended` afterwards."""
        try:
            plain = self._stream.receive(data)
        except ConnectionError:
            self.closed()
            return b""
        self.ended = self._stream.ended
        return plain

    def closed(self) -> None:
        """Its connection gives nothing more."""
        if not self.ended:
            self.ended = True
            self.whole = False

    def finish(self, *, whole: bool) -> None:
        """Send nothing more; the target may go on."""
        self._stream.finish(whole=whole)

    def leave(self) -> None:
        """Close it; its session may be resumed."""
        self._trust.keep_session(self._stream.tls, self.connection.sni or "")
        self._sockets.close(self.connection)
