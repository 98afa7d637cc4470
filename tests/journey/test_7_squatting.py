"""Who may make Services and pods in a namespace, and nothing else, collects no token of who uses its Connectors."""

import json
import socket
from typing import Any

import pytest

from lab.node.csi_driver import eventually, volume_path
from lab.rbac import wait_for_rbac
from tests.journey.product import SYSTEM, Product
from tests.journey.worker import NAMESPACE, Worker, connector, worker_pod

SHARED = "squatted"
SQUATTER = f"system:serviceaccount:{SHARED}:squatter"
VICTIM = "victim"
NAME = "wanted"
LABEL = {"app.kubernetes.io/managed-by": "connectors-controller"}
PODS = ("kubectl", "get", "pods", f"--namespace={NAMESPACE}", "--output=name")
LISTEN = "while true; do nc -l -p 8080 >>/tmp/caught; echo connected >>/tmp/connections; done"


def server(image: str) -> list[dict[str, Any]]:
    """The squatter's Service, with the name that the Connector's would have, and the pod that it leads to."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "listener", "labels": {"app": "listener"}},
        "spec": {"containers": [{"name": "box", "image": image, "command": ["sh", "-c", LISTEN]}]},
    }
    return [service({"selector": {"app": "listener"}, "ports": [{"port": 80, "targetPort": 8080}]}), pod]


def service(spec: dict[str, Any], labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": f"c-{NAME}", "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def as_squatter(product: Product, *command: str, **body: Any) -> tuple[int, str]:
    text = json.dumps(body) if body else ""
    done = product.kubectl.run(*command, f"--as={SQUATTER}", namespace=SHARED, stdin=text)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def squatted(worker: Worker) -> Worker:
    """Create the squatter's Service first, then the Connector, and a pod of another namespace that may use it."""
    product, kubectl = worker.product, worker.product.kubectl
    kubectl("create", "namespace", SHARED)
    kubectl("create", "serviceaccount", "squatter", namespace=SHARED)
    may = ["--verb=create,get,patch,delete", "--resource=services,services/status,pods"]
    kubectl("create", "role", "squatter", *may, namespace=SHARED)
    account = f"--serviceaccount={SHARED}:squatter"
    kubectl("create", "rolebinding", "squatter", "--role=squatter", account, namespace=SHARED)
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=SHARED)
    wait_for_rbac(product.api)
    for each in server(product.node.box_image):
        code, output = as_squatter(product, "create", "-f", "-", **each)
        assert code == 0, output
    product.node.wait_for_pod("listener", SHARED)
    product.api.apply(*connector(NAME, product.node.control_plane, worker.token), namespace=SHARED)
    user = f"--serviceaccount={NAMESPACE}:default"
    kubectl("create", "rolebinding", "u", "--clusterrole=connectors-user", user, namespace=SHARED)
    attributes = {"connector_name": NAME, "connector_namespace": SHARED, "configuration_names": "kubeconfig"}
    product.api.apply(worker_pod(product.node.box_image, VICTIM, **attributes), namespace=NAMESPACE)
    product.node.wait_for_pod(VICTIM, NAMESPACE)
    return worker


def victim(worker: Worker, *command: str) -> str:
    return worker.product.kubectl("exec", VICTIM, "--", *command, namespace=NAMESPACE)


def test_a_condition_says_that_the_service_is_not_the_controllers(squatted: Worker) -> None:
    kubectl = squatted.product.kubectl

    def conditions() -> dict[str, str]:
        status = kubectl.json("get", "connector", NAME, namespace=SHARED).get("status", {})
        return {each["type"]: each.get("reason", "") for each in status.get("conditions", ())}

    eventually(lambda: conditions().get("ProxyServiceReady") == "ProxyServiceConflict")
    status = kubectl.json("get", "connector", NAME, namespace=SHARED)["status"]
    assert "proxy" not in status


def test_the_volume_names_the_proxys_own_host_and_an_event_says_so(squatted: Worker) -> None:
    files = victim(squatted, "sh", "-c", "cat /connector/* /connector/.env")
    assert f"c-{NAME}" not in files
    assert "@connectors-proxy.connectors-system.svc.cluster.local:80" in files

    def notes() -> list[str]:
        events = squatted.product.kubectl.json(
            "get", "events", f"--field-selector=involvedObject.name={VICTIM}", namespace=NAMESPACE
        )
        return [each["message"] for each in events["items"] if each["reason"] == "ProxyServiceNotUsed"]

    # On a busy machine, kubelet may call the driver again, which is another event.
    note = eventually(notes)[0]
    assert note.startswith(f'services "c-{NAME}" in namespace "{SHARED}" is not seen to be the controller\'s')


