"""The roles: each has the rights that it needs, and none of a list of dangerous ones."""

from pathlib import Path

import pytest

from lab.admin_api import AdminApi
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.rbac import wait_for_rbac
from tests.cluster.kube.installation import bind

ROOT = Path(__file__).parents[3]
CONTROLLER = "system:serviceaccount:connectors-system:connectors-controller"
DRIVER = "system:serviceaccount:connectors-csi:connectors-csi"
PROXY = "system:serviceaccount:connectors-system:connectors-proxy"
WRITES = ("create", "update", "patch", "delete", "deletecollection")
SELF_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Kubectl:
    kubectl = control_plane.kubectl
    kubectl("apply", "-f", str(ROOT / "deploy/system/namespace.yaml"))
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    kubectl("apply", "-k", str(ROOT / "deploy/rbac"))
    for file in ("system/controller-rbac", "csi/namespace", "csi/rbac"):
        kubectl("apply", "-f", str(ROOT / f"deploy/{file}.yaml"))
    kubectl.wait_for_crds("connectors.connectors.alauda.io")
    wait_for_rbac(control_plane.api)
    return kubectl


@pytest.fixture
def api(installed: Kubectl, control_plane: ControlPlane) -> AdminApi:
    return control_plane.api


def can(api: AdminApi, user: str, verb: str, resource: str, *, namespace: str = "") -> bool:
    """Return whether a user may do that to RESOURCE[.GROUP][/SUBRESOURCE], in all namespaces without `namespace`."""
    kind, _, subresource = resource.partition("/")
    return _is_allowed(api, user, verb, kind, namespace=namespace, subresource=subresource)


def can_by_name(api: AdminApi, user: str, verb: str, resource: str, *, namespace: str = "") -> bool:
    """Return whether a user may do that to RESOURCE[.GROUP][/NAME], in all namespaces without `namespace`."""
    kind, _, name = resource.partition("/")
    return _is_allowed(api, user, verb, kind, namespace=namespace, name=name)


def _is_allowed(api: AdminApi, user: str, verb: str, kind: str, **attributes: str) -> bool:
    """The review of `kubectl auth can-i --as USER`, without the 80 ms of CPU that kubectl needs."""
    resource, _, group = kind.partition(".")
    review = {"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "group": group, **attributes}}}
    response = api.request("POST", SELF_REVIEWS, review, user=user)
    assert response.status == 201, response.body
    return bool(response.json()["status"]["allowed"])


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "tokenreviews.authentication.k8s.io"),
        ("create", "subjectaccessreviews.authorization.k8s.io"),
        ("get", "pods"),
        ("get", "serviceaccounts"),
        ("list", "connectorclasses.connectors.alauda.io"),
        ("watch", "connectorclasses.connectors.alauda.io"),
        ("list", "connectors.connectors.alauda.io"),
        ("watch", "connectors.connectors.alauda.io"),
        ("list", "secrets"),
        ("watch", "secrets"),
        *(
            ("watch", f"{kind}.connectors.alauda.io")
            for kind in ("accesspolicies", "accessrequests", "accessapprovals", "accesslocks")
        ),
        ("watch", "namespaces"),
    ],
)
def test_the_proxy_can_do_what_it_needs(api: AdminApi, verb: str, resource: str) -> None:
    assert can(api, PROXY, verb, resource)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        *((verb, "secrets") for verb in ("get", *WRITES)),
        *((verb, "connectors.connectors.alauda.io") for verb in ("get", *WRITES)),
        ("update", "connectors.connectors.alauda.io/status"),
        *(
            (verb, f"{kind}.connectors.alauda.io")
            for kind in ("accesspolicies", "accessrequests", "accessapprovals", "accesslocks")
            for verb in ("create", "delete")
        ),
        ("use", "connectors.connectors.alauda.io/proxy"),
        ("create", "serviceaccounts/token"),
        ("list", "pods"),
        ("create", "pods"),
        *(("create", f"pods/{name}") for name in ("exec", "attach", "portforward")),
        ("get", "pods/exec"),
        *(("update", f"pods{name}") for name in ("", "/ephemeralcontainers")),
        ("list", "configmaps"),
        *(("impersonate", kind) for kind in ("users", "groups", "serviceaccounts")),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("*", "*"),
    ],
)
def test_the_proxy_can_do_nothing_else(api: AdminApi, verb: str, resource: str) -> None:
    assert not can(api, PROXY, verb, resource)


