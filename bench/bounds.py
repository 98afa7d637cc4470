"""Why a goal is missed where arithmetic says that it must be: one sentence, with the figures of this run."""

import math
from collections.abc import Mapping
from typing import Final

from bench.table import OURS

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Figures by name, by peer, by case."""

SHARE: Final = 0.85
"""Of the speed without a proxy."""
_SPEED, _CPU = "MB per second", "cpu per request, µs"
_OF_A_GB: Final = ("client cpu per GB, s", "target cpu per GB, s", "cpu per GB, s")


def most(client: float, target: float, proxy: float, cores: int) -> float:
    """MB a second that `cores` carry at so many seconds of CPU a GB, where the proxy is one thread."""
    whole, alone = client + target + proxy, proxy
    return 1e3 * min(cores / whole if whole else math.inf, 1 / alone if alone else math.inf)


def of_a_download(results: Results, cores: int) -> str:
    """Client, proxy and target share the cores; without a proxy two of the three do."""
    down = results.get("down", {})
    ours, nginx = _seconds(down.get(OURS, {})), _seconds(down.get("nginx", {}))
    speed = down.get("no proxy", {}).get(_SPEED)
    if ours is None or not speed:
        return ""
    wanted, (client, target, proxy) = SHARE * speed, ours
    said = (
        f"{cores} cores carry at most {most(client, target, proxy, cores):,.0f} MB/s at {client:.2f} s of CPU a GB in "
        f"the client, {target:.2f} in the target and {proxy:.2f} in the proxy"
    )
    if nginx is not None:
        said += f", {most(client, target, nginx[2], cores):,.0f} at nginx's {nginx[2]:.2f}"
    if most(client, target, proxy, cores) >= wanted:
        return f"{said}; that is enough for {wanted:,.0f}, so it is something else"
    left = max(0.0, cores * 1e3 / wanted - client - target)
    said += f"; {wanted:,.0f} would leave the proxy {left:.2f}, and it has the TLS of both to do"
    needed = math.ceil(wanted / 1e3 * sum(ours))
    said += f": needs {needed} cores" if needed > cores else ""
    return said + (f"; one thread with {proxy:.2f} carries {1e3 / proxy:,.0f}" if wanted * proxy > 1e3 else "")


def of_the_direct_door(results: Results, _cores: int) -> str:
    """What the direct door leaves out is CONNECT alone."""
    through = results.get("new connection", {}).get(OURS, {}).get(_CPU)
    direct = results.get("direct, new connection", {}).get(OURS, {}).get(_CPU)
    if not through or direct is None:
        return ""
    share = f"{(through - direct) / through:.0%}" if through > direct else "less than the noise"
    return (
        f"the direct door leaves out CONNECT, {share} of the {through:,.0f} µs here; "
        "both pay the client's handshake, the request and the end, and neither the target's handshake"
    )


def _seconds(figures: Mapping[str, float]) -> tuple[float, float, float] | None:
    found = [figures.get(name) for name in _OF_A_GB]
    client, target, proxy = found
    return None if client is None or target is None or proxy is None else (client, target, proxy)
