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

MAX_TRIES: Final = 5
"""Questions to each name server before it is given up. The first waits for what its server usually takes, 250 ms at
least, each further one twice as long; `connector_connect_timeout` ends the whole earlier."""
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at."""
MAX_QUERIES: Final = 4096
"""Names that are asked for at once. One name is one question, however many ask for it."""
MAX_CACHED: Final = 4096
"""Names whose addresses are kept."""
MAX_TTL: Final = 3600
"""Seconds that an answer is kept at most, whatever its TTL says."""
MAX_CHANNEL_RECORDS: Final = 512
"""Questions and records of answers, together, before a channel of c-ares is left. Few of them live at once: each has a
thread and an inotify instance, of which a user has 128."""


class ResolvedAddresses(NamedTuple):
    """The IP addresses of a name in the order in which they are to be tried; where there are none, why."""

    addresses: tuple[str, ...]
    problem: str = ""


class _Channel:
    """One of c-ares, on the running event loop. aiodns closes it when it is referred to no more, nor waited for."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._dns = DNSResolver(nameservers=servers, tries=MAX_TRIES)
        self._record_count = 0

    @property
    def is_full(self) -> bool:
        """True once it may hold so many answers that no further question should go to it."""
        return self._record_count >= MAX_CHANNEL_RECORDS

    async def query(self, host: str, port: int) -> AddrInfoResult:
        self._record_count += 1
        result = await self._dns.getaddrinfo(host, port=port, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        self._record_count += len(result.nodes) + len(result.cnames)
        return result

    def cancel(self) -> None:
        """What is still asked is given up."""
        self._dns.cancel()


class Resolver:
    """The system's name servers; others, as IP[:PORT], for whoever names them."""

    def __init__(self, *, servers: Sequence[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._now = now
        self._channel: _Channel | None = None
        self._queries: dict[str, asyncio.Future[ResolvedAddresses]] = {}
        self._cache = ExpiringCache[str, ResolvedAddresses](MAX_CACHED)

    async def resolve(self, host: str, port: int) -> ResolvedAddresses:
        """IPv4 and IPv6 in the order of RFC 6724; `host` is a name."""
        cached_result = self._cache.get(host, now=self._now())
        if cached_result is not None:
            return cached_result
        query = self._queries.get(host)
        if query is None:
            if len(self._queries) >= MAX_QUERIES:
                return ResolvedAddresses((), "its name cannot be resolved: too many names are asked for at once")
            query = asyncio.ensure_future(self._query(host, port))
            self._queries[host] = query
            query.add_done_callback(lambda _: self._queries.pop(host, None))
        # Who gives up waiting does not take the answer from the others.
        return await asyncio.shield(query)

    def close(self) -> None:
        """What is still asked for is given up."""
        for query in tuple(self._queries.values()):
            query.cancel()
        if self._channel is not None:
            self._channel.cancel()
            self._channel = None

    async def _query(self, host: str, port: int) -> ResolvedAddresses:
        if self._channel is None or self._channel.is_full:
            self._channel = _Channel(self._servers)
        try:
            result = await self._channel.query(host, port)
        except DNSError as error:
            return ResolvedAddresses((), f"its name cannot be resolved: {_error_text(error)}")
        addresses = dict.fromkeys(_address_text(each.addr[0]) for each in result.nodes)
        if not addresses:
            return ResolvedAddresses((), "its name has no address")
        resolved = ResolvedAddresses((*addresses,)[:MAX_ADDRESSES])
        # Of /etc/hosts it is 0: that is read anew when it has changed.
        ttl = min(*(each.ttl for each in result.nodes), *(each.ttl for each in result.cnames), MAX_TTL)
        if ttl > 0:
            self._cache.put(host, resolved, expires_at=self._now() + ttl)
        return resolved


def _error_text(error: DNSError) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _address_text(address: str | bytes) -> str:
    return address if isinstance(address, str) else address.decode("ascii")
