"""Metrics of a program's process: its version, and Prometheus' process metrics."""

import asyncio
import platform
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connector_store.version import VERSION

LAG_INTERVAL: Final = 0.5
"""Seconds between two measurements of the event loop's lag."""
LAG_TOLERANCE: Final = 0.05
"""Seconds of lag that are not counted, because timers and the machine's scheduler cause them."""


class ProcessMetrics(Collector):
    """Metrics of one process.

    `start` and `stop` must run on the event loop whose lag is measured. `render` works without them.
    """

    def __init__(self, component: str) -> None:
        """Create the metrics. `component` is the program: proxy, controller or csi."""
        self._component = component
        self._lag_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + LAG_INTERVAL, self._measure_lag, loop, loop.time() + LAG_INTERVAL)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _measure_lag(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        if now - due > LAG_TOLERANCE:
            self._lag_seconds += now - due
        self._timer = loop.call_at(now + LAG_INTERVAL, self._measure_lag, loop, now + LAG_INTERVAL)

    def collect(self) -> Iterator[Metric]:
        labels = {"version": VERSION, "component": self._component, "python": platform.python_version()}
        build_info = GaugeMetricFamily("connector_build_info", "Version of the program; always 1", labels=list(labels))
        build_info.add_metric(list(labels.values()), 1)
        yield build_info
        yield CounterMetricFamily(
            "connector_loop_late_seconds",
            "Seconds that the event loop's timers were late, in total",
            value=self._lag_seconds,
        )

    def render(self) -> bytes:
        """Return text to append to a scrape (Prometheus exposition format 0.0.4)."""
        return generate_latest(self._registry)
