"""A working Connector with its own target, and changes that break or repair it."""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.certificates import make_ca
from lab.controller import API_PATH, ConnectorCluster
from lab.ports import Port
from lab.targets import CA, TargetServer, run_target, status_response

OTHER_CA = make_ca("other CA")
NO_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@dataclass
class Scene:
    """The objects that a change may change; `exit_stack` stops the servers that it started."""

    world: ConnectorCluster
    namespace: str
    target: TargetServer
    exit_stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def put_secret(self, kind: str | None = None, **change: str | bytes) -> None:
        data: dict[str, str | bytes] = {"token": "t", "ca_crt": CA.pem, **change}
        self.world.put_secret(self.namespace, "s", kind, **{key: value for key, value in data.items() if value})

    def patch_spec(self, **change: Any) -> None:
        self.world.patch_connector(self.namespace, change)

    def put_class(self, name: str = "special", **spec: Any) -> None:
        body = {
            "apiVersion": "connectors.alauda.io/v1alpha1",
            "kind": "ConnectorClass",
            "metadata": {"name": name},
            "spec": {
                "auth": {"types": [{"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token"}]},
                **spec,
            },
        }
        self.world.delete(f"{API_PATH}/connectorclasses/{name}")
        self.world.api.call("POST", f"{API_PATH}/connectorclasses", body)


Change = Callable[[Scene], None]


def close_port(scene: Scene) -> None:
    scene.patch_spec(address=f"https://127.0.0.1:{Port().number}")


def use_other_certificate(scene: Scene) -> None:
    server = scene.exit_stack.enter_context(run_target(ca=OTHER_CA))
    scene.patch_spec(address=server.address)


def stop_answering(scene: Scene) -> None:
    scene.target.silent = True


def resume_answering(scene: Scene) -> None:
    scene.target.silent = False


def answer_with(code: int, path: bytes = b"") -> Change:
    def change(scene: Scene) -> None:
        scene.target.respond = lambda head: status_response(code if path in head else 200)

    return change


def restore_address(scene: Scene) -> None:
    scene.patch_spec(address=scene.target.address)


_CLASS_NUMBERS = itertools.count(1)


def use_own_class(**spec: Any) -> Change:
    def change(scene: Scene) -> None:
        name = f"special-{next(_CLASS_NUMBERS)}"
        scene.put_class(name, **spec)
        scene.patch_spec(connectorClassName=name)

    return change


def use_k8s_class(scene: Scene) -> None:
    scene.patch_spec(connectorClassName="k8s", auth={"name": "bearerTokenAuth", "secretRef": {"name": "s"}})


OPTIONAL = {
    "auth": {
        "types": [
            {"name": "bearerTokenAuth", "secretType": "connectors.cpaas.io/bearer-token", "optional": True},
        ]
    }
}


def make_secret_optional(scene: Scene) -> None:
    use_own_class(**OPTIONAL)(scene)
    scene.patch_spec(auth={"name": "bearerTokenAuth", "secretRef": None}, caCertSecretRef={"name": "ca"})


def occupy_service_name(scene: Scene) -> None:
    """Put another owner's Service in the place of the Connector's alias."""
    path = f"/api/v1/namespaces/{scene.namespace}/services/c-k8s"
    stranger = {"metadata": {"labels": None, "ownerReferences": None}, "spec": {"externalName": "example.com"}}
    scene.world.api.call("PATCH", path, stranger)


def free_service_name(scene: Scene) -> None:
    scene.world.delete(f"/api/v1/namespaces/{scene.namespace}/services/c-k8s")


def hide_proxy(scene: Scene) -> None:
    scene.world.delete("/api/v1/namespaces/connectors-system/services/connectors-proxy")


def show_proxy(scene: Scene) -> None:
    body = {"metadata": {"name": "connectors-proxy"}, "spec": {"ports": [{"port": 80}]}}
    scene.world.api.call("POST", "/api/v1/namespaces/connectors-system/services", body)


def put_ca(content: str | bytes) -> Change:
    def change(scene: Scene) -> None:
        scene.put_secret(ca_crt="")
        scene.world.put_secret(scene.namespace, "ca", "Opaque", corp_pem=content)
        scene.patch_spec(caCertSecretRef={"name": "ca"})

    return change


def name_absent_ca(scene: Scene) -> None:
    scene.put_secret(ca_crt="")
    scene.patch_spec(caCertSecretRef={"name": "absent"})


def restore_ca(scene: Scene) -> None:
    scene.patch_spec(caCertSecretRef=None)
    scene.put_secret()


def put_huge_secret(scene: Scene) -> None:
    # etcd takes 1.5 MiB a request; base64 makes 4/3 of it.
    scene.put_secret(token="x" * 1_000_000)


def patch_spec(**spec: Any) -> Change:
    return lambda scene: scene.patch_spec(**spec)


def put_secret(kind: str | None = None, **data: str | bytes) -> Change:
    return lambda scene: scene.put_secret(kind, **data)


def delete_secret(scene: Scene) -> None:
    scene.world.delete(f"/api/v1/namespaces/{scene.namespace}/secrets/s")


GOOD_SECRET = put_secret()
