"""Listening sockets, on all addresses of IPv4 and IPv6 where the kernel has both."""

import socket
from typing import Final

ANY_ADDRESS: Final = "::"
"""Host that means all addresses. `0.0.0.0` means all IPv4 addresses only."""
BACKLOG: Final = 128
"""Maximum number of connections that wait to be accepted."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises OSError if the address is in use or does not belong to this machine.

    `::` accepts IPv4 too. On a kernel without IPv6 (ipv6.disable=1) it means IPv4 only.
    """
    if host != ANY_ADDRESS:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)  # noqa: S104 - the caller asked for all addresses
    return socket.create_server((ANY_ADDRESS, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
