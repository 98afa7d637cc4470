"""Sockets that listen on all addresses of both families, for clusters of IPv4, IPv6 and both alike."""

import socket
from typing import Final

ANY_ADDRESS: Final = "::"
"""The host that means all addresses; `0.0.0.0` means those of IPv4 only."""
BACKLOG: Final = 128
"""Connections that wait to be accepted."""


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens; OSError if the address is taken or not this machine's.

    `::` takes IPv4 too, and is IPv4 alone on a kernel without IPv6 (ipv6.disable=1).
    """
    if host != ANY_ADDRESS:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)  # noqa: S104 - all addresses are asked for
    return socket.create_server((ANY_ADDRESS, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
