"""TLS with the client: the stage between the 200 of a CONNECT and the first byte in the tunnel."""

import logging
import time
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.admission import Admission
from addons.access.grant import Grant
from addons.net.events import TakeLeave, TimeUp, Wait
from addons.net.sockets import Sockets
from addons.net.tls import TlsStream
from addons.records.record import Record
from addons.relay.requests import Requests
from addons.relay.shared import Shared
from addons.relay.watched import WatchedRequests

logger = logging.getLogger(__name__)

MAX_HANDSHAKE: Final = 32768
"""Bytes that a client may send before its handshake is done: a ClientHello has 2 kB, with post-quantum keys."""


class Handshake:
    """Then the requests take its place."""

    def __init__(self, shared: Shared, sockets: Sockets, admission: Admission, grant: Grant) -> None:
        self._shared = shared
        self._sockets = sockets
        self._admission = admission
        self._grant = grant
        self._client: TlsStream | None = None
        self._taken = 0
        self._began = time.perf_counter()
        sockets.arm(shared.times.client, Wait.CLIENT)

    def begin(self, early: bytes) -> None:
        """`early` is what the client has said after its CONNECT."""
        if early:
            self._take(early)

    def received(self, connection: Connection, data: memoryview) -> None:
        self._take(data)

    def ended(self, connection: Connection) -> None:
        self._leave("closed before CONNECT and TLS were whole")

    def tell(self, event: events.Event) -> None:
        if isinstance(event, TimeUp):
            self._leave("no TLS handshake in time")
        elif isinstance(event, TakeLeave):
            self._leave("")

    def closed(self) -> None:
        """Nothing is left to do."""

    def _take(self, data: bytes | memoryview) -> None:
        self._taken += len(data)
        try:
            client = self._client or self._make()
            plain = client.receive(data)
        except ConnectionError as error:
            self._leave(str(error))
            return
        if client.established:
            self._serve(client, plain)
        elif self._taken > MAX_HANDSHAKE:
            self._leave(f"the TLS handshake is longer than {MAX_HANDSHAKE} bytes")

    def _make(self) -> TlsStream:
        tls = self._shared.certificates.connection(self._grant.host)
        self._client = TlsStream(self._sockets.client, tls, self._sockets)
        self._sockets.client.tls = True
        return self._client

    def _serve(self, client: TlsStream, plain: bytes) -> None:
        client.connection.timestamp_tls_setup = time.time()
        client.connection.alpn = b"http/1.1"
        make = WatchedRequests if self._shared.watched else Requests
        requests = make(self._shared, self._sockets, self._admission, self._grant, client)
        self._sockets.serve(requests)
        requests.begin(plain)

    def _leave(self, why: str) -> None:
        if why:
            logger.info("client %s: %s", self._sockets.source_ip, why)
            failed = Record(
                event="connect",
                connector=self._grant.key,
                status=0,
                source_ip=self._sockets.source_ip,
                duration=time.perf_counter() - self._began,
                identity=self._grant.identity,
                target=self._grant.authority,
                cause=why,
            )
            for tell in self._shared.recorders:
                tell(failed)
        self._sockets.close(self._sockets.client)
