"""The relay in a tunnel: one client connection, one target connection, one request after the other.

Every request is decided on by itself, with what the store holds then. A tunnel is one pipe: what ends on either side
ends it, after the response; nothing is retried. The lane is never paused: what it waits for comes back as an event,
so a cut, a timer or a client that has gone reach it meanwhile.
"""

from collections.abc import Iterator

from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command

from addons.admission import Admission, Answered, Killed
from addons.ending import Ending
from addons.framing import RequestReader
from addons.line import Line, Retire, TimeUp, Wait
from addons.messages import Event, Invalid, RequestHead
from addons.peer import Peer
from addons.relay import Broken, Relay
from addons.service import Service
from addons.tunnel import Tunnel
from addons.turn import Turn
from addons.upstream import Outcome
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.verdict import Forward, Inject

Step = Iterator[Command]


class Lane(Ending):
    """See the module's text. `client` is the TLS session with the client of `tunnel`.

    Between requests there is no turn; during one, its admission, then the link's dial, then its relay.
    """

    def __init__(self, service: Service, line: Line, tunnel: Tunnel, client: Peer) -> None:
        super().__init__(service, line, tunnel, client)
        self._requests = RequestReader(max_head=service.max_header)
        self._admission: Admission | None = None
        self._pipe = False
        self._timed = True
        self._retiring = False

    # From the client

    def from_client(self, data: bytes) -> Step:
        """Plain text that the client sent."""
        if self._over:
            return
        if self._pipe:
            yield from self._to_target(data)
            return
        yield from self._read(self._requests.receive(data))
        self._keep_waiting()

    def client_ended(self) -> Step:
        """The client sends nothing more. In a pipe the other direction may go on, otherwise nobody reads the answer."""
        if self._pipe and self._link.peer is not None and not self._link.ended:
            yield from self._link.peer.finish()
        else:
            yield from self._end("the client closed the connection")

    def _keep_waiting(self) -> None:
        """Bytes are left over: of a head, which must come in its time, or of a next request, which must wait."""
        if not self._requests.pending or self._over:
            return
        if self._turn is not None:
            self._line.hold()
        elif not self._timed:
            self._timed = True
            self._line.arm(self._service.times.client, Wait.CLIENT)

    def _read(self, found: list[Event]) -> Step:
        out: list[bytes] = []
        for event in found:
            if isinstance(event, RequestHead):
                yield from self._begin(event)
            elif isinstance(event, Invalid):
                yield from self._refuse_invalid(event)
            elif self._turn is not None:
                self._turn.frame(event, out)
            if self._over:
                return
        if out:
            yield from self._to_target(b"".join(out))

    def _to_target(self, data: bytes) -> Step:
        if (turn := self._turn) is None:
            return
        turn.bytes_in += len(data)
        if turn.relay is not None and self._link.peer is not None:
            yield self._link.peer.send(data)
        else:
            turn.backlog.append(data)

    # One request

    def _begin(self, head: RequestHead) -> Step:
        self._line.disarm()
        self._timed = False
        self._line.hold()
        self._turn = Turn(head=head, tunnel=self.tunnel)
        self._admission = Admission(self._service, self._turn, self._line.client)
        yield from self._admission.start()
        yield from self._admitted()

    def _admitted(self) -> Step:
        outcome = self._admission.outcome if self._admission is not None else None
        if outcome is None:
            return
        self._admission = None
        match outcome:
            case Deny():
                yield from self._refuse(outcome)
            case Killed():
                self.cut("killed by a watcher")
            case Answered():
                yield from self._say_last(outcome.response, outcome.status)
            case Inject() | Forward():
                yield from self._link.reach(outcome)
                yield from self._reached(self._link.take_outcome())

    def _reached(self, outcome: Outcome) -> Step:
        verdict = self._current().verdict
        if isinstance(outcome, Deny):
            yield from self._refuse(outcome)
        elif self._line.client_gone:
            # Nobody waits for the answer: the target is not asked.
            yield from self._end("the client closed the connection")
        elif outcome is not None and verdict is not None:
            yield from self._send_head(outcome, verdict)

    def _send_head(self, target: Peer, verdict: Inject | Forward) -> Step:
        if not self._link.trusts(verdict):
            yield from self._refuse(denial.internal())
            return
        yield target.send(self._current().forward(verdict, target.connection, max_head=self._service.max_header))
        if not self._requests.pending:
            self._line.release()

    def handle(self, event: events.Event) -> Step:
        """Everything but the client's own bytes."""
        if self._over:
            return
        peer = self._link.peer
        if isinstance(event, TimeUp) and event.wait is Wait.CLIENT:
            yield from self._end("no whole request in time")
        elif isinstance(event, Retire):
            yield from self._retire()
        elif self._admission is not None:
            yield from self._admission.handle(event)
            yield from self._admitted()
        elif self._link.dialling:
            yield from self._link.handle(event)
            yield from self._reached(self._link.take_outcome())
        elif isinstance(event, events.ConnectionEvent) and peer is not None and event.connection is peer.connection:
            yield from self._from_target(peer, event)
        elif isinstance(event, events.HookCompleted) and self._turn is not None:
            yield from self._shown(self._turn, event)

    # From the target

    def _from_target(self, peer: Peer, event: events.ConnectionEvent) -> Step:
        if self._link.ended:
            return
        data = self._link.receive(event)
        yield from peer.pending()
        turn = self._turn
        if data and self._pipe:
            yield from self._to_client(data)
        elif data and turn is not None and turn.relay is not None:
            yield from self._progress(turn, turn.relay, turn.relay.receive(data))
        elif data:
            yield from self._end("the target sent what was not asked for")
        if self._link.ended and not self._over and (turn is None or turn.showing is None):
            yield from self._target_ended(peer)

    def _target_ended(self, peer: Peer) -> Step:
        turn = self._turn
        if self._pipe:
            yield from self._client.finish()
            if self._client.ended:
                yield from self._end("")
        elif turn is None or turn.relay is None or (self._link.reused and turn.relay.untouched):
            # As without a proxy: the client itself knows whether it may send a request once more.
            yield from self._end("the target closed the connection")
        else:
            yield from self._progress(turn, turn.relay, turn.relay.receive_eof(proper=peer.ended))

    def _progress(self, turn: Turn, relay: Relay, out: bytes) -> Step:
        if relay.head is not None and relay.failure is None and turn.shows_head():
            yield from self._show(turn, relay, out)
            return
        if out:
            turn.answered(relay, self._service.recorder)
            yield from self._to_client(out)
        if isinstance(relay.failure, Deny):
            yield from self._refuse(relay.failure)
        elif isinstance(relay.failure, Broken):
            self.cut(relay.failure.reason)
        elif relay.switched:
            self._pipe = True
            turn.end_observation("", self._line.tell)
            yield from self._to_target(self._requests.take_pending())
        elif relay.complete:
            yield from self._finish(turn, relay)

    # Where somebody watches

    def _show(self, turn: Turn, relay: Relay, out: bytes) -> Step:
        """Nothing of the answer goes to the client before its head was shown."""
        turn.withheld += out
        hook = turn.show_head(relay, self)
        if hook is not None and self._link.peer is not None:
            self._line.hold(self._link.peer.connection)
            yield hook

    def _shown(self, turn: Turn, event: events.HookCompleted) -> Step:
        if event.command is not turn.showing or turn.relay is None:
            return
        turn.showing = None
        if turn.observation is not None and turn.observation.killed:
            self.cut("killed by a watcher")
            return
        peer = self._link.peer
        if peer is not None:
            self._line.release(peer.connection)
        out, turn.withheld = turn.withheld, b""
        yield from self._progress(turn, turn.relay, out)
        if self._link.ended and not self._over and peer is not None:
            yield from self._target_ended(peer)

    # The end

    def _retire(self) -> Step:
        self._retiring = True
        if self._turn is None:
            yield from self._close()
        elif self._turn.relay is not None:
            self._turn.relay.last = True

    def _finish(self, turn: Turn, relay: Relay) -> Step:
        self._record("")
        if relay.last or self._retiring or not turn.whole or self._link.ended:
            yield from self._close()
            return
        self._line.release()
        yield from self._read(self._requests.next_message())
        self._keep_waiting()
