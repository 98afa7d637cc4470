"""The narrow role of docs/permissions.md: the credential may impersonate for some requests only (KEP-5284).

The test uses the role as the page shows it, on a real API server, where ConstrainedImpersonation is on by default.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests
from tests.cluster.proxy.running_proxy import RunningProxy

PAGE = Path(__file__).parents[3] / "docs" / "permissions.md"


@dataclass(frozen=True, kw_only=True)
class Impersonating:
    """kubectl of a caller who is cluster-admin at the target, through a credential with the narrow role."""

    kubectl: Kubectl
    namespace: str


@pytest.fixture(scope="module")
def impersonating(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Impersonating]:
    plane, home = control_plane, tmp_path_factory.mktemp("constrained")
    namespace = plane.create_namespace(home.name)
    plane.create_service_account(namespace, TARGET_USER)
    [role] = re.findall(
        r"```yaml\n(apiVersion: rbac[^`]*?name: connectors-impersonator-narrow\n.*?)```", PAGE.read_text(), re.DOTALL
    )
    plane.kubectl("apply", "-f", "-", stdin=role)
    account = f"--serviceaccount={namespace}:{TARGET_USER}"
    plane.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=connectors-impersonator-narrow", account)
    caller = ("--clusterrole=cluster-admin", "--user=connectors:team-a/k8s")
    plane.kubectl("create", "clusterrolebinding", f"{namespace}-caller", *caller)
    plane.kubectl("create", "configmap", "plain", "--from-literal=a=b", namespace=namespace)
    connector, secret = manifests(plane, plane.issue_token(namespace, TARGET_USER))
    connector["spec"]["impersonate"] = {"userPrefix": "connectors:", "groupPrefix": "connectors:"}
    proxy = RunningProxy(home)
    proxy.write("k8s.yaml", connector, secret)
    with proxy:
        kubectl = proxy.kubectl(plane.kubectl, connector)
        get = ("get", "configmaps")
        try:
            wait_until(lambda: kubectl.run(*get, namespace=namespace).returncode == 0, "the right to impersonate")
        except AssertionError as error:
            raise AssertionError(kubectl.run(*get, namespace=namespace).stderr) from error
        yield Impersonating(kubectl=kubectl, namespace=namespace)


@pytest.mark.parametrize(
    ("arguments", "is_allowed"),
    [
        pytest.param(("get", "configmap", "plain", "-o", "name"), True, id="get, which the role names"),
        pytest.param(("get", "configmaps", "-o", "name"), True, id="list, which the role names"),
        pytest.param(("delete", "configmap", "plain"), False, id="delete, which the caller alone may do"),
        pytest.param(("get", "pods"), False, id="another resource"),
        pytest.param(("create", "configmap", "other"), False, id="create"),
    ],
)
def test_the_target_limits_what_may_be_done_as_a_caller(
    impersonating: Impersonating, arguments: tuple[str, ...], is_allowed: bool
) -> None:
    result = impersonating.kubectl.run(*arguments, namespace=impersonating.namespace)
    assert (result.returncode == 0) is is_allowed, result.stderr
    if not is_allowed:
        assert "cannot impersonate-on:user-info:" in result.stderr
