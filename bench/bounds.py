"""Why a goal is missed, and what would meet it: one sentence, with the figures of this run."""

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


def of_a_download_beside_nginx(results: Results, cores: int) -> str:
    """Both have the same TLS to do, between the same client and target."""
    down = results.get("down", {})
    ours, nginx = _seconds(down.get(OURS, {})), _seconds(down.get("nginx", {}))
    if ours is None or nginx is None:
        return ""
    if ours[2] <= nginx[2]:
        return (
            f"the proxy takes no more CPU than nginx, {ours[2]:.2f} s a GB to {nginx[2]:.2f}: the cores were not free"
        )
    return (
        f"{cores} cores carry at most {most(*ours, cores):,.0f} MB/s at {ours[2]:.2f} s of CPU a GB in the proxy; "
        f"{ours[2] - nginx[2]:.2f} s less would be nginx's {nginx[2]:.2f}: no copies of plain text between two "
        "sessions of OpenSSL, and less Python for each piece"
    )


def of_the_tail(results: Results, _cores: int) -> str:
    """Clients that ask again the moment they are answered wait for all others' requests: CPU is what they wait for."""
    case = results.get("warm, 100 clients", {})
    ours, squid = case.get(OURS, {}).get(_CPU), case.get("squid", {}).get(_CPU)
    if not ours or not squid:
        return ""
    return (
        f"100 clients wait for each other, {ours:.1f} µs of the proxy's CPU a request to squid's {squid:.1f}, "
        f"{ours / squid:.2f} x, on cores that client and target want as well: less CPU, or a core for the proxy alone"
    )


def of_a_new_connection(results: Results, _cores: int) -> str:
    """Squid's CONNECT and its request are what a connection at the direct door is compared with."""
    ours = results.get("direct, new connection", {}).get(OURS, {}).get(_CPU)
    squid = results.get("new connection", {}).get("squid", {}).get(_CPU)
    if not ours or not squid:
        return ""
    return (
        f"it takes {ours - squid:,.0f} µs more than squid's {squid:,.0f}; fewer stages between accept and the first "
        "request would save some, all of them in C the most"
    )


def _seconds(figures: Mapping[str, float]) -> tuple[float, float, float] | None:
    found = [figures.get(name) for name in _OF_A_GB]
    client, target, proxy = found
    return None if client is None or target is None or proxy is None else (client, target, proxy)
