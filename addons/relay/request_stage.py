"""Base of the stage for the requests of a client connection: reading, timeouts, closing and the current state.

`requests.Requests` adds what happens to each request: its access decision, its target and its response.

- If either side closes, the client connection ends after the response.
- No method blocks. The result of each operation arrives as a call. So a waiting request can be closed by a timer, by a
  revocation or by EOF of the client.
"""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from mitmproxy.connection import Connection
from mitmproxy.proxy import events

from addons.access.authorizer import Authorizer
from addons.access.live_connections import LiveAccess
from addons.http1.framing import RequestReader
from addons.http1.messages import InvalidMessage, MessageEvent, RequestHead
from addons.net.dial import Dial
from addons.net.sockets import Sockets
from addons.net.stage import Drain, ShutDown, TimerExpired, TimerKind
from addons.net.tls import ClientStream
from addons.records.session_row import SessionRow
from addons.relay.exchange import Exchange
from addons.relay.response import Response
from addons.relay.routes import Route
from addons.relay.shared_context import SharedContext
from addons.relay.upstream import UpstreamConnection
from connector_store.domain.base.names import ObjectKey

logger = logging.getLogger(__name__)


class NoRequest(Enum):
    """States of the stage in which no request is running."""

    IDLE = "the client has sent nothing of the next head"
    HEAD = "a head is expected within the timeout"
    CLOSED = "no further request is served"


@dataclass(slots=True, eq=False)
class CurrentRequest[E: Exchange]:
    """Base of the states in which a request is running."""

    exchange: E


@dataclass(slots=True, eq=False)
class Deciding[E: Exchange](CurrentRequest[E]):
    """State of a request that waits for its access decision, or for the hooks of its flow."""


@dataclass(slots=True, eq=False)
class Dialling[E: Exchange](CurrentRequest[E]):
    """State of a request that waits for a connection to the target."""

    dial: Dial


@dataclass(slots=True, eq=False)
class Responding[E: Exchange](CurrentRequest[E]):
    """State of a request whose head has been sent to the target."""

    response: Response
    upstream: UpstreamConnection


class CloseMode(Enum):
    """Ways to close the client connection."""

    AFTER_RESPONSE = "orderly, when the client has read the complete response, without a limit of time"
    AFTER_REFUSAL = "orderly, with a limit of time for the client to read the response of the proxy"
    CLIENT_GONE = "orderly, at once"
    TRUNCATED = "without a close_notify, so that no message looks complete"


