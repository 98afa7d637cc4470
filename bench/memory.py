"""Measure the growth of the proxy's resident memory during large transfers with one slow side: the peak, in MB."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Measurement, measure
from bench.output import write_json
from bench.peers.connector_proxy import for_connector, start_proxy
from bench.testbed import Testbed, open_testbed

MB = 1_000_000
GB = 1000 * MB
Flags = Mapping[str, str | int]
"""Flags of the load generator."""
SLOW: Flags = {"rate": 150 * MB, "pause": "3s"}
SCRIPTS = Path(__file__).parent / "mitmproxy_scripts"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """One transfer. `limit` is the largest allowed growth in MB.

    `status` is the expected status of an upload, `events` the expected number of events of a watch. `script` is a file
    of bench/mitmproxy_scripts that keeps requests waiting.
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
    """Return the cases: transfers of `size` bytes, or `large` bytes for plain downloads and uploads."""
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
        MemoryCase(name="intercepted", mode="up", flags=waiting, limit=40, flows="on", script="hold_requests.py"),
        MemoryCase(name="check-hangs", mode="up", flags=waiting, limit=40, script="hanging_check.py"),
        MemoryCase(name="idle", mode="idle", flags=idle, limit=streams * 0.1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Result of one case: growth and limit in MB, and the bytes, events or streams that passed.

    `problem` is empty if the case succeeded.
    """

    name: str
    megabytes: float
    limit: float
    bytes_passed: int
    seconds: float
    events: int = 0
    streams: int = 0
    problem: str = ""


def measure_growth(testbed: Testbed, case: MemoryCase) -> Growth:
    """Run one case on a new proxy that has served a few requests."""
    scripts = (SCRIPTS / case.script,) if case.script else ()
    proxy = start_proxy(testbed, name=f"memory-{case.name}", flows=case.flows, scripts=scripts)
    try:
        if not case.script:
            measure(testbed, proxy, "warm", clients=4, duration="500ms")
        m = measure(testbed, for_connector(proxy, testbed, case.connector), case.mode, peak=True, **case.flags)
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
        return f"status {m.result.get('status')} instead of {case.status}: {m.result.get('error', '')}"
    if case.events and m.result.get("events") != case.events:
        return f"{m.result.get('events')} events instead of {case.events}"
    if m.result.get("ended"):
        return f"{m.result['ended']} streams ended"
    return f"grew by more than {case.limit:.0f} MB" if m.growth > case.limit * MB else ""


def measure_all(cases: tuple[MemoryCase, ...], names: list[str]) -> Iterator[Growth]:
    with open_testbed() as testbed:
        for case in cases:
            if not names or case.name in names:
                try:
                    yield measure_growth(testbed, case)
                except (RuntimeError, OSError) as error:
                    yield Growth(
                        name=case.name, megabytes=0, limit=case.limit, bytes_passed=0, seconds=0, problem=str(error)
                    )


def select_cases(*, quick: bool, size: int | None) -> tuple[MemoryCase, ...]:
    """Return the cases of a run: `size` is the GB of each transfer, or None for the default."""
    if quick:
        return make_cases(size=100 * MB, events=50_000, streams=200)
    return make_cases(size=(size or 1) * GB, large=(size or 5) * GB, events=1_000_000, streams=2000)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="use 100 MB, and few events and streams")
    parser.add_argument("--size", type=int, metavar="GB", help="size of a transfer; default: 5 for down and up, else 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("case", nargs="*", help="cases to run; default: all")
    options = parser.parse_args(arguments)
    cases = select_cases(quick=options.quick, size=options.size)
    if unknown := set(options.case) - {case.name for case in cases}:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(case.name for case in cases)}")
    rows = []
    for row in measure_all(cases, options.case):
        rows.append(row)
        sys.stdout.write(format_row(row))
        sys.stdout.flush()
    write_json([to_json(row) for row in rows], options.json)
    return 1 if any(row.problem for row in rows) else 0


def format_row(row: Growth) -> str:
    passed = f"{row.events:,} events" if row.events else f"{row.bytes_passed / MB:,.0f} MB"
    return (
        f"{row.name:24}{row.megabytes:9.1f} MB of {row.limit:4.0f}{passed:>18} passed"
        f"{row.seconds:7.1f} s  {row.problem or 'ok'}\n"
    )


def to_json(row: Growth) -> dict[str, str | float]:
    passed = {"bytes": row.bytes_passed, "events": row.events, "streams": row.streams, "seconds": row.seconds}
    return {"name": row.name, "grown_mb": row.megabytes, "limit_mb": row.limit, **passed, "problem": row.problem}
