"""One measurement: the load generator against one peer, with what the peer used meanwhile."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.peers.endpoint import Endpoint
from bench.process import MeasuredProcess, Usage
from bench.testbed import Testbed

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """CPU in seconds during the measured part; memory in bytes; result is what the load generator printed."""

    result: dict[str, Any]
    seconds: float
    proxy_cpu: float
    client_cpu: float
    target_cpu: float
    rss_before: int
    rss_peak: int
    rss_after: int

    @property
    def growth(self) -> int:
        """Peak of the resident memory over what it was before the first connection."""
        return self.rss_peak - self.rss_before


@dataclass(slots=True)
class _Peak:
    rss: int = 0


@contextlib.contextmanager
def _sampled_memory(process: MeasuredProcess) -> Iterator[_Peak]:
    peak, stop = _Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            with contextlib.suppress(OSError):
                peak.rss = max(peak.rss, process.usage().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measure(place: Testbed, peer: Endpoint, mode: str, *, peak: bool = False, **flags: str | int) -> Measurement:
    """flags are those of `load`; peak also samples the memory on the way, which costs a little CPU of its own."""
    usage_at_start = peer.process.usage()
    args: list[str] = [str(place.programs.load), "-target", peer.target, "-ca", str(peer.ca)]
    args += ["-proxy", peer.proxy] if peer.proxy else []
    args += ["-prefix", peer.prefix] if peer.prefix else []
    args += [f"-{name}={value}" for name, value in flags.items()]
    log = place.directory / "load.log"
    load = MeasuredProcess(
        [*args, mode], log, env={"BENCH_PROXY_AUTH": peer.auth, "BENCH_BEARER": peer.bearer}, pipes=True
    )
    try:
        if load.read_line() != "ready":
            raise RuntimeError(f"{mode} on {peer.name}: the load generator is not ready")
        with _sampled_memory(peer.process) if peak else contextlib.nullcontext(_Peak()) as peak_memory:
            target_before, before = place.target_process.usage(), peer.process.usage()
            load.send_line()
            report = json.loads(load.read_line())
            after, target_after = peer.process.usage(), place.target_process.usage()
    finally:
        load.stop()
    return _measurement(report, usage_at_start, (before, after), target_after.cpu - target_before.cpu, peak_memory.rss)


def _measurement(
    report: dict[str, Any], start: Usage, span: tuple[Usage, Usage], target_cpu: float, peak: int
) -> Measurement:
    before, after = span
    return Measurement(
        result=report["result"],
        seconds=report["seconds"],
        proxy_cpu=after.cpu - before.cpu,
        client_cpu=report["client_cpu"],
        target_cpu=target_cpu,
        rss_before=start.rss,
        rss_peak=max(peak, before.rss, after.rss),
        rss_after=after.rss,
    )


def settle(peer: Endpoint, files: int, seconds: float = 30.0) -> Usage:
    """Waits until the peer has no more open files than that, as long as given, and says what it uses then."""
    deadline = time.monotonic() + seconds
    usage = peer.process.usage()
    while usage.fds > files and time.monotonic() < deadline:
        time.sleep(0.1)
        usage = peer.process.usage()
    return usage