@pytest.mark.parametrize("program", ["proxy", "controller"])
@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        pytest.param("/connectors-{}-namespace", True, id="by the name of its own"),
        pytest.param("/connectors-other-namespace", False, id="by another name"),
        pytest.param("", False, id="all of them"),
    ],
)
def test_a_program_sees_the_role_bindings_that_select_its_namespaces(
    api: AdminApi, program: str, name: str, allowed: bool
) -> None:
    account = f"system:serviceaccount:connectors-system:connectors-{program}"
    resource = f"rolebindings.rbac.authorization.k8s.io{name.format(program)}"
    for verb in ("list", "watch"):
        assert can_by_name(api, account, verb, resource) is allowed


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("list", "configmaps/connectors-config", True),
        ("list", "configmaps", False),
        ("watch", "configmaps/connectors-config", True),
        ("watch", "configmaps", False),
        ("list", "secrets", True),
        ("get", "secrets", False),
    ],
)
def test_in_its_own_namespace_the_proxy_reads_settings_by_name(
    api: AdminApi, verb: str, resource: str, allowed: bool
) -> None:
    assert can_by_name(api, PROXY, verb, resource, namespace="connectors-system") is allowed


POLICY = "validatingadmissionpolicies.admissionregistration.k8s.io"


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        *((verb, "secrets") for verb in ("get", *WRITES)),
        *((verb, "configmaps") for verb in ("get", "list", "watch", *WRITES)),
        *((verb, "connectors.connectors.alauda.io") for verb in ("get", *WRITES)),
        *((verb, "connectorclasses.connectors.alauda.io") for verb in ("get", "update", "patch", "delete")),
        *((verb, "leases.coordination.k8s.io") for verb in ("get", *WRITES)),
        *((verb, "accesspolicies.connectors.alauda.io") for verb in ("approve", *WRITES)),
        *((verb, "accessrequests.connectors.alauda.io") for verb in ("create", "update")),
        *((verb, "accessapprovals.connectors.alauda.io") for verb in ("create", "update")),
        *((verb, "accesslocks.connectors.alauda.io") for verb in WRITES),
        ("update", "services"),
        ("list", "events.events.k8s.io"),
        ("use", "connectors.connectors.alauda.io/proxy"),
        ("create", "tokenreviews.authentication.k8s.io"),
        ("create", "serviceaccounts/token"),
        ("list", "pods"),
        ("create", "pods"),
        ("impersonate", "users"),
        *((verb, POLICY) for verb in ("get", "list", *WRITES)),
        *((verb, f"{POLICY}/accessapprovals.connectors.alauda.io") for verb in WRITES),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("*", "*"),
    ],
)
def test_the_controller_can_do_nothing_else_in_all_namespaces(api: AdminApi, verb: str, resource: str) -> None:
    assert not can(api, CONTROLLER, verb, resource)


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        *((verb, "accessrequests.connectors.alauda.io", True) for verb in ("get", "create")),
        *((verb, "accessrequests.connectors.alauda.io", False) for verb in ("list", "update", "patch", "delete")),
        ("update", "accessrequests.connectors.alauda.io/status", False),
        ("list", "accesspolicies.connectors.alauda.io", True),
        *((verb, "accesspolicies.connectors.alauda.io", False) for verb in ("create", "approve")),
        ("create", "accessapprovals.connectors.alauda.io", False),
        ("get", "namespaces", True),
        ("list", "namespaces", False),
        ("get", "pods", False),
        ("get", "secrets", False),
        ("impersonate", "serviceaccounts", False),
        ("create", "serviceaccounts/token", False),
    ],
)
def test_the_csi_driver_may_ask_for_pods_and_not_approve(
    api: AdminApi, verb: str, resource: str, allowed: bool
) -> None:
    assert can(api, DRIVER, verb, resource) is allowed


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("patch", "secrets/connectors-proxy-ca", True),
        ("patch", "secrets/another", False),
        ("get", "secrets/connectors-proxy-ca", False),
        ("delete", "secrets/connectors-proxy-ca", False),
        ("patch", "configmaps/connectors-proxy-ca", True),
        ("patch", "configmaps/connectors-config", False),
        ("update", "leases.coordination.k8s.io/connectors-controller", True),
        ("update", "leases.coordination.k8s.io/another", False),
        ("patch", "clustertrustbundles.certificates.k8s.io/connectors-proxy-ca", True),
        ("patch", "clustertrustbundles.certificates.k8s.io/another", False),
        ("delete", "clustertrustbundles.certificates.k8s.io/connectors-proxy-ca", False),
        ("get", "namespaces/connectors-system", True),
        ("get", "namespaces/kube-system", False),
    ],
)
def test_in_its_own_namespace_the_controller_writes_by_name(
    api: AdminApi, verb: str, resource: str, allowed: bool
) -> None:
    assert can_by_name(api, CONTROLLER, verb, resource, namespace="connectors-system") is allowed


