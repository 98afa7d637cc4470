"""Events: of the right pod, short enough, and never blocking."""

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from connector_csi.pod_events import PodEvents
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.kube.client import KubeClient
from connector_store.kube.events import MAX_NOTE
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

POD = Pod(namespace="team-a", name="web", uid="u", service_account="default")


@asynccontextmanager
async def running(server: FakeApiServer):
    async with server.serving(), KubeClient(server.configuration) as client:
        events = PodEvents(client, "node", now=lambda: datetime(2026, 1, 2, 3, 4, 5, 6, UTC))
        task = asyncio.ensure_future(events.run())
        try:
            yield events
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_warning_becomes_an_event_of_the_pod() -> None:
    server = FakeApiServer()
    async with running(server) as events:
        events.warn(POD, "Reason", "x" * 5000)
        await until(lambda: server.requests)
    [(method, path, sent)] = server.requests
    assert (method, path) == ("POST", "/apis/events.k8s.io/v1/namespaces/team-a/events")
    body = sent["body"]
    assert body["eventTime"] == "2026-01-02T03:04:05.000006Z"
    assert (body["reason"], body["type"], len(body["note"])) == ("Reason", "Warning", MAX_NOTE)
    assert body["regarding"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web", "uid": "u"}


async def test_a_refused_event_does_not_block_the_next(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeApiServer()
    server.faults.append(
        lambda request: refusal(403, "Forbidden", "no events for you") if len(server.requests) == 1 else None
    )
    async with running(server) as events:
        events.warn(POD, "First", "")
        events.warn(POD, "Second", "")
        await until(lambda: len(server.requests) == 2)
    assert "event First not recorded" in caplog.text


async def test_events_beyond_the_queue_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with KubeClient(FakeApiServer().configuration) as client:
        events = PodEvents(client, "node")
        with caplog.at_level(logging.WARNING):
            for _ in range(201):
                events.warn(POD, "Many", "")
    assert "event Many of pod team-a/web dropped" in caplog.text
