"""Requests of a client connection, one after the other: each is decided on by itself, with what the store holds then.

What ends on either side ends the connection, after the response. Nothing is sent twice, but for what may be: a GET or
HEAD without a body, once, on a new connection to the target. Nothing else begins on a connection that was kept from
another client. Nothing here ever pauses: what a request waits for comes back as an event, so a cut, a timer or a
client that has gone reach it meanwhile.
"""

import logging
import time
from enum import Enum

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.admission import Admission, Decision
from addons.access.grant import Asked
from addons.access.live import Live
from addons.http1.framing import RequestReader
from addons.http1.messages import Event, Invalid, RequestHead
from addons.net.dial import Dial
from addons.net.events import Retire, TakeLeave, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.net.tls import Stream, TlsStream
from addons.relay import replies
from addons.relay.doors import Door
from addons.relay.exchange import Exchange
from addons.relay.pipe import Pipe
from addons.relay.response import Broken
from addons.relay.shared import Shared
from addons.relay.upstream import Upstream
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.verdict import Forward, Inject
from connector_store.domain.decision.warning import expiry_warning_text, warning_header
from connector_store.domain.objects.models import Target

logger = logging.getLogger(__name__)


class Phase(Enum):
    """Where the requests of a connection stand."""

    HEAD = "a head has its time to come"
    IDLE = "nothing is awaited"
    ADMISSION = "the decision, or the connection to the target, is awaited"
    RESPONSE = "the target has the head of the request"
    OVER = "nothing more is served"


