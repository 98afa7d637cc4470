"""Connecting to a target: resolve its name once, drop denied addresses, and try the others until one completes TLS.

The server name and the certificate check always use the Connector's host. `connector_connect_timeout` limits the whole
attempt. Each address gets an equal share of the remaining time, so a silent address does not use up the time of the
next one.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.net.connect import TargetServer
from addons.net.sockets import Sockets
from addons.net.stage import TimerExpired, TimerKind
from addons.net.tls import RecordTracker, TlsStream
from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import client_certificate_of
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_plan import is_ip, share_time
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target
from connector_store.resolver import ResolvedAddresses, Resolver
from connector_store.trust import TrustStore

_UNRESOLVED: Final = ResolvedAddresses((), "its name was not resolved")


class Dial:
    """One attempt to connect to a target for `client`. It calls `on_done` once, with the TLS session or the refusal.

    Until then, the stage must pass on its events, and the data and EOF of target connections.
    """

    def __init__(
        self,
        target: Target,
        client: Sockets,
        resolver: Resolver,
        policy: AddressPolicy,
        trust: TrustStore,
        timeout: float,
        on_done: Callable[[TlsStream | Deny], None],
    ) -> None:
        self.target = target
        self._client = client
        self._resolver = resolver
        self._policy = policy
        self._trust = trust
        self._timeout = timeout
        self._on_done = on_done
        self._is_done = False
        self._deadline = time.monotonic() + timeout
        self._attempts: Iterator[tuple[str, float]] = iter(())
        self._server: TargetServer | None = None
        self._tls: TlsStream | None = None
        self._timer_id = 0

    def start(self) -> None:
        """Start the attempt. A host that is an IP address is not resolved."""
        self._timer_id = self._client.start_timer(self._timeout, TimerKind.TARGET)
        address = self.target.address
        if is_ip(address.host):
            self._on_resolved(ResolvedAddresses((address.host,)))
            return
        work = self._resolver.resolve(address.host, address.port)
        self._client.run_task("resolving a target", work, _UNRESOLVED, self._on_resolved)

    def handle_event(self, event: events.Event) -> None:
        """Handle the timer of this dial. Other events are ignored."""
        if isinstance(event, TimerExpired) and event.timer_id == self._timer_id:
            self._try_next()

    def on_eof(self, connection: Connection) -> None:
        """Handle the EOF of `connection`."""
        if connection is self._server and self._tls is not None:
            self._try_next("it closed the connection during the TLS handshake")

    def receive(self, connection: Connection, data: memoryview) -> None:
        """Handle bytes of the TLS handshake."""
        tls = self._tls
        if tls is None or connection is not self._server:
            return
        try:
            plain = tls.receive(data)
        except ConnectionError as error:
            self._try_next(str(error))
            return
        if plain:
            self._try_next("it answered before it was asked")
        elif tls.is_established:
            tls.connection.timestamp_tls_setup = time.time()
            self._finish(tls)

    def cancel(self) -> None:
        """Stop the attempt without calling `on_done`."""
        self._is_done = True
        self._close_connection()

    def _on_connected(self, server: TargetServer, problem: str) -> None:
        if server is not self._server:
            return
        if problem:
            self._try_next(problem)
        else:
            self._start_handshake(server)

    def _on_resolved(self, result: ResolvedAddresses) -> None:
        if self._is_done:
            return
        if not result.addresses:
            self._finish(denial.target_unreachable(self.target, result.problem))
            return
        addresses = [address for address in result.addresses if self._policy.allows(address)]
        if not addresses:
            self._finish(denial.target_denied(self.target, ", ".join(result.addresses)))
            return
        self._attempts = share_time(addresses, self._deadline, time.monotonic)
        self._try_next()

    def _try_next(self, problem: str = "") -> None:
        """Try the next address. Without one, refuse with `problem`, or because the time is over."""
        self._close_connection()
        address, timeout = next(self._attempts, (None, 0.0))
        if address is None and problem:
            self._finish(denial.target_unreachable(self.target, problem))
            return
        if address is None or timeout <= 0:
            self._finish(denial.target_timeout(self.target, self._timeout))
            return
        self._timer_id = self._client.start_timer(timeout, TimerKind.TARGET)
        # A Server that failed cannot be opened again, so each attempt needs a new one.
        server = self._server = TargetServer(address=(address, self.target.address.port))
        self._client.dial(server, partial(self._on_connected, server))

    def _start_handshake(self, server: TargetServer) -> None:
        try:
            identity = client_certificate_of(self.target.credential)
            tls = self._trust.openssl_connection(self.target.ca, self.target.address.host, identity)
        except ParseError as error:
            self._try_next(f"its CA: {error}")
            return
        server.tls, server.sni = True, self.target.address.host
        self._tls = TlsStream(server, tls, self._client)
        self._tls.record_tracker = RecordTracker()
        self._tls.receive(b"")

    def _close_connection(self) -> None:
        server, self._server, self._tls = self._server, None, None
        if server is not None:
            self._client.close(server)

    def _finish(self, outcome: TlsStream | Deny) -> None:
        self._is_done = True
        self._client.stop_timer()
        self._on_done(outcome)
