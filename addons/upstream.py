"""Towards the target: resolve once, drop denied addresses, try the rest in turn until TLS stands with one.

Server name and certificate check are always the Connector's host, whichever address answers. All of it together has
`connector_connect_timeout`; every address gets an equal share of what is left, so that a silent one does not use up
the time of the next.
"""

import ipaddress
import time
from collections.abc import Iterator

from mitmproxy.connection import Server
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import CloseConnection, Command, OpenConnection

from addons.line import Line, TimeUp, Wait
from addons.peer import Peer
from addons.questions import ConnectorResolveHook, Resolve, unpaused
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.models import Target
from connector_store.trust import AddressPolicy, TrustStore

Outcome = Peer | Deny | None
"""How a dial ended; None: it goes on."""
Step = Iterator[Command]


class TargetServer(Server):
    """A connection to an address of a target; nothing else is dialled by this proxy."""


class Dial:
    """One attempt to reach a target. Give it `start`, then every event until `outcome` is there."""

    def __init__(self, target: Target, line: Line, policy: AddressPolicy, trust: TrustStore, timeout: float) -> None:
        self.target = target
        self.outcome: Outcome = None
        self._line = line
        self._policy = policy
        self._trust = trust
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._addresses: list[str] = []
        self._problem = "it has no address"
        self._waits_for: Command | None = None
        self._server: TargetServer | None = None
        self._peer: Peer | None = None
        self._timer = 0

    def start(self) -> Step:
        """Resolve, or take the address itself where it is an IP address."""
        self._timer = self._line.arm(self._timeout, Wait.TARGET)
        host = self.target.address.host
        if _is_ip(host):
            yield from self._resolved((host,), "")
            return
        self._waits_for = unpaused(ConnectorResolveHook(Resolve(self.target.address)), self)
        yield self._waits_for

    def handle(self, event: events.Event) -> Step:
        """Events of this dial move it on; others are not its own."""
        if isinstance(event, TimeUp):
            if event.number == self._timer:
                yield from self._too_slow()
        elif isinstance(event, events.CommandCompleted):
            if event.command is self._waits_for:
                yield from self._completed(event)
        elif isinstance(event, events.ConnectionEvent) and event.connection is self._server:
            yield from self._from_server(event)

    def abandon(self) -> Step:
        """Nobody waits for it any more."""
        self._waits_for = None
        if self._server is not None:
            yield CloseConnection(self._server)
            self._server = None

    def _completed(self, event: events.CommandCompleted) -> Step:
        command, self._waits_for = event.command, None
        if isinstance(command, ConnectorResolveHook):
            yield from self._resolved(command.data.found, command.data.problem)
        elif event.reply:
            yield from self._failed(_tidy(event.reply))
        elif self._server is not None:
            yield from self._handshake(self._server)

    def _resolved(self, found: tuple[str, ...], problem: str) -> Step:
        if not found:
            self._end(denial.target_unreachable(self.target, problem))
            return
        self._addresses = [each for each in found if self._policy.permits(each)]
        if not self._addresses:
            self._end(denial.target_denied(self.target, ", ".join(found)))
            return
        yield from self._next()

    def _next(self) -> Step:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._end(denial.target_timeout(self.target, self._timeout))
            return
        self._timer = self._line.arm(left / len(self._addresses), Wait.TARGET)
        address = self._addresses.pop(0)
        # A Server that failed cannot be opened again: each attempt has its own.
        self._server = TargetServer(address=(address, self.target.address.port))
        self._waits_for = unpaused(OpenConnection(self._server), self)
        yield self._waits_for

    def _handshake(self, server: Server) -> Step:
        self._line.opened(server)
        try:
            tls = self._trust.openssl_connection(self.target.ca, self.target.address.host)
        except ParseError as error:
            yield from self._failed(f"its CA: {error}")
            return
        server.tls, server.sni = True, self.target.address.host
        self._peer = Peer(server, tls)
        self._peer.receive(b"")
        yield from self._peer.pending()

    def _from_server(self, event: events.ConnectionEvent) -> Step:
        peer = self._peer
        if peer is None:
            return
        if not isinstance(event, events.DataReceived):
            yield from self._failed("it closed the connection during the TLS handshake")
            return
        try:
            early = peer.receive(event.data)
        except ConnectionError as error:
            yield from peer.pending()
            yield from self._failed(str(error))
            return
        yield from peer.pending()
        if early:
            yield from self._failed("it answered before it was asked")
        elif peer.established:
            peer.connection.timestamp_tls_setup = time.time()
            self._end(peer)

    def _failed(self, problem: str) -> Step:
        self._problem = problem
        yield from self._drop()
        if self._addresses:
            yield from self._next()
        else:
            self._end(denial.target_unreachable(self.target, self._problem))

    def _too_slow(self) -> Step:
        yield from self._drop()
        if self._addresses:
            yield from self._next()
        else:
            self._end(denial.target_timeout(self.target, self._timeout))

    def _drop(self) -> Step:
        server, self._server, self._peer, self._waits_for = self._server, None, None, None
        if server is not None:
            yield CloseConnection(server)

    def _end(self, outcome: Peer | Deny) -> None:
        self._line.disarm()
        self.outcome = outcome


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _tidy(error: str) -> str:
    """mitmproxy gives an OSError's text: `[Errno 111] Connect call failed ('127.0.0.1', 1)`."""
    if "Errno 111" in error:
        return "connection refused"
    return f"cannot be reached: {error}"
