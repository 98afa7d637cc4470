"""What is compared: each case is one call of the load generator and the figures made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.measure import Measurement

Figures = Mapping[str, float]
PACE: Final = 3000
"""Requests a second that keep no peer but mitmdump busy: how late they are is the proxy's, not the machine's, doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """figures: from a measurement to numbers by name, which ends with the unit; alone: in a process just started.

    direct: without CONNECT, for peers that can do that.
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
    """seconds: of each request case; size: of each transfer in bytes; streams: idle watches."""
    duration = f"{seconds}s"
    return (
        Case(name="warm, 8 clients", mode="warm", flags={"clients": 8, "duration": duration}, figures=_request_figures),
        Case(name="warm, 100 clients", mode="warm", flags={"clients": 100, "duration": duration}, figures=_request_figures),
        Case(
            name=f"warm, 100 clients, {PACE:,} a second", mode="warm",
            flags={"clients": 100, "duration": duration, "pace": PACE}, figures=_request_figures,
        ),
        Case(name="new connection", mode="fresh", flags={"clients": 4, "duration": duration}, figures=_request_figures),
        Case(name="direct, warm", mode="warm", flags={"clients": 8, "duration": duration}, figures=_request_figures, direct=True),
        Case(
            name="direct, new connection", mode="fresh", flags={"clients": 4, "duration": duration}, figures=_request_figures,
            direct=True,
        ),
        Case(name="down", mode="down", flags={"bytes": size}, figures=_transfer_figures),
        Case(name="up", mode="up", flags={"bytes": size}, figures=_transfer_figures),
        # A process that served other cases has free memory to reuse, which would hide what the streams cost.
        Case(
            name="idle watches", mode="idle", flags={"clients": streams, "duration": "1s"}, figures=_stream_figures, in_fresh_process=True
        ),
    )  # fmt: skip


def median_figures(rounds: list[Figures]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]} if rounds else {}
