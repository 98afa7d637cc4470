from datetime import UTC, datetime

import pytest

from connector_store.kube.events import MAX_NOTE, Reporter, event_body, event_name
from lab.control_plane import ControlPlane

POD = {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web", "uid": "u"}


def body(namespace: str, note: str = "x" * 5000) -> dict:
    return event_body(
        Reporter("connectors.alauda.io/controller", "i" * 300, "Reconcile"),
        name=event_name("n" * 300, "0123456789abcdef"),
        regarding=POD | {"namespace": namespace},
        event_type="Warning",
        reason="Reason",
        note=note,
        event_time=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    )


def test_everything_is_within_the_limits_of_the_api() -> None:
    event = body("team-a")
    assert event["eventTime"] == "2026-01-02T03:04:05.000006Z"
    assert (len(event["note"]), len(event["reportingInstance"])) == (MAX_NOTE, 128)
    assert len(event["metadata"]["name"]) <= 253
    assert event["regarding"] == POD


@pytest.mark.parametrize("end", ["-", ".", "-.-"])
def test_a_name_is_cut_where_one_may_end(end: str) -> None:
    assert event_name("n" * (200 - len(end)) + end + "n" * 50, "1") == "n" * (200 - len(end)) + ".1"


def test_a_note_in_another_script_is_cut_by_its_bytes_between_two_characters() -> None:
    note = body("team-a", "x" + "\u4e2d" * 1000)["note"]
    assert note == "x" + "\u4e2d" * 341
    assert len(note.encode()) == MAX_NOTE


def test_surrogates_are_replaced() -> None:
    assert body("team-a", "a\ud800b")["note"] == "a?b"


@pytest.mark.parametrize("character", ["x", "\u4e2d"], ids=["ASCII", "three bytes each"])
def test_an_api_server_accepts_the_event(control_plane: ControlPlane, namespace: str, character: str) -> None:
    event = body(namespace, character * 5000)
    control_plane.api.call("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)
