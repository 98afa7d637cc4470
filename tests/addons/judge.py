"""Another parser's reading of requests (h11): what it makes out, message by message, up to where it finds a fault."""

from dataclasses import dataclass, field

import h11

Field = tuple[bytes, bytes]


@dataclass(kw_only=True)
class Message:
    """A request; field names are spelled as they came."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    """Its end was there."""


@dataclass(kw_only=True)
class Reading:
    """`fault` is empty if everything was read, and where only the end was missing."""

    messages: list[Message]
    fault: str = ""


def read(sent: bytes) -> Reading:
    """What a server makes of `sent`, all that a client ever says."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(sent)
    peer.receive_data(b"")
    reading = Reading(messages=[])
    try:
        _read(peer, reading.messages)
    except h11.RemoteProtocolError as error:
        cut_off = "incomplete" in str(error) or "closed" in str(error)
        reading.fault = "" if cut_off else str(error)
    return reading


def _read(peer: h11.Connection, found: list[Message]) -> None:
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            found.append(Message(method=event.method, target=event.target, fields=event.headers.raw_items()))
        elif isinstance(event, h11.Data):
            found[-1].body += event.data
        elif isinstance(event, h11.EndOfMessage):
            found[-1].whole = True
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            if peer.our_state is h11.MUST_CLOSE:
                return
            peer.start_next_cycle()
        else:
            return