def test_the_page_names_the_proxys_own_host_too(squatted: Worker) -> None:
    token = victim(squatted, "cat", "/connector/context.token")
    login = f"{SHARED}%2F{NAME}:{token}"
    head = "GET /kubeconfig HTTP/1.1\\r\\nHost: connectors-proxy.connectors-system\\r\\nConnection: close\\r\\n"
    request = f"printf '{head}Authorization: Basic %s\\r\\n\\r\\n' "
    encode = f"$(printf '%s' '{login}' | base64 | tr -d '\\n')"
    page = victim(squatted, "sh", "-c", f"{request}{encode} | nc -w 120 connectors-proxy.connectors-system 80")
    assert "@connectors-proxy.connectors-system.svc.cluster.local:80" in page, page
    assert f"c-{NAME}" not in page


def test_the_pod_works_and_the_squatter_gets_no_connection(squatted: Worker) -> None:
    assert VICTIM in victim(squatted, *PODS)
    listener = squatted.product.kubectl.run(
        "exec", "listener", "--", "sh", "-c", "cat /tmp/caught /tmp/connections", namespace=SHARED
    )
    assert "connected" not in listener.stdout
    assert "CONNECT" not in listener.stdout


def test_with_tls_a_client_of_the_squatter_sends_no_byte_of_a_token(squatted: Worker) -> None:
    """A kubeconfig of the setting proxy-tls, as it would have been before the Service was another's."""
    own = f"c-{NAME}.{SHARED}.svc.cluster.local"
    change = f"s#http://\\(.*\\)@connectors-proxy[^ ]*#https://\\1@{own}:80#"
    script = f"sed '{change}' /connector/kubeconfig >/tmp/by-tls; grep -o 'https://.*@{own}' /tmp/by-tls"
    token = victim(squatted, "cat", "/connector/context.token")
    assert token in victim(squatted, "sh", "-euc", script)
    ask = ["exec", VICTIM, "--", *PODS, "--kubeconfig=/tmp/by-tls", "--request-timeout=5s"]

    codes: set[int] = set()

    def connect() -> str:
        """Return what the squatter caught. On a busy machine, a client may give up before it connects."""
        codes.add(squatted.product.kubectl.run(*ask, namespace=NAMESPACE).returncode)
        show = "head -c 1 /tmp/caught | od -An -tx1; strings /tmp/caught"
        return squatted.product.kubectl("exec", "listener", "--", "sh", "-c", show, namespace=SHARED).strip()

    # A ClientHello begins with 0x16 (RFC 8446 section 5.1); nothing of the head of a request follows it in clear.
    caught = eventually(connect)
    assert 0 not in codes
    assert caught.split()[0] == "16", caught
    assert "CONNECT" not in caught
    assert "Proxy-Authorization" not in caught
    assert token not in caught


def test_the_squatter_cannot_create_a_service_with_the_controllers_label(squatted: Worker) -> None:
    elsewhere = {"type": "ExternalName", "externalName": "listener.example"}
    new_service = service(elsewhere, LABEL) | {"metadata": {"name": "c-other", "labels": LABEL}}
    for code, output in (
        as_squatter(squatted.product, "create", "-f", "-", **new_service),
        as_squatter(
            squatted.product, "patch", "service", f"c-{NAME}", f"--patch={json.dumps({'metadata': {'labels': LABEL}})}"
        ),
    ):
        assert code != 0
        assert "only their controller may write them" in output


def test_after_the_squatter_the_volume_follows_and_the_name_is_protected(squatted: Worker) -> None:
    product = squatted.product
    product.kubectl("delete", "service", f"c-{NAME}", namespace=SHARED)
    own = f"@c-{NAME}.{SHARED}.svc.cluster.local:80"
    kubeconfig = volume_path(product.node, NAMESPACE, VICTIM) / "kubeconfig"
    eventually(lambda: own in kubeconfig.read_text())
    assert own in victim(squatted, "cat", "/connector/kubeconfig")
    # The name server may see the controller's Service later than the driver.
    proxy = product.kubectl.json("get", "service", "connectors-proxy", namespace=SYSTEM)["spec"]["clusterIP"]
    eventually(lambda: socket.gethostbyname(own.strip("@").removesuffix(":80")) == proxy)
    assert VICTIM in victim(squatted, *PODS)
    redirect = json.dumps({"spec": {"externalName": "listener.example"}})
    for command in (["delete", "service", f"c-{NAME}"], ["patch", "service", f"c-{NAME}", f"--patch={redirect}"]):
        code, output = as_squatter(product, *command)
        assert code != 0
        assert "only their controller may write them" in output
    assert VICTIM in victim(squatted, *PODS)
    listener = product.kubectl.run("exec", "listener", "--", "strings", "/tmp/caught", namespace=SHARED)
    assert "CONNECT" not in listener.stdout
