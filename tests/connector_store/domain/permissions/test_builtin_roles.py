from pathlib import Path

import pytest
import yaml

from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.builtin_roles import (
    BUILTIN_ROLES,
    CREDENTIALS_ROLE,
    FORMER_READ_ONLY_ROLE,
    READ_ONLY_ROLE,
    SHIPPED_ROLES,
    role_manifest,
)
from connector_store.domain.permissions.evaluator import Allowed, PermissionEvaluator, build_evaluator
from connector_store.domain.permissions.permissions import Permissions, RoleEntry, parse_permissions
from connector_store.domain.permissions.rbac import parse_cluster_role
from connector_store.domain.permissions.request_attributes import RequestAttributes

DEPLOYED = Path(__file__).parents[4] / "deploy" / "rbac" / "lending.yaml"


def test_deployed_roles_are_the_shipped_roles() -> None:
    deployed = list(yaml.safe_load_all(DEPLOYED.read_text()))
    assert {each["metadata"]["name"]: each["rules"] for each in deployed} == {
        name: role_manifest(role)["rules"] for name, role in SHIPPED_ROLES.items()
    }


def test_roles_that_read_everything_say_that_nobody_is_to_be_bound_to_them() -> None:
    deployed = {each["metadata"]["name"]: each for each in yaml.safe_load_all(DEPLOYED.read_text())}
    for name in (READ_ONLY_ROLE, FORMER_READ_ONLY_ROLE):
        text = deployed[name]["metadata"]["annotations"]["connectors.alauda.io/do-not-bind"]
        assert READ_ONLY_ROLE in text or name == READ_ONLY_ROLE
        assert "all Secrets of this cluster" in text
    assert deployed[FORMER_READ_ONLY_ROLE]["metadata"]["labels"] == {"connectors.alauda.io/deprecated": "true"}
    assert SHIPPED_ROLES[FORMER_READ_ONLY_ROLE].rules == SHIPPED_ROLES[READ_ONLY_ROLE].rules


@pytest.mark.parametrize("name", BUILTIN_ROLES)
def test_every_role_parses_from_its_manifest(name: str) -> None:
    assert BUILTIN_ROLES[name].name == name
    assert parse_cluster_role(role_manifest(BUILTIN_ROLES[name])) == BUILTIN_ROLES[name]


def test_the_credentials_role_is_the_sum_of_its_parts() -> None:
    parts = [role.rules for name, role in SHIPPED_ROLES.items() if name.startswith(f"{CREDENTIALS_ROLE}-")]
    assert len(parts) == 6
    assert SHIPPED_ROLES[CREDENTIALS_ROLE].rules == tuple(rule for rules in parts for rule in rules)


def allows(permissions: Permissions, method: str, target: str) -> bool:
    evaluator = build_evaluator(permissions, BUILTIN_ROLES.get)
    assert isinstance(evaluator, PermissionEvaluator)
    return isinstance(evaluator.evaluate(RequestAttributes(info=parse_request(method, target, ""))), Allowed)


