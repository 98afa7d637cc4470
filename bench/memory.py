"""Resident memory of our proxy while much passes and one side is slow: peak over what it was before, in MB."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Measurement, measure
from bench.peers.connector_proxy import for_connector, start_proxy
from bench.testbed import Testbed, open_testbed

MB = 1_000_000
GB = 1000 * MB
Flags = Mapping[str, str | int]
"""Of the load generator."""
SLOW: Flags = {"rate": 150 * MB, "pause": "3s"}
INSIDE = Path(__file__).parent / "inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """limit: MB that the resident memory may grow by; status: what an upload must be answered with.

    events: that a watch must get; script: of bench/inside, keeps requests waiting.
    """

    name: str
    mode: str
    flags: Flags
    limit: float
    connector: str = "target"
    flows: str = "off"
    status: int | None = None
    events: int = 0
    script: str = ""


def make_cases(*, size: int, events: int, streams: int, large: int | None = None) -> tuple[MemoryCase, ...]:
    """size: bytes that pass in each transfer; large: in the plain ones down and up, if not the same."""
    transfer: Flags = {"bytes": size, **SLOW}
    plain: Flags = {**transfer, "bytes": large or size}
    idle: Flags = {"clients": streams, "duration": "2s"}
    chunked: Flags = {**transfer, "chunked": "true"}
    refused: Flags = {"bytes": size, "header": "Impersonate-User: root"}
    waiting: Flags = {"bytes": size, "timeout": "8s"}
    return (
        MemoryCase(name="down", mode="down", flags=plain, limit=30),
        MemoryCase(name="down-chunked-watched", mode="down", flags=chunked, limit=30, flows="on"),
        MemoryCase(name="up", mode="up", flags=plain, limit=30, status=200),
        MemoryCase(name="up-chunked-watched", mode="up", flags=chunked, limit=30, flows="on", status=200),
        MemoryCase(name="exec-websocket", mode="exec", flags=transfer, limit=30),
        MemoryCase(name="exec-spdy", mode="exec", flags={**transfer, "protocol": "SPDY/3.1"}, limit=30),
        MemoryCase(name="watch", mode="watch", flags={"query": f"events={events}"}, limit=30, events=events),
        MemoryCase(name="refused-upload", mode="up", flags=refused, limit=40, status=403),
        MemoryCase(name="silent-target", mode="up", flags={"bytes": size}, limit=40, connector="blackhole", status=504),
        MemoryCase(name="intercepted", mode="up", flags=waiting, limit=40, flows="on", script="hold.py"),
        MemoryCase(name="check-hangs", mode="up", flags=waiting, limit=40, script="hang.py"),
        MemoryCase(name="idle", mode="idle", flags=idle, limit=streams * 0.1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """grown and limit in MB; passed: bytes that left the client or reached it; events: that a watch got; streams:
    that were open.

    problem: empty if all went well.
    """

    name: str
    megabytes: float
    limit: float
    bytes_passed: int
    seconds: float
    events: int = 0
    streams: int = 0
    problem: str = ""


def measure_growth(scene: Testbed, case: MemoryCase) -> Growth:
    """Runs one case on a proxy of its own that has served a few requests."""
    scripts = (INSIDE / case.script,) if case.script else ()
    proxy = start_proxy(scene, name=f"memory-{case.name}", flows=case.flows, scripts=scripts)
    try:
        if not case.script:
            measure(scene, proxy, "warm", clients=4, duration="500ms")
        m = measure(scene, for_connector(proxy, scene, case.connector), case.mode, peak=True, **case.flags)
    finally:
        proxy.process.stop()
    problem = _problem(case, m)
    return Growth(
        name=case.name,
        megabytes=m.growth / MB,
        limit=case.limit,
        bytes_passed=m.result.get("bytes", 0),
        seconds=m.seconds,
        events=m.result.get("events", 0),
        streams=m.result.get("streams", 0) if case.mode == "idle" else 0,
        problem=problem,
    )


def _problem(case: MemoryCase, m: Measurement) -> str:
    if case.status and m.result.get("status") != case.status:
        return f"answer {m.result.get('status')} instead of {case.status}: {m.result.get('error', '')}"
    if case.events and m.result.get("events") != case.events:
        return f"{m.result.get('events')} events instead of {case.events}"
    if m.result.get("ended"):
        return f"{m.result['ended']} streams ended"
    return f"grew by more than {case.limit:.0f} MB" if m.growth > case.limit * MB else ""


def measure_all(cases: tuple[MemoryCase, ...], names: list[str]) -> Iterator[Growth]:
    with open_testbed() as scene:
        for case in cases:
            if not names or case.name in names:
                try:
                    yield measure_growth(scene, case)
                except (RuntimeError, OSError) as error:
                    yield Growth(
                        name=case.name, megabytes=0, limit=case.limit, bytes_passed=0, seconds=0, problem=str(error)
                    )


def select_cases(*, quick: bool, size: int | None) -> tuple[MemoryCase, ...]:
    """size in GB."""
    if quick:
        return make_cases(size=100 * MB, events=50_000, streams=200)
    return make_cases(size=(size or 1) * GB, large=(size or 5) * GB, events=1_000_000, streams=2000)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 MB, few events and streams")
    parser.add_argument("--size", type=int, metavar="GB", help="of each transfer; default: 5 for down and up, else 1")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("case", nargs="*")
    options = parser.parse_args(arguments)
    cases = select_cases(quick=options.quick, size=options.size)
    if unknown := set(options.case) - {case.name for case in cases}:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(case.name for case in cases)}")
    rows = []
    for row in measure_all(cases, options.case):
        rows.append(row)
        sys.stdout.write(format_row(row))
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps([to_json(row) for row in rows], indent=1) + "\n")
    return 1 if any(row.problem for row in rows) else 0


def format_row(row: Growth) -> str:
    passed = f"{row.events:,} events" if row.events else f"{row.bytes_passed / MB:,.0f} MB"
    return (
        f"{row.name:24}{row.megabytes:9.1f} MB of {row.limit:4.0f}{passed:>18} passed"
        f"{row.seconds:7.1f} s  {row.problem or 'ok'}\n"
    )


def to_json(row: Growth) -> dict[str, str | float]:
    """For the JSON file."""
    return {"name": row.name, "grown_mb": row.megabytes, "limit_mb": row.limit, "bytes": row.bytes_passed, "events": row.events,
            "streams": row.streams, "seconds": row.seconds, "problem": row.problem}  # fmt: skip
