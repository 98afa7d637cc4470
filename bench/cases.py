"""Cases of the comparison: each is one call of the load generator, and the figures computed from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.measure import Measurement

Figures = Mapping[str, float]
PACE: Final = 3000
"""Requests per second that keep only mitmdump busy, so that the proxy and not the machine causes their latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `figures` computes numbers by name from a measurement; a name ends with the unit.

    `in_fresh_process` starts a new peer for the case. `direct` sends no CONNECT, to peers that support this.
    """

    name: str
    mode: str
    flags: Mapping[str, str | int]
    figures: Callable[[Measurement], Figures]
    in_fresh_process: bool = False
    direct: bool = False


def _request_figures(m: Measurement) -> Figures:
    count = m.result["requests"]
    if m.result["errors"] or not count:
        raise RuntimeError(f"{m.result['errors']} errors in {count} requests: {m.result.get('error')}")
    return {
        "cpu per request, µs": m.proxy_cpu / count * 1e6,
        "p50, ms": m.result["p50_ms"],
        "p99, ms": m.result["p99_ms"],
        "requests per second": count / m.seconds,
        "client cpu per request, µs": m.client_cpu / count * 1e6,
        "target cpu per request, µs": m.target_cpu / count * 1e6,
    }


def _transfer_figures(m: Measurement) -> Figures:
    if m.result.get("status", 200) != 200 or m.result.get("error"):
        raise RuntimeError(f"transfer: {m.result}")
    gigabytes = m.result["bytes"] / 1e9
    return {
        "MB per second": m.result["mb_per_s"],
        "cpu per GB, s": m.proxy_cpu / gigabytes,
        "client cpu per GB, s": m.client_cpu / gigabytes,
        "target cpu per GB, s": m.target_cpu / gigabytes,
    }


def _stream_figures(m: Measurement) -> Figures:
    if m.result["ended"]:
        raise RuntimeError(f"{m.result['ended']} of {m.result['streams']} streams ended")
    return {"memory per stream, kB": max(0, m.rss_after - m.rss_before) / m.result["streams"] / 1e3}


def make_cases(*, seconds: float, size: int, streams: int) -> tuple[Case, ...]:
    """Return all cases: `seconds` of each request case, `size` of a transfer in bytes, number of idle `streams`."""

    def requests(name: str, mode: str, clients: int, *, direct: bool = False, **flags: int) -> Case:
        load_flags: dict[str, str | int] = {"clients": clients, "duration": f"{seconds}s", **flags}
        return Case(name=name, mode=mode, flags=load_flags, figures=_request_figures, direct=direct)

    idle: dict[str, str | int] = {"clients": streams, "duration": "1s"}
    return (
        requests("warm, 8 clients", "warm", 8),
        requests("warm, 100 clients", "warm", 100),
        requests(f"warm, 100 clients, {PACE:,} a second", "warm", 100, pace=PACE),
        requests("new connection", "fresh", 4),
        requests("direct, warm", "warm", 8, direct=True),
        requests("direct, new connection", "fresh", 4, direct=True),
        Case(name="down", mode="down", flags={"bytes": size}, figures=_transfer_figures),
        Case(name="up", mode="up", flags={"bytes": size}, figures=_transfer_figures),
        # A process that served other cases would reuse its free memory, which would hide the memory of the streams.
        Case(name="idle watches", mode="idle", flags=idle, figures=_stream_figures, in_fresh_process=True),
    )


def median_figures(rounds: list[Figures]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]} if rounds else {}