class RequestStage[E: Exchange](ABC):
    """Stage of a client connection that serves requests, in a tunnel or for direct access."""

    def __init__(
        self,
        context: SharedContext,
        sockets: Sockets,
        authorizer: Authorizer,
        route: Route,
        client: ClientStream,
        reader: RequestReader,
        exchange_class: type[E],
    ) -> None:
        """Create the stage. `reader` is new, or has read the messages for `take_over`."""
        self.key: ObjectKey | None = None
        """Connector of the current or last request."""
        self._route = route
        self._context = context
        self._sockets = sockets
        self._authorizer = authorizer
        self._client = client
        self._reader = reader
        reader.max_head = context.max_header
        self._exchange_class = exchange_class
        self._state: NoRequest | Deciding[E] | Dialling[E] | Responding[E] = NoRequest.IDLE
        self._upstream: UpstreamConnection | None = None
        """Connection of the current or last request, until it is released."""
        self._has_warned = False
        """The client got the warning about the expiry of the Connector's credential, if one was due."""

    def take_over(self, messages: list[MessageEvent]) -> None:
        """Handle the messages that another stage has read. The first one is a head."""
        self._handle_messages(messages)
        if self._client.at_eof and self._state is not NoRequest.CLOSED:
            # The EOF was read by the other stage, so `eof_received` is not called.
            self._handle_client_gone("closed the connection")

    def start(self, initial_data: bytes) -> None:
        """Start serving. `initial_data` is plaintext that arrived with the end of the TLS handshake."""
        self._await_head()
        if initial_data or self._client.at_eof:
            self.take_over(self._reader.receive(initial_data))

    # Interface `LiveConnection`

    @property
    def live_access(self) -> LiveAccess | None:
        """Access with which the current request was authorized; None between requests."""
        return self._state.exchange.live_access if isinstance(self._state, CurrentRequest) else None

    @property
    def target_ip(self) -> str | None:
        return self._upstream.ip if self._upstream is not None else None

    def session_row(self, *, commands: bool) -> SessionRow | None:
        state = self._state
        return state.exchange.session_row(commands=commands) if isinstance(state, CurrentRequest) else None

    def close(self, reason: str) -> None:
        """Close both sides immediately, so that no message looks complete.

        The client of a watch gets the reason, unless an event is incomplete.
        """
        state = self._state
        if isinstance(state, Responding) and state.exchange.long_running_kind == "watch":
            error_event = state.response.render_error_event(reason)
            state.exchange.bytes_out += len(error_event)
            self._client.send(error_event)
        self._end(CloseMode.TRUNCATED, reason)

    def close_if_client_gone(self) -> None:
        """Close the connection if the client is gone.

        This is not noticed otherwise while the client is not read because its request waits.
        """
        if self._state is not NoRequest.CLOSED and self._sockets.is_client_closed_while_paused:
            self._handle_client_gone("closed the connection")

    # Interface `Stage`

    def data_received(self, connection: Connection, data: memoryview) -> None:
        state, upstream = self._state, self._upstream
        if connection is self._client.connection:
            self._receive_from_client(data)
        elif isinstance(state, Dialling):
            state.dial.receive(connection, data)
        elif upstream is not None and connection is upstream.connection and not upstream.at_eof:
            self._receive_from_target(upstream, data)

    def eof_received(self, connection: Connection) -> None:
        state, upstream = self._state, self._upstream
        if connection is self._client.connection:
            if not self._client.at_eof:
                self._client.at_eof = self._client.is_truncated = True
                self._handle_client_gone("closed the connection")
        elif isinstance(state, Dialling):
            state.dial.on_eof(connection)
        elif upstream is not None and connection is upstream.connection and not upstream.at_eof:
            upstream.on_eof()
            self._handle_target_eof()

    def handle_event(self, event: events.Event) -> None:
        if isinstance(event, TimerExpired) and event.kind is TimerKind.CLIENT:
            self._handle_client_gone("sent no whole request in time")
        elif isinstance(event, Drain):
            self._drain()
        elif isinstance(event, ShutDown):
            self._shut_down(event.reason)
        elif isinstance(self._state, Dialling):
            self._state.dial.handle_event(event)

    def connection_lost(self) -> None:
        self._context.live_connections.remove(self)
        self._stop("the connection ended")

    # From the client

    def _receive_from_client(self, data: memoryview) -> None:
        try:
            plaintext = self._client.receive(data)
        except ConnectionError as error:
            logger.debug("client %s: %s", self._sockets.source_ip, error)
            self._end(CloseMode.TRUNCATED, "the connection ended")
            return
        if plaintext:
            self._handle_messages(self._reader.receive(plaintext))
        if self._client.at_eof and self._state is not NoRequest.CLOSED:
            self._handle_client_gone("closed the connection")

    def _handle_messages(self, messages: list[MessageEvent]) -> None:
        """Handle message events from the client."""
        body: list[bytes] = []
        for message in messages:
            if isinstance(message, RequestHead):
                self._start_request(message)
            elif isinstance(message, InvalidMessage):
                self._refuse_invalid(message)
            elif isinstance(self._state, CurrentRequest):
                self._state.exchange.append_body(message, body)
            if self._state is NoRequest.CLOSED:
                return
        if body:
            self._send_to_target(b"".join(body))
        if isinstance(self._state, Deciding) and self._state.exchange.awaits_body:
            self._check_awaited_body(self._state.exchange)
        if self._reader.buffer and self._state is not NoRequest.CLOSED:
            self._handle_buffered_input()

    def _handle_buffered_input(self) -> None:
        """Handle unparsed bytes: wait for the rest of a head, or pause reading until the current request is done."""
        if isinstance(self._state, CurrentRequest):
            self._sockets.pause_reading()
        elif self._state is NoRequest.IDLE:
            self._await_head()

    def _await_head(self) -> None:
        self._state = NoRequest.HEAD
        self._sockets.start_timer(self._context.timeouts.client, TimerKind.CLIENT)

    def _send_to_target(self, data: bytes) -> None:
        state = self._state
        if not isinstance(state, CurrentRequest):
            return
        state.exchange.bytes_in += len(data)
        if isinstance(state, Responding):
            state.upstream.send(data)
        else:
            state.exchange.unsent_body.append(data)

    def _resume_reading(self) -> None:
        """Resume reading from the client, which was paused while the request waited."""
        if isinstance(self._state, Responding) and not self._reader.buffer:
            self._sockets.resume_reading()

    # What happens to a request

    @abstractmethod
    def _start_request(self, head: RequestHead) -> None:
        """Start the request of `head`, and set the state."""

    @abstractmethod
    def _refuse_invalid(self, message: InvalidMessage) -> None:
        """Refuse what the client sent, and close the connection."""

    @abstractmethod
    def _check_awaited_body(self, exchange: E) -> None:
        """Continue a request that waits for its body, if the body is complete."""

    @abstractmethod
    def _receive_from_target(self, upstream: UpstreamConnection, data: memoryview) -> None:
        """Handle bytes of the target."""

    @abstractmethod
    def _handle_target_eof(self) -> None:
        """Handle the EOF of the target."""

    # The end

    def _close_if_client_gone(self) -> bool:
        """Close if the client has closed the connection. Return True if the stage is closed."""
        if self._sockets.is_client_closed:
            self._end(CloseMode.CLIENT_GONE, "the client closed the connection")
        return self._state is NoRequest.CLOSED

    def _handle_client_gone(self, cause: str) -> None:
        if not isinstance(self._state, CurrentRequest) and self._reader.buffer:
            logger.debug("client %s: %s in the middle of a head", self._sockets.source_ip, cause)
        self._end(CloseMode.CLIENT_GONE, f"the client {cause}")

    def _drain(self) -> None:
        if not isinstance(self._state, CurrentRequest):
            self._end(CloseMode.AFTER_RESPONSE)
        elif isinstance(self._state, Responding):
            self._state.response.must_close = True

    def _shut_down(self, reason: str) -> None:
        """End the current request in an orderly way.

        If a watch event is incomplete, do nothing. `ShutDown` is delivered again.
        """
        state = self._state
        if isinstance(state, Responding):
            if state.response.is_close_delimited:
                # An orderly EOF would look like the end of the complete response.
                self.close(reason)
                return
            final_chunk = state.response.render_end() if state.exchange.long_running_kind == "watch" else b""
            if final_chunk is None:
                return
            if final_chunk and not state.upstream.at_eof:
                state.exchange.bytes_out += len(final_chunk)
                self._client.send(final_chunk)
        self._end(CloseMode.AFTER_RESPONSE, reason)

    def _send_final_response(self, exchange: E, response: bytes) -> None:
        exchange.bytes_out += len(response)
        self._client.send(response)
        self._end(CloseMode.AFTER_REFUSAL)

    def _end(self, mode: CloseMode, reason: str = "") -> None:
        """End the current request, if any, and close the connection. `reason` is for the audit record."""
        self._stop(reason)
        if mode is CloseMode.TRUNCATED:
            self._upstream = None
            self._sockets.close_all()
            return
        self._release_target()
        self._client.send_eof()
        if mode is CloseMode.CLIENT_GONE:
            self._sockets.close(self._client.connection)
        else:
            self._sockets.linger(until_sent=mode is CloseMode.AFTER_RESPONSE)

    def _stop(self, reason: str) -> None:
        """End the current request, if any, and serve no other."""
        state, self._state = self._state, NoRequest.CLOSED
        if isinstance(state, Dialling):
            state.dial.cancel()
        if isinstance(state, CurrentRequest):
            self._finish_exchange(state.exchange, reason)

    def _release_target(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._context.upstream_pool.release(upstream)

    def _finish_exchange(self, exchange: E, reason: str) -> None:
        exchange.record_end(reason, self._context.recorders)
