"""Stock kubectl through the proxy, on a real API server."""

import itertools
import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.process import complete_lines
from lab.waiting import wait_until
from tests.cluster.kube.served_connector import KubectlWatch
from tests.cluster.proxy.proxied_connector import ProxiedConnector
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT


def config_map(name: str, **data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def test_kubectl_is_the_target_service_account_without_its_token(proxied: ProxiedConnector) -> None:
    who = proxied.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert who == proxied.user
    kubeconfig = proxied.kubectl.kubeconfig.read_text()
    assert proxied.token not in kubeconfig
    assert "fake-token" in kubeconfig


def test_a_wrong_token_is_refused_in_a_readable_way(proxied: ProxiedConnector) -> None:
    wrong = proxied.proxy.kubectl(proxied.plane.kubectl, proxied.connector, token="wrong")
    result = wrong.run("get", "namespaces")
    assert result.returncode != 0
    assert "Proxy Authentication Required" in result.stderr
    assert "get a new kubeconfig, or use a rotating one" in result.stderr


def test_a_token_for_another_connector_and_a_missing_connector_look_alike(proxied: ProxiedConnector) -> None:
    other = {**proxied.connector, "metadata": {"name": "other", "namespace": "team-a"}}
    missing = proxied.proxy.kubectl(proxied.plane.kubectl, other).run("version")
    foreign = proxied.proxy.kubectl(proxied.plane.kubectl, other, token=proxied.proxy.token(proxied.key)).run("version")
    assert "Forbidden" in missing.stderr
    assert missing.stderr.splitlines()[-1:] == foreign.stderr.splitlines()[-1:]


def test_discovery_and_version_work(proxied: ProxiedConnector) -> None:
    assert "configmaps" in proxied.kubectl("api-resources", "-o", "name")
    assert json.loads(proxied.kubectl("version", "-o", "json"))["serverVersion"]["major"] == "1"


def test_lists_in_chunks(proxied: ProxiedConnector) -> None:
    listed = [json.loads(config_map(f"chunk-{number}")) for number in range(20)]
    proxied.kubectl(
        "create", "-f", "-", namespace=proxied.namespace,
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": listed}),
    )  # fmt: skip
    names = proxied.kubectl("get", "configmaps", "--chunk-size=7", "-o", "name", namespace=proxied.namespace)
    assert sum("chunk-" in name for name in names.splitlines()) == 20

    def has_both_queries() -> bool:
        lists = [each for each in proxied.proxy.audit() if each["verb"] == "list" and each["resource"] == "configmaps"]
        return {each["path"].partition("?")[2] for each in lists} >= {"limit", "continue&limit"}

    # Other tests of this proxy list ConfigMaps, too.
    wait_until(has_both_queries, "records of the first page and of a following one")


def test_applies_patches_and_deletes_a_large_object(proxied: ProxiedConnector) -> None:
    kubectl, namespace = proxied.kubectl, proxied.namespace
    large = config_map("large", text="x" * 900_000)
    kubectl("apply", "--server-side", "-f", "-", namespace=namespace, stdin=large)
    patch = ("patch", "configmap", "large", "--type=merge", "-p", '{"data":{"more":"1"}}')
    assert "patched" in kubectl(*patch, namespace=namespace)
    stored = kubectl.json("get", "configmap", "large", namespace=namespace)
    assert len(stored["data"]["text"]) == 900_000
    assert stored["data"]["more"] == "1"
    kubectl("delete", "configmap", "large", namespace=namespace)
    assert "NotFound" in kubectl.run("get", "configmap", "large", namespace=namespace).stderr


def test_a_watch_stays_quiet_past_every_timeout_and_still_sees_a_change(proxied: ProxiedConnector) -> None:
    command = proxied.kubectl.command("get", "configmaps", "--watch-only", "-o", "name", namespace=proxied.namespace)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=proxied.kubectl.environment
    ) as watch:
        try:
            wait_until(lambda: _active_watches(proxied), "the watch")
            _outlive_the_client_timeout(proxied.proxy.port)
            proxied.plane.kubectl("create", "configmap", "seen", namespace=proxied.namespace)
            assert watch.stdout is not None
            assert watch.stdout.readline().strip() == "configmap/seen"
        finally:
            watch.kill()
    wait_until(lambda: not _active_watches(proxied), "the watch to end")

    def streams() -> set[tuple[str, str]]:
        return {(e["verb"], e["resource"]) for e in proxied.proxy.audit() if e["event"] == "stream"}

    wait_until(lambda: ("watch", "configmaps") in streams(), "the stream's audit line")


def _active_watches(proxied: ProxiedConnector) -> bool:
    lines = proxied.proxy.admin("/metrics")[1].splitlines()
    return any(each.startswith("connector_streams_active{") and each.endswith(" 1.0") for each in lines)


