"""What a volume lacks is told once, counted each time, and said in it without a secret."""

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


class Told:
    def __init__(self) -> None:
        self.told: list[tuple[Pod, str, str]] = []

    def warn(self, pod: Pod, reason: str, note: str) -> None:
        self.told.append((pod, reason, note))


class World:
    def __init__(self) -> None:
        self.warnings, self.metrics, self.time = Told(), CsiMetrics(), FIRST
        self.troubles = RefreshErrors(self.warnings, self.metrics, lambda: self.time)


@pytest.fixture
def world() -> World:
    return World()


def test_a_file_says_since_when_and_of_which_connector(world: World) -> None:
    text = world.troubles.record("v", POD, {KEY: invalid("bad")})
    assert json.loads(text) == {
        "since": "2026-01-01T00:00:00Z",
        "problems": [{"connector": "team-b/k8s", "code": "INVALID_ARGUMENT", "message": "bad"}],
    }
    assert world.warnings.told == [(POD, "ConnectorNotRefreshed", "Connector team-b/k8s keeps what it had: bad")]


def test_the_same_again_is_counted_and_neither_told_nor_written_anew(world: World) -> None:
    first = world.troubles.record("v", POD, {KEY: invalid("bad")})
    world.time = SECOND
    assert world.troubles.record("v", POD, {KEY: invalid("bad")}) == first
    assert len(world.warnings.told) == 1
    assert b'republish_failures_total{code="INVALID_ARGUMENT"} 2.0' in world.metrics.render()


def test_what_changes_is_told_with_its_own_time(world: World) -> None:
    world.troubles.record("v", POD, {KEY: invalid("bad")})
    world.time = SECOND
    text = world.troubles.record("v", POD, {None: unavailable("away")})
    assert json.loads(text)["since"] == "2026-01-02T00:00:00Z"
    assert [note for _, _, note in world.warnings.told][1] == "old content is kept: away"


def test_volumes_in_trouble_are_counted_until_it_is_over(world: World) -> None:
    for volume in ("v", "w"):
        world.troubles.record(volume, POD, {None: unavailable("away")})
    assert b"volumes_stale 2.0" in world.metrics.render()
    world.troubles.clear("v")
    world.troubles.clear("v")
    assert b"volumes_stale 1.0" in world.metrics.render()
    world.troubles.record("v", POD, {None: unavailable("away")})
    assert len(world.warnings.told) == 3


def test_a_volume_of_a_pod_that_nobody_named_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        world.troubles.record("v", None, {None: unavailable("away")})
    assert "volume v of a pod: old content is kept: away" in caplog.text
    assert world.warnings.told == []


def test_an_endless_message_is_cut(world: World) -> None:
    text = world.troubles.record("v", POD, {KEY: invalid("x" * 9000)})
    assert len(json.loads(text)["problems"][0]["message"]) == MAX_MESSAGE
