"""Each row of the conditions table, reached and left again on a real API server, with real targets."""

import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.controller.targets import CA, ENDLESS, Target, status, target
from tests.cluster.controller.world import GROUP, Controller, World, until
from tests.fakes.certificates import make_ca

pytestmark = pytest.mark.usefixtures("controller")

OTHER_CA = make_ca("other CA")
NO_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_the_api_server_itself_is_a_ready_target(world: World, namespace: str) -> None:
    world.put_secret(namespace, token=world.token(namespace), ca_crt=world.plane.ca_pem)
    world.put_connector(namespace, address=world.plane.url)
    world.until_condition(namespace, "Ready", "True")
    seen = world.connector(namespace)["status"]
    assert [each["type"] for each in seen["conditions"]] == [
        "ConnectorClassReady",
        "SecretReady",
        "CACertReady",
        "LivenessReady",
        "AuthReady",
        "ProxyServiceReady",
        "Ready",
    ]
    assert seen["observedGeneration"] == 1
    address = seen["proxy"]["httpAddress"]
    assert address["url"] == f"http://c-k8s.{namespace}.svc.cluster.local"
    assert address["audience"] == "connectors-proxy"
    service = world.service(namespace)
    assert service["spec"]["externalName"] == "connectors-proxy.connectors-system.svc.cluster.local"
    assert service["metadata"]["ownerReferences"][0]["kind"] == "Connector"
    table = world.plane.kubectl("get", "connectors", namespace=namespace)
    assert world.plane.url in table
    assert "True" in table


@dataclass
class Scene:
    """A good Connector with a target of its own; a row spoils one thing and mends it."""

    world: World
    namespace: str
    target: Target
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def secret(self, kind: str | None = None, **change: str | bytes) -> None:
        data: dict[str, str | bytes] = {"token": "t", "ca_crt": CA.pem, **change}
        self.world.put_secret(self.namespace, "s", kind, **{key: value for key, value in data.items() if value})

    def spec(self, **change: Any) -> None:
        self.world.patch_connector(self.namespace, change)

    def cls(self, name: str = "special", **spec: Any) -> None:
        body = {
            "apiVersion": "connectors.alauda.io/v1alpha1",
            "kind": "ConnectorClass",
            "metadata": {"name": name},
            "spec": {
                "auth": {"types": [{"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"}]},
                **spec,
            },
        }
        self.world.delete(f"{GROUP}/connectorclasses/{name}")
        self.world.api.must("POST", f"{GROUP}/connectorclasses", body)


@pytest.fixture
def scene(world: World, namespace: str) -> Iterator[Scene]:
    with target() as server, contextlib.ExitStack() as closing:
        made = Scene(world, namespace, server, closing)
        made.secret()
        world.put_connector(namespace, address=server.address)
        world.until_condition(namespace, "Ready", "True")
        yield made


