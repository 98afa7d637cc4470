from datetime import UTC, datetime

from connector_store.kube.events import NOTE_MAX, event_body, event_name
from lab.control_plane import ControlPlane

POD = {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web", "uid": "u"}


def body(namespace: str, **more: str) -> dict:
    return event_body(
        name=event_name("n" * 300, "0123456789abcdef"),
        namespace=namespace,
        regarding=POD | {"namespace": namespace},
        kind="Warning",
        reason="Reason",
        note="x" * 5000,
        action="Reconcile",
        controller="connectors.alauda.io/controller",
        instance="i" * 300,
        when=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    )


def test_everything_is_within_the_limits_of_the_api() -> None:
    made = body("team-a")
    assert made["eventTime"] == "2026-01-02T03:04:05.000006Z"
    assert (len(made["note"]), len(made["reportingInstance"])) == (NOTE_MAX, 128)
    assert len(made["metadata"]["name"]) <= 253
    assert made["regarding"] == POD


def test_an_api_server_takes_it(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.api.must("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body(namespace))