@pytest.mark.parametrize(
    ("role", "verb", "resource", "allowed"),
    [
        ("connectors-user", "use", "connectors.connectors.alauda.io/proxy", True),
        ("connectors-user", "get", "connectors.connectors.alauda.io", False),
        ("connectors-viewer", "get", "connectors.connectors.alauda.io", True),
        ("connectors-viewer", "use", "connectors.connectors.alauda.io/proxy", False),
        ("connectors-viewer", "get", "secrets", False),
        ("connectors-editor", "patch", "connectors.connectors.alauda.io", True),
        ("connectors-editor", "use", "connectors.connectors.alauda.io/proxy", False),
        ("connectors-editor", "create", "accesspolicies.connectors.alauda.io", False),
        ("connectors-requester", "create", "accessrequests.connectors.alauda.io", True),
        ("connectors-requester", "create", "accessapprovals.connectors.alauda.io", False),
        ("connectors-requester", "approve", "accesspolicies.connectors.alauda.io", False),
        ("connectors-requester", "use", "connectors.connectors.alauda.io/proxy", False),
        ("connectors-approver", "approve", "accesspolicies.connectors.alauda.io", True),
        ("connectors-approver", "create", "accessapprovals.connectors.alauda.io", True),
        ("connectors-approver", "approve-own", "accesspolicies.connectors.alauda.io", False),
        ("connectors-approver", "create", "accesspolicies.connectors.alauda.io", False),
        ("connectors-approver", "create", "accessrequests.connectors.alauda.io", False),
    ],
)
def test_a_role_gives(
    api: AdminApi,
    control_plane: ControlPlane,
    namespace: str,
    role: str,
    verb: str,
    resource: str,
    allowed: bool,
) -> None:
    user = f"u-{namespace}"
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    bind(control_plane, namespace, role, subject=subject, name="b")
    assert can(api, user, verb, resource, namespace=namespace) is allowed


@pytest.mark.parametrize(
    ("role", "aggregated"),
    [
        pytest.param("connectors-user", "admin", id="admins may use Connectors"),
        pytest.param("connectors-viewer-list", "view", id="viewers may list them, and not get them"),
        pytest.param("connectors-editor", "edit admin", id="who can read Secrets may write them"),
        pytest.param("connectors-viewer", "", id="the whole viewer is bound by hand"),
    ],
)
def test_a_role_is_aggregated_to(installed: Kubectl, role: str, aggregated: str) -> None:
    labels = installed.json("get", "clusterrole", role)["metadata"].get("labels", {})
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {each.removeprefix(prefix) for each in labels if each.startswith(prefix)} == set(aggregated.split())


def test_what_view_gets_is_never_the_right_of_get_connectors(installed: Kubectl) -> None:
    rules = installed.json("get", "clusterrole", "connectors-viewer-list")["rules"]
    assert [set(each["verbs"]) for each in rules if "connectors" in each["resources"]] == [{"list", "watch"}]
