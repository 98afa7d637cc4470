"""A lane's connection to its target: made for the first request, used by those that follow it in the tunnel."""

from collections.abc import Iterator

from mitmproxy.proxy import events
from mitmproxy.proxy.commands import CloseConnection, Command

from addons.line import Line
from addons.peer import Peer
from addons.service import Service
from addons.upstream import Dial, Outcome
from connector_store.domain.verdict import Forward, Inject

Step = Iterator[Command]


class Link:
    """`peer` is the TLS session with the target; None before there is one, and while one is made."""

    def __init__(self, service: Service, line: Line) -> None:
        self.peer: Peer | None = None
        self.reused = False
        """`peer` has served a request before this one."""
        self.ended = False
        """The target sends nothing more."""
        self._service = service
        self._line = line
        self._dial: Dial | None = None

    @property
    def dialling(self) -> bool:
        return self._dial is not None

    def reach(self, verdict: Inject | Forward) -> Step:
        """Have a session that is good for `verdict`; `take_outcome` says when, or why not."""
        if self.peer is not None and self.trusts(verdict):
            self.reused = True
            return
        yield from self.leave()
        self.reused = False
        service = self._service
        self._dial = Dial(verdict.target, self._line, service.policy, service.trust, service.times.connect)
        yield from self._dial.start()

    def take_outcome(self) -> Outcome:
        """The session, or the refusal that its absence is; None while it is being made."""
        if self._dial is None:
            return self.peer
        outcome = self._dial.outcome
        if outcome is not None:
            self._dial = None
            self.peer = outcome if isinstance(outcome, Peer) else None
        return outcome

    def trusts(self, verdict: Inject | Forward) -> bool:
        """True if the session is finished and was made with the very trust of this decision."""
        trusted = self._service.trust.openssl_context(verdict.target.ca)
        return self.peer is not None and self.peer.established and self.peer.tls.get_context() is trusted

    def handle(self, event: events.Event) -> Step:
        """What a dial waits for."""
        if self._dial is not None:
            yield from self._dial.handle(event)

    def receive(self, event: events.ConnectionEvent) -> bytes:
        """Plain text of the target's; look at `ended` afterwards, and have `pending` sent."""
        peer = self.peer
        if peer is None or self.ended:
            return b""
        if not isinstance(event, events.DataReceived):
            self.ended = True
            return b""
        try:
            data = peer.receive(event.data)
        except ConnectionError:
            self.ended = True
            return b""
        self.ended = peer.ended
        return data

    def leave(self) -> Step:
        """Close what there is."""
        if self._dial is not None:
            yield from self._dial.abandon()
            self._dial = None
        if self.peer is not None:
            yield CloseConnection(self.peer.connection)
            self.peer = None
