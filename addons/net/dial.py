"""Towards the target: resolve once, drop denied addresses, try the rest in turn until TLS stands with one.

Server name and certificate check are always the Connector's host, whichever address answers. All of it together has
`connector_connect_timeout`; every address gets an equal share of what is left, so that a silent one does not use up
the time of the next.
"""

import ipaddress
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.connect import TargetServer
from addons.net.events import TimeUp, Wait
from addons.net.resolver import Resolved, Resolver
from addons.net.sockets import Sockets
from addons.net.tls import RecordEnds, TlsStream
from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import client_certificate_of
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target
from connector_store.trust import TrustStore

_UNRESOLVED: Final = Resolved((), "its name was not resolved")


class Dial:
    """One attempt to reach a target: `then` gets its outcome, once. Give it what happens until then."""

    def __init__(
        self,
        target: Target,
        line: Sockets,
        resolver: Resolver,
        policy: AddressPolicy,
        trust: TrustStore,
        timeout: float,
        then: Callable[[TlsStream | Deny], None],
    ) -> None:
        self.target = target
        self._line = line
        self._resolver = resolver
        self._policy = policy
        self._trust = trust
        self._timeout = timeout
        self._then = then
        self._over = False
        self._deadline = time.monotonic() + timeout
        self._addresses: list[str] = []
        self._server: TargetServer | None = None
        self._peer: TlsStream | None = None
        self._timer = 0

    def start(self) -> None:
        """Resolve, or take the address itself where it is an IP address."""
        self._timer = self._line.arm(self._timeout, Wait.TARGET)
        address = self.target.address
        if _is_ip(address.host):
            self._resolved(Resolved((address.host,)))
            return
        work = self._resolver.resolve(address.host, address.port)
        self._line.wait_for("resolving a target", work, _UNRESOLVED, self._resolved)

    def handle(self, event: events.Event) -> None:
        """Events of this dial move it on; others are not its own."""
        if isinstance(event, TimeUp) and event.number == self._timer:
            self._too_slow()

    def closed(self, connection: Connection) -> None:
        """A connection gives nothing more."""
        if connection is self._server and self._peer is not None:
            self._failed("it closed the connection during the TLS handshake")

    def receive(self, connection: Connection, data: memoryview) -> None:
        """Bytes of the handshake."""
        peer = self._peer
        if peer is None or connection is not self._server:
            return
        try:
            early = peer.receive(data)
        except ConnectionError as error:
            self._failed(str(error))
            return
        if early:
            self._failed("it answered before it was asked")
        elif peer.established:
            peer.connection.timestamp_tls_setup = time.time()
            self._end(peer)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._over = True
        self._drop()

    def _opened(self, server: TargetServer, problem: str) -> None:
        if server is not self._server:
            return
        if problem:
            self._failed(problem)
        else:
            self._handshake(server)

    def _resolved(self, found: Resolved) -> None:
        if self._over:
            return
        if not found.addresses:
            self._end(denial.target_unreachable(self.target, found.problem))
            return
        self._addresses = [each for each in found.addresses if self._policy.allows(each)]
        if not self._addresses:
            self._end(denial.target_denied(self.target, ", ".join(found.addresses)))
            return
        self._next()

    def _next(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._end(denial.target_timeout(self.target, self._timeout))
            return
        self._timer = self._line.arm(left / len(self._addresses), Wait.TARGET)
        address = self._addresses.pop(0)
        # A Server that failed cannot be opened again: each attempt has its own.
        server = self._server = TargetServer(address=(address, self.target.address.port))
        self._line.dial(server, partial(self._opened, server))

    def _handshake(self, server: TargetServer) -> None:
        try:
            identity = client_certificate_of(self.target.credential)
            tls = self._trust.openssl_connection(self.target.ca, self.target.address.host, identity)
        except ParseError as error:
            self._failed(f"its CA: {error}")
            return
        server.tls, server.sni = True, self.target.address.host
        self._peer = TlsStream(server, tls, self._line)
        self._peer.records = RecordEnds()
        self._peer.receive(b"")

    def _failed(self, problem: str) -> None:
        self._drop()
        if self._addresses:
            self._next()
        else:
            self._end(denial.target_unreachable(self.target, problem))

    def _too_slow(self) -> None:
        self._drop()
        if self._addresses:
            self._next()
        else:
            self._end(denial.target_timeout(self.target, self._timeout))

    def _drop(self) -> None:
        server, self._server, self._peer = self._server, None, None
        if server is not None:
            self._line.close(server)

    def _end(self, outcome: TlsStream | Deny) -> None:
        self._over = True
        self._line.disarm()
        self._then(outcome)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
