"""Each row of the conditions table, reached and left again on a real API server, with real targets."""

from typing import Any

import pytest

from connector_store.domain.base import rfc3339
from lab.certificates import make_ca
from lab.controller import API_PATH, ConnectorCluster, Controller
from lab.targets import CA, ENDLESS_RESPONSE, run_target, status_response
from lab.waiting import wait_until
from tests.cluster.controller.scene import (
    GOOD_SECRET,
    Change,
    Scene,
    answer_with,
    close_port,
    delete_secret,
    free_service_name,
    hide_proxy,
    make_secret_optional,
    name_absent_ca,
    occupy_service_name,
    patch_spec,
    put_ca,
    put_huge_secret,
    put_secret,
    restore_address,
    restore_ca,
    resume_answering,
    show_proxy,
    stop_answering,
    use_k8s_class,
    use_other_certificate,
    use_own_class,
)

pytestmark = pytest.mark.usefixtures("controller")

OTHER_CA = make_ca("other CA")
NO_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_the_api_server_itself_is_a_ready_target(
    world: ConnectorCluster, controller: Controller, namespace: str
) -> None:
    world.put_secret(namespace, token=world.issue_token(namespace), ca_crt=world.plane.ca_pem)
    world.put_connector(namespace, address=world.plane.url)
    world.wait_for_condition(namespace, "Ready", "True")
    world.wait_for_proxy_address(namespace)

    def ready_status() -> Any:
        """Return the status while the Connector is ready. A probe may fail for a moment on a busy machine."""
        status = world.get_connector(namespace)["status"]
        return status if status["conditions"][-1]["status"] == "True" else None

    connector_status = wait_until(ready_status, "a ready Connector")
    assert [each["type"] for each in connector_status["conditions"]] == [
        "ConnectorClassReady",
        "SecretReady",
        "PermissionsReady",
        "CACertReady",
        "CredentialFresh",
        "LivenessReady",
        "AuthReady",
        "ProxyServiceReady",
        "Ready",
    ]
    assert {each["observedGeneration"] for each in connector_status["conditions"]} == {1}
    conditions = {each["type"]: each for each in connector_status["conditions"]}
    # A new token of an hour is within `expiry-warning`, but not in the last fifth of its life.
    assert conditions["CredentialFresh"]["reason"] == "AsExpected"
    assert connector_status["credential"]["expirationTime"] in conditions["CredentialFresh"]["message"]
    assert "system:serviceaccount:" in conditions["AuthReady"]["message"]
    wide = world.plane.kubectl("get", "connectors", "-o", "wide", namespace=namespace)
    assert connector_status["credential"]["expirationTime"] in wide
    expires = rfc3339.parse_time(connector_status["credential"]["expirationTime"])
    metric = f'connector_credential_expiry_timestamp_seconds{{connector="{namespace}/k8s"}}'
    wait_until(lambda: metric in controller.get("/metrics"), "the metric")
    assert controller.read_metric(metric) == expires
    assert connector_status["observedGeneration"] == 1
    address = connector_status["proxy"]["httpAddress"]
    assert address["url"] == f"http://c-k8s.{namespace}.svc.cluster.local"
    assert address["audience"] == "connectors-proxy"
    service = world.get_service(namespace)
    assert service["spec"]["externalName"] == "connectors-proxy.connectors-system.svc.cluster.local"
    assert service["metadata"]["ownerReferences"][0]["kind"] == "Connector"
    assert world.plane.url in world.plane.kubectl("get", "connectors", namespace=namespace)
    wait_until(lambda: "True" in world.plane.kubectl("get", "connectors", namespace=namespace), "Ready in the table")


def row(spoil: Change, repair: Change, kind: str, condition_status: str, reason: str, *says: str, id: str) -> Any:
    return pytest.param(spoil, repair, kind, condition_status, reason, says, id=id)


