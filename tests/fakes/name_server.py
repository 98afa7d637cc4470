"""Name server on loopback. It answers from a table and never answers for names that end in `.silent`."""

import asyncio
import ipaddress
import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

A: Final = 1
AAAA: Final = 28
NO_SUCH_NAME: Final = 3


class NameServer(asyncio.DatagramProtocol):
    """DNS server (RFC 1035) for `async with NameServer({"a.example": ["192.0.2.1"]}) as server`; see `address`."""

    def __init__(self, table: Mapping[str, Sequence[str]], *, ttl: int = 60, port: int = 0) -> None:
        self.table = dict(table)
        self.queries: list[str] = []
        """Queried names. A name appears once for each record type, even if the query is sent again."""
        self._received: set[bytes] = set()
        self._ttl = ttl
        self._port = port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self._port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
        # The loop may end with the test. It closes the socket in its next iteration.
        await asyncio.sleep(0)

    @property
    def address(self) -> str:
        return "{}:{}".format(*self._transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _parse_name(data)
        # c-ares sends the same datagram again if the answer is late.
        if data not in self._received:
            self._received.add(data)
            self.queries.append(name)
        if name.endswith(".silent"):
            return
        kind = int.from_bytes(data[end : end + 2])
        addresses = [ipaddress.ip_address(text) for text in self.table.get(name, ())]
        answers = [ip.packed for ip in addresses if (ip.version == 4) == (kind == A) and kind in (A, AAAA)]
        code = 0 if name in self.table else NO_SUCH_NAME
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(answers), 0, 0)
        records = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self._ttl, len(data)) + data for data in answers]
        self._transport.sendto(head + data[12 : end + 4] + b"".join(records), addr)


def _parse_name(data: bytes) -> tuple[str, int]:
    """Return the name of the question and the position after it."""
    labels, position = [], 12
    while size := data[position]:
        labels.append(data[position + 1 : position + 1 + size].decode().lower())
        position += 1 + size
    return ".".join(labels), position + 1
