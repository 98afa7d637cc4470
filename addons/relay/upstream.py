"""A lane's connection to its target: made for the first request, used by those that follow it in the tunnel."""

from collections.abc import Callable

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.dial import Dial
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from addons.relay.shared import Shared
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.verdict import Forward, Inject


class Upstream:
    """`peer` is the TLS session with the target; None before there is one, and while one is made."""

    def __init__(self, service: Shared, line: Sockets) -> None:
        self.peer: TlsStream | None = None
        self.reused = False
        """`peer` has served a request before this one."""
        self.ended = False
        """The target sends nothing more."""
        self._service = service
        self._line = line
        self._dial: Dial | None = None

    def reach(self, verdict: Inject | Forward, then: Callable[[TlsStream | Deny], None]) -> None:
        """Have a session that is good for `verdict`, and give it to `then`, or the refusal that its absence is.

        The decision is the one that `then` writes the credential for: between the check and that nothing waits.
        """
        if self.peer is not None and self.trusts(verdict):
            self.reused = True
            then(self.peer)
            return
        self.leave()
        self.reused = False
        service = self._service

        def dialled(outcome: TlsStream | Deny) -> None:
            self._dial = None
            self.peer = outcome if isinstance(outcome, TlsStream) else None
            then(outcome if self.peer is None or self.trusts(verdict) else denial.internal())

        self._dial = Dial(
            verdict.target,
            self._line,
            service.resolver,
            service.policy,
            service.trust,
            service.times.connect,
            dialled,
        )
        self._dial.start()

    def trusts(self, verdict: Inject | Forward) -> bool:
        """True if the session is finished and was made with the very trust of this decision."""
        trusted = self._service.trust.openssl_context(verdict.target.ca)
        return self.peer is not None and self.peer.established and self.peer.tls.get_context() is trusted

    def handle(self, event: events.Event) -> None:
        """What a dial waits for."""
        if self._dial is not None:
            self._dial.handle(event)

    def closed(self, connection: Connection) -> None:
        """A connection gives nothing more: the one that is being made, or the session's."""
        if self._dial is not None:
            self._dial.closed(connection)
        elif self.peer is not None and self.peer.connection is connection:
            self.ended = True

    def receive(self, connection: Connection, data: memoryview) -> bytes:
        """Plain text of the target's; look at `ended` afterwards."""
        if self._dial is not None:
            self._dial.receive(connection, data)
            return b""
        peer = self.peer
        if peer is None or self.ended or connection is not peer.connection:
            return b""
        try:
            plain = peer.receive(data)
        except ConnectionError:
            self.ended = True
            return b""
        self.ended = peer.ended
        peer.flush()
        return plain

    def leave(self) -> None:
        """Close what there is."""
        if self._dial is not None:
            self._dial.abandon()
            self._dial = None
        if self.peer is not None:
            self._service.trust.keep_session(self.peer.tls, self.peer.connection.sni or "")
            self._line.close(self.peer.connection)
            self.peer = None
