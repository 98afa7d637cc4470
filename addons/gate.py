"""The front of a client connection: its first head decides what it is.

CONNECT with the right to use a Connector opens a tunnel: TLS with the client, then a `Lane`. Origin form asks the proxy
itself. Anything else is refused. Like the lane, the gate is never paused.
"""

import logging
import time
from collections.abc import Generator
from types import TracebackType
from typing import Any

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import CloseConnection, CloseTcpConnection, Command, SendData
from mitmproxy.proxy.context import Context

from addons import answers
from addons.connect import Connect
from addons.ending import TakeLeave
from addons.exchange import Exchange
from addons.framing import RequestReader
from addons.lane import Lane
from addons.line import Line, Retire, TimeUp, Wait
from addons.messages import Invalid, RequestHead
from addons.peer import Peer
from addons.questions import ConnectorVisitHook, Visit, unpaused
from addons.service import Service
from addons.tunnel import Tunnel
from connector_store.domain import denial
from connector_store.domain.denial import Deny
from connector_store.domain.headers import values

logger = logging.getLogger(__name__)

Step = Generator[Command, Any, None]
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate(layer.Layer):
    """The top layer of a client connection."""

    def __init__(self, context: Context, service: Service, line: Line) -> None:
        super().__init__(context)
        self._service = service
        self._line = line
        self._client = context.client
        self._requests = RequestReader(max_head=service.max_header)
        self._connect: Connect | None = None
        self._visit: ConnectorVisitHook | None = None
        self._source_ip = str(context.client.peername[0])
        self._began = time.perf_counter()
        self._head: RequestHead | None = None
        self._peer: Peer | None = None
        self._lane: Lane | None = None
        self._tunnel: Tunnel | None = None
        self._over = False
        line.on_close(self._closed)
        line.arm(service.times.client, Wait.CLIENT)

    def handle_event(self, event: events.Event) -> Step:
        """Never lets an error out: mitmproxy would log it and leave the connection as it is."""
        if self._over:
            return
        try:
            yield from self._handle_event(event)
        except Exception as error:
            self._over = True
            # Neither the text nor the locals of an error of ours hold what was sent; those of others might.
            logger.error("connection ended: %s in the data path", type(error).__name__, exc_info=_without_text(error))
            self._line.abort()

    def _handle_event(self, event: events.Event) -> Step:
        if isinstance(event, events.ConnectionEvent) and event.connection is self._client:
            yield from self._from_client(event)
        elif self._lane is not None and isinstance(event, TakeLeave):
            yield from self._lane.take_leave(event.reason)
        elif self._lane is not None:
            yield from self._lane.handle(event)
        elif isinstance(event, TimeUp | TakeLeave) or (isinstance(event, Retire) and self._head is None):
            yield from self._leave()
        elif self._connect is not None and self._tunnel is None:
            self._connect.handle(event)
            yield from self._connected()
        elif self._visit is not None and isinstance(event, events.HookCompleted) and event.command is self._visit:
            yield from self._visited(self._visit.data)

    def _from_client(self, event: events.ConnectionEvent) -> Step:
        if isinstance(event, events.DataReceived):
            if self._peer is not None:
                yield from self._decrypt(self._peer, event.data)
            else:
                yield from self._read_head(event.data)
        elif self._lane is not None and self._peer is not None:
            if not self._peer.ended:
                self._peer.ended = True
                yield from self._lane.client_ended()
        else:
            yield from self._leave()

    # The first head

    def _read_head(self, data: bytes) -> Step:
        for found in self._requests.receive(data):
            if isinstance(found, RequestHead):
                self._line.disarm()
                self._head = found
                yield from self._begin(found)
            elif isinstance(found, Invalid):
                large = found.status == 431
                limit = self._service.max_header
                yield from self._refuse(
                    denial.header_too_large(limit) if large else denial.bad_request(found.reason), on_connect=False
                )

    def _begin(self, head: RequestHead) -> Step:
        if head.method == b"CONNECT":
            self._line.hold()
            self._connect = Connect(self._service, head, self._source_ip)
            yield from self._connect.start()
            yield from self._connected()
        elif head.target.startswith(b"/"):
            self._line.hold()
            self._visit = unpaused(ConnectorVisitHook(Visit(head.method, head.target, head.headers)), self)
            yield self._visit
        else:
            yield from self._refuse(denial.absolute_form(), on_connect=False)

    def _visited(self, visit: Visit) -> Step:
        if isinstance(visit.answer, Deny):
            yield from self._refuse(visit.answer, on_connect=False)
            return
        yield from self._say_last(answers.page(visit.answer, with_body=visit.method != b"HEAD"))

    def _connected(self) -> Step:
        outcome = self._connect.outcome if self._connect is not None else None
        if isinstance(outcome, Deny):
            yield from self._refuse(outcome, on_connect=True)
        elif outcome is not None:
            yield from self._open(outcome)

    def _open(self, tunnel: Tunnel) -> Step:
        self._record(200, "")
        self._tunnel = tunnel
        self._peer = Peer(self._client, self._service.certificates.connection(tunnel.host))
        self._client.tls = True
        yield SendData(self._client, _ESTABLISHED)
        self._line.release()
        self._line.arm(self._service.times.client, Wait.CLIENT)
        early = self._requests.take_pending()
        if early:
            yield from self._decrypt(self._peer, early)

    def _decrypt(self, peer: Peer, data: bytes) -> Step:
        if peer.ended:
            return
        fresh = not peer.established
        try:
            plain = peer.receive(data)
        except ConnectionError as error:
            yield from peer.pending()
            logger.info("client %s: %s", self._source_ip, error)
            yield from self._leave()
            return
        yield from peer.pending()
        if fresh and peer.established:
            self._enter(peer)
        lane = self._lane
        if lane is not None and plain:
            yield from lane.from_client(plain)
        if lane is not None and peer.ended:
            yield from lane.client_ended()

    def _enter(self, peer: Peer) -> None:
        if self._tunnel is None:
            raise RuntimeError("TLS without a tunnel")
        self._client.timestamp_tls_setup = time.time()
        self._client.alpn = b"http/1.1"
        self._lane = Lane(self._service, self._line, self._tunnel, peer)
        self._service.streams.add(self._lane)
        self._line.arm(self._service.times.client, Wait.CLIENT)

    # The end

    def _refuse(self, deny: Deny, *, on_connect: bool) -> Step:
        self._record(deny.status, deny.cause)
        yield from self._say_last(answers.refusal(deny, on_connect=on_connect))

    def _record(self, status: int, cause: str) -> None:
        head = self._head
        self._service.recorder.record(
            Exchange(
                event="connect",
                connector=self._connect.key if self._connect is not None else None,
                status=status,
                source_ip=self._source_ip,
                duration=time.perf_counter() - self._began,
                identity=self._connect.identity if self._connect is not None else None,
                target=head.target.decode("ascii") if head is not None else "",
                user_agent=b"".join(values(head.headers, b"user-agent")[:1]).decode("latin-1") if head else "",
                cause=cause,
            )
        )

    def _say_last(self, answer: bytes) -> Step:
        self._over = True
        yield SendData(self._client, answer)
        yield CloseTcpConnection(self._client, half_close=True)
        self._line.linger()

    def _leave(self) -> Step:
        self._over = True
        yield CloseConnection(self._client)

    def _closed(self) -> None:
        if self._lane is not None:
            self._lane.closed()
        elif self._tunnel is not None and self._tunnel.give_back is not None:
            self._tunnel.give_back()


def _without_text(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__
