"""The relay in a tunnel: one client connection, one target connection, one request after the other.

Every request is decided on by itself, with what the store holds then. A tunnel is one pipe: what ends on either side
ends it, after the response; nothing is retried. The lane is never paused: what it waits for comes back as an event,
so a cut, a timer or a client that has gone reach it meanwhile.
"""

from collections.abc import Iterator
from enum import Enum

from mitmproxy.proxy import events
from mitmproxy.proxy.commands import CloseConnection, Command

from addons import answers, inject
from addons.framing import Event, Invalid, RequestHead, RequestReader
from addons.line import Line, Retire, TimeUp, Wait
from addons.peer import Peer
from addons.questions import ConnectorMayUseHook, MayUse, unpaused
from addons.relay import Broken, Relay
from addons.service import Service
from addons.streams import Live
from addons.tunnel import Tunnel
from addons.turn import Turn
from addons.upstream import Dial
from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted
from connector_store.domain.caller import parse_bearer
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import values
from connector_store.domain.names import ObjectKey
from connector_store.domain.verdict import Forward, Inject, decide_request

Step = Iterator[Command]


class Stage(Enum):
    """What the lane is at."""

    IDLE = "idle"
    ASKING = "asking"
    DIALLING = "dialling"
    RELAYING = "relaying"
    PIPE = "pipe"
    OVER = "over"


