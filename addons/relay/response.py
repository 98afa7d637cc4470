"""Conversion of a target's response for the client, without I/O.

Bytes from the target go in, bytes for the client come out. The attributes show the state of the response.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
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
from addons.relay.rewriting import ResponseRewriter
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.decision import denial, direct_access
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target

_LINE_END: Final = 0x0A


@dataclass(frozen=True, slots=True)
class TruncatedResponse:
    """Failure of a response whose head the client has already received."""

    reason: str


class Progress(Enum):
    """Progress of a response."""

    EMPTY = "no byte of it has arrived"
    PARTIAL = "more is to follow"
    COMPLETE = "the whole response has arrived"
    UPGRADED = "the target switched protocols (101), and the rest is not HTTP"


_EMPTY, _PARTIAL, _COMPLETE, _UPGRADED = Progress
"""Names without a lookup in the enumeration, which Python repeats for each piece of data."""


class Response:
    """Response to one request. `upgrade` is the protocol to which the request asked to switch.

    `path_prefix` is the prefix of the client's paths at direct access, and None in a tunnel. `rewriter` is None if the
    response passes unread.
    """

    def __init__(
        self,
        head: RequestHead,
        target: Target,
        upgrade: bytes | None,
        max_head: int,
        path_prefix: bytes | None = None,
        rewriter: ResponseRewriter | None = None,
    ) -> None:
        self.head: ResponseHead | None = None
        """Final head; None before it arrives."""
        self.failure: Deny | TruncatedResponse | None = None
        self.progress = _EMPTY
        self.must_close = inject.announces_close(head)
        """The client connection must be closed after this response."""
        self.frame_tracker: FrameTracker | None = None
        """Tracker of the frames sent to the client, if the upgrade is a WebSocket."""
        self.warnings: list[Header] = []
        """Warnings that the proxy adds to those of the target. They are cleared if they are omitted."""
        self.warnings_omitted = False
        """Warnings were omitted, because clients cache this response and would repeat them when they are outdated."""
        self._is_reusable = True
        """The target keeps the connection open after this response, and sent no interim head."""
        self._is_chunked = self._is_json_stream = False
        """The body is chunked, and contains JSON."""
        self._last_byte = _LINE_END
        self.target = target
        self.requested_upgrade = upgrade
        self._request_target = head.target
        self._path_prefix = path_prefix
        self._rewriter = rewriter
        self._reader = ResponseReader(max_head, head.method)

    def drop_headers(self) -> None:
        """Free the headers after they were sent. A long-running response would keep them in memory for days."""
        if self.head is not None:
            self.head = replace(self.head, headers=Headers())

    @property
    def has_unsolicited_data(self) -> bool:
        """True if data arrived after the complete response."""
        return self.progress is _COMPLETE and bool(self._reader.buffer)

    @property
    def allows_reuse(self) -> bool:
        """True if the connection can take another request: the response is complete and nothing else arrived."""
        return self.progress is _COMPLETE and self._is_reusable and not self._reader.buffer

    @property
    def is_close_delimited(self) -> bool:
        """True if the response ends with the connection."""
        return self.head is not None and self.head.body is BodyEnd.CLOSE and self.progress is not _UPGRADED

    def receive(self, data: bytes) -> bytes:
        """Return the bytes for the client that `data` yields."""
        if self.progress is _EMPTY:
            self.progress = _PARTIAL
        return self._render_messages(self._reader.receive(data))

    def receive_eof(self, *, clean_eof: bool, tls_error: str = "") -> bytes:
        """Handle the target's EOF within the response, and return the bytes for the client.

        Without `clean_eof` (close_notify), the response may be truncated. `tls_error` is the error of the TLS session.
        """
        if tls_error:
            self._fail(tls_error)
            return b""
        if self.head is not None and self.head.body is BodyEnd.CLOSE and not clean_eof:
            self._fail("the connection ended without its TLS session")
            return b""
        output = self._render_messages(self._reader.receive_eof())
        if self.progress is not _COMPLETE and self.failure is None:
            self._fail("it closed the connection without an answer")
        return output

    def render_end(self) -> bytes | None:
        """Return the last chunk, which ends a watch. None within an event, empty if the body is not chunked."""
        if self._is_chunked:
            return render_last_chunk([]) if self._is_between_events() else None
        return b""

    def render_error_event(self, reason: str) -> bytes:
        """Return a watch event of type ERROR with `reason`, or nothing if no event can be inserted now.

        The API server sends such events, too. client-go passes them to the watcher.
        """
        if not self._is_json_stream or not self._is_between_events():
            return b""
        return render_chunk(denial.watch_error(reason))

    def _is_between_events(self) -> bool:
        """Return True between two watch events.

        A gateway may split an event into chunks. A line feed ends an event in JSON.
        """
        return self._reader.is_between_chunks and (not self._is_json_stream or self._last_byte == _LINE_END)

    def _render_messages(self, messages: list[MessageEvent]) -> bytes:
        pieces: list[bytes] = []
        for message in messages:
            if self._rewriter is None:
                self._handle_message(message, pieces)
            else:
                self._handle_rewritten(message, pieces, self._rewriter)
            if self.failure is not None:
                break
        output = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.frame_tracker is not None:
            self.frame_tracker.receive(output)
        return output

    def _handle_rewritten(self, message: MessageEvent, out: list[bytes], rewriter: ResponseRewriter) -> None:
        """Handle a message of a response that is rewritten.

        The head is sent with the first byte of the body, so that an unreadable response becomes a refusal.
        """
        try:
            for rewritten in self._rewrite(message, rewriter):
                if rewriter.pending_head is not None and not isinstance(rewritten, InvalidMessage):
                    head, rewriter.pending_head = rewriter.pending_head, None
                    self._handle_message(head, out)
                if rewritten:
                    self._handle_message(rewritten, out)
        except ValueError as error:
            problem = str(error)
            self.failure = (
                denial.target_response(self.target, problem) if self.head is None else TruncatedResponse(problem)
            )

    def _rewrite(self, message: MessageEvent, rewriter: ResponseRewriter) -> Iterator[MessageEvent]:
        """Yield what the client gets instead of `message`. Empty bytes send the head alone."""
        if isinstance(message, bytes):
            if content := rewriter.receive(message):
                yield content
        elif isinstance(message, EndOfMessage):
            yield rewriter.finish()
            yield EndOfMessage()
        elif isinstance(message, ResponseHead) and message.status < 200 and message.status != 101:
            self._is_reusable = False
        elif isinstance(message, ResponseHead) and message.status not in (101, 401):
            rewriter.start(message)
            if rewriter.is_early:
                yield b""
        else:
            yield message

    def _handle_message(self, message: MessageEvent, out: list[bytes]) -> None:
        if isinstance(message, bytes):
            self._last_byte = message[-1]
            out.append(render_chunk(message) if self._is_chunked else message)
        elif isinstance(message, ResponseHead):
            self._handle_head(message, out)
        elif isinstance(message, EndOfMessage):
            self.progress = _COMPLETE
            if self._is_chunked:
                out.append(render_last_chunk(message.trailers))
        elif isinstance(message, InvalidMessage):
            self._fail(f"its answer is not HTTP/1.1: {message.reason}")

    def _handle_head(self, head: ResponseHead, out: list[bytes]) -> None:
        if head.status == 401:
            self.failure = denial.target_refused(self.target)
            return
        if self._path_prefix is not None:
            headers = direct_access.rewrite_response_headers(
                head.headers,
                is_redirect=300 <= head.status < 400,
                request_target=self._request_target,
                address=self.target.address,
                path_prefix=self._path_prefix,
            )
            if headers is None:
                self.failure = denial.target_redirect(self.target)
                return
            head = ResponseHead(head.status, head.reason, head.minor_version, headers, head.body)
        if head.status == 101:
            if not inject.is_requested_upgrade(head, self.requested_upgrade):
                self._fail("it switched to a protocol that was not asked for")
                return
            self.progress = _UPGRADED
        is_final = head.status >= 200
        if is_final or self.progress is _UPGRADED:
            self.head = head
            self._is_chunked = head.body is BodyEnd.LAST_CHUNK
            self._is_json_stream = self._is_chunked and _is_json(head)
            must_close = head.body is BodyEnd.CLOSE or inject.announces_close(head)
            self.must_close = self.must_close or must_close
            self._is_reusable = self._is_reusable and not must_close
        else:
            self._is_reusable = False
        if self.warnings and is_final and _is_cached_by_clients(head):
            self.warnings.clear()
            self.warnings_omitted = True
        out.append(
            inject.render_response_head(
                head, close=self.must_close and is_final, warnings=self.warnings if is_final else ()
            )
        )
        if self.progress is _UPGRADED and self.requested_upgrade == b"websocket":
            self.frame_tracker = FrameTracker(skip=sum(map(len, out)))

    def _fail(self, reason: str) -> None:
        if self.head is None:
            self.failure = denial.target_unreachable(self.target, reason)
        else:
            self.failure = TruncatedResponse(reason)


def _is_cached_by_clients(head: ResponseHead) -> bool:
    """Return True if kubectl caches the response with its headers on disk: discovery, which has an ETag, or its 304."""
    return head.status == 304 or bool(head.headers.values(b"etag"))


def _is_json(head: ResponseHead) -> bool:
    return any(value.startswith(b"application/json") for value in head.headers.values(b"content-type"))
