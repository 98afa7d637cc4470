"""Metrics of the controller. Each process has its own registry, so each test has one, too."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_NAME: Final = "connector_controller"


class ControllerMetrics:
    """Metrics of the controller. Their labels have few values, except for those with the names of Connectors."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leading = Gauge(f"{_NAME}_leading", "1 while this process leads", registry=self.registry)
        self.connectors = Gauge(
            f"{_NAME}_connectors", "Connectors by the status of Ready", ["ready"], registry=self.registry
        )
        self.ready = Gauge(
            "connector_ready",
            "1 if the Connector's condition Ready is True, else 0",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.access_requests = Gauge(
            f"{_NAME}_access_requests",
            "AccessRequests by state: pending, approved, finished",
            ["state"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            f"{_NAME}_queue_depth", "Keys that wait for a worker", ["queue"], registry=self.registry
        )
        self.reconciles = Counter(
            f"{_NAME}_reconciles",
            "Reconciles by queue and outcome (ok, error)",
            ["queue", "outcome"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            f"{_NAME}_reconcile_seconds", "Seconds of one reconcile", ["queue"], registry=self.registry
        )
        self.probes = Counter(
            f"{_NAME}_probes",
            "Probes by result: ready, or the probe that failed (liveness, auth)",
            ["result"],
            registry=self.registry,
        )
        self.probe_seconds = Histogram(f"{_NAME}_probe_seconds", "Seconds of one probe", registry=self.registry)
        self.events_dropped = Gauge(
            f"{_NAME}_events_dropped", "Events that were dropped because the queue was full", registry=self.registry
        )
        self.watch_restarts = Counter(
            f"{_NAME}_watch_restarts",
            "Watches that broke, expired or were refused, by kind",
            ["kind"],
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "connector_watch_age_seconds",
            "Seconds since the oldest watch of a kind was in sync with the API server",
            ["kind"],
            registry=self.registry,
        )
        self.namespaces_not_served = Gauge(
            "connector_namespaces_not_served",
            "Namespaces that are not served because they cannot be read",
            registry=self.registry,
        )
        self.rejected_settings = Gauge(
            "connector_settings_rejected",
            "1 while the ConfigMap with the settings is invalid or deleted, so that previous settings are in effect.",
            registry=self.registry,
        )
        self.unknown_settings = Gauge(
            "connector_settings_unknown_keys",
            "Keys of the ConfigMap with the settings that are not settings",
            registry=self.registry,
        )
        self.clock_offset = Gauge(
            "connector_clock_offset_seconds",
            "Seconds by which the clock of this node is ahead of the API server's",
            registry=self.registry,
        )
        self.credential_expiry = Gauge(
            "connector_credential_expiry_timestamp_seconds",
            "Expiry of a Connector's credential, in unix seconds; absent if it does not say",
            ["connector"],
            registry=self.registry,
        )
        self.ca_expiry = Gauge(
            "connector_ca_expiry_timestamp_seconds",
            "Expiry of the proxy's signing CA, in unix seconds; 0 without a CA",
            registry=self.registry,
        )

        self.ca_unusable = Gauge(
            "connector_ca_secret_unusable",
            "1 while the Secret of the published CA is missing or invalid",
            registry=self.registry,
        )

    def end_term(self) -> None:
        """Reset the gauges that only a leader knows. Counters keep their values."""
        gauges = (self.connectors, self.ready, self.access_requests, self.queue_depth, self.watch_age)
        for each in (*gauges, self.credential_expiry):
            each.clear()
        for each in (self.namespaces_not_served, self.ca_expiry, self.ca_unusable):
            each.set(0)