def close_port(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    scene.spec(address=f"https://127.0.0.1:{port}")


def other_certificate(scene: Scene) -> None:
    server = scene.closing.enter_context(target(ca=OTHER_CA))
    scene.spec(address=server.address)


def silence(scene: Scene) -> None:
    scene.target.silent = True


def speak(scene: Scene) -> None:
    scene.target.silent = False


def answer(code: int, path: bytes = b"") -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        scene.target.answer = lambda head: status(code if path in head else 200)

    return change


def back(scene: Scene) -> None:
    scene.spec(address=scene.target.address)


_CLASS_NUMBERS = itertools.count(1)


def own_class(**spec: Any) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        name = f"special-{next(_CLASS_NUMBERS)}"
        scene.cls(name, **spec)
        scene.spec(connectorClassName=name)

    return change


def k8s_class(scene: Scene) -> None:
    scene.spec(connectorClassName="k8s", auth={"name": "bearerTokenAuth", "secretRef": {"name": "s"}})


OPTIONAL = {
    "auth": {
        "types": [
            {"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token", "optional": True},
        ]
    }
}


def no_secret_needed(scene: Scene) -> None:
    own_class(**OPTIONAL)(scene)
    scene.spec(auth={"name": "bearerTokenAuth", "secretRef": None}, caCertSecretRef={"name": "ca"})


def taken_name(scene: Scene) -> None:
    """Somebody else's Service stands where ours belongs."""
    path = f"/api/v1/namespaces/{scene.namespace}/services/c-k8s"
    stranger = {"metadata": {"labels": None, "ownerReferences": None}, "spec": {"externalName": "example.com"}}
    scene.world.api.must("PATCH", path, stranger)


def free_name(scene: Scene) -> None:
    scene.world.delete(f"/api/v1/namespaces/{scene.namespace}/services/c-k8s")


def hide_proxy(scene: Scene) -> None:
    scene.world.delete("/api/v1/namespaces/connectors-system/services/connectors-proxy")


def show_proxy(scene: Scene) -> None:
    body = {"metadata": {"name": "connectors-proxy"}, "spec": {"ports": [{"port": 80}]}}
    scene.world.api.must("POST", "/api/v1/namespaces/connectors-system/services", body)


def put_ca(content: str | bytes) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        scene.secret(ca_crt="")
        scene.world.put_secret(scene.namespace, "ca", kind="Opaque", corp_pem=content)
        scene.spec(caCertSecretRef={"name": "ca"})

    return change


def drop_ca(scene: Scene) -> None:
    scene.secret(ca_crt="")
    scene.spec(caCertSecretRef={"name": "absent"})


def own_ca(scene: Scene) -> None:
    scene.spec(caCertSecretRef=None)
    scene.secret()


def huge(scene: Scene) -> None:
    # etcd takes 1.5 MiB a request; base64 makes 4/3 of it.
    scene.secret(token="x" * 1_000_000)


Change = Callable[[Scene], None]


def row(spoil: Change, mend: Change, kind: str, truth: str, reason: str, *says: str, id: str) -> Any:
    return pytest.param(spoil, mend, kind, truth, reason, says, id=id)


def change(**spec: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.spec(**spec)


def secret(kind: str | None = None, **data: str | bytes) -> Callable[[Scene], None]:
    return lambda scene: scene.secret(kind, **data)


def delete_secret(scene: Scene) -> None:
    scene.world.delete(f"/api/v1/namespaces/{scene.namespace}/secrets/s")


GOOD = secret()


@pytest.mark.parametrize(
    ("spoil", "mend", "kind", "truth", "reason", "says"),
    [
        row(
            change(connectorClassName="absent"),
            k8s_class,
            "ConnectorClassReady",
            "False",
            "ConnectorClassNotFound",
            "create it",
            id="a class that is not there",
        ),
        row(
            change(address="http://127.0.0.1:1"),
            back,
            "ConnectorClassReady",
            "False",
            "AddressInvalid",
            "https",
            id="a plain http address",
        ),
        row(delete_secret, GOOD, "SecretReady", "False", "SecretNotFound", "create it", id="no Secret"),
        row(secret("Opaque"), GOOD, "SecretReady", "False", "SecretTypeMismatch", "Opaque", id="another type"),
        row(secret(token="", note="x"), GOOD, "SecretReady", "False", "SecretKeyMissing", '"token"', id="no key"),
        row(secret(token="a b"), GOOD, "SecretReady", "False", "SecretInvalid", id="a token with a space"),
        row(secret(token="a\nb"), GOOD, "SecretReady", "False", "SecretInvalid", id="a token with a newline"),
        row(huge, GOOD, "SecretReady", "False", "SecretInvalid", id="a token of a megabyte"),
        row(no_secret_needed, k8s_class, "SecretReady", "True", "SecretOptional", id="no Secret is needed"),
        row(put_ca(CA.pem), own_ca, "CACertReady", "True", "Valid", id="a CA of its own Secret"),
        row(secret(ca_crt=""), GOOD, "CACertReady", "True", "NoCACert", id="no CA"),
        row(drop_ca, own_ca, "CACertReady", "False", "SecretNotFound", "absent", id="a CA Secret that is not there"),
        row(put_ca("hello"), own_ca, "CACertReady", "False", "InvalidPEM", id="a CA that is no PEM"),
        row(secret(ca_crt=NO_PEM), GOOD, "CACertReady", "False", "InvalidPEM", id="a CA that cannot be read"),
        row(own_class(), k8s_class, "LivenessReady", "True", "NonLivenessProbe", id="a class without liveness probe"),
        row(own_class(), k8s_class, "AuthReady", "True", "NonAuthProbe", id="a class without auth probe"),
        row(
            change(address="https://no-such-host.invalid"),
            back,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "cannot be resolved",
            id="a name that resolves nowhere",
        ),
        row(
            change(address="https://127.9.9.9:6443"),
            back,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "denied addresses",
            id="a denied address",
        ),
        row(close_port, back, "LivenessReady", "False", "ConnectionFailed", "listens there", id="a closed port"),
        row(
            other_certificate,
            back,
            "LivenessReady",
            "False",
            "ConnectionFailed",
            "certificate is not valid",
            id="another certificate",
        ),
        row(silence, speak, "LivenessReady", "False", "ConnectionFailed", "did not answer", id="silence"),
        row(answer(503), answer(200), "LivenessReady", "False", "ConnectionFailed", "503", id="a broken target"),
        row(
            answer(401, b"/api"),
            answer(200),
            "AuthReady",
            "False",
            "AuthenticationFailed",
            "Authentication failed: status code 401",
            id="a token that is refused",
        ),
        row(
            answer(403, b"/api"),
            answer(200),
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
            taken_name,
            free_name,
            "ProxyServiceReady",
            "False",
            "ProxyServiceConflict",
            "c-k8s",
            id="somebody else's Service",
        ),
    ],
)
def test_a_row_is_reached_and_left_again(
    scene: Scene, spoil: Change, mend: Change, kind: str, truth: str, reason: str, says: tuple[str, ...]
) -> None:
    spoil(scene)
    found = scene.world.until_condition(scene.namespace, kind, truth, reason)
    for text in says:
        assert text in found["message"]
    if truth == "False" and kind != "CACertReady":
        ready = scene.world.until_condition(scene.namespace, "Ready", "False", reason)
        assert ready["message"] == found["message"]
    mend(scene)
    scene.world.until_condition(scene.namespace, "Ready", "True")
    scene.world.until_condition(scene.namespace, kind, "True", "Valid" if kind == "CACertReady" else "")


@pytest.mark.parametrize("name", ["x" * 62, "has.dots"])
def test_a_name_that_no_service_can_have(world: World, namespace: str, name: str) -> None:
    with target() as server:
        world.put_secret(namespace, token="t", ca_crt=CA.pem)
        world.put_connector(namespace, name, address=server.address)
        world.until_condition(namespace, "Ready", "False", "NameNotAllowed", name=name)
        world.until_condition(namespace, "AuthReady", "True", name=name)
        assert "proxy" not in world.connector(namespace, name)["status"]


def test_ten_gigabytes_are_an_answer_like_any_other(scene: Scene, controller: Controller) -> None:
    scene.target.answer = lambda head: ENDLESS
    asked = len(scene.target.heads)
    until(lambda: len(scene.target.heads) > asked + 3, "more probes")
    assert scene.world.condition(scene.namespace)["status"] == "True"
    assert resident_mb(controller.process.pid) < 200


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as lines:  # noqa: PTH123 - a file of the kernel's
        line = next(line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def test_a_connector_of_a_class_that_is_not_ours_is_let_alone(scene: Scene) -> None:
    own_class(auth={"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]})(scene)
    scene.spec(auth={"name": "basic", "secretRef": {"name": "s"}})
    until(lambda: scene.world.service(scene.namespace) is None, "the Service's end")
    version = scene.world.connector(scene.namespace)["metadata"]["resourceVersion"]
    scene.target.answer = lambda head: status(503)
    scene.world.put_secret(scene.namespace, token="u")
    asked = len(scene.target.heads)
    assert scene.world.connector(scene.namespace)["metadata"]["resourceVersion"] == version
    assert len(scene.target.heads) == asked


def test_the_class_k8s_is_there_and_what_is_not_run_of_a_class_is_said(world: World, scene: Scene) -> None:
    k8s = world.api.must("GET", f"{GROUP}/connectorclasses/k8s")
    assert k8s["status"]["conditions"][0]["status"] == "True"
    scene.cls("with-rego", livenessProbe={"http": {"path": "/{{.x}}"}})

    def said() -> bool:
        status = world.api.must("GET", f"{GROUP}/connectorclasses/with-rego").get("status") or {}
        return any("livenessProbe" in each.get("message", "") for each in status.get("conditions") or ())

    until(said, "the message about the template")


def test_transitions_are_events_and_the_token_is_in_none(scene: Scene, controller: Controller) -> None:
    scene.secret(token="canary-of-events")
    answer(401, b"/api")(scene)
    scene.world.until_condition(scene.namespace, "Ready", "False", "AuthenticationFailed")
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"
    until(
        lambda: "AuthenticationFailed" in {each["reason"] for each in scene.world.api.must("GET", path)["items"]},
        "the event",
    )
    assert "canary-of-events" not in str(scene.world.api.must("GET", path))
    assert "canary-of-events" not in str(scene.world.connector(scene.namespace)["status"])
    assert "canary-of-events" not in controller.log
    assert "canary-of-events" not in controller.get("/metrics")
    assert "AuthenticationFailed" in scene.world.plane.kubectl(
        "describe", "connector", "k8s", namespace=scene.namespace
    )
