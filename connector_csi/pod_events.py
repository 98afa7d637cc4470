"""Warning events of pods (events.k8s.io/v1), for problems that no response to kubelet reports."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Never, Protocol

from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.events import Reporter, event_body, event_name
from connector_store.kube.resources import EVENTS

logger = logging.getLogger(__name__)

_MAX_QUEUED: Final = 200
"""Events that wait for the API server. More are dropped: the next failure repeats them."""


class PodWarnings(Protocol):
    def warn(self, pod: Pod, reason: str, note: str) -> None:
        """Queue a Warning event of `pod`, without waiting."""


class PodEvents:
    """Sends the queued events one by one in `run`, which never returns."""

    def __init__(
        self, client: KubeClient, node: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client = client
        self._reporter = Reporter("connectors-csi", node, "NodePublishVolume")
        self._now = now
        self._queue = asyncio.Queue[dict[str, Any]](_MAX_QUEUED)

    def warn(self, pod: Pod, reason: str, note: str) -> None:
        try:
            self._queue.put_nowait(self._build_event(pod, reason, note))
        except asyncio.QueueFull:
            logger.warning("event %s of pod %s/%s dropped: too many wait", reason, pod.namespace, pod.name)

    async def run(self) -> Never:
        while True:
            event = await self._queue.get()
            try:
                await self._client.create(EVENTS.path(event["metadata"]["namespace"]), event)
            except ApiError as e:
                logger.warning("event %s not recorded: %s", event["reason"], e)

    def _build_event(self, pod: Pod, reason: str, note: str) -> dict[str, Any]:
        return event_body(
            self._reporter,
            name=event_name(pod.name, secrets.token_hex(8)),
            regarding={
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
            event_type="Warning",
            reason=reason,
            note=note,
            event_time=self._now(),
        )