@pytest.mark.parametrize(
    ("spoil", "mend", "kind", "truth", "reason", "says"),
    [
        row(
            patch_spec(connectorClassName="absent"),
            use_k8s_class,
            "ConnectorClassReady",
            "False",
            "ConnectorClassNotFound",
            "create it",
            id="a class that is not there",
        ),
        row(
            patch_spec(address="http://127.0.0.1:1"),
            restore_address,
            "ConnectorClassReady",
            "False",
            "AddressInvalid",
            "https",
            id="a plain http address",
        ),
        row(delete_secret, GOOD_SECRET, "SecretReady", "False", "SecretNotFound", "create it", id="no Secret"),
        row(
            put_secret("Opaque"), GOOD_SECRET, "SecretReady", "False", "SecretTypeMismatch", "Opaque", id="another type"
        ),
        row(
            put_secret(token="", note="x"),
            GOOD_SECRET,
            "SecretReady",
            "False",
            "SecretKeyMissing",
            '"token"',
            id="no key",
        ),
        row(put_secret(token="a b"), GOOD_SECRET, "SecretReady", "False", "SecretInvalid", id="a token with a space"),
        row(
            put_secret(token="a\nb"), GOOD_SECRET, "SecretReady", "False", "SecretInvalid", id="a token with a newline"
        ),
        row(put_huge_secret, GOOD_SECRET, "SecretReady", "False", "SecretInvalid", id="a token of a megabyte"),
        row(make_secret_optional, use_k8s_class, "SecretReady", "True", "SecretOptional", id="no Secret is needed"),
        row(put_ca(CA.pem), restore_ca, "CACertReady", "True", "Valid", id="a CA of its own Secret"),
        row(put_secret(ca_crt=""), GOOD_SECRET, "CACertReady", "True", "NoCACert", id="no CA"),
        row(
            name_absent_ca,
            restore_ca,
            "CACertReady",
            "False",
            "SecretNotFound",
            "absent",
            id="a CA Secret that is not there",
        ),
        row(put_ca("hello"), restore_ca, "CACertReady", "False", "InvalidPEM", id="a CA that is no PEM"),
        row(
            put_secret(ca_crt=NO_PEM), GOOD_SECRET, "CACertReady", "False", "InvalidPEM", id="a CA that cannot be read"
        ),
        row(
            use_own_class(),
            use_k8s_class,
            "LivenessReady",
            "True",
            "NonLivenessProbe",
            id="a class without liveness probe",
        ),
        row(use_own_class(), use_k8s_class, "AuthReady", "True", "NonAuthProbe", id="a class without auth probe"),
        row(
            patch_spec(address="https://no-such-host.invalid"),
            restore_address,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "cannot be resolved",
            id="a name that resolves nowhere",
        ),
        row(
            patch_spec(address="https://127.9.9.9:6443"),
            restore_address,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "denied addresses",
            id="a denied address",
        ),
        row(
            close_port,
            restore_address,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "listens there",
            id="a closed port",
        ),
        row(
            use_other_certificate,
            restore_address,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "certificate is not valid",
            id="another certificate",
        ),
        row(
            stop_answering,
            resume_answering,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "did not answer",
            id="silence",
        ),
        row(
            answer_with(503),
            answer_with(200),
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "503",
            id="a broken target",
        ),
        row(
            answer_with(401, b"/api"),
            answer_with(200),
            "AuthReady",
            "False",
            "AuthenticationFailed",
            "Authentication failed: status code 401",
            id="a token that is refused",
        ),
        row(
            answer_with(403, b"/api"),
            answer_with(200),
            "AuthReady",
            "False",
            "AuthenticationFailed",
            "Authentication failed: status code 403",
            id="a token that may nothing",
        ),
        row(
            hide_proxy,
            show_proxy,
            "ProxyServiceReady",
            "False",
            "ProxyServiceNotFound",
            "connectors-proxy",
            id="no proxy to lead to",
        ),
        row(
            occupy_service_name,
            free_service_name,
            "ProxyServiceReady",
            "False",
            "ProxyServiceConflict",
            "c-k8s",
            id="somebody else's Service",
        ),
    ],
)
def test_a_condition_becomes_false_and_is_repaired(
    scene: Scene, spoil: Change, mend: Change, kind: str, truth: str, reason: str, says: tuple[str, ...]
) -> None:
    spoil(scene)
    # A probe of a busy machine may fail for another reason first.
    message = says[0] if says else ""
    scene.world.wait_for_condition(scene.namespace, kind, truth, reason, message=message)
    if truth == "False" and kind != "CACertReady":
        scene.world.wait_for_condition(scene.namespace, "Ready", "False", reason, message=message)

        def has_the_message() -> bool:
            """Compare conditions of one read, because each probe may fail in another way."""
            conditions = scene.world.get_connector(scene.namespace)["status"]["conditions"]
            messages = {each["type"]: each.get("message", "") for each in conditions}
            return message in messages["Ready"] and messages["Ready"] == messages[kind]

        wait_until(has_the_message, f"the message of {kind} in Ready")
    mend(scene)
    scene.world.wait_for_condition(scene.namespace, "Ready", "True")
    scene.world.wait_for_condition(scene.namespace, kind, "True", "Valid" if kind == "CACertReady" else "")


