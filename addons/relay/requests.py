"""The relay in a tunnel: one client connection, one target connection, one request after the other.

Every request is decided on by itself, with what the store holds then. A tunnel is one pipe: what ends on either side
ends it, after the response; nothing is retried. The lane is never paused: what it waits for comes back as an event,
so a cut, a timer or a client that has gone reach it meanwhile.
"""

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.admission import Admission, Answered, Killed, Outcome
from addons.access.grant import Grant
from addons.http1.messages import Event, Invalid, RequestHead
from addons.net.events import Retire, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from addons.relay.ending import Ending
from addons.relay.exchange import Exchange
from addons.relay.response import Broken, Response
from addons.relay.shared import Shared
from connector_store.domain.denial import Deny
from connector_store.domain.verdict import Forward, Inject


class Requests(Ending):
    """See the module's text. `client` is the TLS session with the client of `tunnel`.

    Between requests there is no turn; during one, its admission, then the link's dial, then its relay.
    """

    def __init__(self, service: Shared, line: Sockets, tunnel: Grant, client: TlsStream) -> None:
        super().__init__(service, line, tunnel, client)
        self.retiring = False
        """The proxy is about to end: no request after the one that runs."""
        self._timed = True
        self._at_once = False
        """Nothing has been waited for since the request's head was read."""

    # From the client

    def from_client(self, data: bytes) -> None:
        """Plain text that the client sent."""
        if self._over:
            return
        if self._pipe:
            self._to_target(data)
            return
        self._read(self._requests.receive(data))
        self._keep_waiting()

    def client_ended(self) -> None:
        """The client sends nothing more. In a pipe the other direction may go on, otherwise nobody reads the answer."""
        if self._over:
            return
        if self._pipe and self._link.peer is not None and not self._link.ended:
            self._first_end = "the client closed the connection"
            self._link.peer.finish(whole=not self._client.cut_off)
        elif self._first_end:
            self._end(self._first_end)
        else:
            self._end_client("closed the connection")

    def _keep_waiting(self) -> None:
        """Bytes are left over: of a head, which must come in its time, or of a next request, which must wait."""
        if not self._requests.pending or self._over:
            return
        if self._turn is not None:
            self._line.hold()
        elif not self._timed:
            self._timed = True
            self._line.arm(self._service.times.client, Wait.CLIENT)

    def _read(self, found: list[Event]) -> None:
        out: list[bytes] = []
        for event in found:
            if isinstance(event, RequestHead):
                self._begin(event)
            elif isinstance(event, Invalid):
                self._refuse_invalid(event)
            elif self._turn is not None:
                self._turn.frame(event, out)
            if self._over:
                return
        if out:
            self._to_target(b"".join(out))

    def _to_target(self, data: bytes) -> None:
        if (turn := self._turn) is None or not data:
            return
        turn.bytes_in += len(data)
        if turn.relay is not None and self._link.peer is not None:
            self._link.peer.send(data)
        else:
            turn.backlog.append(data)

    # One request

    def _begin(self, head: RequestHead) -> None:
        self._line.disarm()
        self._timed = False
        self._line.hold()
        self._turn = Exchange(head=head, tunnel=self.tunnel)
        self._at_once = True
        Admission(self._service, self._turn, self._line, self._admitted).start()
        self._at_once = False

    def _admitted(self, outcome: Outcome) -> None:
        if self._over:
            return
        match outcome:
            case Inject() | Forward():
                self._link.reach(outcome, self._reached)
            case Deny():
                self._refuse(outcome)
            case Killed():
                self.cut("killed by a watcher")
            case Answered():
                self._say_last(outcome.response, outcome.status)

    def _reached(self, outcome: TlsStream | Deny) -> None:
        verdict = self._current().verdict
        if isinstance(outcome, Deny):
            self._refuse(outcome)
        elif not self._at_once and self._line.client_gone:
            # Nobody waits for the answer: the target is not asked.
            self._end("the client closed the connection")
        elif verdict is not None:
            self._send_head(self._current(), outcome, verdict)

    def _send_head(self, turn: Exchange, target: TlsStream, verdict: Inject | Forward) -> None:
        target.send(turn.forward(verdict, target.connection, max_head=self._service.max_header, last=self.retiring))
        if not self._requests.pending:
            self._line.release()

    def handle(self, event: events.Event) -> None:
        """Everything but bytes."""
        if self._over:
            return
        if isinstance(event, TimeUp) and event.wait is Wait.CLIENT:
            self._end_client("sent no whole request in time")
        elif isinstance(event, Retire):
            self._retire()
        else:
            self._link.handle(event)

    # From the target

    def connection_ended(self, connection: Connection) -> None:
        """A connection to the target gives nothing more."""
        if not self._over:
            self._link.closed(connection)
            self._look_at_target()

    def from_target(self, connection: Connection, data: memoryview) -> None:
        """What it sent, encrypted."""
        if self._over:
            return
        plain = self._link.receive(connection, data)
        turn = self._turn
        if plain and turn is not None and self._pipe:
            self._to_client(turn, plain)
        elif plain and turn is not None and turn.relay is not None:
            self._progress(turn, turn.relay, turn.relay.receive(plain))
        elif plain:
            self._end("the target sent what was not asked for")
        if self._link.ended:
            self._look_at_target()

    def _look_at_target(self) -> None:
        if self._link.ended and not self._over and not (self._turn is not None and self._turn.showing):
            self._target_ended()

    def _target_ended(self) -> None:
        turn = self._turn
        if self._pipe:
            whole = self._link.peer is not None and self._link.peer.ended
            how = "closed the connection" if whole else "ended without its TLS session"
            self._first_end = self._first_end or f"the target {how}"
            self._client.finish(whole=whole)
            if self._client.ended:
                self._record(self._first_end)
                self._close()
        elif turn is None or turn.relay is None or (self._link.reused and turn.relay.untouched):
            # As without a proxy: the client itself knows whether it may send a request once more.
            self._record("the target closed the connection")
            self._close()
        else:
            proper = self._link.peer is not None and self._link.peer.ended
            self._progress(turn, turn.relay, turn.relay.receive_eof(proper=proper))

    def _progress(self, turn: Exchange, relay: Response, out: bytes) -> None:
        if relay.head is not None and relay.failure is None and turn.shows_head():
            self._show(turn, relay, out)
            return
        if out:
            turn.answered(relay, self._service.recorder)
            self._to_client(turn, out)
        if isinstance(relay.failure, Deny):
            self._refuse(relay.failure)
        elif isinstance(relay.failure, Broken):
            self.cut(relay.failure.reason)
        elif relay.switched:
            self._pipe = True
            turn.end_observation("", self._line.tell)
            self._to_target(self._requests.take_pending())
            self._line.release()
        elif relay.complete:
            self._finish(turn, relay)

    # Where somebody watches

    def _show(self, turn: Exchange, relay: Response, out: bytes) -> None:
        """Nothing of the answer goes to the client before its head was shown."""
        turn.withheld += out
        hook = turn.show_head(relay)
        if hook is not None and self._link.peer is not None:
            self._line.hold(self._link.peer.connection)
            self._line.ask(hook, lambda: self._shown(turn, relay))

    def _shown(self, turn: Exchange, relay: Response) -> None:
        turn.showing = False
        if self._over:
            return
        if turn.observation is not None and turn.observation.killed:
            self.cut("killed by a watcher")
            return
        if self._link.peer is not None:
            self._line.release(self._link.peer.connection)
        out, turn.withheld = turn.withheld, b""
        self._progress(turn, relay, out)
        self._look_at_target()

    # The end

    def _retire(self) -> None:
        self.retiring = True
        if self._turn is None:
            self._close()
        elif self._turn.relay is not None:
            self._turn.relay.last = True

    def _finish(self, turn: Exchange, relay: Response) -> None:
        self._record("")
        if relay.last or relay.surplus or self.retiring or not turn.whole or self._link.ended:
            self._close()
            return
        self._line.release()
        self._read(self._requests.next_message())
        self._keep_waiting()
