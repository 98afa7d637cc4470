"""Stage of a client connection: the protocol between `Sockets` and the current reader, and its events."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy import events


class TimerKind(Enum):
    """Side of the connection that a timer waits for."""

    CLIENT = "client"
    TARGET = "target"


@dataclass
class TimerExpired(events.Event):
    """A timer of `Sockets.start_timer` has expired. `timer_id` is the value that `start_timer` returned."""

    kind: TimerKind
    timer_id: int


class Drain(events.Event):
    """The proxy is draining: finish the current request and start no other."""


@dataclass
class ShutDown(events.Event):
    """The drain time is over: close the connection. The event is repeated until the connection is closed."""

    reason: str


class Stage(Protocol):
    """Current reader of a client connection, until another stage replaces it. An exception closes the connection."""

    def data_received(self, connection: Connection, data: memoryview) -> None:
        """Handle bytes from one side. The view is valid only during this call."""

    def eof_received(self, connection: Connection) -> None:
        """Handle the EOF of one side."""

    def handle_event(self, event: events.Event) -> None:
        """Handle an expired timer, a drain or a shutdown."""

    def connection_lost(self) -> None:
        """Release resources after the client connection was closed or lost."""
