"""Gauges about Connectors, kept up to date one Connector at a time. A scrape with 5,000 of them costs no more."""

from dataclasses import dataclass

from connector_controller.metrics import ControllerMetrics
from connector_controller.observed import ObservedConnector
from connector_store.domain.base.names import ObjectKey


@dataclass(frozen=True, slots=True)
class _Counted:
    ready: str
    """Status of the condition Ready. Without that condition it is Unknown."""
    expires_at: float | None


class ConnectorGauges:
    """Number of Connectors by the status of Ready, readiness and credential expiry of each. It sets the gauges."""

    def __init__(self, metrics: ControllerMetrics) -> None:
        self._metrics = metrics
        self._counted: dict[ObjectKey, _Counted] = {}
        self.ready_counts = {"True": 0, "False": 0, "Unknown": 0}

    def show_counts(self) -> None:
        """Set the gauges of the number of Connectors, which have no Connector's name."""
        for ready, count in self.ready_counts.items():
            self._metrics.connectors.labels(ready).set(count)

    def update(self, key: ObjectKey, connector: ObservedConnector | None) -> None:
        """Count the current state of a Connector. None removes it."""
        previous = self._counted.pop(key, None)
        current = None
        if connector is not None:
            ready = connector.status.ready
            current = _Counted(ready.status if ready else "Unknown", connector.status.credential_expires_at)
            self._counted[key] = current
        if previous is not None:
            self.ready_counts[previous.ready] -= 1
        if current is not None:
            self.ready_counts[current.ready] += 1
            self._metrics.ready.labels(key.namespace, key.name).set(current.ready == "True")
        elif previous is not None:
            self._metrics.ready.remove(key.namespace, key.name)
        self._show_expiry(key, previous.expires_at if previous else None, current.expires_at if current else None)

    def _show_expiry(self, key: ObjectKey, previous: float | None, current: float | None) -> None:
        if current == previous:
            return
        if current is None:
            self._metrics.credential_expiry.remove(str(key))
        else:
            self._metrics.credential_expiry.labels(str(key)).set(current)
