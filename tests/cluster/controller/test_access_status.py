"""Access requests on a real API server, by the commands of connectorctl: asked, decided, shown, locked out.

The controller has its shipped rights, and the admission policies are in force. `jane` asks and `joe` approves. They
have the shipped roles. The administrator owns the namespace.
"""

import json
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP, TASKS_ENFORCED_SINCE, parse_enforced_since
from connectorctl import cli
from connectorctl.commands import request as request_command
from connectorctl.commands import requests as requests_command
from connectorctl.complete import complete_access_objects
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from lab.control_plane import ControlPlane
from lab.controller import API_PATH, ROOT, SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.kubectl import certificate_user
from lab.rbac import wait_for_rbac
from lab.waiting import TIMEOUT, wait_until
from lab.wall_clock import WallClock, find_libfaketime, remove_shared_memory
from tests.cluster.controller.approval_run import (
    ApprovalRun,
    install_component,
    install_gate,
    install_tekton,
    policy_of_the_page,
    tasks_path,
)
from tests.connectorctl.cli_result import CliResult

GROUP = "connectors.alauda.io/v1alpha1"
REQUESTS = "accessrequests.connectors.alauda.io"
HOUR = 3600
Json = dict[str, Any]


class Person:
    """User with a client certificate, at a terminal with connectorctl."""

    def __init__(self, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.kubeconfig = str(kubeconfig)
        self._capsys = capsys

    def run(self, *words: str) -> CliResult:
        code = cli.run([*words, "--kubeconfig", self.kubeconfig], is_plugin=False)
        return CliResult(code, *self._capsys.readouterr())

    @contextmanager
    def waiting(self, *words: str) -> Iterator[Future[int]]:
        """Run a command that waits, in another thread. Yield its exit code. The next `run` reads its output, too."""
        with ThreadPoolExecutor(1) as executor:
            yield executor.submit(cli.run, [*words, "--kubeconfig", self.kubeconfig], is_plugin=False)

    def wait_for_error(self, text: str) -> str:
        """Return what was printed to stderr when it contains `text`."""
        printed: list[str] = []

        def has_text() -> bool:
            printed.append(self._capsys.readouterr().err)
            return text in "".join(printed)

        wait_until(has_text, text)
        return "".join(printed)

    def complete(self, plural: str, namespace: str | None) -> list[str]:
        """Return the names that the shell completes after `NAMESPACE/`, or after nothing."""
        options = SourceOptions(source="kubernetes", kubeconfig=self.kubeconfig)
        return complete_access_objects(plural, namespace, options, Invocation())


@pytest.fixture(scope="module")
def world(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorCluster]:
    with ControlPlane(tmp_path_factory.mktemp("access-status"), programs=cluster_programs) as plane:
        world = ConnectorCluster(plane)
        world.install_access_policies()
        yield world


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WallClock]:
    """Wall clock of the controller."""
    library = find_libfaketime()
    if library is None:
        pytest.skip("libfaketime is not installed; install it with: scripts/install --node")
    yield WallClock(library, tmp_path_factory.mktemp("clock") / "wall-clock")
    remove_shared_memory()


@pytest.fixture(scope="module")
def controller(world: ConnectorCluster, wrong_clock: WallClock) -> Iterator[Controller]:
    """A controller whose clock is an hour ahead when it proves that the admission policies are in force."""
    started_at = time.time()
    wrong_clock.move(HOUR)
    running = Controller(world.plane, wrong_clock.environment).start()
    since = wait_until(lambda: enforced_since(world), "the proof of admission")
    assert started_at <= since <= time.time() + 3
    yield running
    running.close()


@pytest.fixture
def admin(world: ConnectorCluster, capsys: pytest.CaptureFixture[str]) -> Person:
    return Person(world.plane.kubeconfig, capsys)


@pytest.fixture
def jane(world: ConnectorCluster, capsys: pytest.CaptureFixture[str]) -> Person:
    return make_person(world, capsys, "jane")


@pytest.fixture
def joe(world: ConnectorCluster, capsys: pytest.CaptureFixture[str]) -> Person:
    return make_person(world, capsys, "joe")


