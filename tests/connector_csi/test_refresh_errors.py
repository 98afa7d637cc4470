"""Refresh errors are reported once, counted each time, and written into the volume without a secret."""

import json
import logging
from datetime import UTC, datetime

import pytest

from connector_csi.failure import MAX_MESSAGE, invalid, unavailable
from connector_csi.metrics import CsiMetrics
from connector_csi.refresh_errors import RefreshErrors
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.volume_request import Pod

POD = Pod(namespace="team-a", name="web", uid="u", service_account="runner")
KEY = ObjectKey("team-b", "k8s")
FIRST, SECOND = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


class FakeWarnings:
    def __init__(self) -> None:
        self.events: list[tuple[Pod, str, str]] = []

    def warn(self, pod: Pod, reason: str, note: str) -> None:
        self.events.append((pod, reason, note))


class Node:
    def __init__(self) -> None:
        self.warnings, self.metrics, self.time = FakeWarnings(), CsiMetrics(), FIRST
        self.errors = RefreshErrors(self.warnings, self.metrics, lambda: self.time)


@pytest.fixture
def node() -> Node:
    return Node()


def test_the_error_file_has_the_time_and_the_connector(node: Node) -> None:
    text = node.errors.record("v", POD, {KEY: invalid("bad")})
    assert json.loads(text) == {
        "since": "2026-01-01T00:00:00Z",
        "problems": [{"connector": "team-b/k8s", "code": "INVALID_ARGUMENT", "message": "bad"}],
    }
    assert node.warnings.events == [(POD, "ConnectorNotRefreshed", "Connector team-b/k8s keeps what it had: bad")]


def test_a_repeated_problem_is_only_counted(node: Node) -> None:
    first = node.errors.record("v", POD, {KEY: invalid("bad")})
    node.time = SECOND
    assert node.errors.record("v", POD, {KEY: invalid("bad")}) == first
    assert len(node.warnings.events) == 1
    assert b'republish_failures_total{code="INVALID_ARGUMENT"} 2.0' in node.metrics.render()


def test_a_changed_problem_is_reported_with_its_own_time(node: Node) -> None:
    node.errors.record("v", POD, {KEY: invalid("bad")})
    node.time = SECOND
    text = node.errors.record("v", POD, {None: unavailable("away")})
    assert json.loads(text)["since"] == "2026-01-02T00:00:00Z"
    assert [note for _, _, note in node.warnings.events][1] == "old content is kept: away"


def test_stale_volumes_are_counted_until_they_are_cleared(node: Node) -> None:
    for volume in ("v", "w"):
        node.errors.record(volume, POD, {None: unavailable("away")})
    assert b"volumes_stale 2.0" in node.metrics.render()
    node.errors.clear("v")
    node.errors.clear("v")
    assert b"volumes_stale 1.0" in node.metrics.render()
    node.errors.record("v", POD, {None: unavailable("away")})
    assert len(node.warnings.events) == 3


def test_a_problem_without_a_pod_is_logged(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        node.errors.record("v", None, {None: unavailable("away")})
    assert "volume v of a pod: old content is kept: away" in caplog.text
    assert node.warnings.events == []


def test_a_long_message_is_truncated(node: Node) -> None:
    text = node.errors.record("v", POD, {KEY: invalid("x" * 9000)})
    assert len(json.loads(text)["problems"][0]["message"]) == MAX_MESSAGE
