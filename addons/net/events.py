"""What a line serves, and what it tells besides bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy import events


class Wait(Enum):
    """What a timer is for."""

    CLIENT = "client"
    TARGET = "target"


@dataclass
class TimeUp(events.Event):
    """A timer of `Sockets.arm` has ended; `number` tells it from earlier ones."""

    wait: Wait
    number: int


class Retire(events.Event):
    """The proxy is about to end: finish what runs, begin nothing."""


class Layers(Protocol):
    """What a line serves: it never raises, whatever it is given."""

    def received(self, connection: Connection, data: memoryview) -> None:
        """Bytes of one side; the view is good for this call only."""

    def ended(self, connection: Connection) -> None:
        """One side sends nothing more."""

    def tell(self, event: events.Event) -> None:
        """A timer, how a dial ended, or an end that was asked for."""

    def go_on(self, then: Callable[[], None]) -> None:
        """What was waited for is there."""
