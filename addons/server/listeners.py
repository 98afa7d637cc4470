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

ACCEPT_BACKLOG: Final = 1024
"""Connections that the kernel has made and nobody has accepted yet; the kernel's own bound is net.core.somaxconn."""
POLL_INTERVAL: Final = 1.0
"""Seconds between looks at whether the sockets are still open."""

Accept = Callable[[ProxyMode, TcpConnection], None]


class Listeners:
    """`accept` gets each connection the moment it is open."""

    def __init__(self, proxyserver: Proxyserver, accept: Accept) -> None:
        self._proxyserver = proxyserver
        self._accept = accept
        self._sockets_by_server: dict[asyncio.AbstractServer, socket.socket] = {}
        """Those that are not mitmproxy's any more."""
        # mitmproxy's user interfaces change where it listens.
        proxyserver.servers.changed.connect(self.take_over)

    async def take_over(self, *_: object) -> None:
        """All that are mitmproxy's. Connections that wait to be accepted are kept."""
        instances = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
        for instance in instances:
            if isinstance(instance.mode, RegularMode):
                instance._servers = [new for old in instance._servers for new in await self._replace(old, instance)]
        self._sockets_by_server = {
            server: sock for server, sock in self._sockets_by_server.items() if sock.fileno() != -1
        }

    async def watch(self) -> None:
        """Listen anew where the event loop has closed a socket, as libuv may in want of descriptors; for ever."""
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            instances = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
            servers = [server for instance in instances for server in instance._servers]
            if any(
                server in self._sockets_by_server and self._sockets_by_server[server].fileno() == -1
                for server in servers
            ):
                logger.error("a socket that the proxy listens on was closed by its event loop; it listens anew")
                await self._proxyserver.servers.update([])
                await self._proxyserver.setup_servers()

    async def _replace(self, server: Any, instance: AsyncioServerInstance[RegularMode]) -> list[Any]:
        if server in self._sockets_by_server:
            return [server]
        sockets = [each.dup() for each in server.sockets]
        server.close()
        factory = partial(TcpConnection, partial(self._accept, instance.mode))
        servers = []
        for sock in sockets:
            new = await asyncio.get_running_loop().create_server(factory, sock=sock, backlog=ACCEPT_BACKLOG)
            self._sockets_by_server[new] = sock
            servers.append(new)
        return servers
