"""A proxy of the former release next to one of this tree, on one cluster: what docs/upgrade.md says about both.

At each release, scripts/former names another commit, whose proxy supports more. Change this test and the pages then.
It is in the stage `node`, which runs scripts/former.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.kube.installation import account_subject, connector, grant_use, secret
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy
from tests.cluster.kube.test_access_requests import Scene, set_enforced_since
from tests.cluster.proxy.running_proxy import ROOT, RunningProxy

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800)]

FORMER = ROOT / "build" / "former"
READ = ("get", "secret", "canary", "-o", "jsonpath={.data.password}")
VALUE = "aHVudGVy"
"""The canary in base64."""
WRITE = ("create", "configmap")
"""The name is that of the Connector."""
RESTRICTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "allow": ({"permissions": {"allow": [{"clusterRole": "view"}]}}, READ, "does not allow"),
    "deny": ({"permissions": {"deny": [{"clusterRole": "connectors-credentials-secrets"}]}}, READ, "does not allow"),
    "mask": ({"permissions": {"mask": [{"resources": ["secrets"]}]}}, READ, "bWFza2Vk"),
    "dry-run": ({"permissions": {"dryRun": True}}, WRITE, "allows dry runs only"),
    "limits": ({"limits": {"writesPerMinute": 0}}, WRITE, "writesPerMinute"),
    "impersonate": ({"impersonate": {"userPrefix": "c:", "groupPrefix": "c:"}}, READ, "cannot impersonate"),
}
"""Fields of a Connector, a command, and part of its output at the new proxy."""


@pytest.fixture(scope="module")
def former_proxy(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    if not (FORMER / "addons").exists():
        pytest.skip(f"no {FORMER}; run: scripts/former")
    home = tmp_path_factory.mktemp("former-proxy")
    # No test takes a right away. So a slow API server closes no connection at a recheck.
    options, environment = {"connector_recheck": "3600"}, {"PYTHONPATH": str(FORMER)}
    with cluster_proxy(home, plane, options=options, environment=environment, tree=FORMER) as running:
        yield running


@pytest.fixture
def former(former_proxy: RunningProxy, served: ServedConnector) -> ServedConnector:
    """The same Connector at the former proxy, which serves it when the test begins."""
    former = replace(served, proxy=former_proxy)
    former.wait_until_synced()
    return former


@pytest.fixture
def scenes(plane: ControlPlane, served: ServedConnector, former: ServedConnector) -> tuple[Scene, Scene]:
    """The account `guest` at the new proxy and at the former one."""
    set_enforced_since(plane, datetime.now(UTC))
    plane.create_service_account(served.namespace, "guest")
    return Scene(served), Scene(former)


def wait_for_refusal(scene: Scene) -> None:
    """Wait until the guest is refused for the missing right. Until then, a review may fail, but the guest stays out."""

    def is_refused() -> bool:
        answer = scene.whoami()
        assert answer != "target"
        return "not found in namespace" in answer

    wait_until(is_refused, "the refusal")


def test_a_former_proxy_refuses_callers_without_the_right_also_after_an_approval(scenes: tuple[Scene, Scene]) -> None:
    new, former = scenes
    new.approved()
    new.wait_until_used()
    wait_for_refusal(former)


def test_a_former_proxy_refuses_callers_of_a_default_permission(scenes: tuple[Scene, Scene]) -> None:
    new, former = scenes
    permission = {"bindingTemplate": {"serviceAccounts": [{"names": ["guest"]}]}}
    new.create("AccessPolicy", "ci", {"connector": {"names": ["k8s"]}, "defaultPermission": permission})
    new.wait_until_used()
    wait_for_refusal(former)


def test_a_former_proxy_lets_locked_out_callers_in_and_keeps_their_connections(
    scenes: tuple[Scene, Scene], tmp_path: Path
) -> None:
    new, former = scenes
    plane, namespace = new.served.plane, new.served.namespace
    grant_use(plane, namespace, subject=account_subject(namespace, "guest"), name="guest")
    for each in scenes:
        each.wait_until_used()
    with former.watch(tmp_path, "former") as still_open:
        subjects = [{"kind": "ServiceAccount", "name": "guest", "namespace": namespace}]
        new.create("AccessLock", "stolen", {"reason": "stolen", "subjects": subjects})
        wait_until(lambda: "you are locked out of Connector" in new.whoami(), "the lock at the new proxy")
        numbers = itertools.count()

        def sees_change() -> bool:
            plane.kubectl("create", "configmap", f"later-{next(numbers)}", namespace=namespace)
            assert still_open.is_running
            return still_open.has_seen("configmap/later-")

        wait_until(sees_change, "a change after the lock")
        former.wait_until_used()


def test_a_former_proxy_ignores_fields_of_connectors(served: ServedConnector, former: ServedConnector) -> None:
    plane, namespace = served.plane, served.namespace
    # Each Connector has its fields from the beginning, so a proxy that serves it knows them.
    connectors = [connector(name, address=plane.url, **fields) for name, (fields, _, _) in RESTRICTIONS.items()]
    plane.api.apply(secret("canary", kind="Opaque", password="hunter"), *connectors, namespace=namespace)
    for name, (_, command, restriction) in RESTRICTIONS.items():
        arguments = (*command, name) if command == WRITE else command
        wait_for_output(served.kubectl(name=name), arguments, namespace, restriction)
        assert plane.kubectl("get", "configmap", name, "--ignore-not-found", namespace=namespace) == ""
        # A command that is repeated, because its response was late, may have made the change.
        expected = f'configmaps "{name}" already exists' if command == WRITE else VALUE
        wait_for_output(former.kubectl(name=name), arguments, namespace, expected)


def wait_for_output(kubectl: Kubectl, arguments: tuple[str, ...], namespace: str, text: str) -> None:
    """Repeat the command until its output contains the text."""

    def contains_text() -> bool:
        result = kubectl.run(*arguments, namespace=namespace)
        return text in result.stdout + result.stderr

    wait_until(contains_text, f"{text!r} of kubectl {' '.join(arguments)}")
