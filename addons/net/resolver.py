"""The addresses of a target's name, without keeping the event loop or other targets waiting.

c-ares asks by sockets of its own and no thread waits for an answer, so that names whose servers are silent cost nobody
else anything. It reads /etc/hosts, and /etc/resolv.conf with its search domains and `ndots`, in the order of
nsswitch.conf, as the system's resolver does, again when they change, and keeps answers as long as their TTL says.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from aiodns import DNSResolver
from aiodns.error import DNSError

TRIES: Final = 5
"""Questions to each name server before it is given up. The first waits for what its server usually takes, 250 ms at
least, each further one twice as long; `connector_connect_timeout` ends the whole earlier."""
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at."""
MAX_ASKED: Final = 4096
"""Names that are asked for at once. One name is one question, however many ask for it."""


class Resolved(NamedTuple):
    """The IP addresses of a name in the order in which they are to be tried; where there are none, why."""

    addresses: tuple[str, ...]
    problem: str = ""


class Resolver:
    """The system's name servers; others, as IP[:PORT], for whoever names them."""

    def __init__(self, *, servers: Sequence[str] = ()) -> None:
        self._servers = servers
        self._dns: DNSResolver | None = None
        self._running: dict[str, asyncio.Future[Resolved]] = {}

    async def resolve(self, host: str, port: int) -> Resolved:
        """IPv4 and IPv6 in the order of RFC 6724; `host` is a name."""
        running = self._running.get(host)
        if running is None:
            if len(self._running) >= MAX_ASKED:
                return Resolved((), "its name cannot be resolved: too many names are asked for at once")
            running = asyncio.ensure_future(self._ask(host, port))
            self._running[host] = running
            running.add_done_callback(lambda _: self._running.pop(host, None))
        # Who gives up waiting does not take the answer from the others.
        return await asyncio.shield(running)

    def close(self) -> None:
        """What is still asked for is given up."""
        for each in tuple(self._running.values()):
            each.cancel()
        if self._dns is not None:
            self._dns.cancel()
            self._dns = None

    async def _ask(self, host: str, port: int) -> Resolved:
        if self._dns is None:
            # It belongs to the event loop that it is made on.
            self._dns = DNSResolver(nameservers=self._servers, tries=TRIES)
        try:
            found = await self._dns.getaddrinfo(host, port=port, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except DNSError as error:
            return Resolved((), f"its name cannot be resolved: {_words(error)}")
        addresses = dict.fromkeys(_text(each.addr[0]) for each in found.nodes)
        return Resolved((*addresses,)[:MAX_ADDRESSES], "" if addresses else "its name has no address")


def _words(error: DNSError) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _text(address: str | bytes) -> str:
    return address if isinstance(address, str) else address.decode("ascii")
