"""Name resolution for targets that blocks neither the event loop nor other targets.

c-ares uses sockets and no thread for each query, so names with silent servers do not delay other names. Like the
system's resolver, it reads /etc/hosts and /etc/resolv.conf with search domains and `ndots`, in the order of
nsswitch.conf. It reads these files again when they change.

This module caches results for their TTL. c-ares also caches them, without a limit on the number of names. A channel of
c-ares is therefore replaced once its cache may be large.
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
"""Number of tries at each name server. The first try waits for the server's usual response time, but at least 250 ms.
Each further try waits twice as long as the one before. `connector_connect_timeout` usually ends the lookup earlier."""
MAX_ADDRESSES: Final = 16
"""Maximum number of addresses of one name. Further ones are ignored."""
MAX_QUERIES: Final = 4096
"""Maximum number of concurrent queries. Lookups of the same name share a query."""
MAX_CACHED: Final = 4096
"""Maximum number of names in the cache."""
MAX_TTL: Final = 3600
"""Maximum number of seconds that a result is cached."""
MAX_CHANNEL_RECORDS: Final = 512
"""Number of queries and records after which a channel of c-ares is replaced. Few channels exist at the same time,
because each has a thread and an inotify instance, and a user has only 128 of these."""


class ResolvedAddresses(NamedTuple):
    """IP addresses of a name in the order in which to try them. `problem` is the reason if there are none."""

    addresses: tuple[str, ...]
    problem: str = ""


class _Channel:
    """Channel of c-ares on the running event loop. aiodns closes it when it has no references and no queries."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._dns = DNSResolver(nameservers=servers, tries=MAX_TRIES)
        self._record_count = 0

    @property
    def is_full(self) -> bool:
        """True if the channel may have cached so many records that it must get no further queries."""
        return self._record_count >= MAX_CHANNEL_RECORDS

    async def query(self, host: str, port: int) -> AddrInfoResult:
        self._record_count += 1
        result = await self._dns.getaddrinfo(host, port=port, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        self._record_count += len(result.nodes) + len(result.cnames)
        return result

    def cancel(self) -> None:
        """Cancel all queries."""
        self._dns.cancel()


class Resolver:
    """Resolver with a cache. `servers` replaces the system's name servers, as IP[:PORT]."""

    def __init__(self, *, servers: Sequence[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._now = now
        self._channel: _Channel | None = None
        self._queries: dict[str, asyncio.Future[ResolvedAddresses]] = {}
        self._cache = ExpiringCache[str, ResolvedAddresses](MAX_CACHED)

    async def resolve(self, host: str, port: int) -> ResolvedAddresses:
        """Return the IPv4 and IPv6 addresses of the name `host`, in the order of RFC 6724."""
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
        # Others may wait for the same query, so a cancelled caller must not cancel it.
        return await asyncio.shield(query)

    def close(self) -> None:
        """Cancel all queries."""
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
        addresses = dict.fromkeys(_address_text(node.addr[0]) for node in result.nodes)
        if not addresses:
            return ResolvedAddresses((), "its name has no address")
        resolved = ResolvedAddresses((*addresses,)[:MAX_ADDRESSES])
        # Results from /etc/hosts have TTL 0, because c-ares reads the file again after a change.
        ttl = min(*(node.ttl for node in result.nodes), *(cname.ttl for cname in result.cnames), MAX_TTL)
        if ttl > 0:
            self._cache.put(host, resolved, expires_at=self._now() + ttl)
        return resolved


def _error_text(error: DNSError) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _address_text(address: str | bytes) -> str:
    return address if isinstance(address, str) else address.decode("ascii")
