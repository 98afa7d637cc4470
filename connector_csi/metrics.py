"""Metrics of the driver. Labels are few and fixed: no pod names, no messages."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DURATION_BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Seconds. The last bucket is kubelet's timeout; an unchanged republish is faster than the first bucket."""


class CsiMetrics:
    """Metrics in a registry of their own, so that several drivers can run in one process, as in tests."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = Counter(
            "connector_csi_calls_total", "Calls from kubelet.", ("call", "code"), registry=self._registry
        )
        self.call_duration = Histogram(
            "connector_csi_call_duration_seconds",
            "Duration of kubelet's calls in seconds.",
            ("call",),
            buckets=_DURATION_BUCKETS,
            registry=self._registry,
        )
        self.republish_failures = Counter(
            "connector_csi_republish_failures_total",
            "Republish calls that failed, so that the volume has its old content.",
            ("code",),
            registry=self._registry,
        )
        self.writes = Counter(
            "connector_csi_writes_total", "Volume contents that were written.", registry=self._registry
        )
        self.volumes = Gauge("connector_csi_volumes", "Volumes on this node.", registry=self._registry)
        self.stale_volumes = Gauge(
            "connector_csi_volumes_stale",
            "Volumes with old content, in full or for one Connector; see .error.json in the volume.",
            registry=self._registry,
        )
        self.token_expiries: dict[str, float | None] = {}
        """Unix seconds at which the token in a volume expires, by volume id. Only volumes that this process wrote."""
        Gauge(
            "connector_csi_token_expiry_timestamp_seconds",
            "Unix time at which the first token in a volume of this node expires; 0 if unknown.",
            registry=self._registry,
        ).set_function(lambda: min((each for each in self.token_expiries.values() if each is not None), default=0.0))
        self.reviews = Counter(
            "connector_csi_reviews_total",
            "Access reviews by kind and result.",
            ("kind", "result"),
            registry=self._registry,
        )
        self.watch_age = Gauge(
            "connector_watch_age_seconds",
            "Seconds since the watch last proved that its data is current.",
            ("kind",),
            registry=self._registry,
        )
        self.rejected_settings = Gauge(
            "connector_settings_rejected",
            "1 while the ConfigMap with the settings is invalid or deleted, so that previous settings are in effect.",
            registry=self._registry,
        )
        self.clock_offset = Gauge(
            "connector_clock_offset_seconds",
            "Seconds by which the clock of this node is ahead of the API server's.",
            registry=self._registry,
        )
        self.unknown_settings = Gauge(
            "connector_settings_unknown_keys",
            "Keys of the ConfigMap with the settings that are not settings.",
            registry=self._registry,
        )
        self.synced = Gauge(
            "connector_store_synced", "1 if the watches have listed their objects.", registry=self._registry
        )

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self._registry)