def make_person(world: ConnectorCluster, capsys: pytest.CaptureFixture[str], name: str) -> Person:
    user = certificate_user(*world.plane.ca.issue(name, common_name=name))
    return Person(world.plane.write_kubeconfig(f"{name}.kubeconfig", user), capsys)


def bind(world: ConnectorCluster, namespace: str, role: str, user: str) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{role}-{user}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    world.api.apply(binding, namespace=namespace)
    wait_for_rbac(world.api)


def path(kind: str, namespace: str) -> str:
    plural = kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")
    return f"{API_PATH}/namespaces/{namespace}/{plural}"


def manifest(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec}


def get(world: ConnectorCluster, kind: str, key: str) -> Json:
    namespace, _, name = key.partition("/")
    document: Json = world.api.call("GET", f"{path(kind, namespace)}/{name}")
    return document


def reason(world: ConnectorCluster, kind: str, key: str) -> str:
    conditions = get(world, kind, key).get("status", {}).get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


def wait_for_reason(world: ConnectorCluster, kind: str, key: str, expected: str) -> None:
    wait_until(lambda: reason(world, kind, key) == expected, f"{kind} {key} with the reason {expected}")


def ask(person: Person, connector: str, *words: str) -> str:
    """Ask for a Connector. Return NAMESPACE/NAME of the request."""
    result = person.run("request", connector, "--reason", "INC-7", *words)
    assert result.code == 0, result.err
    prefix, key, last = result.out.split()
    assert (prefix, last) == (REQUESTS, "created")
    return key


def enforced_since(world: ConnectorCluster) -> float | None:
    where = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{ADMISSION_CONFIG_MAP}"
    response = world.api.request("GET", where)
    return parse_enforced_since(response.json()) if response.status == 200 else None


@pytest.fixture
def team(world: ConnectorCluster, controller: Controller, namespace: str, jane: Person, joe: Person) -> str:
    """A namespace with the Connector `k8s`, its policy, and the roles of its people. New requests count."""
    world.put_connector(namespace, address="https://192.0.2.1")
    refused = jane.run("request", f"{namespace}/k8s", "--reason", "INC-7")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f'Error from server (Forbidden): {REQUESTS} is forbidden: User "jane" cannot create')
    bind(world, namespace, "connectors-requester", "jane")
    bind(world, namespace, "connectors-approver", "joe")
    policy = manifest("AccessPolicy", "on-call", {"approval": {"maxDuration": "2h"}})
    world.api.call("POST", path("AccessPolicy", namespace), policy)

    def counts() -> bool:
        """Return True if a new request is younger than the proof of admission."""
        key = ask(jane, f"{namespace}/k8s")
        wait_until(lambda: reason(world, "AccessRequest", key), "the status")
        is_pending = reason(world, "AccessRequest", key) == "Pending"
        assert jane.run("cancel", key) == (0, f"{REQUESTS} {key} deleted\n", "")
        return is_pending

    wait_until(counts, "a request that counts")
    return namespace


