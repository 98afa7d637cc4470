"""Takes over the sockets on which mitmproxy listens: of each client its own handler would make four tasks and a stream.

mitmproxy still binds them, says where, and closes them.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode, RegularMode

from addons.net.tcp import TcpConnection

logger = logging.getLogger(__name__)

QUEUE: Final = 1024
"""Connections that the kernel has made and nobody has accepted yet; the kernel's own bound is net.core.somaxconn."""
LOOK: Final = 1.0
"""Seconds between looks at whether the sockets are still open."""

Accept = Callable[[ProxyMode, TcpConnection], None]


class Listeners:
    """`accept` gets each connection the moment it is open."""

    def __init__(self, proxyserver: Proxyserver, accept: Accept) -> None:
        self._proxyserver = proxyserver
        self._accept = accept
        self._taken: dict[asyncio.AbstractServer, socket.socket] = {}
        """Those that are not mitmproxy's any more."""
        # mitmproxy's user interfaces change where it listens.
        proxyserver.servers.changed.connect(self.take)

    async def take(self, *_: object) -> None:
        """All that are mitmproxy's. Connections that wait to be accepted are kept."""
        instances = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
        for instance in instances:
            if isinstance(instance.mode, RegularMode):
                instance._servers = [new for old in instance._servers for new in await self._in_place_of(old, instance)]
        self._taken = {server: sock for server, sock in self._taken.items() if sock.fileno() != -1}

    async def watch(self) -> None:
        """Listen anew where the event loop has closed a socket, as libuv may in want of descriptors; for ever."""
        while True:
            await asyncio.sleep(LOOK)
            listening = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
            servers = [server for instance in listening for server in instance._servers]
            if any(server in self._taken and self._taken[server].fileno() == -1 for server in servers):
                logger.error("a socket that the proxy listens on was closed by its event loop; it listens anew")
                await self._proxyserver.servers.update([])
                await self._proxyserver.setup_servers()

    async def _in_place_of(self, server: Any, instance: AsyncioServerInstance[RegularMode]) -> list[Any]:
        if server in self._taken:
            return [server]
        same = [each.dup() for each in server.sockets]
        server.close()
        factory = partial(TcpConnection, partial(self._accept, instance.mode))
        found = []
        for sock in same:
            new = await asyncio.get_running_loop().create_server(factory, sock=sock, backlog=QUEUE)
            self._taken[new] = sock
            found.append(new)
        return found
