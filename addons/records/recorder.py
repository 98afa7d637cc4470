"""Where the data path says what happened: audit lines and metrics."""

from collections.abc import Callable

from addons.records.audit import AuditLog
from addons.records.metrics import Metrics
from addons.records.record import Record
from connector_store.domain.names import ObjectKey


class Recorder:
    """Hands what ended to the audit log and the metrics."""

    def __init__(self, audit: AuditLog, metrics: Metrics, *, full: Callable[[], bool] = lambda: False) -> None:
        """`full` is true while nothing may begin, because it would not be written down."""
        self.full = full
        self._audit = audit
        self._metrics = metrics

    def record(self, exchange: Record) -> None:
        self._audit.record(exchange)
        self._metrics.record(exchange)

    def stream_began(self, key: ObjectKey, kind: str) -> None:
        self._metrics.stream_began(key, kind)

    def stream_ended(self, key: ObjectKey, kind: str) -> None:
        self._metrics.stream_ended(key, kind)
