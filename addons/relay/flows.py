"""A request as a flow of mitmproxy's, where somebody watches: in mitmweb, in a dump, in another addon.

The flow shows a placeholder where the credential will be. What a watcher may do: kill it, answer in its place (a
response set before the target is asked), and edit the head of the request, which is then decided on again. Bodies
stream past; the flow keeps the first `keep` bytes of each. An edit of a body, or of the target's answer, is ignored,
and the flow's comment says so.
"""

import time
from collections.abc import Callable
from typing import Final

from mitmproxy import connection, flow, http
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from addons.http1.framing import RequestReader
from addons.http1.messages import BodyEnd, InvalidMessage, RequestHead, ResponseHead, render_head
from connector_store.domain.base.headers import Header
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"authorization"})


HookRunner = Callable[[StartHook, Callable[[], None]], None]
"""Runs a hook, and then a function; nobody waits for it."""


def placeholder(key: ObjectKey) -> bytes:
    """What a flow shows in place of the credential."""
    return f"Bearer <of Connector {key}>".encode()


class FlowMirror:
    """One exchange, made visible."""

    def __init__(self, client: connection.Client, head: RequestHead, target: Target, *, keep_body: int) -> None:
        address = target.address
        server = connection.Server(address=(address.host, address.port))
        self.flow = http.HTTPFlow(client, server, live=True)
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
        """The target's, as it was shown."""

    @property
    def is_killed(self) -> bool:
        return self.flow.error is not None

    @property
    def authority(self) -> str:
        """Where the request is to go now: an addon may have sent it elsewhere."""
        return f"{self.flow.request.data.host}:{self.flow.request.data.port}"

    def set_server(self, server: connection.Server) -> None:
        """The connection that the request goes to."""
        self.flow.server_conn = server

    def request_headers_hook(self) -> StartHook:
        return HttpRequestHeadersHook(self.flow)

    def request_hook(self) -> StartHook:
        return HttpRequestHook(self.flow)

    def response_headers_hook(self, head: ResponseHead) -> StartHook:
        """The answer's head is known, and nothing of it is with the client yet."""
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
        """The head as somebody left it, read like one from the wire; None if nobody touched it."""
        if self.flow.request.raw_content:
            self._add_comment("bodies are passed as they come: the edit of the request's body was ignored")
        if self._request_state() == self._shown_request:
            return None
        data = self.flow.request.data
        if data.scheme != b"https":
            return InvalidMessage(400, "only https leads to a target")
        headers = [each for each in data.headers.fields if each[0].lower() not in _FRAMING]
        request_line = b"%b %b HTTP/1.1" % (data.method, data.path)
        messages = RequestReader(max_head=1 << 20).receive(render_head(request_line, headers + self._framing_headers()))
        head = messages[0]
        return (
            head if isinstance(head, RequestHead | InvalidMessage) else InvalidMessage(400, "the edited head is none")
        )

    def render_addon_response(self) -> tuple[int, bytes] | None:
        """Status and bytes of the response that an addon gave in the target's place; it ends its connection."""
        response = self.flow.response
        if response is None:
            return None
        body = response.raw_content or b""
        headers = [each for each in response.headers.fields if each[0].lower() not in _FRAMING]
        headers += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        head = render_head(b"HTTP/1.1 %d %b" % (response.status_code, _printable(response.data.reason)), headers)
        return response.status_code, head if self._head.method == b"HEAD" else head + body

    def append_body(self, part: str, content: bytes) -> None:
        """A piece of a body has passed; `part` is `request` or `response`."""
        body = self._bodies[part]
        self._body_sizes[part] += len(content)
        if len(body) < self._keep_body:
            body += content[: self._keep_body - len(body)]

    def finish(self, error: str, run_hook: HookRunner) -> None:
        """The last hook, once: `response`, or `error` with `problem`."""
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
            if size > self._keep_body:
                self._add_comment(f"{part} body: the first {self._keep_body} of {size} bytes are kept")

    def _note_ignored_edit(self) -> None:
        if self._shown_response is not None and self._shown_response != self._response_state():
            self._add_comment("answers are passed as they come: the edit of the response was ignored")

    def _add_comment(self, text: str) -> None:
        self.flow.comment = f"{self.flow.comment}; {text}" if self.flow.comment else text

    def _framing_headers(self) -> list[Header]:
        """The original's own: the body that follows is framed by it, whatever the edited head says."""
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
    return bytes(each for each in reason if 0x20 <= each < 0x7F)
