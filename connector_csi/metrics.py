"""What the driver counts. Labels are few and fixed: no names of pods, no messages."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DURATION_BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Up to what kubelet waits; an unchanged republish takes less than the first."""


class CsiMetrics:
    """One registry of its own, so that tests and two drivers in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = Counter(
            "connector_csi_calls_total", "Calls by kubelet.", ("call", "code"), registry=self._registry
        )
        self.call_duration = Histogram(
            "connector_csi_call_duration_seconds",
            "Calls by kubelet.",
            ("call",),
            buckets=_DURATION_BUCKETS,
            registry=self._registry,
        )
        self.republish_failures = Counter(
            "connector_csi_republish_failures_total",
            "Republish calls that failed and kept the old content.",
            ("code",),
            registry=self._registry,
        )
        self.writes = Counter(
            "connector_csi_writes_total", "Contents of volumes that were written.", registry=self._registry
        )
        self.volumes = Gauge("connector_csi_volumes", "Volumes on this node.", registry=self._registry)
        self.stale_volumes = Gauge(
            "connector_csi_volumes_stale",
            "Volumes that keep old content, all of it or a Connector's; see .error.json in them.",
            registry=self._registry,
        )
        self.token_expiries: dict[str, float | None] = {}
        """Unix seconds at which the token in each volume ends, by id; of those that this process has written."""
        Gauge(
            "connector_csi_token_expiry_timestamp_seconds",
            "When the first token in a volume of this node ends; 0: none is known.",
            registry=self._registry,
        ).set_function(lambda: min((each for each in self.token_expiries.values() if each is not None), default=0.0))
        self.reviews = Counter(
            "connector_csi_reviews_total", "Reviews by kind and result.", ("kind", "result"), registry=self._registry
        )
        self.watch_age = Gauge(
            "connector_watch_age_seconds", "Age of what the watches brought.", ("kind",), registry=self._registry
        )
        self.synced = Gauge("connector_store_synced", "1 once the watches have listed.", registry=self._registry)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)
