"""Exec through a Connector of each kind of credential: a stream lives by the one that it began with."""

from typing import Any, Final

import pytest

from lab.manifests import service_account_token_auth
from tests.journey.product import Product
from tests.journey.worker import NAMESPACE, OTHER, Worker, connector, worker_pod

MINTED: Final = "minted"
CERTIFIED: Final = "certified"
USERS: Final = {MINTED: f"system:serviceaccount:{NAMESPACE}:target", CERTIFIED: "certified-caller"}


def issuing_connector(product: Product) -> list[dict[str, Any]]:
    """A Connector whose Secret has a token that may only issue tokens of `target`."""
    kubectl, minter = product.kubectl, "minter"
    kubectl("create", "serviceaccount", minter, namespace=NAMESPACE)
    rule = ("--verb=create", "--resource=serviceaccounts/token", "--resource-name=target")
    kubectl("create", "role", minter, *rule, namespace=NAMESPACE)
    bound = (f"--role={minter}", f"--serviceaccount={NAMESPACE}:{minter}")
    kubectl("create", "rolebinding", minter, *bound, namespace=NAMESPACE)
    token = kubectl("create", "token", minter, "--duration=48h", namespace=NAMESPACE).strip()
    secret, manifest = connector(MINTED, product.node.control_plane, token)
    manifest["spec"]["auth"] = service_account_token_auth(f"{NAMESPACE}/target", secret=MINTED)
    return [secret, manifest]


def certificate_connector(product: Product) -> list[dict[str, Any]]:
    plane = product.node.control_plane
    user = USERS[CERTIFIED]
    product.kubectl("create", "rolebinding", user, "--clusterrole=admin", f"--user={user}", namespace=NAMESPACE)
    certificate, key = plane.ca.issue(user, common_name=user)
    secret, manifest = connector(CERTIFIED, plane, "")
    secret["type"] = "connectors.cpaas.io/client-certificate"
    del secret["stringData"]["token"]
    for name, path in (("tls.crt", certificate), ("tls.key", key)):
        secret["stringData"][name] = path.read_text()
    manifest["spec"]["auth"]["name"] = "clientCertificateAuth"
    return [secret, manifest]


@pytest.fixture(scope="module")
def pods(worker: Worker) -> Product:
    """A pod with a volume of each."""
    prepared = worker.product
    prepared.api.apply(*issuing_connector(prepared), *certificate_connector(prepared), namespace=NAMESPACE)
    pods = [worker_pod(prepared.node.box_image, name, connector_name=name) for name in USERS]
    prepared.api.apply(*pods, namespace=NAMESPACE)
    for name in USERS:
        prepared.node.wait_for_pod(name, NAMESPACE)
    return prepared


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("websockets", ["true", "false"], ids=["a WebSocket", "SPDY"])
def test_exec_passes_output_and_the_exit_code(pods: Product, name: str, websockets: str) -> None:
    switch = f"KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websockets}"
    inside = ["kubectl", f"--namespace={NAMESPACE}", "exec", OTHER, "--", "sh", "-c", "echo hello; exit 7"]
    done = pods.kubectl.run("exec", name, "--", "env", switch, *inside, namespace=NAMESPACE, timeout=300)
    assert (done.returncode, done.stdout) == (7, "hello\n"), f"{done.stderr}\n{pods.state()}"


@pytest.mark.parametrize(("name", "user"), USERS.items())
def test_the_target_sees_the_identity_of_the_credential(pods: Product, name: str, user: str) -> None:
    whoami = ["kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]
    assert pods.kubectl("exec", name, "--", *whoami, namespace=NAMESPACE) == user
