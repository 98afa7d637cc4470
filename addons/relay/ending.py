"""What a lane has, and the ways in which it ends: with an answer, with a side that has gone, or cut."""

import logging
from dataclasses import dataclass

from mitmproxy.proxy import events

from addons.access.grant import Grant
from addons.access.live import Live
from addons.http1.framing import RequestReader
from addons.http1.messages import Invalid, RequestHead
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from addons.relay import replies
from addons.relay.exchange import Exchange
from addons.relay.shared import Shared
from addons.relay.upstream import Upstream
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.headers import Fields
from connector_store.domain.names import ObjectKey

logger = logging.getLogger(__name__)


@dataclass
class TakeLeave(events.Event):
    """The time of what runs is over; told again until it has ended."""

    reason: str


class Ending:
    """`client` is the TLS session with the client of `tunnel`."""

    def __init__(self, service: Shared, line: Sockets, tunnel: Grant, client: TlsStream) -> None:
        self.tunnel = tunnel
        self._service = service
        self._line = line
        self._client = client
        self._link = Upstream(service, line)
        self._requests = RequestReader(max_head=service.max_header)
        self._turn: Exchange | None = None
        self._over = False
        self._pipe = False
        """An upgrade: bytes pass as they are."""
        self._first_end = ""
        """Which side of the pipe has ended, where one has."""

    @property
    def key(self) -> ObjectKey:
        return self.tunnel.key

    @property
    def live(self) -> Live | None:
        """What runs was admitted with this; None between requests."""
        return self._turn.live if self._turn is not None else None

    def _to_client(self, turn: Exchange, data: bytes) -> None:
        turn.bytes_out += len(data)
        if turn.relay is not None and turn.relay.frames is not None:
            turn.relay.frames.receive(data)
        self._client.send(data)

    def _refuse(self, deny: Deny) -> None:
        """Answer at once, whatever of the request is still to come; the tunnel ends with it."""
        turn = self._current()
        turn.denied(deny)
        self._say_last(replies.refusal(deny, with_body=turn.head.method != b"HEAD"), deny.status)

    def _say_last(self, answer: bytes, status: int) -> None:
        self._current().status = status
        self._to_client(self._current(), answer)
        self._record("")
        self._close(patient=False)

    def _refuse_invalid(self, invalid: Invalid) -> None:
        if self._turn is not None and self._turn.relay is not None:
            # The target has a part of it: that must not look whole.
            self.cut(f"the request is not HTTP/1.1: {invalid.reason}")
            return
        if self._turn is None:
            self._turn = Exchange(head=RequestHead(b"", b"", 1, Fields(), 0), tunnel=self.tunnel)
        self._refuse(denial.invalid(invalid.status, invalid.reason, self._service.max_header))

    def _close(self, *, patient: bool = True) -> None:
        """The answer is whole: take leave of the client properly, and of the target. `patient`: see Sockets.linger."""
        self._over = True
        self._link.leave()
        self._client.finish()
        self._line.linger(patient=patient)

    def _end_client(self, how: str) -> None:
        if self._turn is None and self._requests.pending:
            logger.info("client %s: %s in the middle of a head", self.tunnel.source_ip, how)
        self._end(f"the client {how}")

    def look(self) -> None:
        """A tunnel that is not read, as what came waits for something else, does not tell that its client has gone."""
        if not self._over and (self._line.client_dead if self._pipe else self._line.client_left_unread):
            self._end_client("closed the connection")

    def _end(self, reason: str) -> None:
        """One side has gone, and with it the tunnel."""
        self._record(reason)
        self._over = True
        self._link.leave()
        self._client.finish()
        self._line.close(self._client.connection)

    def take_leave(self, reason: str) -> None:
        """End what runs in an orderly way; not in the middle of an event or a frame: then it is asked again."""
        if self._over:
            return
        turn = self._turn
        relay = turn.relay if turn is not None else None
        if relay is not None and relay.until_close:
            # Its end would look like the whole answer's.
            self.cut(reason)
            return
        if turn is not None and turn.stream and relay is not None:
            last = relay.farewell(reason, watch=turn.stream == "watch")
            if last is None:
                return
            if last and not self._link.ended:
                self._to_client(turn, last)
        self._record(reason)
        self._close()

    def cut(self, reason: str) -> None:
        """End both sides at once, with nothing that could look like an end."""
        self._record(reason)
        self._over = True
        self._line.cut()

    def closed(self) -> None:
        """The client connection is gone."""
        self._over = True
        self._service.streams.remove(self)
        if self.tunnel.give_back is not None:
            self.tunnel.give_back()
            self.tunnel.give_back = None
        self._record("the connection ended")

    def _record(self, reason: str) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.ended(reason, self._service.recorder, self._line.tell)

    def _current(self) -> Exchange:
        if self._turn is None:
            raise RuntimeError("no request runs")
        return self._turn
