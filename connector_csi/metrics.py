"""What the driver counts. Labels are few and fixed: no names of pods, no messages."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """One registry of its own, so that tests and two drivers in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = Counter(
            "connector_csi_calls_total", "Calls by kubelet.", ("call", "code"), registry=self._registry
        )
        self.masked = Counter(
            "connector_csi_republish_failures_total",
            "Republish calls that failed and kept the old content.",
            ("code",),
            registry=self._registry,
        )
        self.written = Counter(
            "connector_csi_writes_total", "Contents of volumes that were written.", registry=self._registry
        )
        self.volumes = Gauge("connector_csi_volumes", "Volumes on this node.", registry=self._registry)
        self.reviews = Counter(
            "connector_csi_reviews_total", "Reviews by kind and result.", ("kind", "result"), registry=self._registry
        )
        self.synced = Gauge("connector_store_synced", "1 once the watches have listed.", registry=self._registry)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)
