"""Recorder of events (events.k8s.io/v1) about Connectors, as client-go's EventRecorder.

It records transitions only, and counts a repeated event in the series of the first. Events are best effort: one that
the API server refuses is logged and lost.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Never

from connector_store.cache import Lru
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.base.rfc3339 import format_micro_time
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.events import CLUSTER_SCOPE_NAMESPACE, MAX_NOTE, EventType, Reporter, event_body, event_name
from connector_store.kube.resources import EVENTS

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER: Final = "connectors.alauda.io/controller"
SERIES_WINDOW: Final = 600.0
"""Seconds in which a repeated event is counted in its series. API servers keep events for an hour."""

MAX_SERIES: Final = 4096
MAX_QUEUE: Final = 1024


class Regarding(NamedTuple):
    """Object that an event is about. The namespace is empty for a ConnectorClass."""

    kind: str
    key: ObjectKey
    uid: str


class _EventKey(NamedTuple):
    regarding: Regarding
    event_type: EventType
    reason: str
    note: str


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last_at: float


class EventRecorder:
    """Queue of events. `record` never waits. `run` writes the events."""

    def __init__(self, client: KubeClient, instance: str, *, now: Callable[[], float]) -> None:
        """Create the recorder. `instance` names this process (the pod). `now` returns unix seconds."""
        self.dropped_count = 0
        self._client = client
        self._reporter = Reporter(REPORTING_CONTROLLER, instance, "Reconcile")
        self._now = now
        self._numbers = itertools.count()
        self._series = Lru[_EventKey, _Series](MAX_SERIES)
        self._queue: asyncio.Queue[_EventKey] = asyncio.Queue(MAX_QUEUE)

    def record(self, regarding: Regarding, event_type: EventType, reason: str, note: str) -> None:
        try:
            self._queue.put_nowait(_EventKey(regarding, event_type, reason, printable(note[:MAX_NOTE])))
        except asyncio.QueueFull:
            self.dropped_count += 1

    async def run(self) -> Never:
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except ApiError as error:
                logger.warning("event %s about %s is lost: %s", event.reason, event.regarding.key, error)

    async def _write(self, event: _EventKey) -> None:
        now = self._now()
        series = self._series.get(event)
        namespace = event.regarding.key.namespace or CLUSTER_SCOPE_NAMESPACE
        if series is None or now - series.last_at > SERIES_WINDOW:
            name = event_name(event.regarding.key.name, f"{int(now * 1e6):x}{next(self._numbers):x}")
            await self._client.create(EVENTS.path(namespace), self._body(event, name, now))
            self._series.put(event, _Series(name=name, count=1, last_at=now))
            return
        series.count, series.last_at = series.count + 1, now
        patch = {"series": {"count": series.count, "lastObservedTime": format_micro_time(_utc(now))}}
        try:
            await self._client.patch(EVENTS.path(namespace, series.name), patch)
        except ApiError:
            # The event expired or was deleted meanwhile. The next one starts a new series.
            self._series.drop(event)
            raise

    def _body(self, event: _EventKey, name: str, now: float) -> dict[str, Any]:
        regarding = event.regarding
        reference = {"apiVersion": API_VERSION, "kind": regarding.kind, "name": regarding.key.name}
        if regarding.key.namespace:
            reference["namespace"] = regarding.key.namespace
        if regarding.uid:
            reference["uid"] = regarding.uid
        return event_body(
            self._reporter,
            name=name,
            regarding=reference,
            event_type=event.event_type,
            reason=event.reason,
            note=event.note,
            event_time=_utc(now),
        )


def _utc(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
