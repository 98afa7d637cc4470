"""scripts/bench curves: what a request costs with more connections, more Connectors and larger bodies, and what idle
streams weigh. Ours alone; each point is a proxy that has just been started.

    scripts/bench curves [--quick] [--json FILE] [--picture OUT.svg]
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.compare import describe_machine
from bench.curves_picture import picture
from bench.measure import Measurement, measure
from bench.peers.connector_proxy import start_proxy
from bench.testbed import Testbed, open_testbed

Point = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """at: the values of what grows; flags: of the load generator for one of them; beside: it is the Connectors."""

    name: str
    at: tuple[int, ...]
    mode: str = "warm"
    flag: str = "clients"
    seconds: float = 3.0
    beside: bool = False

    def flags(self, value: int) -> dict[str, str | int]:
        clients = {"clients": 1 if self.flag == "body" else 8}
        return {**clients, "duration": f"{self.seconds}s", **({} if self.beside else {self.flag: value})}


def curves(*, seconds: float, quick: bool) -> tuple[Curve, ...]:
    """quick: small values only, for a test."""
    few = (1, 4)
    return (
        Curve(name="connections", at=few if quick else (1, 10, 100, 1_000), seconds=seconds),
        Curve(name="Connectors", at=few if quick else (1, 100, 1_000, 10_000), seconds=seconds, beside=True),
        Curve(
            name="bytes of a body", flag="body", seconds=seconds,
            at=(1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000),
        ),
        Curve(name="idle streams", at=few if quick else (10, 100, 500, 2_000), mode="idle", seconds=1.0),
    )  # fmt: skip


def trace(scene: Testbed, curve: Curve) -> Iterator[Point]:
    """One point for each value; `at` is the value."""
    for value in curve.at:
        proxy = start_proxy(scene, name=f"curve-{value}", extra_connectors=value if curve.beside else 0)
        try:
            if curve.mode == "warm":
                measure(scene, proxy, "warm", clients=4, duration="500ms")
            m = measure(scene, proxy, curve.mode, peak=False, **curve.flags(value))
        finally:
            proxy.process.stop()
        yield {"at": value, **_figures(curve, m, value)}


def _figures(curve: Curve, m: Measurement, value: int) -> Point:
    if curve.mode == "idle":
        if m.result["ended"]:
            raise RuntimeError(f"{m.result['ended']} of {value} streams ended")
        return {"memory per stream, kB": max(0, m.rss_after - m.rss_before) / value / 1e3}
    count = m.result["requests"]
    if m.result["errors"] or not count:
        raise RuntimeError(f"{curve.name} {value}: {m.result['errors']} errors: {m.result.get('error')}")
    found = {
        "cpu per request, µs": m.proxy_cpu / count * 1e6,
        "p50, ms": m.result["p50_ms"],
        "p99, ms": m.result["p99_ms"],
        "requests per second": count / m.seconds,
        "resident, MB": m.rss_after / 1e6,
    }
    if curve.flag == "body":
        found["MB per second"] = count * value / m.seconds / 1e6
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench curves", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small values, for development")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="OUT.svg")
    options = parser.parse_args(arguments)
    report: dict[str, object] = {"machine": describe_machine()}
    found: dict[str, list[Point]] = {}
    with open_testbed() as scene:
        for curve in curves(seconds=0.5 if options.quick else 3.0, quick=options.quick):
            found[curve.name] = []
            for point in trace(scene, curve):
                found[curve.name].append(point)
                sys.stdout.write(f"{curve.name:16} " + "  ".join(f"{k} {v:,.6g}" for k, v in point.items()) + "\n")
                sys.stdout.flush()
    report["curves"] = found
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if options.picture:
        options.picture.write_text(picture(report))
    return 0
