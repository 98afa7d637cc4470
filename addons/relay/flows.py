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
from addons.http1.messages import Invalid, RequestHead, ResponseHead, Until, render_head
from connector_store.domain.base.headers import Header
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"authorization"})


Tell = Callable[[StartHook, Callable[[], None]], None]
"""Runs a hook, and then a function; nobody waits for it."""


def placeholder(key: ObjectKey) -> bytes:
    """What a flow shows in place of the credential."""
    return f"Bearer <of Connector {key}>".encode()


class Observation:
    """One exchange, made visible."""

    def __init__(self, client: connection.Client, head: RequestHead, target: Target, *, keep: int) -> None:
        address = target.address
        server = connection.Server(address=(address.host, address.port))
        self.flow = http.HTTPFlow(client, server, live=True)
        self.ended = False
        self._head = head
        self._keep = keep
        self._kept: dict[str, bytearray] = {"request": bytearray(), "response": bytearray()}
        self._passed = {"request": 0, "response": 0}
        shown = [*head.headers.to_target, (b"Authorization", placeholder(target.key))]
        self.flow.request = http.Request(
            host=address.host,
            port=address.port,
            method=head.method,
            scheme=b"https",
            authority=b"",
            path=head.target,
            http_version=b"HTTP/1.1",
            headers=http.Headers(shown),
            content=b"",
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )
        self._shown = self._state()
        self._answer: tuple[object, ...] | None = None
        """The target's, as it was shown."""

    @property
    def killed(self) -> bool:
        return self.flow.error is not None

    @property
    def authority(self) -> str:
        """Where the request is to go now: an addon may have sent it elsewhere."""
        return f"{self.flow.request.data.host}:{self.flow.request.data.port}"

    def reached(self, server: connection.Server) -> None:
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
        self._answer = self._answer_state()
        return HttpResponseHeadersHook(self.flow)

    def edited(self) -> RequestHead | Invalid | None:
        """The head as somebody left it, read like one from the wire; None if nobody touched it."""
        if self.flow.request.raw_content:
            self._remark("bodies are passed as they come: the edit of the request's body was ignored")
        if self._state() == self._shown:
            return None
        data = self.flow.request.data
        if data.scheme != b"https":
            return Invalid(400, "only https leads to a target")
        headers = [each for each in data.headers.fields if each[0].lower() not in _FRAMING]
        start = b"%b %b HTTP/1.1" % (data.method, data.path)
        events = RequestReader(max_head=1 << 20).receive(render_head(start, headers + self._framing()))
        head = events[0]
        return head if isinstance(head, RequestHead | Invalid) else Invalid(400, "the edited head is none")

    def answer(self) -> tuple[int, bytes] | None:
        """Status and bytes of the response that an addon gave in the target's place; it ends its connection."""
        response = self.flow.response
        if response is None:
            return None
        body = response.raw_content or b""
        headers = [each for each in response.headers.fields if each[0].lower() not in _FRAMING]
        headers += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        head = render_head(b"HTTP/1.1 %d %b" % (response.status_code, _one_line(response.data.reason)), headers)
        return response.status_code, head if self._head.method == b"HEAD" else head + body

    def keep(self, part: str, content: bytes) -> None:
        """A piece of a body has passed; `part` is `request` or `response`."""
        kept = self._kept[part]
        self._passed[part] += len(content)
        if len(kept) < self._keep:
            kept += content[: self._keep - len(kept)]

    def end(self, problem: str, tell: Tell) -> None:
        """The last hook, once: `response`, or `error` with `problem`."""
        if self.ended:
            return
        self.ended = True
        self._look_for_edits()
        self._fill()
        self._answer = self._answer and self._answer_state()
        if problem and self.flow.error is None:
            self.flow.error = flow.Error(problem)
        tell(HttpErrorHook(self.flow) if self.flow.error is not None else HttpResponseHook(self.flow), self._over)

    def _over(self) -> None:
        self._look_for_edits()
        self.flow.live = False

    def _fill(self) -> None:
        now = time.time()
        self.flow.request.timestamp_end = self.flow.request.timestamp_end or now
        self.flow.request.raw_content = bytes(self._kept["request"])
        if self.flow.response is not None:
            self.flow.response.raw_content = bytes(self._kept["response"]) or self.flow.response.raw_content
            self.flow.response.timestamp_end = now
        for part, passed in self._passed.items():
            if passed > self._keep:
                self._remark(f"{part} body: the first {self._keep} of {passed} bytes are kept")

    def _look_for_edits(self) -> None:
        if self._answer is not None and self._answer != self._answer_state():
            self._remark("answers are passed as they come: the edit of the response was ignored")

    def _remark(self, text: str) -> None:
        self.flow.comment = f"{self.flow.comment}; {text}" if self.flow.comment else text

    def _framing(self) -> list[Header]:
        """The original's own: the body that follows is framed by it, whatever the edited head says."""
        body = self._head.body
        if body is Until.LAST_CHUNK:
            return [(b"Transfer-Encoding", b"chunked")]
        return [(b"Content-Length", b"%d" % body)] if isinstance(body, int) and body else []

    def _state(self) -> tuple[object, ...]:
        data = self.flow.request.data
        return data.method, data.scheme, data.host, data.port, data.path, data.headers.fields

    def _answer_state(self) -> tuple[object, ...]:
        if self.flow.response is None:
            return ()
        data = self.flow.response.data
        return data.status_code, data.reason, data.headers.fields, data.content


def _one_line(reason: bytes) -> bytes:
    return bytes(each for each in reason if 0x20 <= each < 0x7F)
