"""The driver under the real kubelet: everything that a pod's author, and an administrator, can see of it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
import yaml

from lab.node.csi_driver import (
    PLACEHOLDER_CA,
    TIMEOUT,
    TOKEN_SECONDS,
    CsiDriver,
    connector,
    eventually,
    pod,
    volume_path,
)
from lab.node.node import Node
from lab.rbac import wait_for_rbac

DRIVER_USER = "system:serviceaccount:connectors-csi:connectors-csi"
ATTRIBUTES = {"connector.name": "k8s", "configuration.names": "kubeconfig"}


@pytest.fixture(scope="module")
def waiting(node: Node, driver: CsiDriver) -> str:
    """The namespace of a pod whose token is renewed while other tests run; none of those restarts kubelet."""
    name = "csi-renewal"
    node.kubectl("create", "namespace", name)
    node.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=name)
    return prepare(node, name)


@pytest.fixture(scope="module")
def renewing(node: Node, waiting: str) -> str:
    """The token that it starts with."""
    node.api.apply(pod("renewing", node.box_image, ATTRIBUTES), namespace=waiting)
    node.wait_for_pod("renewing", waiting)
    return read(node, waiting, "renewing", "context.token")


@pytest.fixture
def ready(node: Node, node_namespace: str) -> str:
    """A namespace with Connectors that its default ServiceAccount may use."""
    return prepare(node, node_namespace)


def prepare(node: Node, namespace: str) -> str:
    node.api.apply(connector("k8s"), connector("other", address="https://other:443"), namespace=namespace)
    grant(node, namespace)
    return namespace


def grant(node: Node, namespace: str) -> None:
    account = f"--serviceaccount={namespace}:default"
    node.kubectl(
        "create", "rolebinding", "connectors-user", "--clusterrole=connectors-user", account, namespace=namespace
    )


def read(node: Node, namespace: str, name: str, file: str) -> str:
    """By the pod's own container; a kubelet that has just started does not know the pod yet."""
    return eventually(lambda: node.kubectl("exec", name, "--", "cat", f"/connector/{file}", namespace=namespace))


def read_when(
    node: Node, namespace: str, name: str, file: str, holds: Callable[[str], bool], *, timeout: float = TIMEOUT
) -> str:
    """Return the content that the pod reads once the condition holds."""
    path = volume_path(node, namespace, name) / file
    eventually(lambda: holds(path.read_text()), timeout=timeout)
    content = read(node, namespace, name, file)
    assert holds(content)
    return content


def event(node: Node, namespace: str, name: str, text: str) -> str:
    """The first event of the pod that holds the text."""

    def find() -> str:
        events = node.kubectl.json("get", "events", f"--field-selector=involvedObject.name={name}", namespace=namespace)
        return next((each["message"] for each in events["items"] if text in each["message"]), "")

    return eventually(find)


def record_of(driver: CsiDriver, target: Path) -> Path:
    """Return the driver's record of a volume. Those of other tests' pods may go meanwhile."""

    def names_target(path: Path) -> bool:
        try:
            return str(target) in path.read_text()
        except FileNotFoundError:
            return False

    [record] = filter(names_target, driver.records.glob("*.json"))
    return record


def is_mounted(path: Path) -> bool:
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


