"""The controller's metrics; each process has a registry of its own, so that tests have one too."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_NAME: Final = "connector_controller"


class ControllerMetrics:
    """Names begin with `connector_controller_`; labels have few values; one metric has the names of Connectors."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leading = Gauge(f"{_NAME}_leading", "1 while this process leads", registry=self.registry)
        self.connectors = Gauge(
            f"{_NAME}_connectors", "Connectors by the status of Ready", ["ready"], registry=self.registry
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
            f"{_NAME}_reconcile_seconds", "Time of one reconcile", ["queue"], registry=self.registry
        )
        self.probes = Counter(
            f"{_NAME}_probes",
            "Probes by result (ready, liveness, auth): what failed",
            ["result"],
            registry=self.registry,
        )
        self.probe_seconds = Histogram(f"{_NAME}_probe_seconds", "Time of one probe", registry=self.registry)
        self.events_dropped = Gauge(f"{_NAME}_events_dropped", "Events lost to a full queue", registry=self.registry)
        self.watch_restarts = Counter(
            f"{_NAME}_watch_restarts", "Watches that broke or expired, by kind", ["kind"], registry=self.registry
        )
        self.watch_age = Gauge(
            "connector_watch_age_seconds", "Age of what the watches brought, by kind", ["kind"], registry=self.registry
        )
        self.namespaces_not_served = Gauge(
            "connector_namespaces_not_served", "Namespaces that cannot be read", registry=self.registry
        )
        self.credential_expiry = Gauge(
            "connector_credential_expiry_timestamp_seconds",
            "End of the credential that a Connector lends, unix seconds; absent where it says none",
            ["connector"],
            registry=self.registry,
        )
        self.ca_expiry = Gauge(
            "connector_ca_expiry_timestamp_seconds",
            "End of the proxy's CA that signs, unix seconds; 0: none",
            registry=self.registry,
        )

    def end_term(self) -> None:
        """Forget what a leader alone knows; what is counted stays."""
        for each in (self.connectors, self.queue_depth, self.watch_age, self.credential_expiry):
            each.clear()
        for each in (self.namespaces_not_served, self.ca_expiry):
            each.set(0)
