"""The answer of a target to one request, on its way to the client, without IO.

Bytes of the target go in, bytes for the client come out; what the lane has to know shows in the attributes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from addons.http1.framing import ResponseReader
from addons.http1.messages import End, Event, Invalid, RequestHead, ResponseHead, Until, render_chunk, render_last_chunk
from addons.http1.websocket import FrameEnds, going_away
from addons.relay import inject
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.models import Target

_LINE_END: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Broken:
    """The rest of an answer whose head is already with the client cannot be had."""

    reason: str


class Response:
    """See the module's text. `upgrade` is the protocol that the request may be switched to.

    `keep` gets the content of the answer's body, where somebody watches.
    """

    def __init__(
        self,
        head: RequestHead,
        target: Target,
        upgrade: bytes | None,
        *,
        max_head: int,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self.head: ResponseHead | None = None
        """The final head; None before it came."""
        self.failure: Deny | Broken | None = None
        self.complete = False
        self.switched = False
        """A 101 was passed: from now on it is a pipe."""
        self.last = inject.is_last(head)
        """The tunnel ends with this answer."""
        self.untouched = True
        """Nothing of an answer has come."""
        self.frames: FrameEnds | None = None
        """Of a WebSocket: is to be told what goes to the client."""
        self._last_byte = _LINE_END
        self._keep = keep
        self._target = target
        self._upgrade = upgrade
        self._reader = ResponseReader(max_head=max_head, method=head.method)

    @property
    def surplus(self) -> bool:
        """More has come than the answer."""
        return self.complete and self._reader.pending > 0

    @property
    def until_close(self) -> bool:
        """The end of the connection is the end of the answer."""
        return self.head is not None and self.head.body is Until.CLOSE and not self.switched

    def receive(self, data: bytes) -> bytes:
        """What the client gets for `data`."""
        self.untouched = False
        return self._pass(self._reader.receive(data))

    def receive_eof(self, *, proper: bool) -> bytes:
        """The target sends nothing more; not `proper`: its TLS session did not end, so the answer may be cut off."""
        if self.complete:
            return b""
        if self.head is not None and self.head.body is Until.CLOSE and not proper:
            self._fail("the connection ended without its TLS session")
            return b""
        out = self._pass(self._reader.receive_eof())
        if not self.complete and self.failure is None:
            self._fail("it closed the connection without an answer")
        return out

    def farewell(self, reason: str, *, watch: bool) -> bytes | None:
        """What ends the answer now, in the way of its protocol: a watch's last chunk, a WebSocket's Close frame.

        None in the middle of an event or a frame; empty if there is no such way.
        """
        if self.frames is not None:
            return going_away(reason) if self.frames.between else None
        if watch and self.head is not None and self.head.body is Until.LAST_CHUNK:
            return render_last_chunk([]) if self._between_events(self.head) else None
        return b""

    def _between_events(self, head: ResponseHead) -> bool:
        """A gateway may have cut events into chunks of its own; JSON shows where one ends."""
        json = any(each.startswith(b"application/json") for each in head.headers.values(b"content-type"))
        return self._reader.between_chunks and (not json or self._last_byte == _LINE_END)

    def _pass(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            self._take(event, out)
            if self.failure is not None:
                break
        return out[0] if len(out) == 1 else b"".join(out)

    def _take(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, bytes):
            if self._keep is not None:
                self._keep(event)
            self._last_byte = event[-1]
            chunked = self.head is not None and self.head.body is Until.LAST_CHUNK
            out.append(render_chunk(event) if chunked else event)
        elif isinstance(event, ResponseHead):
            self._take_head(event, out)
        elif isinstance(event, End):
            self.complete = True
            if self.head is not None and self.head.body is Until.LAST_CHUNK:
                out.append(render_last_chunk(event.trailers))
        elif isinstance(event, Invalid):
            self._fail(f"its answer is not HTTP/1.1: {event.reason}")

    def _take_head(self, head: ResponseHead, out: list[bytes]) -> None:
        if head.status == 401:
            self.failure = denial.target_refused(self._target)
            return
        if head.status == 101:
            if not inject.accepted_upgrade(head, self._upgrade):
                self._fail("it switched to a protocol that was not asked for")
                return
            self.switched = True
        if head.status >= 200 or self.switched:
            self.head = head
            self.last = self.last or head.body is Until.CLOSE or inject.is_last(head)
        out.append(inject.response_bytes(head, close=self.last and head.status >= 200))
        if self.switched and self._upgrade == b"websocket":
            self.frames = FrameEnds(skip=sum(map(len, out)))

    def _fail(self, reason: str) -> None:
        if self.head is None:
            self.failure = denial.target_unreachable(self._target, reason)
        else:
            self.failure = Broken(reason)