def test_after_a_restart_of_kubelet_a_new_token_replaces_the_old_in_the_same_mount(
    node: Node, driver: CsiDriver, ready: str
) -> None:
    node.api.apply(pod("kept", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("kept", ready)
    old = read(node, ready, "kept", "context.token")
    device = volume_path(node, ready, "kept").stat().st_dev
    node.restart_kubelet()
    new = read_when(node, ready, "kept", "context.token", lambda token: token != old)
    assert f":{new}@" in read(node, ready, "kept", "kubeconfig")
    assert volume_path(node, ready, "kept").stat().st_dev == device


def test_a_kubelet_that_starts_without_an_api_server_registers_the_driver_later(
    node: Node, driver: CsiDriver, ready: str
) -> None:
    node.control_plane.kill()
    node.kubelet.stop()
    node.kubelet.start()
    try:
        driver.process.wait_until(lambda: "kubelet rejected the driver" in driver.log.read_text(), timeout=TIMEOUT)
    finally:
        node.control_plane.start_apiserver()
    node.api.apply(pod("after", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("after", ready)
    assert driver.process.is_running


def test_after_revocation_the_old_content_stays_and_an_event_says_so(node: Node, driver: CsiDriver, ready: str) -> None:
    node.api.apply(pod("revoked", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("revoked", ready)
    content = read(node, ready, "revoked", "kubeconfig")
    node.kubectl("delete", "rolebinding", "connectors-user", namespace=ready)
    wait_for_rbac(node.api)
    node.restart_kubelet()
    assert "kubectl create rolebinding" in event(node, ready, "revoked", "old content is kept")
    assert read(node, ready, "revoked", "kubeconfig") == content
    assert "kubectl create rolebinding" in read(node, ready, "revoked", ".error.json")


def test_deleting_one_of_several_connectors_keeps_the_others(node: Node, driver: CsiDriver, ready: str) -> None:
    attributes = {"connectors": "k8s,other", "configuration.names": "kubeconfig"}
    node.api.apply(pod("several", node.box_image, attributes), namespace=ready)
    node.wait_for_pod("several", ready)
    node.kubectl("delete", "connector", "other", namespace=ready)
    node.api.apply(connector("k8s", address="https://moved:6443"), namespace=ready)
    read_when(node, ready, "several", "kubeconfig", lambda config: "https://moved:6443" in config)
    assert "https://other:443" in read(node, ready, "several", "kubeconfig")
    [problem] = json.loads(read(node, ready, "several", ".error.json"))["problems"]
    assert problem["connector"] == f"{ready}/other"
    event(node, ready, "several", f"Connector {ready}/other keeps what it had")
    node.api.apply(connector("other", address="https://back:443"), namespace=ready)
    read_when(node, ready, "several", "kubeconfig", lambda config: "https://back:443" in config)
    # The driver removes the link to the file after the new content is in effect.
    ls = ("exec", "several", "--", "ls", "-A", "/connector")
    eventually(lambda: ".error.json" not in node.kubectl(*ls, namespace=ready))


def test_records_of_an_older_release_are_read(node: Node, driver: CsiDriver, ready: str) -> None:
    node.api.apply(pod("older", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("older", ready)
    target = volume_path(node, ready, "older")
    record = record_of(driver, target)
    driver.process.kill()
    old = json.loads(record.read_text())
    record.write_text(json.dumps({"volume_id": old["volume_id"], "target": old["target"], "digest": "of its own kind"}))
    driver.start()
    node.api.apply(connector("k8s", address="https://moved:6443"), namespace=ready)
    read_when(node, ready, "older", "kubeconfig", lambda config: "https://moved:6443" in config)
    assert is_mounted(target)


def test_a_token_lives_as_long_as_the_driver_object_says(renewing: str) -> None:
    """Here begins the wait of the last test."""
    claims = jwt.decode(renewing, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == TOKEN_SECONDS


@pytest.mark.parametrize(
    ("security", "mode"),
    [pytest.param({}, 0o444, id="without fsGroup"), pytest.param({"fsGroup": 4242}, 0o440, id="with fsGroup")],
)
def test_a_container_that_is_not_root_reads_its_kubeconfig(
    node: Node, driver: CsiDriver, ready: str, security: dict[str, int], mode: int
) -> None:
    node.api.apply(pod("web", node.box_image, ATTRIBUTES, security=security), namespace=ready)
    node.wait_for_pod("web", ready)
    config = yaml.safe_load(
        node.kubectl("exec", "web", "--", "kubectl", "config", "view", "--raw", "-o", "json", namespace=ready)
    )
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://192.168.1.100:6443"
    token = read(node, ready, "web", "context.token")
    # There is no controller here: no Service of the Connector's that could be its own.
    proxy = "connectors-proxy.connectors-system.svc.cluster.local"
    assert cluster["proxy-url"] == f"http://{ready}%2Fk8s:{token}@{proxy}:80"
    assert config["current-context"] == "k8s"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["kubernetes.io"]["pod"]["name"]) == (["connectors-proxy"], "web")
    assert read(node, ready, "web", "ca.crt") == PLACEHOLDER_CA
    status = (volume_path(node, ready, "web") / "kubeconfig").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (mode, security.get("fsGroup", 0))
    options = next(
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(volume_path(node, ready, "web")) in line
    )
    assert all(flag in options for flag in ("nosuid", "nodev", "noexec", "tmpfs", "size=2048k"))


def test_several_connectors_the_rotating_form_and_a_file_left_out(node: Node, driver: CsiDriver, ready: str) -> None:
    attributes = {
        "connectors": f"other,{ready}/k8s",
        "connector.namespace": "",
        "configuration.names": "kubeconfig,kubeconfig-rotating,!.env",
        "token.expiration": "60m",
    }
    node.api.apply(pod("several", node.box_image, attributes), namespace=ready)
    node.wait_for_pod("several", ready)
    names = node.kubectl("exec", "several", "--", "ls", "-A", "/connector", namespace=ready).split()
    assert ".env" not in names
    assert "https.proxy" in names
    config = yaml.safe_load(read(node, ready, "several", "kubeconfig"))
    assert [each["name"] for each in config["contexts"]] == [f"{ready}/other", f"{ready}/k8s"]
    rotating = yaml.safe_load(read(node, ready, "several", "kubeconfig-rotating"))
    assert rotating["users"][0]["user"] == {"tokenFile": "context.token"}
    assert "600s" in event(node, ready, "several", "token.expiration")


def test_a_pod_without_the_right_waits_and_its_event_says_how_to_grant_it(
    node: Node, driver: CsiDriver, node_namespace: str
) -> None:
    node.api.apply(connector("k8s"), namespace=node_namespace)
    node.api.apply(pod("denied", node.box_image, ATTRIBUTES), namespace=node_namespace)
    message = event(node, node_namespace, "denied", "PermissionDenied")
    command = message[message.index("kubectl create rolebinding") :].split()
    assert f"--serviceaccount={node_namespace}:default" in command
    node.kubectl(*command[1:])
    node.wait_for_pod("denied", node_namespace)


def test_a_gated_volume_asks_waits_and_mounts_after_the_decision(
    node: Node, driver: CsiDriver, node_namespace: str
) -> None:
    """There is no controller here: the test writes the status of the requests."""
    node.api.apply(connector("k8s"), namespace=node_namespace)
    account = f"--serviceaccount={node_namespace}:default"
    node.kubectl("create", "rolebinding", "r", "--clusterrole=connectors-requester", account, namespace=node_namespace)
    for name in ("approved", "denied"):
        node.api.apply(pod(name, node.box_image, ATTRIBUTES), namespace=node_namespace)
    for name, status, reason in (("approved", "True", "Approved"), ("denied", "False", "Denied")):
        message = event(node, node_namespace, name, "connectorctl approve")
        assert '"k8s" in namespace' in message
        request = message.partition(f"connectorctl approve {node_namespace}/")[2].partition(";")[0]
        spec = node.kubectl.json("get", "accessrequest", request, namespace=node_namespace)["spec"]
        assert (spec["requester"], spec["context"]["mount"]["nodeName"]) == (DRIVER_USER, "node")
        condition = {"type": "Ready", "status": status, "reason": reason, "message": f"{reason} by joe"}
        condition |= {"lastTransitionTime": "2026-01-02T00:00:00Z"}
        patch = json.dumps({"status": {"conditions": [condition]}})
        words = ("patch", "accessrequest", request, "--subresource=status", "--type=merge", f"--patch={patch}")
        node.kubectl(*words, namespace=node_namespace)
    for name in ("approved", "denied"):
        node.wait_for_pod(name, node_namespace)
    assert read(node, node_namespace, "approved", "context.token")
    assert node.kubectl("exec", "denied", "--", "ls", "/connector", namespace=node_namespace) == ""
    assert "Denied by joe" in read(node, node_namespace, "denied", ".error.json")


@pytest.mark.parametrize(
    ("attributes", "read_only", "messages"),
    [
        pytest.param({"conector.name": "k8s"}, True, ["'conector.name'", "connector.name: is missing"], id="a typo"),
        pytest.param(ATTRIBUTES, False, ["csi.readOnly: true"], id="writable"),
        pytest.param({"connector.name": "absent"}, True, ['"absent"', "does not exist, or"], id="no such Connector"),
    ],
)
def test_a_mistake_is_in_the_events_of_the_pod(
    node: Node, driver: CsiDriver, ready: str, attributes: dict[str, str], read_only: bool, messages: list[str]
) -> None:
    node.api.apply(pod("wrong", node.box_image, attributes, read_only=read_only), namespace=ready)
    for message in messages:
        event(node, ready, "wrong", message)
    assert not is_mounted(volume_path(node, ready, "wrong"))


def test_a_new_ca_and_a_new_address_reach_a_pod_that_runs(node: Node, driver: CsiDriver, ready: str) -> None:
    node.api.apply(pod("long", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("long", ready)
    node.api.apply(connector("k8s", address="https://moved:6443"), namespace=ready)
    driver.set_ca(PLACEHOLDER_CA + PLACEHOLDER_CA)
    read_when(node, ready, "long", "kubeconfig", lambda config: "https://moved:6443" in config)
    read_when(node, ready, "long", "ca.crt", lambda ca: ca == PLACEHOLDER_CA + PLACEHOLDER_CA)


def test_deleting_a_pod_leaves_nothing(node: Node, driver: CsiDriver, ready: str) -> None:
    node.api.apply(pod("gone", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("gone", ready)
    target = volume_path(node, ready, "gone")
    assert is_mounted(target)
    record = record_of(driver, target)
    node.kubectl("delete", "pod", "gone", "--wait=false", namespace=ready)
    eventually(lambda: not record.exists() and not target.exists())
    assert not is_mounted(target)


def test_a_killed_driver_restarts_and_continues(node: Node, driver: CsiDriver, ready: str) -> None:
    for name in ("stays", "ends"):
        node.api.apply(pod(name, node.box_image, ATTRIBUTES), namespace=ready)
    for name in ("stays", "ends"):
        node.wait_for_pod(name, ready)
    content, ending_volume = read(node, ready, "stays", "kubeconfig"), volume_path(node, ready, "ends")
    driver.process.kill()
    node.kubectl("delete", "pod", "ends", "--wait=false", namespace=ready)
    node.api.apply(pod("late", node.box_image, ATTRIBUTES), namespace=ready)
    assert read(node, ready, "stays", "kubeconfig") == content
    driver.start()
    node.wait_for_pod("late", ready)
    eventually(lambda: not ending_volume.exists())
    node.api.apply(connector("k8s", address="https://moved:6443"), namespace=ready)
    read_when(node, ready, "stays", "kubeconfig", lambda config: "https://moved:6443" in config)


def test_the_node_names_the_driver(node: Node, driver: CsiDriver) -> None:
    def drivers() -> list[tuple[str, str]]:
        drivers = node.kubectl.json("get", "csinode", "node")["spec"]["drivers"]
        return [(each["name"], each["nodeID"]) for each in drivers]

    # kubelet removes the driver and adds it again when its socket has been replaced.
    assert eventually(drivers) == [("connectors-csi", "node")]


@pytest.mark.timeout(1800)
def test_kubelet_renews_a_token_in_time(node: Node, driver: CsiDriver, waiting: str, renewing: str) -> None:
    """Late: by now a part of the time has passed. kubelet renews at 80 % of the lifetime (token_manager.go)."""
    new = read_when(node, waiting, "renewing", "context.token", lambda token: token != renewing, timeout=900)
    old, fresh = (jwt.decode(each, options={"verify_signature": False}) for each in (renewing, new))
    assert 0.7 * TOKEN_SECONDS < fresh["iat"] - old["iat"] < TOKEN_SECONDS
    assert f":{new}@" in read(node, waiting, "renewing", "kubeconfig")
    for token in (renewing, new):
        assert token not in driver.log.read_text()
    assert new.split(".")[2] not in node.kubectl("get", "events", "--all-namespaces", "-o", "json")
    assert (driver.root / "csi.sock").stat().st_mode & 0o077 == 0


def test_after_a_reboot_the_volume_of_a_pod_is_there_again(node: Node, driver: CsiDriver, ready: str) -> None:
    """A reboot removes processes and mounts. kubelet's folder and the driver's records stay. The test runs after the
    renewal, because a kubelet that starts asks for new tokens at once."""
    node.api.apply(pod("rebooted", node.box_image, ATTRIBUTES), namespace=ready)
    node.wait_for_pod("rebooted", ready)
    target, old = volume_path(node, ready, "rebooted"), read(node, ready, "rebooted", "context.token")
    driver.process.kill()
    node.kubelet.stop()
    path = "jsonpath={.status.containerStatuses[0].containerID}"
    container = node.kubectl("get", "pod", "rebooted", "-o", path, namespace=ready).removeprefix("containerd://")
    killed = node.ctr("tasks", "kill", "--signal", "SIGKILL", container)
    assert killed.returncode == 0, killed.stderr
    subprocess.run(["umount", target], check=True)
    assert not is_mounted(target)
    node.restart_kubelet()
    driver.start()
    eventually(lambda: restarts(node, ready, "rebooted") == "1")
    node.wait_for_pod("rebooted", ready)
    assert is_mounted(target)
    assert read(node, ready, "rebooted", "context.token") != old
    node.kubectl("delete", "pod", "rebooted", "--wait=false", namespace=ready)
    eventually(lambda: not target.exists())
    assert not is_mounted(target)


def restarts(node: Node, namespace: str, name: str) -> str:
    path = "jsonpath={.status.containerStatuses[0].restartCount}"
    return node.kubectl("get", "pod", name, "-o", path, namespace=namespace)
