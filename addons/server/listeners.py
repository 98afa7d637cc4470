"""Takeover of mitmproxy's listening sockets, because mitmproxy's handler would create four tasks for each client.

mitmproxy still binds the sockets, logs their addresses, and closes them.
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

from addons.net.mitmproxy_private import get_servers, set_servers
from addons.net.tcp import TcpConnection

logger = logging.getLogger(__name__)

ACCEPT_BACKLOG: Final = 1024
"""Maximum number of connections that wait in the kernel to be accepted. net.core.somaxconn may lower it."""
POLL_INTERVAL: Final = 1.0
"""Seconds between checks whether the sockets are still open."""

Accept = Callable[[ProxyMode, TcpConnection], None]


class Listeners:
    """Listening sockets of the proxy. `accept` gets each connection as soon as it is open."""

    def __init__(self, proxyserver: Proxyserver, accept: Accept) -> None:
        self._proxyserver = proxyserver
        self._accept = accept
        self._sockets_by_server: dict[asyncio.AbstractServer, socket.socket] = {}
        """Servers that replaced mitmproxy's, with their sockets."""
        # mitmproxy's user interfaces change where it listens.
        proxyserver.servers.changed.connect(self.take_over)

    async def take_over(self, *_: object) -> None:
        """Replace all of mitmproxy's servers. Connections that wait to be accepted are not lost."""
        instances = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
        for instance in instances:
            if isinstance(instance.mode, RegularMode):
                servers = [new for old in get_servers(instance) for new in await self._replace(old, instance)]
                if any(each is instance for each in self._proxyserver.servers):
                    set_servers(instance, servers)
                else:
                    # mitmproxy has stopped the instance meanwhile, and closed only the server that it knew.
                    for server in servers:
                        server.close()
        self._sockets_by_server = {
            server: sock for server, sock in self._sockets_by_server.items() if sock.fileno() != -1
        }

    async def watch(self) -> None:
        """Listen again if the event loop closed a socket, as libuv may without free descriptors, until cancelled."""
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            instances = [each for each in self._proxyserver.servers if isinstance(each, AsyncioServerInstance)]
            servers = [server for instance in instances for server in get_servers(instance)]
            if any(
                server in self._sockets_by_server and self._sockets_by_server[server].fileno() == -1
                for server in servers
            ):
                logger.error("the event loop closed a socket that the proxy listens on; listening again")
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