class Lane:
    """See the module's text. `client` is the TLS session with the client of `tunnel`."""

    def __init__(self, service: Service, line: Line, tunnel: Tunnel, client: Peer) -> None:
        self.tunnel = tunnel
        self._service = service
        self._line = line
        self._client = client
        self._target: Peer | None = None
        self._dial: Dial | None = None
        self._stage = Stage.IDLE
        self._requests = RequestReader(max_head=service.max_header)
        self._turn: Turn | None = None
        self._asked: ConnectorMayUseHook | None = None
        self._reused = False
        self._timed = True
        self._retiring = False

    @property
    def key(self) -> ObjectKey:
        return self.tunnel.key

    @property
    def live(self) -> Live | None:
        return self._turn.live if self._turn is not None else None

    # From the client

    def from_client(self, data: bytes) -> Step:
        """Plain text that the client sent."""
        if self._stage is Stage.OVER:
            return
        if self._stage is Stage.PIPE:
            yield from self._to_target(data)
            return
        yield from self._read(self._requests.receive(data))
        if self._requests.pending:
            self._keep_waiting()

    def client_ended(self) -> Step:
        """The client sends nothing more."""
        if self._stage is Stage.PIPE and self._target is not None and not self._target.ended:
            yield from self._target.finish()
        else:
            yield from self._end("the client closed the connection")

    def _keep_waiting(self) -> None:
        """Bytes are left over: of a head, which must come in its time, or of a next request, which must wait."""
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
            if self._stage is Stage.OVER:
                return
        if out:
            yield from self._to_target(b"".join(out))

    def _to_target(self, data: bytes) -> Step:
        turn, target = self._turn, self._target
        if turn is None:
            return
        turn.bytes_in += len(data)
        if target is not None and self._stage in (Stage.RELAYING, Stage.PIPE):
            yield target.send(data)
        else:
            turn.backlog.append(data)

    # The decision

    def _begin(self, head: RequestHead) -> Step:
        self._line.disarm()
        self._timed = False
        self._line.hold()
        turn = self._turn = Turn(head=head, tunnel=self.tunnel)
        if head.method not in inject.METHODS:
            yield from self._refuse(denial.bad_request("a method that the Kubernetes API does not have"))
            return
        try:
            turn.token = self.tunnel.token or parse_bearer(_only(values(head.headers, b"authorization")))
        except ParseError as error:
            yield from self._decide(error)
            return
        answer = self._service.access.cached(turn.token, self.key)
        if answer is not None:
            yield from self._decide(answer)
            return
        self._stage = Stage.ASKING
        self._asked = unpaused(ConnectorMayUseHook(MayUse(self.key, turn.token)), self)
        yield self._asked

    def _decide(self, answer: Answer | ParseError) -> Step:
        turn = self._current()
        found = self._service.store.get(self.key)
        if isinstance(answer, Granted) and found is not None:
            turn.identity = answer.identity
        verdict = decide_request(
            synced=self._service.ready(),
            key=self.key,
            answer=answer,
            found=found,
            authority=self.tunnel.authority,
            raw_target=turn.head.target,
            headers=turn.head.headers,
        )
        if isinstance(verdict, Deny):
            yield from self._refuse(verdict)
            return
        identity = verdict.granted.identity
        if self.tunnel.give_back is None:
            self.tunnel.give_back = self._service.limits.take(identity.user, self.key)
        if self.tunnel.give_back is None:
            yield from self._refuse(denial.too_many(self._service.limits.maximum))
            return
        turn.verdict = verdict
        turn.upgrade = inject.wants_upgrade(turn.head)
        turn.live = Live(verdict.target, turn.token, verdict.granted)
        yield from self._reach(verdict)

    # The target

    def _reach(self, verdict: Inject | Forward) -> Step:
        target = self._target
        if target is not None and self._trusted(target, verdict):
            self._reused = True
            yield from self._send_head(target, verdict)
            return
        if target is not None:
            # Its trust has changed since: nothing of the old session is good for this request.
            self._target = None
            yield CloseConnection(target.connection)
        self._reused = False
        self._stage = Stage.DIALLING
        service = self._service
        self._dial = Dial(verdict.target, self._line, service.policy, service.trust, service.times.connect)
        yield from self._dial.start()
        yield from self._dialled()

    def _dialled(self) -> Step:
        dial, turn = self._dial, self._current()
        if dial is None or dial.outcome is None or turn.verdict is None:
            return
        self._dial = None
        if isinstance(dial.outcome, Deny):
            yield from self._refuse(dial.outcome)
            return
        self._target = dial.outcome
        yield from self._send_head(dial.outcome, turn.verdict)

    def _trusted(self, target: Peer, verdict: Inject | Forward) -> bool:
        """True if `target` is a finished session made with the very trust of this decision."""
        return target.established and target.tls.get_context() is self._service.trust.openssl_context(verdict.target.ca)

    def _send_head(self, target: Peer, verdict: Inject | Forward) -> Step:
        turn = self._current()
        if not self._trusted(target, verdict):
            yield from self._refuse(denial.internal())
            return
        turn.relay = Relay(turn.head, verdict.target, turn.upgrade, max_head=self._service.max_header)
        self._stage = Stage.RELAYING
        parts = [inject.request_bytes(turn.head, verdict, turn.upgrade), *turn.backlog]
        turn.backlog.clear()
        yield target.send(b"".join(parts))
        if not (turn.whole and self._requests.pending):
            self._line.release()

    def handle(self, event: events.Event) -> Step:
        """Everything but the client's own bytes."""
        if self._stage is Stage.OVER:
            return
        if isinstance(event, TimeUp) and event.wait is Wait.CLIENT:
            yield from self._end("no whole request in time")
        elif isinstance(event, Retire):
            yield from self._retire()
        elif self._asked is not None and isinstance(event, events.HookCompleted) and event.command is self._asked:
            question, self._asked = self._asked.data, None
            yield from self._decide(question.answer)
        elif self._dial is not None:
            yield from self._dial.handle(event)
            yield from self._dialled()
        elif (
            isinstance(event, events.ConnectionEvent)
            and self._target is not None
            and event.connection is self._target.connection
        ):
            yield from self._from_target(self._target, event)

    def _from_target(self, target: Peer, event: events.ConnectionEvent) -> Step:
        closed = not isinstance(event, events.DataReceived)
        if isinstance(event, events.DataReceived) and not target.ended:
            try:
                data = target.receive(event.data)
            except ConnectionError:
                data, closed = b"", True
            yield from target.pending()
            if data:
                yield from self._answer(data)
            closed = closed or target.ended
        if closed and self._stage is not Stage.OVER and self._target is target:
            yield from self._target_ended(target)

    def _answer(self, data: bytes) -> Step:
        turn = self._turn
        if self._stage is Stage.PIPE:
            yield from self._to_client(data)
        elif turn is None or turn.relay is None:
            yield from self._end("the target sent what was not asked for")
        else:
            yield from self._progress(turn, turn.relay, turn.relay.receive(data))

    def _target_ended(self, target: Peer) -> Step:
        turn = self._turn
        if self._stage is Stage.PIPE:
            yield from self._client.finish()
            if self._client.ended:
                yield from self._end("")
        elif turn is None or turn.relay is None:
            yield from self._end("the target closed the connection")
        elif self._reused and turn.relay.untouched:
            # As without a proxy: the client itself knows whether it may send this once more.
            yield from self._end("the target closed the connection")
        else:
            yield from self._progress(turn, turn.relay, turn.relay.receive_eof(proper=target.ended))

    def _progress(self, turn: Turn, relay: Relay, out: bytes) -> Step:
        if out:
            turn.answered(relay, self._service.recorder)
            yield from self._to_client(out)
        if isinstance(relay.failure, Deny):
            yield from self._refuse(relay.failure)
        elif isinstance(relay.failure, Broken):
            self.cut(relay.failure.reason)
        elif relay.switched:
            self._stage = Stage.PIPE
            yield from self._to_target(self._requests.take_pending())
        elif relay.complete:
            yield from self._finish(turn, relay)

    def _to_client(self, data: bytes) -> Step:
        self._current().bytes_out += len(data)
        yield self._client.send(data)

    # The end

    def _retire(self) -> Step:
        self._retiring = True
        if self._turn is None:
            yield from self._close()
        elif self._turn.relay is not None:
            self._turn.relay.last = True

    def _finish(self, turn: Turn, relay: Relay) -> Step:
        self._record("")
        if relay.last or self._retiring or not turn.whole:
            yield from self._close()
            return
        self._stage = Stage.IDLE
        self._line.release()
        yield from self._read(self._requests.next_message())
        if self._requests.pending:
            self._keep_waiting()

    def _refuse(self, deny: Deny) -> Step:
        """Answer at once, whatever of the request is still to come; the tunnel ends with it."""
        turn = self._current()
        turn.denied(deny)
        answer = answers.refusal(deny, with_body=turn.head.method != b"HEAD")
        turn.bytes_out += len(answer)
        yield self._client.send(answer)
        self._record("")
        yield from self._close()

    def _refuse_invalid(self, invalid: Invalid) -> Step:
        turn = self._turn
        if turn is not None and (self._stage is Stage.RELAYING or turn.relay is not None):
            # The target has a part of it: that must not look whole.
            self.cut(f"the request is not HTTP/1.1: {invalid.reason}")
            return
        if turn is None:
            self._turn = Turn(head=RequestHead(b"", b"", 1, [], 0), tunnel=self.tunnel)
        large = invalid.status == 431
        deny = denial.header_too_large(self._service.max_header) if large else denial.bad_request(invalid.reason)
        yield from self._refuse(deny)

    def _close(self) -> Step:
        """The answer is whole: take leave of the client properly, and of the target."""
        self._stage = Stage.OVER
        yield from self._leave_target()
        yield from self._client.finish()
        self._line.linger()

    def _end(self, reason: str) -> Step:
        """One side has gone, and with it the tunnel."""
        self._record(reason)
        self._stage = Stage.OVER
        yield from self._leave_target()
        yield from self._client.finish()
        yield CloseConnection(self._client.connection)

    def _leave_target(self) -> Step:
        if self._dial is not None:
            yield from self._dial.abandon()
            self._dial = None
        if self._target is not None:
            yield CloseConnection(self._target.connection)

    def cut(self, reason: str) -> None:
        """End both sides at once, with nothing that could look like an end."""
        self._record(reason)
        self._stage = Stage.OVER
        self._line.cut()

    def closed(self) -> None:
        """The client connection is gone."""
        self._record("the connection ended")
        self._stage = Stage.OVER
        if self.tunnel.give_back is not None:
            self.tunnel.give_back()
            self.tunnel.give_back = None
        self._service.streams.remove(self)

    def _record(self, reason: str) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.ended(reason, self._service.recorder)

    def _current(self) -> Turn:
        if self._turn is None:
            raise RuntimeError("no request runs")
        return self._turn


def _only(found: list[bytes]) -> bytes | None:
    """The one value of a header; several are as good as an unreadable one."""
    return found[0] if len(found) == 1 else None
