"""TCP connections to targets, with the hooks that mitmproxy runs for its own server connections.

The caller owns the connection, which may outlive the client that it was opened for.
"""

import asyncio
import time
from functools import partial

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy.server_hooks import (
    ServerConnectedHook,
    ServerConnectErrorHook,
    ServerConnectHook,
    ServerConnectionHookData,
    ServerDisconnectedHook,
)

from addons.net.hooks import run_hook, schedule_hook
from addons.net.tcp import TcpConnection


class TargetServer(Server):
    """A connection to an address of a target. The proxy opens no other server connections."""


async def connect(server: TargetServer, client: Client) -> TcpConnection | str:
    """Connect to the address of `server` for `client`. Return the connection, or the reason of the failure."""
    data = ServerConnectionHookData(client=client, server=server)
    tcp = None
    try:
        await run_hook(ServerConnectHook(data))
        if server.error is None:
            tcp = await _open(server)
        if tcp is not None:
            tcp.on_lost = partial(_on_lost, data)
            await run_hook(ServerConnectedHook(data))
            return tcp
    except BaseException:
        # A cancelled attempt, too, must leave no connection open and report its end to the addons.
        server.error = "given up"
        if tcp is not None:
            tcp.abort()
        else:
            schedule_hook(ServerConnectErrorHook(data))
        raise
    await run_hook(ServerConnectErrorHook(data))
    return server.error or ""


async def _open(server: TargetServer) -> TcpConnection | None:
    if server.address is None:
        raise ValueError("a target without an address")
    server.timestamp_start = time.time()
    try:
        transport, tcp = await asyncio.get_running_loop().create_connection(
            TcpConnection, *server.address, local_addr=server.sockname
        )
    except ConnectionRefusedError:
        server.error = "connection refused"
        return None
    except OSError as error:
        server.error = f"cannot be reached: {error}"
        return None
    # uvloop reads a new connection even if `connection_made` paused reading.
    transport.pause_reading()
    server.timestamp_tcp_setup = time.time()
    server.peername = transport.get_extra_info("peername")
    server.sockname = transport.get_extra_info("sockname")
    if server.peername is None or not tcp.is_connected:
        transport.abort()
        server.error = "connection reset"
        return None
    server.state = ConnectionState.OPEN
    return tcp


def _on_lost(data: ServerConnectionHookData) -> None:
    data.server.timestamp_end = time.time()
    schedule_hook(ServerDisconnectedHook(data))