def test_a_request_is_asked_approved_shown_and_cancelled(
    world: ConnectorCluster,
    controller: Controller,
    team: str,
    jane: Person,
    joe: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_command, "WAIT_INTERVAL", 0.1)
    with jane.waiting("request", f"{team}/k8s", "--for", "1h", "--reason", "INC-7", "--wait") as exit_code:
        (key,) = wait_until(lambda: joe.complete("accessrequests", team), "the request")
        wait_for_reason(world, "AccessRequest", key, "Pending")
        # The request of `team` that was cancelled counts until the controller has seen its end.
        metric = 'connector_controller_access_requests{state="pending"}'
        wait_until(lambda: controller.read_metric(metric) == 1, "one pending request")
        hint = f"next: another user approves it: connectorctl approve {key}\n"
        assert jane.wait_for_error(hint).startswith(hint)
        own = jane.run("approve", key)
        assert (own.code, own.out) == (1, "")
        assert own.err.endswith(f"ask another user, or delete the request: connectorctl cancel {key}\n")

        def approve_and_interrupt(_: float) -> None:
            if reason(world, "AccessRequest", key) == "Approved":
                raise KeyboardInterrupt
            assert cli.run(["approve", key, "--comment", "go on", "--kubeconfig", joe.kubeconfig], is_plugin=False) == 0
            wait_for_reason(world, "AccessRequest", key, "Approved")
            assert exit_code.result(TIMEOUT) == 0

        monkeypatch.setattr(requests_command, "time", SimpleNamespace(sleep=approve_and_interrupt))
        watched = joe.run("requests", "-n", team, "--watch")
    assert watched.code == cli.EXIT_INTERRUPTED
    assert f"jane asked for {team}/k8s for 1h: INC-7\n" in watched.err
    rows = [line.split()[:5] for line in watched.out.splitlines() if line.startswith(f"{team}/")]
    assert rows == [[key, "jane", "k8s", "1h", state] for state in ("Pending", "Approved")]
    assert f"{REQUESTS} {key} approved\n" in watched.out
    assert f"{REQUESTS} {key} Approved\n" in watched.out
    request = get(world, "AccessRequest", key)
    status = request["status"]
    assert status["approvedBy"] == ["joe"]
    assert status["startTime"] < status["expirationTime"]
    header, row = jane.run("requests", "-n", team).out.splitlines()
    assert header.split("  ")[0] == "REQUEST"
    assert row.split() == [key, "jane", "k8s", "1h", "Approved", status["expirationTime"], "joe", "INC-7"]
    (item,) = json.loads(jane.run("requests", "-n", team, "-o", "json").out)["items"]
    assert (item["state"], item["is_ready"], item["until"]) == ("Approved", True, status["expirationTime"])
    everywhere = joe.run("requests")
    assert (everywhere.code, everywhere.out) == (1, "")
    assert everywhere.err.endswith("name a namespace with -n\n")
    (approval,) = world.api.call("GET", path("AccessApproval", team))["items"]
    (owner,) = approval["metadata"]["ownerReferences"]
    assert (owner["name"], owner["uid"]) == (request["metadata"]["name"], request["metadata"]["uid"])
    events = f"/apis/events.k8s.io/v1/namespaces/{team}/events"
    wait_until(
        lambda: any(each["reason"] == "Approved" for each in world.api.call("GET", events)["items"]), "the event"
    )
    # An approval stays valid when its approver loses the right later.
    world.delete(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team}/rolebindings/connectors-approver-joe")
    wait_until(lambda: joe.run("approve", key).code == 1, "the loss of the right")
    assert reason(world, "AccessRequest", key) == "Approved"
    assert jane.run("cancel", key) == (0, f"{REQUESTS} {key} deleted\n", "")
    assert jane.run("cancel", key).code == 1
    wait_until(lambda: controller.read_metric('connector_controller_access_requests{state="approved"}') == 0, "none")


def test_the_state_follows_the_clock_of_the_api_server(
    world: ConnectorCluster, team: str, jane: Person, joe: Person, wrong_clock: WallClock
) -> None:
    for offset, duration, state in ((HOUR, "1h", "Approved"), (-HOUR, "1s", "Ended")):
        wrong_clock.move(offset)
        key = ask(jane, f"{team}/k8s", "--for", duration)
        assert joe.run("approve", key).code == 0
        wait_for_reason(world, "AccessRequest", key, state)


def test_a_request_is_denied(
    world: ConnectorCluster, team: str, jane: Person, joe: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_command, "WAIT_INTERVAL", 0.1)
    checks = {"checkGrantedPermission": {"spec": {"checks": [{"name": "own"}]}}}
    world.api.call("POST", path("AccessPolicy", team), manifest("AccessPolicy", "checked", checks))
    wait_for_reason(world, "AccessPolicy", f"{team}/checked", "PolicyNotSupported")
    with jane.waiting("request", f"{team}/k8s", "--reason", "INC-8", "--wait", "-o", "json") as exit_code:
        (key,) = wait_until(lambda: joe.complete("accessrequests", team), "the request")
        jane.wait_for_error(f"connectorctl approve {key}\n")
        assert cli.run(["deny", key, "--kubeconfig", joe.kubeconfig], is_plugin=False) == 0
        assert exit_code.result(TIMEOUT) == 1
    wait_for_reason(world, "AccessRequest", key, "Denied")
    cancelled = jane.run("cancel", key)
    assert cancelled.code == 0
    assert f"{REQUESTS} {key} denied\n" in cancelled.out
    assert cancelled.err.startswith("jane asked for")