@pytest.mark.parametrize("name", ["x" * 62, "has.dots"])
def test_a_name_that_no_service_can_have(world: ConnectorCluster, namespace: str, name: str) -> None:
    with run_target() as server:
        world.put_secret(namespace, token="t", ca_crt=CA.pem)
        world.put_connector(namespace, name, address=server.address)
        world.wait_for_condition(namespace, "Ready", "False", "NameNotAllowed", name=name)
        world.wait_for_condition(namespace, "AuthReady", "True", name=name)
        assert "proxy" not in world.get_connector(namespace, name)["status"]


def test_a_probe_response_of_ten_gigabytes_is_bounded(scene: Scene, controller: Controller) -> None:
    scene.target.respond = lambda head: ENDLESS_RESPONSE
    request_count = len(scene.target.request_heads)
    wait_until(lambda: len(scene.target.request_heads) > request_count + 3, "more probes")
    scene.world.wait_for_condition(scene.namespace, "Ready", "True")
    assert controller.process.resident_kb < 200_000


def test_a_connector_of_a_foreign_class_is_ignored(scene: Scene) -> None:
    use_own_class(auth={"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]})(scene)
    scene.patch_spec(auth={"name": "basic", "secretRef": {"name": "s"}})
    wait_until(lambda: scene.world.get_service(scene.namespace) is None, "the Service's end")
    version = scene.world.get_connector(scene.namespace)["metadata"]["resourceVersion"]
    scene.target.respond = lambda head: status_response(503)
    scene.world.put_secret(scene.namespace, token="u")
    request_count = len(scene.target.request_heads)
    assert scene.world.get_connector(scene.namespace)["metadata"]["resourceVersion"] == version
    assert len(scene.target.request_heads) == request_count


def test_the_class_k8s_exists_and_unsupported_fields_are_reported(world: ConnectorCluster, scene: Scene) -> None:
    def conditions(name: str) -> list[dict[str, str]]:
        status = world.api.call("GET", f"{API_PATH}/connectorclasses/{name}").get("status") or {}
        return status.get("conditions") or []

    k8s = wait_until(lambda: conditions("k8s"), "the status of the class")
    assert k8s[0]["status"] == "True"
    scene.put_class("with-rego", livenessProbe={"http": {"path": "/{{.x}}"}})

    def is_logged() -> bool:
        return any("livenessProbe" in each.get("message", "") for each in conditions("with-rego"))

    wait_until(is_logged, "the message about the template")


def test_transitions_are_events_and_the_token_is_in_none(scene: Scene, controller: Controller) -> None:
    scene.put_secret(token="canary-of-events")
    answer_with(401, b"/api")(scene)
    scene.world.wait_for_condition(scene.namespace, "Ready", "False", "AuthenticationFailed")
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"
    wait_until(
        lambda: "AuthenticationFailed" in {each["reason"] for each in scene.world.api.call("GET", path)["items"]},
        "the event",
    )
    assert "canary-of-events" not in str(scene.world.api.call("GET", path))
    assert "canary-of-events" not in str(scene.world.get_connector(scene.namespace)["status"])
    assert "canary-of-events" not in controller.log
    assert "canary-of-events" not in controller.get("/metrics")
    assert "AuthenticationFailed" in scene.world.plane.kubectl(
        "describe", "connector", "k8s", namespace=scene.namespace
    )
