"""Requests as another parser (h11) reads them, up to its first error."""

from dataclasses import dataclass, field

import h11

Field = tuple[bytes, bytes]


@dataclass(kw_only=True)
class Message:
    """A request. Field names have their original spelling."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """The message is complete."""


@dataclass(kw_only=True)
class Reading:
    """Result of the parser. `fault` is empty if everything was read or only the end was missing."""

    messages: list[Message]
    fault: str = ""


def read(sent: bytes) -> Reading:
    """Parse `sent` as a server would, followed by EOF."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(sent)
    peer.receive_data(b"")
    reading = Reading(messages=[])
    try:
        _read(peer, reading.messages)
    except h11.RemoteProtocolError as error:
        is_incomplete = "incomplete" in str(error) or "closed" in str(error)
        reading.fault = "" if is_incomplete else str(error)
    return reading


def _read(peer: h11.Connection, messages: list[Message]) -> None:
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            messages.append(Message(method=event.method, target=event.target, fields=event.headers.raw_items()))
        elif isinstance(event, h11.Data):
            messages[-1].body += event.data
        elif isinstance(event, h11.EndOfMessage):
            messages[-1].whole = True
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            if peer.our_state is h11.MUST_CLOSE:
                return
            peer.start_next_cycle()
        else:
            return
