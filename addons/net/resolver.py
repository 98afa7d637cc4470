"""The addresses of a target's name, without keeping the event loop or other targets waiting.

c-ares asks by sockets of its own and no thread waits for an answer, so that names whose servers are silent cost nobody
else anything. It reads /etc/hosts, and /etc/resolv.conf with its search domains and `ndots`, in the order of
nsswitch.conf, as the system's resolver does, and again when they change.

Answers are kept here as long as their TTL says. c-ares keeps them too, of however many names: so a channel of it is
left for a new one once it may hold many.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from aiodns import DNSResolver
from aiodns.error import DNSError
from pycares import AddrInfoResult

from connector_store.cache import ExpiringCache

TRIES: Final = 5
"""Questions to each name server before it is given up. The first waits for what its server usually takes, 250 ms at
least, each further one twice as long; `connector_connect_timeout` ends the whole earlier."""
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at."""
MAX_ASKED: Final = 4096
"""Names that are asked for at once. One name is one question, however many ask for it."""
MAX_KEPT: Final = 4096
"""Names whose addresses are kept."""
LONGEST_KEPT: Final = 3600
"""Seconds that an answer is kept at most, whatever its TTL says."""
MAX_OF_A_CHANNEL: Final = 512
"""Questions and records of answers, together, before a channel of c-ares is left. Few of them live at once: each has a
thread and an inotify instance, of which a user has 128."""


class Resolved(NamedTuple):
    """The IP addresses of a name in the order in which they are to be tried; where there are none, why."""

    addresses: tuple[str, ...]
    problem: str = ""


class _Channel:
    """One of c-ares, on the running event loop. aiodns closes it when it is referred to no more, nor waited for."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._dns = DNSResolver(nameservers=servers, tries=TRIES)
        self._held = 0

    @property
    def full(self) -> bool:
        """True once it may hold so many answers that no further question should go to it."""
        return self._held >= MAX_OF_A_CHANNEL

    async def ask(self, host: str, port: int) -> AddrInfoResult:
        self._held += 1
        found = await self._dns.getaddrinfo(host, port=port, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        self._held += len(found.nodes) + len(found.cnames)
        return found

    def cancel(self) -> None:
        """What is still asked is given up."""
        self._dns.cancel()


class Resolver:
    """The system's name servers; others, as IP[:PORT], for whoever names them."""

    def __init__(self, *, servers: Sequence[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._now = now
        self._channel: _Channel | None = None
        self._running: dict[str, asyncio.Future[Resolved]] = {}
        self._kept = ExpiringCache[str, Resolved](MAX_KEPT)

    async def resolve(self, host: str, port: int) -> Resolved:
        """IPv4 and IPv6 in the order of RFC 6724; `host` is a name."""
        kept = self._kept.get(host, now=self._now())
        if kept is not None:
            return kept
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
        if self._channel is not None:
            self._channel.cancel()
            self._channel = None

    async def _ask(self, host: str, port: int) -> Resolved:
        if self._channel is None or self._channel.full:
            self._channel = _Channel(self._servers)
        try:
            found = await self._channel.ask(host, port)
        except DNSError as error:
            return Resolved((), f"its name cannot be resolved: {_words(error)}")
        addresses = dict.fromkeys(_text(each.addr[0]) for each in found.nodes)
        if not addresses:
            return Resolved((), "its name has no address")
        answer = Resolved((*addresses,)[:MAX_ADDRESSES])
        # Of /etc/hosts it is 0: that is read anew when it has changed.
        ttl = min(*(each.ttl for each in found.nodes), *(each.ttl for each in found.cnames), LONGEST_KEPT)
        if ttl > 0:
            self._kept.put(host, answer, expires_at=self._now() + ttl)
        return answer


def _words(error: DNSError) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _text(address: str | bytes) -> str:
    return address if isinstance(address, str) else address.decode("ascii")
