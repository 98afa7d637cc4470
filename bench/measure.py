"""One measurement: a run of the load generator against a peer, with the CPU and memory of all processes."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.peers.endpoint import Endpoint
from bench.process import MeasuredProcess, Usage
from bench.testbed import Testbed

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """CPU in seconds during the measured part, memory in bytes, and the JSON result of the load generator."""

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
        """Bytes by which the peak of the resident memory exceeds that before the first connection."""
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


def measure(testbed: Testbed, peer: Endpoint, mode: str, *, peak: bool = False, **flags: str | int) -> Measurement:
    """Run the load generator with `flags`. `peak` also samples the memory during the run, which needs a little CPU."""
    usage_at_start = peer.process.usage()
    args: list[str] = [str(testbed.programs.load), "-target", peer.target, "-ca", str(peer.ca)]
    args += ["-proxy", peer.proxy] if peer.proxy else []
    args += ["-prefix", peer.prefix] if peer.prefix else []
    args += [f"-{name}={value}" for name, value in flags.items()]
    log = testbed.directory / "load.log"
    load = MeasuredProcess(
        [*args, mode], log, env={"BENCH_PROXY_AUTH": peer.auth, "BENCH_BEARER": peer.bearer}, pipes=True
    )
    try:
        if load.read_line() != "ready":
            raise RuntimeError(f"{mode} on {peer.name}: the load generator is not ready")
        with _sampled_memory(peer.process) if peak else contextlib.nullcontext(_Peak()) as peak_memory:
            target_before, before = testbed.target_process.usage(), peer.process.usage()
            load.send_line()
            report = json.loads(load.read_line())
            after, target_after = peer.process.usage(), testbed.target_process.usage()
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
