"""The front of a client connection: its first head decides what it is.

CONNECT with the right to use a Connector opens a tunnel: TLS with the client, then `Requests`. Origin form asks the
proxy itself. Anything else is refused. Like the lane, the gate is never paused.
"""

import logging
import time
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any

from mitmproxy.connection import Connection
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import Command
from mitmproxy.proxy.context import Context

from addons.access.connect import Connect
from addons.access.grant import Grant
from addons.http1.framing import RequestReader
from addons.http1.messages import Invalid, RequestHead
from addons.net.events import Retire, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from addons.records.record import Record
from addons.relay import replies
from addons.relay.ending import TakeLeave
from addons.relay.pages import Page
from addons.relay.requests import Requests
from addons.relay.shared import Shared
from connector_store.domain import denial
from connector_store.domain.denial import Deny

logger = logging.getLogger(__name__)

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gate(layer.Layer):
    """The top layer of a client connection, and what its line serves: see `Layers`."""

    def __init__(self, context: Context, service: Shared, line: Sockets) -> None:
        super().__init__(context)
        self._service = service
        self._line = line
        self._client = context.client
        self._requests = RequestReader(max_head=service.max_header)
        self._connect: Connect | None = None
        self._source_ip = str(context.client.peername[0])
        self._began = time.perf_counter()
        self._head: RequestHead | None = None
        self._peer: TlsStream | None = None
        self._lane: Requests | None = None
        self._tunnel: Grant | None = None
        self._over = False
        self._retiring = False
        line.on_close(self._closed)
        line.serve(self)
        line.arm(service.times.client, Wait.CLIENT)

    def _handle_event(self, event: events.Event) -> Generator[Command, Any, None]:
        """What mitmproxy tells; of its connections' ends the line knows first. It gets no commands: see `Sockets`."""
        if isinstance(event, events.OpenConnectionCompleted):
            self.tell(event)
        yield from ()

    # The entries never let an error out: mitmproxy and asyncio would log it, and leave the connection as it is.

    def received(self, connection: Connection, data: memoryview) -> None:
        self.go_on(partial(self._received, connection, data))

    def ended(self, connection: Connection) -> None:
        self.go_on(lambda: self._ended(connection))

    def tell(self, event: events.Event) -> None:
        self.go_on(lambda: self._handle(event))

    def go_on(self, then: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            then()
        except Exception as error:
            self._failed(error)

    def _received(self, connection: Connection, data: memoryview) -> None:
        if connection is not self._client:
            self._from_target(connection, data)
        elif self._peer is not None:
            self._decrypt(self._peer, data)
        else:
            self._read_head(bytes(data))

    def _failed(self, error: Exception) -> None:
        self._over = True
        # Neither the text nor the locals of an error of ours hold what was sent; those of others might.
        logger.error("connection ended: %s in the data path", type(error).__name__, exc_info=_without_text(error))
        self._line.abort()

    def _handle(self, event: events.Event) -> None:
        if self._lane is not None and isinstance(event, TakeLeave):
            self._lane.take_leave(event.reason)
        elif self._lane is not None:
            self._lane.handle(event)
        elif isinstance(event, TimeUp):
            self._leave("no CONNECT in time" if self._tunnel is None else "no TLS handshake in time")
        elif isinstance(event, TakeLeave) or (isinstance(event, Retire) and self._head is None):
            self._leave("")
        elif isinstance(event, Retire):
            self._retiring = True

    def _from_target(self, connection: Connection, data: memoryview) -> None:
        if self._lane is not None:
            self._lane.from_target(connection, data)

    def _ended(self, connection: Connection) -> None:
        if self._lane is None or self._peer is None:
            self._leave("closed before CONNECT and TLS were whole" if self._tunnel or self._requests.pending else "")
        elif connection is not self._client:
            self._lane.connection_ended(connection)
        elif not self._peer.ended:
            self._peer.ended = self._peer.cut_off = True
            self._lane.client_ended()

    # The first head

    def _read_head(self, data: bytes) -> None:
        for found in self._requests.receive(data):
            if isinstance(found, RequestHead):
                self._line.disarm()
                self._head = found
                self._begin(found)
            elif isinstance(found, Invalid):
                self._refuse(denial.invalid(found.status, found.reason, self._service.max_header), on_connect=False)
            if self._over:
                return

    def _begin(self, head: RequestHead) -> None:
        if head.method == b"CONNECT":
            self._line.hold()
            self._connect = Connect(self._service, head, self._source_ip, self._line)
            self._connect.start(self._connected)
        elif head.target.startswith(b"/"):
            self._line.hold()
            work = self._service.pages.answer(head.method, head.target, head.headers)
            failed: Page | Deny = denial.internal()
            self._line.wait_for("a page of the proxy", work, failed, self._visited)
        else:
            self._refuse(denial.absolute_form(), on_connect=False)

    def _visited(self, answer: Page | Deny) -> None:
        if isinstance(answer, Deny):
            self._refuse(answer, on_connect=False)
            return
        with_body = self._head is not None and self._head.method != b"HEAD"
        self._say_last(replies.page(answer, with_body=with_body))

    def _connected(self, outcome: Grant | Deny) -> None:
        if isinstance(outcome, Deny):
            self._refuse(outcome, on_connect=True)
        else:
            self._open(outcome)

    def _open(self, tunnel: Grant) -> None:
        self._record(200, "")
        self._tunnel = tunnel
        self._peer = TlsStream(self._client, self._service.certificates.connection(tunnel.host), self._line)
        self._client.tls = True
        self._line.sender(self._client)(_ESTABLISHED)
        self._line.release()
        self._line.arm(self._service.times.client, Wait.CLIENT)
        early = self._requests.take_pending()
        if early:
            self._decrypt(self._peer, early)

    def _decrypt(self, peer: TlsStream, data: bytes | memoryview) -> None:
        if peer.ended:
            return
        fresh = not peer.established
        try:
            plain = peer.receive(data)
        except ConnectionError as error:
            peer.flush()
            self._leave(str(error))
            return
        peer.flush()
        if fresh and peer.established:
            self._enter(peer)
        lane = self._lane
        if lane is not None and plain:
            lane.from_client(plain)
        if lane is not None and peer.ended:
            lane.client_ended()

    def _enter(self, peer: TlsStream) -> None:
        if self._tunnel is None:
            raise RuntimeError("TLS without a tunnel")
        self._client.timestamp_tls_setup = time.time()
        self._client.alpn = b"http/1.1"
        self._lane = Requests(self._service, self._line, self._tunnel, peer)
        self._lane.retiring = self._retiring
        self._service.streams.add(self._lane)
        self._line.arm(self._service.times.client, Wait.CLIENT)

    # The end

    def _refuse(self, deny: Deny, *, on_connect: bool) -> None:
        self._record(deny.status, deny.cause)
        self._say_last(replies.refusal(deny, on_connect=on_connect))

    def _record(self, status: int, cause: str) -> None:
        head = self._head
        self._service.recorder.record(
            Record(
                event="connect",
                connector=self._connect.key if self._connect is not None else None,
                status=status,
                source_ip=self._source_ip,
                duration=time.perf_counter() - self._began,
                identity=self._connect.identity if self._connect is not None else None,
                target=head.target.decode("ascii") if head is not None else "",
                user_agent=head.headers.user_agent if head is not None else "",
                cause=cause,
            )
        )

    def _say_last(self, answer: bytes) -> None:
        self._over = True
        self._line.sender(self._client)(answer)
        self._line.finish(self._client)
        self._line.linger(patient=False)

    def _leave(self, why: str) -> None:
        self._over = True
        if why:
            logger.info("client %s: %s", self._source_ip, why)
        self._line.close(self._client)

    def _closed(self) -> None:
        self._over = True
        self.context.layers.clear()
        if self._lane is not None:
            self._lane.closed()
        elif self._tunnel is not None and self._tunnel.give_back is not None:
            self._tunnel.give_back()


def _without_text(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__