def test_the_example_of_the_page_works(world: ConnectorCluster, team: str, jane: Person, joe: Person) -> None:
    example = (ROOT / "docs/access-requests.md").read_text().partition("## Example")[2].partition("\n## ")[0]
    policy, request, approval = (yaml.safe_load(each) for each in re.findall("```yaml\n(.*?)```", example, re.S))
    lines = [line.strip() for line in example.splitlines() if line.startswith("    ")]
    namespace = world.plane.create_namespace("team-a")
    world.put_connector(namespace, "prod", address="https://192.0.2.1")
    for line in lines:
        if line.startswith("kubectl "):
            world.plane.kubectl(*shlex.split(line)[1:])
    wait_for_rbac(world.api)

    def create(manifest: Json, user: str = "") -> Json:
        response = world.api.request("POST", path(manifest["kind"], namespace), manifest, user=user)
        assert response.status == 201, response
        created: Json = response.json()
        return created

    for reference, created in (("policyRef", create(policy)), ("requestRef", create(request, "jane"))):
        assert approval["spec"][reference]["name"] == created["metadata"]["name"]
        approval["spec"][reference]["uid"] = created["metadata"]["uid"]
    create(approval, "joe")
    wait_for_reason(world, "AccessRequest", f"{namespace}/{request['metadata']['name']}", "Approved")
    key = ""
    for line in lines:
        if line.startswith("connectorctl "):
            command, _, name = line.partition("#")
            words = [key if "5f1c22aa" in word else word for word in shlex.split(command)[1:]]
            result = (jane if "Jane" in name else joe).run(*words)
            assert result.code == 0, result.err
            key = key or result.out.split()[1]
            assert key in result.out
    wait_for_reason(world, "AccessRequest", key, "Approved")


def test_callers_are_locked_out_and_let_in(world: ConnectorCluster, team: str, jane: Person, admin: Person) -> None:
    refused = jane.run("lock", f"{team}/k8s", "--reason", "x", "--user", "joe")
    assert (refused.code, refused.out) == (1, "")
    assert "cannot create resource" in refused.err
    one = admin.run("lock", f"{team}/k8s", "--user", "jane", "--for", "1h", "--reason", "stolen laptop")
    every = admin.run("lock", "--all", "--user", "jane", "--reason", "stolen laptop", "-o", "json")
    assert (one.code, every.code) == (0, 0), (one.err, every.err)
    names = [one.out.split()[1], f"{SYSTEM_NAMESPACE}/{json.loads(every.out)['metadata']['name']}"]
    # A completion without a response of the API server has no names.
    wait_until(lambda: sorted(admin.complete("accesslocks", None)) == sorted(names), "both locks")
    for name in names:
        assert jane.run("unlock", name).code == 1
        assert admin.run("unlock", name) == (0, f"accesslocks.connectors.alauda.io {name} deleted\n", "")
    assert admin.run("unlock", names[0]).code == 1


def test_the_request_of_a_volume_gets_the_uid_of_its_pod_and_goes_with_it(world: ConnectorCluster, team: str) -> None:
    pod_uid = create_pod(world, team, "build-1", node="node-1")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = world.api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    for name, node in (("mount", "node-1"), ("forged", "node-2")):
        spec = {
            "requester": answer["status"]["userInfo"]["username"],
            "subject": {"kind": "ServiceAccount", "namespace": team, "name": "builder"},
            "connectorRef": {"name": "k8s"},
            "context": {
                "objectRef": {"kind": "Pod", "namespace": team, "name": "build-1"},
                "mount": {"nodeName": node, "podUID": pod_uid},
            },
        }
        world.api.call("POST", path("AccessRequest", team), manifest("AccessRequest", name, spec))
    wait_for_reason(world, "AccessRequest", f"{team}/mount", "Pending")
    assert get(world, "AccessRequest", f"{team}/mount")["spec"]["context"]["objectRef"]["uid"] == pod_uid
    wait_for_reason(world, "AccessRequest", f"{team}/forged", "PodNotSet")
    world.api.call("DELETE", f"/api/v1/namespaces/{team}/pods/build-1?gracePeriodSeconds=0")
    wait_until(lambda: not world.api.call("GET", path("AccessRequest", team))["items"], "the requests to be deleted")


