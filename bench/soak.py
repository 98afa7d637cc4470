"""Soak test: 200 clients, some of which misbehave, and a target with faults. An outcome that no fault explains is an
error.
"""

import argparse
import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.connector_proxy import for_connector, start_proxy
from bench.peers.endpoint import Endpoint
from bench.process import MeasuredProcess
from bench.testbed import Testbed, open_testbed

GAUGE = Path(__file__).parent / "mitmproxy_scripts" / "loop_gauge.py"
SETTLE_SECONDS = 30.0
PROXY_TIMEOUT = 10
"""Seconds after which the proxy closes silent clients, and connections to targets that do not finish a handshake."""
SAMPLE_SECONDS = 1.0
STALL_MS = 20.0
LEAK_MB = 30.0


@dataclass(slots=True)
class Samples:
    """One sample per second: (seconds, resident MB, open files, milliseconds of a request for /healthz)."""

    rows: list[tuple[float, float, int, float]] = field(default_factory=list)

    def second_half_growth(self) -> float:
        """Return the MB by which the resident memory grew in the second half: peak of the last tenth minus peak of the
        tenth after the middle.
        """
        tenth = max(1, len(self.rows) // 10)
        half = len(self.rows) // 2
        return max(row[1] for row in self.rows[-tenth:]) - max(row[1] for row in self.rows[half : half + tenth])


def run_soak(testbed: Testbed, *, seconds: int, clients: int, proxy_timeout: int = PROXY_TIMEOUT) -> dict[str, Any]:
    """Return the outcomes, the resources of the proxy before and after, the state of its loop, and the samples.

    A smaller `proxy_timeout` makes the run shorter, because some clients wait until the proxy closes them.
    """
    gauge = testbed.directory / "gauge.json"
    times = {"connector_client_timeout": str(proxy_timeout), "connector_connect_timeout": str(proxy_timeout)}
    proxy = start_proxy(testbed, name="soak", options=times, scripts=(GAUGE,), env={"BENCH_GAUGE": str(gauge)})
    try:
        _run_load(
            testbed, proxy, seconds=3, clients=20
        )  # contexts and certificates that are created once are not a leak
        at_rest = _wait_for_rest(proxy, None, gauge, 1.5 * proxy_timeout)
        with _sampled(proxy) as samples:
            outcomes = _run_load(testbed, proxy, seconds=seconds, clients=clients)
        after = _wait_for_rest(proxy, at_rest, gauge, SETTLE_SECONDS)
        return {"seconds": seconds, "clients": clients, **outcomes, "before": at_rest, "after": after,
                "gauge": json.loads(gauge.read_text()), "samples": samples.rows}  # fmt: skip
    finally:
        proxy.process.stop()


def _run_load(testbed: Testbed, proxy: Endpoint, *, seconds: int, clients: int) -> dict[str, Any]:
    faulty = for_connector(proxy, testbed, "faulty")
    args: list[str | Path] = [testbed.programs.load, "-proxy", proxy.proxy, "-target", proxy.target, "-ca", proxy.ca]
    args += ["-faulty", faulty.target, "-denied", testbed.blackhole]
    args += ["-clients", str(clients), "-duration", f"{seconds}s", "soak"]
    env = {"BENCH_PROXY_AUTH": proxy.auth, "BENCH_FAULTY_AUTH": faulty.auth}
    load = MeasuredProcess(args, testbed.directory / "load.log", env=env, pipes=True)
    try:
        if load.read_line() != "ready":
            raise RuntimeError("the load generator is not ready")
        load.send_line()
        result: dict[str, Any] = json.loads(load.read_line())["result"]
    finally:
        load.stop()
    return result


def _wait_for_rest(proxy: Endpoint, before: dict[str, Any] | None, gauge: Path, seconds: float) -> dict[str, Any]:
    """Return files, tasks and memory at rest: after `seconds`, or as soon as they are not more than `before`."""
    deadline = time.monotonic() + seconds
    while True:
        time.sleep(2 * SAMPLE_SECONDS)
        usage, state = proxy.process.usage(), json.loads(gauge.read_text())
        now = {"fds": usage.fds, "threads": usage.threads, "rss_mb": usage.rss / 1e6, "tasks": state["tasks"],
               "tasks_by_name": state["tasks_by_name"]}  # fmt: skip
        settled = usage.fds <= before["fds"] and now["tasks"] <= before["tasks"] if before else False
        if settled or time.monotonic() > deadline:
            return now


@contextlib.contextmanager
def _sampled(proxy: Endpoint) -> Iterator[Samples]:
    samples, stop, start = Samples(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            usage = proxy.process.usage()
            samples.rows.append(
                (time.monotonic() - start, usage.rss / 1e6, usage.fds, _health_milliseconds(proxy.admin))
            )

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def _health_milliseconds(admin: str) -> float:
    start = time.perf_counter()
    connection = http.client.HTTPConnection(admin, timeout=30)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    return (time.perf_counter() - start) * 1e3


def find_errors_and_leaks(report: dict[str, Any]) -> Iterator[str]:
    if report["unexplained"]:
        yield f"{report['unexplained']} outcomes that no injected fault explains: {report['examples'][:3]}"
    for what in ("fds", "tasks"):
        if report["after"][what] > report["before"][what]:
            yield f"{what}: {report['before'][what]} before, {report['after'][what]} after"
    samples = Samples(report["samples"])
    if samples.rows and samples.second_half_growth() > LEAK_MB:
        yield f"resident memory grew by {samples.second_half_growth():.0f} MB in the second half"


def find_stalls(report: dict[str, Any]) -> Iterator[str]:
    for name, (count, wall, own) in report["gauge"]["stalls"].items():
        if own > STALL_MS:
            yield f"{name} held the loop for {own:.0f} ms ({wall:.0f} with waiting for a core; {count} stalls)"


def _print(report: dict[str, Any], problems: list[str]) -> None:
    for action, outcomes in sorted(report["outcomes"].items()):
        sys.stdout.write(f"{action:44}" + ", ".join(f"{how} {count}" for how, count in outcomes.items()) + "\n")
    before, after, gauge = report["before"], report["after"], report["gauge"]
    sys.stdout.write(
        f"\nopen files {before['fds']} → {after['fds']}, tasks {before['tasks']} → {after['tasks']}, "
        f"resident {before['rss_mb']:.0f} → {after['rss_mb']:.0f} MB\n"
        f"longest callback {gauge['longest']:.0f} ms ({gauge['longest_own']:.0f} ms without waiting for a core), "
        f"longest collection {gauge['longest_gc']:.0f} ms, {gauge['callbacks']} callbacks, "
        f"/healthz at most {max((row[3] for row in report['samples']), default=0):.0f} ms\n"
    )
    sys.stdout.write("".join(f"PROBLEM {problem}\n" for problem in problems) or "no problem\n")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    with open_testbed() as testbed:
        report = run_soak(testbed, seconds=options.seconds, clients=options.clients)
    problems = [*find_errors_and_leaks(report), *find_stalls(report)]
    _print(report, problems)
    if options.json:
        figures = {name: value for name, value in report.items() if name != "samples"}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if problems else 0
