"""One request in a tunnel, from its head to the end of its answer: what the lane knows of it, and its records."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mitmproxy.connection import Connection, Server
from mitmproxy.proxy.commands import StartHook

from addons.access.grant import Grant
from addons.access.live import Live
from addons.http1.messages import End, Event, RequestHead, Until, render_chunk, render_last_chunk
from addons.records.record import Record
from addons.records.recorder import Recorder
from addons.relay import inject
from addons.relay.flows import Observation, Tell
from addons.relay.response import Response
from connector_store.domain.access import Identity
from connector_store.domain.denial import Deny
from connector_store.domain.request_info import RequestInfo, parse_request
from connector_store.domain.verdict import Forward, Inject

_FOLLOWED = ("log", "exec", "attach", "portforward")


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Bytes are counted without framing of ours towards the target, with it towards the client."""

    head: RequestHead
    tunnel: Grant
    token: str = field(default="", repr=False)
    verdict: Inject | Forward | None = None
    live: Live | None = None
    upgrade: bytes | None = None
    relay: Response | None = None
    backlog: list[bytes] = field(default_factory=list)
    """Body that came while the request waited: what one read had, as the client is not read then."""
    whole: bool = False
    """The request has been read to its end."""
    identity: Identity | None = None
    status: int = 0
    cause: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    info: RequestInfo | None = None
    """As the API server reads the request."""
    began: float = field(default_factory=time.perf_counter)
    problem: str = ""
    """Why it was refused, in words."""
    observation: Observation | None = None
    showing: bool = False
    """The answer's head is being shown."""
    shown: bool = False
    """It was, or is."""
    withheld: bytes = b""
    """Of the answer, until its head was shown."""
    stream: str = ""
    """What lives as long as its client wants: the kind of stream that the answer began."""

    def frame(self, event: Event, out: list[bytes]) -> None:
        """Add a piece of the body, framed for the target."""
        chunked = self.head.body is Until.LAST_CHUNK
        if isinstance(event, bytes):
            if self.observation is not None:
                self.observation.keep("request", event)
            out.append(render_chunk(event) if chunked else event)
        elif isinstance(event, End):
            self.whole = True
            if chunked:
                # RFC 9110 section 6.5: trailers may be dropped; no Kubernetes client sends any.
                out.append(render_last_chunk([]))

    def forward(self, verdict: Inject | Forward, server: Connection, *, max_head: int, last: bool) -> bytes:
        """What the target gets first, as the decision says; from now on its answer is relayed.

        `last`: the tunnel ends with that answer, and its client shall know.
        """
        self.relay = Response(self.head, verdict.target, self.upgrade, max_head=max_head, keep=self._keep_response())
        self.relay.last = self.relay.last or last
        if self.observation is not None and isinstance(server, Server):
            self.observation.reached(server)
        start = inject.request_bytes(self.head, verdict, self.upgrade)
        if self.backlog:
            start = b"".join([start, *self.backlog])
            self.backlog.clear()
        return start

    def denied(self, deny: Deny) -> None:
        self.status, self.cause, self.problem = deny.status, deny.cause, deny.message

    def _keep_response(self) -> Callable[[bytes], None] | None:
        found = self.observation
        return (lambda content: found.keep("response", content)) if found is not None else None

    def shows_head(self) -> bool:
        """True if the answer's head is still to be shown, or just being shown."""
        return self.observation is not None and (self.showing or not self.shown)

    def show_head(self, relay: Response) -> StartHook | None:
        """The hook that shows it, once."""
        if self.observation is None or relay.head is None or self.shown:
            return None
        self.showing = self.shown = True
        return self.observation.response_headers_hook(relay.head)

    def end_observation(self, problem: str, tell: Tell) -> None:
        if self.observation is not None:
            self.observation.end(problem, tell)

    def answered(self, relay: Response, recorder: Recorder) -> None:
        """The head of the answer has come. A stream is written down now, and again when it ends."""
        if relay.head is None or self.status:
            return
        self.status = relay.head.status
        self.stream = self._kind(relay)
        if self.stream:
            recorder.record(self._exchange("request"))
            recorder.stream_began(self.tunnel.key, self.stream)

    def ended(self, reason: str, recorder: Recorder, tell: Tell) -> None:
        """Write it down; `reason` says how a stream came to its end."""
        self.end_observation(self.problem or reason, tell)
        if self.stream:
            self.cause = reason
            recorder.stream_ended(self.tunnel.key, self.stream)
            recorder.record(self._exchange("stream"))
        else:
            self.cause = self.cause or reason
            recorder.record(self._exchange("request"))

    def _kind(self, relay: Response) -> str:
        info = self._read()
        if relay.switched:
            return info.subresource if info.subresource in _FOLLOWED else "upgrade"
        if info.verb == "watch":
            return "watch"
        return "log" if info.subresource == "log" and b"follow=" in self.head.target else ""

    def _read(self) -> RequestInfo:
        if self.info is None:
            prefix = self.verdict.target.address.prefix if self.verdict is not None else ""
            self.info = parse_request(self.head.method.decode("ascii"), self.head.target.decode("ascii"), prefix)
        return self.info

    def _exchange(self, event: Literal["request", "stream"]) -> Record:
        return Record(
            event=event,
            connector=self.tunnel.key,
            status=self.status,
            source_ip=self.tunnel.source_ip,
            duration=time.perf_counter() - self.began,
            identity=self.identity or self.tunnel.identity,
            info=self._read() if self.head.target else None,
            target=self.head.target.decode("ascii"),
            user_agent=self.head.headers.user_agent,
            cause=self.cause,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )
