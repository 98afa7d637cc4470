"""The response of a target to one request, on its way to the client, without IO.

Bytes of the target go in, bytes for the client come out; what has come so far shows in the attributes.
"""

from dataclasses import dataclass
from typing import Final

from addons.http1.framing import ResponseReader
from addons.http1.messages import End, Event, Invalid, RequestHead, ResponseHead, Until, render_chunk, render_last_chunk
from addons.http1.websocket import FrameEnds
from addons.relay import inject
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target

_LINE_END: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Broken:
    """The rest of a response whose head is already with the client cannot be had."""

    reason: str


class Response:
    """See the module's text. `upgrade` is the protocol that the request may be switched to."""

    def __init__(self, head: RequestHead, target: Target, upgrade: bytes | None, *, max_head: int) -> None:
        self.head: ResponseHead | None = None
        """The final head; None before it came."""
        self.failure: Deny | Broken | None = None
        self.complete = False
        self.switched = False
        """A 101 was passed: from now on it is a pipe."""
        self.last = inject.is_last(head)
        """The client's connection ends with this response."""
        self.untouched = True
        """Nothing of a response has come."""
        self.frames: FrameEnds | None = None
        """Of a WebSocket: knows where the frames end that have gone to the client."""
        self.warnings: list[Header] = []
        """Of ours, beside those of the target; empty once they were left out."""
        self.unsaid = False
        """They were left out: clients keep this answer, and would repeat them when they are no longer true."""
        self._goes_on = False
        """The target waits for another request after this response."""
        self._interim = False
        self._json = False
        """It is in chunks, and their content is JSON."""
        self._last_byte = _LINE_END
        self.target = target
        self._upgrade = upgrade
        self._reader = ResponseReader(max_head=max_head, method=head.method)

    def forget_fields(self) -> None:
        """The head has gone on and nobody looks at its fields again: a stream may keep them for days."""
        if self.head is not None:
            self.head = self.head._replace(headers=Headers())

    @property
    def surplus(self) -> bool:
        """More has come than the response."""
        return self.complete and bool(self._reader.kept)

    @property
    def clean(self) -> bool:
        """The target may be asked again on its connection: the response is whole, and all that has come."""
        return self.complete and self._goes_on and not self._interim and not self._reader.kept

    @property
    def until_close(self) -> bool:
        """The end of the connection is the end of the response."""
        return self.head is not None and self.head.body is Until.CLOSE and not self.switched

    def receive(self, data: bytes) -> bytes:
        """What the client gets for `data`."""
        self.untouched = False
        return self._pass(self._reader.receive(data))

    def receive_eof(self, *, proper: bool, fault: str = "") -> bytes:
        """The target sends nothing more; not `proper`: its TLS session did not end, so the response may be cut off.

        `fault` says why not, where something came that was not TLS.
        """
        if self.complete:
            return b""
        if fault:
            self._fail(fault)
            return b""
        if self.head is not None and self.head.body is Until.CLOSE and not proper:
            self._fail("the connection ended without its TLS session")
            return b""
        out = self._pass(self._reader.receive_eof())
        if not self.complete and self.failure is None:
            self._fail("it closed the connection without an answer")
        return out

    def farewell(self) -> bytes | None:
        """What ends a watch now, its last chunk. None in the middle of an event; empty if there is no such way."""
        if self.head is not None and self.head.body is Until.LAST_CHUNK:
            return render_last_chunk([]) if self._between_events() else None
        return b""

    def broken_off(self, reason: str) -> bytes:
        """What tells the client of a watch why it ends, in the middle as it were; empty where there is no place for it.

        An event of type ERROR, as the API server sends it: client-go gives it to whoever watches.
        """
        head = self.head
        if head is None or head.body is not Until.LAST_CHUNK or not self._json or not self._between_events():
            return b""
        return render_chunk(denial.watch_error(reason))

    def _between_events(self) -> bool:
        """A gateway may have cut events into chunks of its own; JSON shows where one ends."""
        return self._reader.between_chunks and (not self._json or self._last_byte == _LINE_END)

    def _pass(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            self._take(event, out)
            if self.failure is not None:
                break
        said = out[0] if len(out) == 1 else b"".join(out)
        if self.frames is not None:
            self.frames.receive(said)
        return said

    def _take(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, bytes):
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
            self.failure = denial.target_refused(self.target)
            return
        if head.status == 101:
            if not inject.accepted_upgrade(head, self._upgrade):
                self._fail("it switched to a protocol that was not asked for")
                return
            self.switched = True
        if head.status >= 200 or self.switched:
            self.head = head
            self._json = head.body is Until.LAST_CHUNK and _is_json(head)
            self._goes_on = head.body is not Until.CLOSE and not inject.is_last(head)
            self.last = self.last or not self._goes_on
        else:
            self._interim = True
        final = head.status >= 200
        if self.warnings and final and _is_kept(head):
            self.warnings.clear()
            self.unsaid = True
        out.append(inject.response_bytes(head, close=self.last and final, warnings=self.warnings if final else ()))
        if self.switched and self._upgrade == b"websocket":
            self.frames = FrameEnds(skip=sum(map(len, out)))

    def _fail(self, reason: str) -> None:
        if self.head is None:
            self.failure = denial.target_unreachable(self.target, reason)
        else:
            self.failure = Broken(reason)


def _is_kept(head: ResponseHead) -> bool:
    """kubectl keeps on disk, header and all, what has a validator: discovery. A 304 is joined with what it has kept."""
    return head.status == 304 or bool(head.headers.values(b"etag"))


def _is_json(head: ResponseHead) -> bool:
    return any(each.startswith(b"application/json") for each in head.headers.values(b"content-type"))
