"""What the sockets of a client connection serve, and what they tell it besides bytes."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy import events


class TimerKind(Enum):
    """What a timer is for."""

    CLIENT = "client"
    TARGET = "target"


@dataclass
class TimerExpired(events.Event):
    """A timer of `Sockets.arm` has ended; `number` tells it from earlier ones."""

    kind: TimerKind
    timer_id: int


class Drain(events.Event):
    """The proxy is about to end: finish what runs, begin nothing."""


@dataclass
class ShutDown(events.Event):
    """The time of what runs is over; told again until it has ended."""

    reason: str


class Stage(Protocol):
    """What a client connection is at the moment; another one replaces it. What it raises ends the connection."""

    def data_received(self, connection: Connection, data: memoryview) -> None:
        """Bytes of one side; the view is good for this call only."""

    def eof_received(self, connection: Connection) -> None:
        """One side sends nothing more."""

    def handle_event(self, event: events.Event) -> None:
        """A timer, how a dial ended, or an end that was asked for."""

    def connection_lost(self) -> None:
        """The client connection has ended."""