def _outlive_the_client_timeout(port: int) -> None:
    """A silent client that connects after the watch is closed, so the timeout has passed for the watch too."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_TIMEOUT) as silent:
        assert silent.recv(1) == b""


REQUESTS = [
    ("GET", "/version"),
    ("GET", "/apis"),
    ("GET", "/api/v1"),
    ("GET", "/apis/apps/v1"),
    ("GET", "/openapi/v3"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/{ns}"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps?limit=5"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps?fieldSelector=metadata.name%3Done"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps?watch=1&timeoutSeconds=1"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps?watch=false"),
    ("GET", "/api/v1/watch/namespaces/{ns}/configmaps?timeoutSeconds=1"),
    ("GET", "/api/v1/namespaces/{ns}/configmaps/one"),
    ("HEAD", "/api/v1/namespaces/{ns}/configmaps/one"),
    ("POST", "/api/v1/namespaces/{ns}/configmaps"),
    ("PUT", "/api/v1/namespaces/{ns}/configmaps/one"),
    ("PATCH", "/api/v1/namespaces/{ns}/configmaps/one"),
    ("DELETE", "/api/v1/namespaces/{ns}/configmaps/one"),
    ("DELETE", "/api/v1/namespaces/{ns}/configmaps?labelSelector=a%3Db"),
    ("GET", "/api/v1/namespaces/{ns}/pods/p/log?follow=true"),
    ("POST", "/api/v1/namespaces/{ns}/pods/p/exec?command=ls"),
    ("GET", "/api/v1/namespaces/{ns}/services/s/proxy/some/path"),
    ("GET", "/apis/apps/v1/namespaces/{ns}/deployments/d/scale"),
    ("PUT", "/api/v1/namespaces/{ns}/finalize"),
    ("GET", "/api/v1/namespaces/{ns}/status"),
    ("POST", "/api/v1/namespaces/{ns}/serviceaccounts/default/token"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/view"),
    ("GET", "/healthz"),
    ("GET", "/api/v1/nodes/n/proxy/metrics"),
]


@pytest.mark.parametrize(
    ("number", "method", "path"),
    [pytest.param(number, *request, id=" ".join(request)) for number, request in enumerate(REQUESTS)],
)
def test_the_audit_line_agrees_with_the_api_servers_own(
    proxied: ProxiedConnector, number: int, method: str, path: str
) -> None:
    agent = f"agree/{number}."
    _send(proxied, method, path.format(ns=proxied.namespace), agent)
    theirs = wait_until(lambda: _event(proxied, agent), "the API server's audit event")
    ours = wait_until(lambda: [e for e in proxied.proxy.audit() if e["user_agent"] == agent], "our audit line")[0]
    reference = theirs.get("objectRef", {})
    assert {
        "verb": ours["verb"],
        "group": ours["group"],
        "resource": ours["resource"],
        "subresource": ours["subresource"],
        "namespace": ours["namespace"],
        "name": ours["name"],
        "status": ours["status"],
    } == {
        "verb": theirs["verb"],
        "group": reference.get("apiGroup", ""),
        "resource": reference.get("resource", ""),
        "subresource": reference.get("subresource", ""),
        "namespace": reference.get("namespace", ""),
        "name": reference.get("name", ""),
        "status": theirs["responseStatus"]["code"],
    }
    assert theirs["user"]["username"] == proxied.user


def test_the_api_servers_audit_log_names_the_callers_address_and_no_other_that_they_claim(
    proxied: ProxiedConnector,
) -> None:
    agent = "where/from."
    claimed = {"X-Forwarded-For": "192.0.2.66", "X-Real-IP": "192.0.2.67", "Forwarded": "for=192.0.2.68"}
    _send(proxied, "GET", "/version", agent, source="127.0.0.2", fields=claimed)
    theirs = wait_until(lambda: _event(proxied, agent), "the API server's audit event")
    assert theirs["sourceIPs"] == ["127.0.0.2", "127.0.0.1"]


def _send(
    proxied: ProxiedConnector,
    method: str,
    target: str,
    agent: str,
    *,
    source: str = "127.0.0.1",
    fields: Mapping[str, str] = {},
) -> None:
    connection = proxied.proxy.open_tunnel(proxied.key, proxied.plane.url, source=source)
    try:
        body = "{}" if method in ("POST", "PUT", "PATCH") else None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        connection.request(method, target, body=body, headers={"User-Agent": agent, "Content-Type": kind, **fields})
        connection.getresponse().read()
    finally:
        connection.close()


def _event(proxied: ProxiedConnector, agent: str) -> dict[str, Any] | None:
    for line in complete_lines(proxied.plane.audit_log):
        if agent in line:
            event: dict[str, Any] = json.loads(line)
            if event["stage"] == "ResponseComplete":
                return event
    return None


def test_a_lock_in_the_folder_closes_a_watch_and_is_lifted_with_its_file(
    proxied: ProxiedConnector, tmp_path: Path
) -> None:
    log = tmp_path / "watch.log"
    lock = {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "AccessLock",
        "metadata": {"name": "incident", "namespace": "team-a"},
        "spec": {"reason": "incident 7", "connector": {"names": ["k8s"]}},
    }
    with KubectlWatch(proxied.kubectl, "configmaps", namespace=proxied.namespace, log=log) as watching:
        names = (f"tick-{number}" for number in itertools.count())

        def sees_change() -> bool:
            proxied.plane.kubectl("create", "configmap", next(names), namespace=proxied.namespace)
            return watching.has_seen("configmap/tick-")

        wait_until(sees_change, "the watch to be open")
        proxied.proxy.write("lock.yaml", lock)
        try:
            watching.wait_for_end()
            assert "you are locked out of Connector team-a/k8s: incident 7" in proxied.kubectl.run("version").stderr
        finally:
            (proxied.proxy.manifests / "lock.yaml").unlink()
    wait_until(lambda: proxied.kubectl.run("version").returncode == 0, "the lock to be lifted")

    def reasons() -> list[str]:
        return [each["reason"] for each in proxied.proxy.audit() if each["event"] == "stream"]

    wait_until(lambda: "an AccessLock locks its caller out: incident 7" in reasons(), "the audit record")
