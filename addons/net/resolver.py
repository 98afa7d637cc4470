"""The addresses of a target's name, without keeping the event loop or other targets waiting."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

THREADS: Final = 32
"""Names that are resolved at once. One name takes one thread, however many ask for it."""
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at."""


class Resolved(NamedTuple):
    """The IP addresses of a name in the order in which they are to be tried; where there are none, why."""

    addresses: tuple[str, ...]
    problem: str = ""


class Resolver:
    """The system's resolver."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="connector-resolver")
        self._running: dict[tuple[str, int], asyncio.Future[tuple[str, ...]]] = {}

    async def resolve(self, host: str, port: int) -> Resolved:
        """IPv4 and IPv6 in the system's order (RFC 6724); `host` is a name."""
        try:
            return Resolved(await self._addresses(host, port))
        except OSError as error:
            return Resolved((), f"its name cannot be resolved: {error.strerror or type(error).__name__}")

    def close(self) -> None:
        """What is still asked for is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        running = self._running.get((host, port))
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, _look_up, host, port)
            self._running[host, port] = running
            running.add_done_callback(lambda _: self._running.pop((host, port), None))
        # Who gives up waiting does not take the answer from the others.
        return await asyncio.shield(running)


def _look_up(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))[:MAX_ADDRESSES]
