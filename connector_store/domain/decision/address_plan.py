"""Plan of a dial: the addresses to try, and the time for each."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence


def share_time(addresses: Sequence[str], deadline: float, now: Callable[[], float]) -> Iterator[tuple[str, float]]:
    """Yield each address, and its equal share of the seconds that are left until `deadline`."""
    for index, address in enumerate(addresses):
        yield address, (deadline - now()) / (len(addresses) - index)


def is_ip(host: str) -> bool:
    """Return True for an IP address, which is not resolved."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