NS = "/api/v1/namespaces/web"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", f"{NS}/secrets"), ("GET", f"{NS}/secrets/a"), ("GET", "/api/v1/secrets?watch=1"),
        ("GET", "/api/v1/watch/secrets"), ("PATCH", f"{NS}/secrets/a"), ("DELETE", f"{NS}/secrets/a"),
        ("DELETE", f"{NS}/secrets"), ("POST", f"{NS}/serviceaccounts/a/token"), ("POST", f"{NS}/pods/a/exec"),
        ("GET", f"{NS}/pods/a/attach"), ("POST", f"{NS}/pods/a/portforward"), ("GET", "/api/v1/nodes/n/proxy/pods"),
        ("GET", f"{NS}/services/s/proxy/"), ("PUT", f"{NS}/pods/p/proxy/x"), ("GET", "/api/v1/proxy/nodes/n"),
        ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
        ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/a/approval"),
        ("POST", f"{RBAC}/clusterroles"), ("PATCH", f"{RBAC}/namespaces/web/rolebindings/a"),
        ("POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
        ("PATCH", "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps"),
        ("POST", f"{NS}/pods"), ("PATCH", f"{NS}/pods/a/ephemeralcontainers"), ("POST", "/api/v1/persistentvolumes"),
        ("PATCH", "/api/v1/namespaces/web"), ("POST", "/apis/apps/v1/namespaces/web/deployments"),
        ("PUT", "/apis/batch/v1/namespaces/web/cronjobs/a"), ("GET", "/debug/pprof/heap"), ("GET", "/logs/"),
        ("PATCH", "/api/v1/namespaces/kube-system/configmaps/aws-auth"),
        ("PUT", "/api/v1/namespaces/kube-system/configmaps/aws-auth"),
        ("DELETE", "/api/v1/namespaces/kube-system/configmaps/aws-auth"),
        ("DELETE", "/api/v1/namespaces/kube-system/configmaps"),
        ("GET", "/apis/image.openshift.io/v1/namespaces/web/imagestreams/i/secrets"),
        ("POST", "/apis/authorization.openshift.io/v1/clusterrolebindings"),
        ("PATCH", "/apis/authorization.openshift.io/v1/namespaces/web/roles/a"),
        ("GET", "/apis/oauth.openshift.io/v1/oauthaccesstokens"),
        ("POST", "/apis/oauth.openshift.io/v1/oauthaccesstokens"),
        ("GET", "/apis/oauth.openshift.io/v1/oauthclients/a"), ("PATCH", "/apis/user.openshift.io/v1/groups/a"),
        ("PATCH", "/apis/security.openshift.io/v1/securitycontextconstraints/a"),
        ("PATCH", "/apis/config.openshift.io/v1/oauths/cluster"),
        ("POST", "/apis/build.openshift.io/v1/namespaces/web/builds"),
        ("POST", "/apis/build.openshift.io/v1/namespaces/web/buildconfigs/a/instantiate"),
        ("POST", "/apis/build.openshift.io/v1/namespaces/web/buildconfigs/a/webhooks/s/generic"),
        ("POST", "/apis/apps.openshift.io/v1/namespaces/web/deploymentconfigs"),
        ("POST", "/apis/template.openshift.io/v1/namespaces/web/templateinstances"),
        ("PATCH", "/apis/project.openshift.io/v1/projects/web"),
        ("GET", "/apis/machineconfiguration.openshift.io/v1/machineconfigs/a"),
        ("POST", "/apis/machineconfiguration.openshift.io/v1/machineconfigs"),
    ],
)  # fmt: skip
def test_requests_that_give_away_a_credential_are_not_allowed(method: str, target: str) -> None:
    assert not allows(Permissions(allow=None, deny=(RoleEntry(cluster_role=CREDENTIALS_ROLE),)), method, target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", f"{NS}/pods"), ("GET", f"{NS}/pods/a/log"), ("DELETE", f"{NS}/pods/a"), ("POST", f"{NS}/secrets"),
        ("PUT", f"{NS}/secrets/a"), ("PATCH", f"{NS}/configmaps/a"), ("PATCH", f"{NS}/services/a"), ("GET", "/version"),
        ("PATCH", "/apis/apps/v1/namespaces/web/deployments/a/scale"), ("POST", "/api/v1/namespaces"),
        ("POST", f"{NS}/configmaps"), ("DELETE", f"{NS}/configmaps/a"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/aws-auth"),
        ("GET", "/apis/image.openshift.io/v1/namespaces/web/imagestreams/i"),
        ("GET", "/apis/build.openshift.io/v1/namespaces/web/builds/a/log"),
        ("PUT", "/apis/apps.openshift.io/v1/namespaces/web/deploymentconfigs/a/scale"),
        ("POST", "/apis/project.openshift.io/v1/projectrequests"),
        ("GET", f"{RBAC}/clusterroles"), ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ],
)  # fmt: skip
def test_other_requests_are_allowed(method: str, target: str) -> None:
    assert allows(Permissions(allow=None, deny=(RoleEntry(cluster_role=CREDENTIALS_ROLE),)), method, target)


@pytest.mark.parametrize(
    ("method", "target", "is_allowed"),
    [
        ("GET", "/apis/example.com/v1/namespaces/web/widgets", True), ("GET", f"{NS}/secrets/a", True),
        ("GET", "/metrics", True), ("GET", "/k8s/clusters/c-1/api/v1/secrets", False),
        ("GET", "/openapi/v3/api/v1", True), ("POST", f"{NS}/configmaps", False), ("DELETE", f"{NS}/pods/a", False),
        ("GET", f"{NS}/pods/a/exec", False),
    ],
)  # fmt: skip
def test_read_only(method: str, target: str, is_allowed: bool) -> None:
    permissions = Permissions(allow=(RoleEntry(cluster_role=READ_ONLY_ROLE),))
    assert allows(permissions, method, target) is is_allowed


def test_a_connector_names_them_like_other_roles() -> None:
    spec = Fields({"permissions": {"allow": [{"clusterRole": "view", "namespaces": ["web"]}]}}, "spec")
    permissions = parse_permissions(spec)
    assert permissions is not None
    assert allows(permissions, "GET", f"{NS}/pods")
    assert not allows(permissions, "GET", "/api/v1/namespaces/other/pods")
    assert not allows(permissions, "GET", f"{NS}/secrets")
