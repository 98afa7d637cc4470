"""Flows of mitmproxy that show requests in a user interface, in a dump or to other addons.

A flow contains a placeholder instead of the credential. An addon can do the following:

- kill the flow
- respond instead of the target, by setting a response before the request is sent
- edit the head of the request, which gets a new access decision

Bodies are streamed. The flow keeps the first `keep_body` bytes of each. An edit of a body or of the target's response
is ignored, and the comment of the flow says so.
"""

import json
import time
from collections.abc import Callable
from typing import Final

from mitmproxy import connection, flow, http
from mitmproxy.proxy.commands import StartHook

from addons.http1.framing import RequestReader
from addons.http1.messages import BodyEnd, InvalidMessage, RequestHead, ResponseHead, render_head
from addons.net.mitmproxy_private import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)
from addons.relay.flow_labels import FlowLabel
from connector_store.domain.base.headers import Header
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"authorization"})


HookRunner = Callable[[StartHook, Callable[[], None]], None]
"""Function that runs a hook in the background and calls a function afterwards."""


def placeholder(key: ObjectKey) -> bytes:
    """Return the value of Authorization in a flow, instead of the credential."""
    return f"Bearer <of Connector {key}>".encode()


class FlowMirror:
    """Copy of one exchange in a flow of mitmproxy."""

    def __init__(
        self, client: connection.Client, head: RequestHead, target: Target, label: FlowLabel, *, keep_body: int
    ) -> None:
        address = target.address
        server = connection.Server(address=(address.host, address.port))
        self.flow = http.HTTPFlow(client, server, live=True)
        label.apply(self.flow)
        self.is_finished = False
        self._head = head
        self._keep_body = keep_body
        self._bodies: dict[str, bytearray] = {"request": bytearray(), "response": bytearray()}
        self._body_sizes = {"request": 0, "response": 0}
        headers = [*head.headers.to_target, (b"Authorization", placeholder(target.key))]
        self.flow.request = http.Request(
            host=address.host,
            port=address.port,
            method=head.method,
            scheme=b"https",
            authority=b"",
            path=head.target,
            http_version=b"HTTP/1.1",
            headers=http.Headers(headers),
            content=b"",
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )
        self._shown_request = self._request_state()
        self._shown_response: tuple[object, ...] | None = None
        """State of the target's response when it was passed to the hooks."""

    @property
    def is_killed(self) -> bool:
        return self.flow.error is not None

    @property
    def authority(self) -> str:
        """Authority of the request in the flow, which an addon may have edited."""
        return f"{self.flow.request.data.host}:{self.flow.request.data.port}"

    def set_server(self, server: connection.Server) -> None:
        """Set the connection to the target."""
        self.flow.server_conn = server

    def request_headers_hook(self) -> StartHook:
        return HttpRequestHeadersHook(self.flow)

    def request_hook(self) -> StartHook:
        return HttpRequestHook(self.flow)

    def response_headers_hook(self, head: ResponseHead) -> StartHook:
        """Add the response head to the flow and return the hook. Call it before the client gets any of the response."""
        self.flow.response = http.Response(
            http_version=b"HTTP/1.1",
            status_code=head.status,
            reason=head.reason,
            headers=http.Headers(head.headers),
            content=b"",
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )
        self._shown_response = self._response_state()
        return HttpResponseHeadersHook(self.flow)

    def parse_edited_head(self) -> RequestHead | InvalidMessage | None:
        """Parse the head in the flow like one from a client. Return None if it was not edited."""
        if self.flow.request.raw_content:
            self._add_comment("bodies are passed as they come: the edit of the request's body was ignored")
        if self._request_state() == self._shown_request:
            return None
        data = self.flow.request.data
        if data.scheme != b"https":
            return InvalidMessage(400, "only https leads to a target")
        headers = [header for header in data.headers.fields if header[0].lower() not in _FRAMING]
        request_line = b"%b %b HTTP/1.1" % (data.method, data.path)
        messages = RequestReader(max_head=1 << 20).receive(render_head(request_line, headers + self._framing_headers()))
        head = messages[0]
        return (
            head if isinstance(head, RequestHead | InvalidMessage) else InvalidMessage(400, "the edited head is none")
        )

    def render_addon_response(self) -> tuple[int, bytes] | None:
        """Render the response that an addon set. Return its status and bytes, or None if there is none.

        The response ends the client connection.
        """
        response = self.flow.response
        if response is None:
            return None
        body = response.raw_content or b""
        headers = [header for header in response.headers.fields if header[0].lower() not in _FRAMING]
        headers += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        head = render_head(b"HTTP/1.1 %d %b" % (response.status_code, _printable(response.data.reason)), headers)
        return response.status_code, head if self._head.method == b"HEAD" else head + body

    def addon_message(self) -> str:
        """Return the message of the Status in the response that an addon set, or an empty string."""
        try:
            message = json.loads((self.flow.response and self.flow.response.raw_content) or b"")["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return message if isinstance(message, str) else ""

    def show_refusal(self, label: FlowLabel) -> None:
        """Show why the request is refused after it was shown: the target does not answer, or an addon responds."""
        label.apply(self.flow)

    def append_body(self, part: str, content: bytes) -> None:
        """Append a piece of a body. `part` is `request` or `response`."""
        body = self._bodies[part]
        self._body_sizes[part] += len(content)
        if len(body) < self._keep_body:
            body += content[: self._keep_body - len(body)]

    def finish(self, error: str, run_hook: HookRunner) -> None:
        """Run the last hook, once: `response`, or `error` with the text `error`."""
        if self.is_finished:
            return
        self.is_finished = True
        self._note_ignored_edit()
        self._fill_bodies()
        self._shown_response = self._shown_response and self._response_state()
        if error and self.flow.error is None:
            self.flow.error = flow.Error(error)
        run_hook(
            HttpErrorHook(self.flow) if self.flow.error is not None else HttpResponseHook(self.flow), self._on_finished
        )

    def _on_finished(self) -> None:
        self._note_ignored_edit()
        self.flow.live = False

    def _fill_bodies(self) -> None:
        now = time.time()
        self.flow.request.timestamp_end = self.flow.request.timestamp_end or now
        self.flow.request.raw_content = bytes(self._bodies["request"])
        if self.flow.response is not None:
            self.flow.response.raw_content = bytes(self._bodies["response"]) or self.flow.response.raw_content
            self.flow.response.timestamp_end = now
        for part, size in self._body_sizes.items():
            if size > self._keep_body > 0:
                self._add_comment(f"{part} body: the first {self._keep_body} of {size} bytes are kept")
            elif size > self._keep_body:
                self._add_comment(
                    f"{part} body of {size} bytes: not kept, as a Secret may be in it or connector_keep_body is 0"
                )

    def _note_ignored_edit(self) -> None:
        if self._shown_response is not None and self._shown_response != self._response_state():
            self._add_comment("answers are passed as they come: the edit of the response was ignored")

    def _add_comment(self, text: str) -> None:
        self.flow.comment = f"{self.flow.comment}; {text}" if self.flow.comment else text

    def _framing_headers(self) -> list[Header]:
        """Return the framing headers of the original head. The body follows them, whatever the edited head says."""
        body = self._head.body
        if body is BodyEnd.LAST_CHUNK:
            return [(b"Transfer-Encoding", b"chunked")]
        return [(b"Content-Length", b"%d" % body)] if isinstance(body, int) and body else []

    def _request_state(self) -> tuple[object, ...]:
        data = self.flow.request.data
        return data.method, data.scheme, data.host, data.port, data.path, data.headers.fields

    def _response_state(self) -> tuple[object, ...]:
        if self.flow.response is None:
            return ()
        data = self.flow.response.data
        return data.status_code, data.reason, data.headers.fields, data.content


def _printable(reason: bytes) -> bytes:
    return bytes(byte for byte in reason if 0x20 <= byte < 0x7F)