def create_pod(world: ConnectorCluster, namespace: str, name: str, *, node: str) -> str:
    """Create a pod of the account `builder` that is scheduled to a node. Return its UID."""
    world.plane.create_service_account(namespace, "builder")
    spec = {"serviceAccountName": "builder", "nodeName": node, "containers": [{"name": "c", "image": "none"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    uid: str = world.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)["metadata"]["uid"]
    return uid


def admission(world: ConnectorCluster) -> Json:
    where = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{ADMISSION_CONFIG_MAP}"
    data: Json = world.api.call("GET", where).get("data") or {}
    return data


def test_an_approval_task_of_the_pods_pipeline_run_decides(world: ConnectorCluster, team: str) -> None:
    api = world.api
    install_gate(world.plane)
    install_tekton(world.plane)
    world.plane.create_service_account(team, "builder")
    runs = {"older": ApprovalRun(api, team, "older")}
    runs["older"].answer("joe")
    install_component(world.plane)
    policy = policy_of_the_page(team)
    api.call("POST", path("AccessPolicy", team), policy)
    since = wait_until(lambda: admission(world).get(TASKS_ENFORCED_SINCE), "the proof for ApprovalTasks")
    wait_for_reason(world, "AccessPolicy", f"{team}/{policy['metadata']['name']}", "AsExpected")
    # Times of objects have no fraction.
    wait_until(lambda: format_time(datetime.now(UTC)) >= since, "the time of the proof")
    for name in ("pending", "label", "ended", "earlier-run", "not-named", "rejected", "good"):
        runs[name] = ApprovalRun(api, team, name, approvers=("joe", "bob"))
    ApprovalRun(api, world.create_namespace(), "pending").answer("joe")
    for name in ("label", "ended", "earlier-run"):
        runs[name].answer("joe")
    runs["not-named"].answer("bob")
    runs["rejected"].answer("joe", "reject", message="not on a Friday")
    runs["ended"].set_status("pipelineruns", completionTime="2026-01-01T00:00:00Z")
    runs["earlier-run"].replace_pipeline_run()

    def ask_for(name: str) -> None:
        reference = runs[name].create_pod(is_owned=name != "label")
        spec = {
            "requester": requester,
            "subject": {"kind": "ServiceAccount", "namespace": team, "name": "builder"},
            "connectorRef": {"name": "k8s"},
            "context": {"objectRef": reference},
        }
        api.call("POST", path("AccessRequest", team), manifest("AccessRequest", name, spec))

    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    requester = answer["status"]["userInfo"]["username"]
    for name in runs:
        ask_for(name)
    wait_for_reason(world, "AccessRequest", f"{team}/good", "Pending")
    # The watch of ApprovalTasks tells the controller of the answer.
    runs["good"].answer("joe", message="go on")
    wait_for_reason(world, "AccessRequest", f"{team}/good", "Approved")
    wait_for_reason(world, "AccessRequest", f"{team}/rejected", "Denied")
    for name in runs.keys() - {"good", "rejected"}:
        wait_for_reason(world, "AccessRequest", f"{team}/{name}", "Pending")
    approvals = {each["spec"]["requestRef"]["name"]: each["spec"] for each in list_approvals(world, team)}
    assert approvals.keys() == {"good", "rejected"}
    task = api.call("GET", tasks_path(team, "good"))["metadata"]
    assert approvals["good"]["taskRef"] == {"namespace": team, "name": "good", "uid": task["uid"]}
    assert (approvals["good"]["by"], approvals["good"]["comment"]) == ("joe", "go on")
    assert (approvals["rejected"]["decision"], approvals["rejected"]["comment"]) == ("Denied", "not on a Friday")
    # Deleting the approval ends the access, and the ApprovalTask does not approve again.
    api.call("DELETE", f"{path('AccessApproval', team)}?labelSelector=")
    wait_for_reason(world, "AccessRequest", f"{team}/good", "Pending")
    runs["pending"].answer("joe")
    wait_for_reason(world, "AccessRequest", f"{team}/pending", "Approved")
    assert [each["spec"]["requestRef"]["name"] for each in list_approvals(world, team)] == ["pending"]


def list_approvals(world: ConnectorCluster, namespace: str) -> list[Json]:
    items: list[Json] = world.api.call("GET", path("AccessApproval", namespace))["items"]
    return items
