"""The response of a target to one request, on its way to the client, without IO.

Bytes of the target go in, bytes for the client come out; what has come so far shows in the attributes.
"""

from dataclasses import dataclass
from typing import Final

from addons.http1.framing import ResponseReader
from addons.http1.messages import (
    BodyEnd,
    EndOfMessage,
    InvalidMessage,
    MessageEvent,
    RequestHead,
    ResponseHead,
    render_chunk,
    render_last_chunk,
)
from addons.http1.websocket import FrameTracker
from addons.relay import inject
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target

_LINE_END: Final = 0x0A


@dataclass(frozen=True, slots=True)
class TruncatedResponse:
    """The rest of a response whose head is already with the client cannot be had."""

    reason: str


class Response:
    """See the module's text. `upgrade` is the protocol that the request may be switched to."""

    def __init__(self, head: RequestHead, target: Target, upgrade: bytes | None, *, max_head: int) -> None:
        self.head: ResponseHead | None = None
        """The final head; None before it came."""
        self.failure: Deny | TruncatedResponse | None = None
        self.is_complete = False
        self.is_upgraded = False
        """A 101 was passed: from now on it is a pipe."""
        self.must_close = inject.announces_close(head)
        """The client's connection ends with this response."""
        self.is_empty = True
        """Nothing of a response has come."""
        self.frame_tracker: FrameTracker | None = None
        """Of a WebSocket: knows where the frames end that have gone to the client."""
        self.warnings: list[Header] = []
        """Of ours, beside those of the target; empty once they were left out."""
        self.warnings_omitted = False
        """They were left out: clients keep this answer, and would repeat them when they are no longer true."""
        self._is_keep_alive = False
        """The target waits for another request after this response."""
        self._has_interim_head = False
        self._is_json_stream = False
        """It is in chunks, and their content is JSON."""
        self._last_byte = _LINE_END
        self.target = target
        self._upgrade = upgrade
        self._reader = ResponseReader(max_head=max_head, method=head.method)

    def drop_headers(self) -> None:
        """The head has gone on and nobody looks at its fields again: a stream may keep them for days."""
        if self.head is not None:
            self.head = self.head._replace(headers=Headers())

    @property
    def has_unsolicited_data(self) -> bool:
        """More has come than the response."""
        return self.is_complete and bool(self._reader.buffer)

    @property
    def allows_reuse(self) -> bool:
        """The target may be asked again on its connection: the response is whole, and all that has come."""
        return self.is_complete and self._is_keep_alive and not self._has_interim_head and not self._reader.buffer

    @property
    def is_close_delimited(self) -> bool:
        """The end of the connection is the end of the response."""
        return self.head is not None and self.head.body is BodyEnd.CLOSE and not self.is_upgraded

    def receive(self, data: bytes) -> bytes:
        """What the client gets for `data`."""
        self.is_empty = False
        return self._render_messages(self._reader.receive(data))

    def receive_eof(self, *, clean_eof: bool, tls_error: str = "") -> bytes:
        """The target sends nothing more; not `proper`: its TLS session did not end, so the response may be cut off.

        `fault` says why not, where something came that was not TLS.
        """
        if self.is_complete:
            return b""
        if tls_error:
            self._fail(tls_error)
            return b""
        if self.head is not None and self.head.body is BodyEnd.CLOSE and not clean_eof:
            self._fail("the connection ended without its TLS session")
            return b""
        output = self._render_messages(self._reader.receive_eof())
        if not self.is_complete and self.failure is None:
            self._fail("it closed the connection without an answer")
        return output

    def render_end(self) -> bytes | None:
        """What ends a watch now, its last chunk. None in the middle of an event; empty if there is no such way."""
        if self.head is not None and self.head.body is BodyEnd.LAST_CHUNK:
            return render_last_chunk([]) if self._is_between_events() else None
        return b""

    def render_error_event(self, reason: str) -> bytes:
        """What tells the client of a watch why it ends, in the middle as it were; empty where there is no place for it.

        An event of type ERROR, as the API server sends it: client-go gives it to whoever watches.
        """
        head = self.head
        if (
            head is None
            or head.body is not BodyEnd.LAST_CHUNK
            or not self._is_json_stream
            or not self._is_between_events()
        ):
            return b""
        return render_chunk(denial.watch_error(reason))

    def _is_between_events(self) -> bool:
        """A gateway may have cut events into chunks of its own; JSON shows where one ends."""
        return self._reader.is_between_chunks and (not self._is_json_stream or self._last_byte == _LINE_END)

    def _render_messages(self, messages: list[MessageEvent]) -> bytes:
        pieces: list[bytes] = []
        for message in messages:
            self._handle_message(message, pieces)
            if self.failure is not None:
                break
        output = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.frame_tracker is not None:
            self.frame_tracker.receive(output)
        return output

    def _handle_message(self, message: MessageEvent, out: list[bytes]) -> None:
        if isinstance(message, bytes):
            self._last_byte = message[-1]
            is_chunked = self.head is not None and self.head.body is BodyEnd.LAST_CHUNK
            out.append(render_chunk(message) if is_chunked else message)
        elif isinstance(message, ResponseHead):
            self._handle_head(message, out)
        elif isinstance(message, EndOfMessage):
            self.is_complete = True
            if self.head is not None and self.head.body is BodyEnd.LAST_CHUNK:
                out.append(render_last_chunk(message.trailers))
        elif isinstance(message, InvalidMessage):
            self._fail(f"its answer is not HTTP/1.1: {message.reason}")

    def _handle_head(self, head: ResponseHead, out: list[bytes]) -> None:
        if head.status == 401:
            self.failure = denial.target_refused(self.target)
            return
        if head.status == 101:
            if not inject.is_requested_upgrade(head, self._upgrade):
                self._fail("it switched to a protocol that was not asked for")
                return
            self.is_upgraded = True
        if head.status >= 200 or self.is_upgraded:
            self.head = head
            self._is_json_stream = head.body is BodyEnd.LAST_CHUNK and _is_json(head)
            self._is_keep_alive = head.body is not BodyEnd.CLOSE and not inject.announces_close(head)
            self.must_close = self.must_close or not self._is_keep_alive
        else:
            self._has_interim_head = True
        is_final = head.status >= 200
        if self.warnings and is_final and _is_cached_by_clients(head):
            self.warnings.clear()
            self.warnings_omitted = True
        out.append(
            inject.render_response_head(
                head, close=self.must_close and is_final, warnings=self.warnings if is_final else ()
            )
        )
        if self.is_upgraded and self._upgrade == b"websocket":
            self.frame_tracker = FrameTracker(skip=sum(map(len, out)))

    def _fail(self, reason: str) -> None:
        if self.head is None:
            self.failure = denial.target_unreachable(self.target, reason)
        else:
            self.failure = TruncatedResponse(reason)


def _is_cached_by_clients(head: ResponseHead) -> bool:
    """kubectl keeps on disk, header and all, what has a validator: discovery. A 304 is joined with what it has kept."""
    return head.status == 304 or bool(head.headers.values(b"etag"))


def _is_json(head: ResponseHead) -> bool:
    return any(each.startswith(b"application/json") for each in head.headers.values(b"content-type"))