class Requests:
    """The stage of a client connection on which requests come: in the TLS of a tunnel, or at the direct door."""

    def __init__(
        self,
        shared: Shared,
        sockets: Sockets,
        admission: Admission,
        door: Door,
        client: Stream,
        reader: RequestReader,
    ) -> None:
        """`reader` is new, or has read what `take_over` gets."""
        self.key: ObjectKey | None = None
        """The Connector of the request that runs, or was the last."""
        self._door = door
        self._shared = shared
        self._sockets = sockets
        self._admission = admission
        self._client = client
        self._reader = reader
        reader.max_head = shared.max_header
        self._phase = Phase.IDLE
        self._exchange: Exchange | None = None
        self._upstream: Upstream | None = None
        self._dial: Dial | None = None
        self._warned = False
        """The client has been told of that Connector's credential, if it ends soon."""

    def take_over(self, found: list[Event]) -> None:
        """Go on where another stage has read: `found` begins with a head."""
        self._take(found)
        if self._client.ended and self._phase is not Phase.OVER:
            # What comes of it from now on is not told any more.
            self._client_left("closed the connection")

    def begin(self, early: bytes) -> None:
        """`early` is what the client has said with the end of its handshake."""
        self._await_head()
        if early:
            self._take(self._reader.receive(early))
        if self._client.ended and self._phase is not Phase.OVER:
            self._client_left("closed the connection")

    # What is live, for `Streams`

    @property
    def live(self) -> Live | None:
        """What runs was admitted with; None between requests."""
        return self._exchange.live if self._exchange is not None else None

    def cut(self, reason: str) -> None:
        """End both sides at once, with nothing that could look like an end; a watch between two events is told why."""
        exchange = self._exchange
        if exchange is not None and exchange.response is not None and exchange.stream == "watch":
            told = exchange.response.broken_off(reason)
            exchange.bytes_out += len(told)
            self._client.send(told)
        self._end_exchange(reason)
        self._phase = Phase.OVER
        self._sockets.cut()

    def look(self) -> None:
        """A client that is not read, as what came waits for something else, does not tell that it has gone."""
        if self._phase is not Phase.OVER and self._sockets.client_left_unread:
            self._client_left("closed the connection")

    # The stage

    def received(self, connection: Connection, data: memoryview) -> None:
        if connection is self._client.connection:
            self._from_client(data)
        elif self._dial is not None:
            self._dial.receive(connection, data)
        elif self._upstream is not None and connection is self._upstream.connection and not self._upstream.ended:
            self._from_target(self._upstream, data)

    def ended(self, connection: Connection) -> None:
        if connection is self._client.connection:
            if not self._client.ended:
                self._client.ended = self._client.cut_off = True
                self._client_left("closed the connection")
        elif self._dial is not None:
            self._dial.closed(connection)
        elif (upstream := self._upstream) is not None and connection is upstream.connection and not upstream.ended:
            upstream.closed()
            self._target_ended(upstream)

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TimeUp) and event.wait is Wait.CLIENT:
            self._client_left("sent no whole request in time")
        elif isinstance(event, Retire):
            self._retire()
        elif isinstance(event, TakeLeave):
            self._take_leave(event.reason)
        elif self._dial is not None:
            self._dial.handle(event)

    def closed(self) -> None:
        self._phase = Phase.OVER
        self._shared.streams.remove(self)
        self._end_exchange("the connection ended")

    # From the client

    def _from_client(self, data: memoryview) -> None:
        try:
            plain = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._phase = Phase.OVER
            self._sockets.close(self._client.connection)
            return
        if plain:
            self._take(self._reader.receive(plain))
        if self._client.ended and self._phase is not Phase.OVER:
            self._client_left("closed the connection")

    def _look_behind(self) -> None:
        """Bytes are left over: of a head, which must come in its time, or of a next request, which must wait."""
        if self._exchange is not None:
            self._sockets.hold()
        elif self._phase is Phase.IDLE:
            self._await_head()

    def _await_head(self) -> None:
        self._phase = Phase.HEAD
        self._sockets.arm(self._shared.times.client, Wait.CLIENT)

    def _take(self, found: list[Event]) -> None:
        """What the client said."""
        out: list[bytes] = []
        for event in found:
            if isinstance(event, RequestHead):
                self._begin(event)
            elif isinstance(event, Invalid):
                self._refuse_invalid(event)
            elif self._exchange is not None:
                self._exchange.take(event, out)
            if self._phase is Phase.OVER:
                return
        if out:
            self._to_target(b"".join(out))
        if self._reader.kept and self._phase is not Phase.OVER:
            self._look_behind()

    def _to_target(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.bytes_in += len(data)
        if self._phase is Phase.RESPONSE and self._upstream is not None:
            self._upstream.send(data)
        else:
            exchange.backlog.append(data)

    # One request

    def _begin(self, head: RequestHead) -> None:
        if self._phase is Phase.HEAD:
            self._sockets.disarm()
        self._phase = Phase.ADMISSION
        asked = self._door.asked
        if asked is None:
            request = self._door.read(head)
            if isinstance(request, Deny):
                self._exchange = self._make_exchange(head, None)
                self._refuse(request)
                return
            asked, head = request
        if asked.key != self.key:
            self._register(asked.key)
        self._exchange = self._make_exchange(head, asked)
        decision = self._admission.request(head, asked, self._waited_for)
        if decision is not None:
            self._decided(self._exchange, decision)

    def _make_exchange(self, head: RequestHead, asked: Asked | None) -> Exchange:
        return Exchange(head=head, asked=asked, identity=self._door.identity, source_ip=self._sockets.source_ip)

    def _register(self, key: ObjectKey) -> None:
        """What runs is that Connector's from now on."""
        self._shared.streams.remove(self)
        self.key = key
        self._warned = False
        self._shared.streams.add(self)

    def _waited_for(self, decision: Decision) -> None:
        exchange = self._current()
        exchange.decision = decision
        if isinstance(decision.verdict, Deny) or not self._nobody_waits():
            self._decided(exchange, decision)
            self._read_on()

    def _decided(self, exchange: Exchange, decision: Decision) -> None:
        exchange.decision = decision
        if isinstance(decision.verdict, Deny):
            self._refuse(decision.verdict)
        elif isinstance(decision.verdict, Inject | Forward):
            if exchange.asked is not None and exchange.asked.authority is None:
                self._address(exchange, exchange.asked, decision.verdict)
            self._admitted(exchange, decision.verdict)

    def _address(self, exchange: Exchange, asked: Asked, verdict: Inject | Forward) -> None:
        """A request to the proxy becomes one to the target."""
        address = verdict.target.address
        exchange.head = self._door.write(exchange.head, address)
        exchange.asked = Asked(asked.key, address.authority, asked.token)

    def _admitted(self, exchange: Exchange, verdict: Inject | Forward) -> None:
        upstream = self._upstream
        if upstream is not None and upstream.serves(verdict.target, self._shared.trust):
            self._send_head(exchange, verdict, upstream)
            return
        self._leave_target()
        shared = self._shared
        # The target may be ending it just now, which only a client that has used it before would take into account.
        kept = shared.kept.take(verdict.target, shared.trust) if exchange.repeatable and not exchange.again else None
        if kept is not None:
            self._upstream = kept
            kept.join(self._sockets)
            self._send_head(exchange, verdict, kept)
            return
        self._sockets.hold()
        self._dial = Dial(
            verdict.target,
            self._sockets,
            shared.resolver,
            shared.checks.rules.addresses,
            shared.trust,
            shared.times.connect,
            lambda outcome: self._dialled(verdict, outcome),
        )
        self._dial.start()

    def _dialled(self, verdict: Inject | Forward, outcome: TlsStream | Deny) -> None:
        """The decision is the one that the credential is written for: between the check and that nothing waits."""
        self._dial = None
        if isinstance(outcome, Deny):
            self._refuse(outcome)
            return
        trust = self._shared.trust
        self._upstream = Upstream(outcome, verdict.target, trust, self._sockets)
        if not self._upstream.serves(verdict.target, trust):
            self._refuse(denial.internal_error())
        elif not self._nobody_waits():
            self._send_head(self._current(), verdict, self._upstream)
            self._read_on()

    def _nobody_waits(self) -> bool:
        """True if the client has gone meanwhile: then the target is not asked."""
        if self._sockets.client_gone:
            self._end("the client closed the connection")
        return self._phase is Phase.OVER

    def _send_head(self, exchange: Exchange, verdict: Inject | Forward, upstream: Upstream) -> None:
        exchange.used = upstream.served > 0
        shared = self._shared
        start = exchange.forward(
            verdict, max_head=shared.max_header, last=self._sockets.retiring, tells_address=shared.forwarded_for
        )
        if exchange.response is not None and not self._warned:
            exchange.response.warnings += self._foresight(verdict.target)
        upstream.begin(start)
        self._phase = Phase.RESPONSE

    def _foresight(self, target: Target) -> list[Header]:
        """What the first answer of a connection says of a credential that ends soon."""
        ends = target.credential.expires_at if target.credential is not None else None
        if ends is None:
            return []
        told = expiry_warning_text(target, expires_at=ends, now=time.time(), expiry_warning=self._shared.warn_before)
        return [warning_header(told)] if told is not None else []

    def _read_on(self) -> None:
        """The client was not read while something was waited for."""
        if self._phase is Phase.RESPONSE and not self._reader.kept:
            self._sockets.release()

    # From the target

    def _from_target(self, upstream: Upstream, data: memoryview) -> None:
        plain = upstream.receive(data)
        exchange = self._exchange
        if plain and exchange is not None and exchange.response is not None:
            self._progress(exchange, exchange.response.receive(plain))
        elif plain:
            self._end("the target sent what was not asked for")
        if upstream.ended and self._phase is not Phase.OVER and self._upstream is upstream:
            self._target_ended(upstream)

    def _target_ended(self, upstream: Upstream) -> None:
        exchange = self._exchange
        response = exchange.response if exchange is not None else None
        asked = exchange.asked if exchange is not None else None
        if exchange is not None and asked is not None and exchange.may_be_sent_again and not upstream.broken:
            self._send_again(exchange, asked)
        elif exchange is None or response is None or (exchange.used and response.untouched and not upstream.broken):
            # As without a proxy: the client itself knows whether it may send a request once more.
            self._end_exchange("the target closed the connection")
            self._close()
        else:
            self._progress(exchange, response.receive_eof(proper=upstream.whole, fault=upstream.broken))

    def _send_again(self, exchange: Exchange, asked: Asked) -> None:
        """On a new connection; what the request may do is decided anew."""
        exchange.again = True
        exchange.response = None
        self._shared.kept.sent_again += 1
        self._leave_target()
        self._phase = Phase.ADMISSION
        decision = self._admission.request(exchange.head, asked, self._waited_for)
        if decision is not None:
            self._decided(exchange, decision)

    def _progress(self, exchange: Exchange, out: bytes) -> None:
        """`out` is what the client gets of the response now."""
        response = exchange.response
        if response is None:
            return
        if out:
            exchange.answered(self._shared.recorders)
            exchange.bytes_out += len(out)
            self._client.send(out)
        if isinstance(response.failure, Deny):
            if response.failure.cause == denial.TARGET_REFUSED:
                self._shared.checks.lending.refused(response.target)
            self._refuse(response.failure)
        elif isinstance(response.failure, Broken):
            self.cut(response.failure.reason)
        elif response.switched:
            self._upgrade(exchange)
        elif response.complete:
            self._finish(exchange)

    def _upgrade(self, exchange: Exchange) -> None:
        """Both sides speak another protocol from now on: a pipe takes the place of this stage."""
        if self._upstream is None:
            raise RuntimeError("no target to pass bytes to")
        self._phase, self._exchange = Phase.OVER, None
        self._shared.streams.remove(self)
        pipe = Pipe(self._shared, self._sockets, self._client, self._upstream, exchange)
        self._sockets.serve(pipe)
        pipe.begin(self._reader.take_pending())

    def _finish(self, exchange: Exchange) -> None:
        response, upstream = exchange.response, self._upstream
        clean = response is not None and response.clean
        if clean and exchange.whole and upstream is not None and not upstream.ended:
            upstream.rests = time.monotonic()
        self._warned = response is None or not response.unsaid
        self._end_exchange("")
        last = response is None or response.last or (not clean and response.surplus) or self._sockets.retiring
        if last or not exchange.whole or upstream is None or upstream.ended:
            self._close()
            return
        self._phase = Phase.IDLE
        waiting = self._reader.next_message()
        if waiting is not None:
            self._sockets.release()
            self._take(waiting)

    # The end

    def _refuse(self, deny: Deny) -> None:
        """Answer at once, whatever of the request is still to come; the connection ends with it."""
        exchange = self._current()
        exchange.denied(deny)
        self._say_last(exchange, replies.refusal(deny, with_body=exchange.head.method != b"HEAD"))

    def _say_last(self, exchange: Exchange, answer: bytes) -> None:
        exchange.bytes_out += len(answer)
        self._client.send(answer)
        self._end_exchange("")
        self._close(patient=False)

    def _refuse_invalid(self, invalid: Invalid) -> None:
        if self._phase is Phase.RESPONSE:
            # The target has a part of it: that must not look whole.
            self.cut(f"the request is not HTTP/1.1: {invalid.reason}")
            return
        if self._exchange is None:
            key = self._door.key
            asked = Asked(key, None, ParseError("", invalid.reason)) if key is not None else None
            self._exchange = self._make_exchange(RequestHead(b"", b"", 1, Headers(), 0), asked)
        self._refuse(denial.invalid_message(invalid.status, invalid.reason, self._shared.max_header))

    def _retire(self) -> None:
        if self._exchange is None:
            self._close()
        elif self._exchange.response is not None:
            self._exchange.response.last = True

    def _take_leave(self, reason: str) -> None:
        """End what runs in an orderly way; not in the middle of an event: then it is asked again."""
        exchange = self._exchange
        response = exchange.response if exchange is not None else None
        if exchange is not None and response is not None:
            if response.until_close:
                # Its end would look like the whole response's.
                self.cut(reason)
                return
            last = response.farewell() if exchange.stream == "watch" else b""
            if last is None:
                return
            if last and (self._upstream is None or not self._upstream.ended):
                exchange.bytes_out += len(last)
                self._client.send(last)
        self._end_exchange(reason)
        self._close()

    def _client_left(self, how: str) -> None:
        if self._exchange is None and self._reader.kept:
            logger.debug("client %s: %s in the middle of a head", self._sockets.source_ip, how)
        self._end(f"the client {how}")

    def _close(self, *, patient: bool = True) -> None:
        """The response is whole: take leave of the client properly, and of the target. `patient`: see `Sockets`."""
        self._phase = Phase.OVER
        self._leave_target()
        self._client.finish()
        self._sockets.linger(patient=patient)

    def _end(self, reason: str) -> None:
        """One side has gone, and with it the tunnel."""
        self._end_exchange(reason)
        self._phase = Phase.OVER
        self._leave_target()
        self._client.finish()
        self._sockets.close(self._client.connection)

    def _leave_target(self) -> None:
        if self._dial is not None:
            self._dial.abandon()
            self._dial = None
        if self._upstream is not None:
            self._shared.kept.put(self._upstream)
            self._upstream = None

    def _end_exchange(self, reason: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.ended(reason, self._shared.recorders)

    def _current(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("no request runs")
        return self._exchange
