from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.headers import Headers
from connector_store.domain.base.request_info import RequestInfo, parse_request
from connector_store.domain.permissions.evaluator import (
    Allowed,
    NotAllowed,
    PermissionEvaluator,
    RoleProblem,
    build_evaluator,
)
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import BoundRole, ClusterRole, PolicyRule
from connector_store.domain.permissions.request_attributes import (
    RequestAttributes,
    is_canonical_path,
    may_create,
    parse_request_attributes,
)
from connector_store.domain.permissions.restrictions import Restrictions, Treatment

CORE = "/api/v1/namespaces/web"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CERTS = "/apis/certificates.k8s.io/v1"
KUBEVIRT = "/apis/subresources.kubevirt.io/v1/namespaces/web/virtualmachineinstances/vm"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def role(name: str, *rules: tuple[str, str, str]) -> ClusterRole:
    """Create a role. A rule is verbs, groups and resources, separated by spaces. `core` is the core group."""
    policy_rules = tuple(
        PolicyRule(
            verbs=tuple(verbs.split()),
            api_groups=tuple("" if each == "core" else each for each in groups.split()),
            resources=tuple(resources.split()),
        )
        for verbs, groups, resources in rules
    )
    return ClusterRole(name=name, rules=policy_rules)


ROLES = {
    each.name: each
    for each in (
        role("reader", ("get list watch", "core apps", "pods pods/log deployments secrets")),
        role("writer", ("get create update patch delete", "core apps", "pods deployments deployments/status")),
        role("updater", ("update patch", "apps", "deployments deployments/status")),
        role("looker", ("get", "core", "pods/exec pods/attach pods/portforward pods/proxy services/proxy nodes/proxy")),
        role("visitor", ("get create", "core", "pods/exec pods/proxy")),
        role("binder", ("create update patch", "rbac.authorization.k8s.io",
        "roles clusterroles rolebindings clusterrolebindings"),
             ("bind", "rbac.authorization.k8s.io", "clusterroles")),
        role("admin", ("*", "*", "*")),
        role("certifier", ("create update patch", "certificates.k8s.io",
        "certificatesigningrequests/approval clustertrustbundles"),
             ("approve", "certificates.k8s.io", "signers")),
        role("policies", ("create update patch", "admissionregistration.k8s.io", "*")),
        role("secrets", ("get list watch", "core", "secrets")),
        role("creating", ("create", "*", "*")),
        role("scribe", ("create update patch delete",
        "rbac.authorization.k8s.io certificates.k8s.io admissionregistration.k8s.io x.io", "*")),
        role("role-binder", ("create update", "rbac.authorization.k8s.io", "rolebindings"),
             ("bind", "rbac.authorization.k8s.io", "roles")),
        role("escalator", ("patch escalate", "rbac.authorization.k8s.io", "clusterroles")),
        ClusterRole(name="viewer", rules=(
            PolicyRule(verbs=("get", "list", "watch"), api_groups=("*",), resources=("*",)),
            PolicyRule(verbs=("get",), non_resource_urls=("*",)),
        )),
        role("empty"),
    )
}  # fmt: skip


def entries(*names: str) -> tuple[RoleEntry, ...]:
    """Create entries from `ROLE` or `ROLE@NAMESPACE`."""
    return tuple(
        RoleEntry(cluster_role=name, namespaces=frozenset({space}) if space else None)
        for name, _, space in (each.partition("@") for each in names)
    )


def evaluator_of(allow: tuple[str, ...] | None, deny: tuple[str, ...] = ()) -> PermissionEvaluator:
    evaluator = build_evaluator(
        Permissions(allow=None if allow is None else entries(*allow), deny=entries(*deny)), ROLES.get
    )
    assert isinstance(evaluator, PermissionEvaluator)
    return evaluator


def attributes_of(method: str, target: str, *, upgrade: bool = False, content_type: str = "") -> RequestAttributes:
    return RequestAttributes(
        info=parse_request(method, target, ""),
        is_canonical=is_canonical_path(target),
        is_upgrade=upgrade,
        may_create=may_create(method.encode(), (content_type.encode(),)),
    )


@pytest.mark.parametrize(
    ("allow", "deny", "method", "target", "expected"),
    [
        pytest.param(("reader",), (), "GET", f"{CORE}/pods", "reader", id="what a role allows"),
        pytest.param(("reader",), (), "DELETE", f"{CORE}/pods/a", None, id="what no role allows"),
        pytest.param(("reader@web",), (), "GET", f"{CORE}/pods", "reader", id="in the entry's namespace"),
        pytest.param(("reader@web",), (), "GET", "/api/v1/namespaces/b/pods", None, id="in another namespace"),
        pytest.param(("reader@web",), (), "GET", "/api/v1/pods", None, id="across namespaces"),
        pytest.param(("reader@web", "writer"), (), "GET", "/api/v1/namespaces/b/pods/a", "writer",
        id="the second role"),
        pytest.param(None, ("secrets",), "GET", f"{CORE}/pods", "", id="all but what is denied"),
        pytest.param(None, ("secrets",), "GET", f"{CORE}/secrets", None, id="what is denied"),
        pytest.param(("reader",), ("secrets",), "GET", f"{CORE}/secrets/a", None, id="deny wins"),
        pytest.param(("reader",), ("secrets@web",), "GET", f"{CORE}/secrets/a", None, id="denied in a namespace"),
        pytest.param(("reader",), ("secrets@web",), "GET", "/api/v1/namespaces/b/secrets/a", "reader",
                     id="denied in another namespace"),
        pytest.param(("reader@web",), (), "GET", "/api", "system:discovery", id="discovery"),
        pytest.param(("reader@web",), (), "GET", "/apis/apps/v1", "system:discovery", id="discovery of a group"),
        pytest.param(("reader@web",), (), "GET", "/openapi/v3", "system:discovery", id="schemas"),
        pytest.param(("reader@web",), (), "GET", "/metrics", None, id="other paths"),
        pytest.param(("reader@web",), (), "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                     "system:basic-user", id="a review of oneself"),
        pytest.param(("reader@web",), (), "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", None,
                     id="a review of others"),
        pytest.param(("reader",), ("creating",), "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", None,
                     id="deny takes precedence over the default roles"),
        pytest.param(("admin",), (), "GET", f"{CORE}//pods", None, id="an empty segment"),
        pytest.param(None, ("secrets",), "GET", "/api/v1/namespaces/web/%73ecrets", None, id="an escaped letter"),
        pytest.param(None, ("secrets",), "GET", f"{CORE}/secrets%2Fa", None, id="an escaped slash"),
        pytest.param(("empty",), (), "GET", f"{CORE}/pods", None, id="a role without rules allows nothing"),
    ],
)  # fmt: skip
def test_allowed_requests(
    allow: tuple[str, ...] | None, deny: tuple[str, ...], method: str, target: str, expected: str | None
) -> None:
    result = evaluator_of(allow, deny).evaluate(attributes_of(method, target))
    assert (
        isinstance(result, NotAllowed)
        if expected is None
        else (isinstance(result, Allowed) and result.role == expected)
    )


def test_a_refusal_names_the_role_that_denies_it() -> None:
    info = parse_request("GET", f"{CORE}/secrets", "")
    assert evaluator_of(("reader",), ("secrets",)).evaluate(RequestAttributes(info=info)) == NotAllowed(
        info, "", "secrets"
    )
    assert evaluator_of(("writer",)).evaluate(RequestAttributes(info=info)) == NotAllowed(info, "", "")


APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
DEPLOYMENT = "/apis/apps/v1/namespaces/web/deployments/d"


@pytest.mark.parametrize(
    ("allow", "method", "target", "options", "missing"),
    [
        pytest.param("updater", "PUT", DEPLOYMENT, {}, "create deployments", id="PUT may create"),
        pytest.param("writer", "PUT", DEPLOYMENT, {}, "", id="PUT with create"),
        pytest.param("updater", "PATCH", DEPLOYMENT, {"content_type": APPLY}, "create deployments",
        id="apply may create"),
        pytest.param("updater", "PATCH", DEPLOYMENT, {"content_type": MERGE}, "", id="a merge patch does not"),
        pytest.param("updater", "PUT", f"{DEPLOYMENT}/status", {}, "", id="PUT of a subresource does not"),
        pytest.param("looker", "GET", f"{CORE}/pods/p/exec", {"upgrade": True}, "create pods/exec", id="exec by GET"),
        pytest.param("looker", "GET", f"{CORE}/pods/p/exec", {}, "create pods/exec", id="exec by GET, no upgrade"),
        pytest.param("visitor", "GET", f"{CORE}/pods/p/exec", {"upgrade": True}, "", id="exec with create"),
        pytest.param("visitor", "POST", f"{CORE}/pods/p/exec", {"upgrade": True}, "", id="exec by POST"),
        pytest.param("looker", "GET", f"{CORE}/pods/p/attach", {"upgrade": True}, "create pods/attach", id="attach"),
        pytest.param("looker", "GET", f"{CORE}/pods/p/portforward", {"upgrade": True}, "create pods/portforward",
                     id="port-forward"),
        pytest.param("looker", "GET", f"{CORE}/services/s/proxy/x", {}, "", id="a proxy, as a page"),
        pytest.param("looker", "GET", f"{CORE}/services/s/proxy/x", {"upgrade": True}, "create services/proxy",
                     id="a proxy, as a stream"),
        pytest.param("looker", "GET", "/api/v1/nodes/n/proxy/exec/a/b/c", {"upgrade": True}, "create nodes/proxy",
                     id="a node's proxy, as a stream"),
        pytest.param("viewer", "GET", f"{KUBEVIRT}/console", {"upgrade": True},
                     "create virtualmachineinstances/console", id="a console, as a stream"),
        pytest.param("viewer", "GET", f"{KUBEVIRT}/console", {}, "", id="a console, without an upgrade"),
        pytest.param("viewer", "GET", f"{CORE}/pods/p/log?follow=1", {"upgrade": True}, "", id="a log, as a stream"),
        pytest.param("viewer", "GET", f"{CORE}/pods?watch=1", {"upgrade": True}, "", id="a watch, as a stream"),
        pytest.param("viewer", "GET", "/healthz/log", {"upgrade": True}, "", id="a path, as a stream"),
        pytest.param("binder", "POST", f"{RBAC}/clusterroles", {}, "escalate clusterroles", id="a new role"),
        pytest.param("binder", "PATCH", f"{RBAC}/namespaces/web/roles/r", {"content_type": MERGE}, "escalate roles",
                     id="another role"),
        pytest.param("binder", "POST", f"{RBAC}/clusterrolebindings", {}, "",
        id="a binding of a ClusterRole, with bind"),
        pytest.param("binder", "POST", f"{RBAC}/namespaces/web/rolebindings", {}, "bind roles",
                     id="a binding that may be of a Role"),
        pytest.param("admin", "POST", f"{RBAC}/namespaces/web/rolebindings", {}, "", id="a binding, with all"),
        pytest.param("admin", "PUT", f"{RBAC}/clusterroles/a", {}, "", id="a role, with all"),
        pytest.param("admin", "DELETE", f"{RBAC}/clusterroles/a", {}, "", id="a deletion gives no right"),
        pytest.param("certifier", "PATCH", f"{CERTS}/certificatesigningrequests/a/approval",
        {"content_type": MERGE}, "",
                     id="an approval, with approve"),
        pytest.param("certifier", "POST", f"{CERTS}/clustertrustbundles", {}, "attest signers", id="a trust bundle"),
        pytest.param("policies", "POST", f"{ADMISSION}/validatingadmissionpolicies", {}, "get *", id="a policy"),
        pytest.param("policies", "POST", f"{ADMISSION}/mutatingadmissionpolicybindings", {}, "get *",
                     id="a policy's binding"),
        pytest.param("policies", "POST", f"{ADMISSION}/validatingwebhookconfigurations", {}, "", id="a webhook"),
        pytest.param("admin", "POST", f"{ADMISSION}/validatingadmissionpolicies", {}, "", id="a policy, with all"),
    ],
)  # fmt: skip
def test_a_second_right_must_be_allowed_too(
    allow: str, method: str, target: str, options: dict[str, Any], missing: str
) -> None:
    result = evaluator_of((allow,)).evaluate(attributes_of(method, target, **options))
    if not missing:
        assert result == Allowed(allow)
        return
    assert isinstance(result, NotAllowed)
    assert result.reason
    subresource = f"/{result.missing.subresource}" if result.missing.subresource else ""
    assert f"{result.missing.verb} {result.missing.resource}{subresource}" == missing


GROUP = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("allow", "method", "target", "missing"),
    [
        pytest.param("scribe", "PUT", f"{RBAC}/clusterroles/a", ("escalate", GROUP, "clusterroles", "", "a"),
                     id="a role needs escalate for itself"),
        pytest.param("scribe", "POST", f"{RBAC}/clusterrolebindings", ("bind", GROUP, "clusterroles", "", ""),
                     id="a binding for the cluster is of a ClusterRole"),
        pytest.param("scribe", "PUT", f"{RBAC}/namespaces/web/rolebindings/b", ("bind", GROUP, "roles", "web", ""),
                     id="a binding may name any Role of its namespace"),
        pytest.param("role-binder", "PUT", f"{RBAC}/namespaces/web/rolebindings/b",
                     ("bind", GROUP, "clusterroles", "web", ""), id="a binding of a namespace may be of a ClusterRole"),
        pytest.param("scribe", "PUT", f"{CERTS}/certificatesigningrequests/a/approval",
                     ("approve", "certificates.k8s.io", "signers", "", ""), id="an approval may be for any signer"),
        pytest.param("scribe", "PATCH", f"{CERTS}/certificatesigningrequests/a/status",
                     ("sign", "certificates.k8s.io", "signers", "", ""), id="a certificate may be of any signer"),
        pytest.param("scribe", "PUT", f"{CERTS}/clustertrustbundles/a",
                     ("attest", "certificates.k8s.io", "signers", "", ""), id="a trust bundle may be of any signer"),
        *(
            pytest.param("scribe", "PUT", f"{ADMISSION}/{each}/a", ("get", "*", "*", "", ""),
                         id=f"the parameters of {each} may be any object")
            for each in ("validatingadmissionpolicies", "validatingadmissionpolicybindings",
                         "mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
        ),
        pytest.param("scribe", "PATCH", f"{ADMISSION}/validatingadmissionpolicies/a/status", ("get", "*", "*", "", ""),
                     id="and those of a policy's status"),
    ],
)  # fmt: skip
def test_a_second_right_is_checked_with_all_its_attributes(
    allow: str, method: str, target: str, missing: tuple[str, str, str, str, str]
) -> None:
    result = evaluator_of((allow,)).evaluate(attributes_of(method, target, content_type=MERGE))
    assert isinstance(result, NotAllowed)
    right = result.missing
    assert (right.verb, right.group, right.resource, right.namespace, right.name) == missing
    assert not right.subresource


@pytest.mark.parametrize(
    ("allow", "method", "target"),
    [
        pytest.param("scribe", "DELETE", f"{RBAC}/clusterroles/a", id="a role's deletion"),
        pytest.param("scribe", "DELETE", f"{CERTS}/clustertrustbundles/a", id="a trust bundle's deletion"),
        pytest.param("escalator", "PATCH", f"{RBAC}/clusterroles/a", id="a change of a role does not create one"),
        pytest.param("scribe", "PUT", "/apis/x.io/v1/clusterroles/a", id="what is called a role elsewhere"),
        pytest.param("scribe", "PUT", "/apis/x.io/v1/clusterrolebindings/a", id="what is called a binding elsewhere"),
        pytest.param("scribe", "PUT", "/apis/x.io/v1/clustertrustbundles/a", id="other trust bundles"),
        pytest.param("scribe", "PUT", "/apis/x.io/v1/validatingadmissionpolicies/a", id="other policies"),
        pytest.param("scribe", "PUT", f"{RBAC}/other/a", id="not a binding"),
        pytest.param("scribe", "PUT", f"{CERTS}/certificatesigningrequests/a", id="a request for a certificate"),
    ],
)
def test_requests_without_a_second_right_are_allowed(allow: str, method: str, target: str) -> None:
    assert evaluator_of((allow,)).evaluate(attributes_of(method, target, content_type=MERGE)) == Allowed(allow)


@pytest.mark.parametrize(
    ("method", "target", "role"),
    [
        *(
            ("GET", target, "system:discovery")
            for target in ("/api", "/api/v1", "/apis", "/apis/apps", "/healthz", "/livez", "/openapi", "/openapi/v2",
                           "/readyz", "/version", "/version/")
        ),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "system:basic-user"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "system:basic-user"),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "system:basic-user"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", None),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectreviews", None),
        ("GET", "/apis/authentication.k8s.io/v1/selfsubjectreviews", None),
        ("POST", "/version", None),
        ("GET", "/healthz/etcd", None),
    ],
)  # fmt: skip
def test_every_connector_allows_the_rights_of_every_kubernetes_user(method: str, target: str, role: str | None) -> None:
    result = evaluator_of(("reader@web",)).evaluate(attributes_of(method, target))
    assert isinstance(result, NotAllowed) if role is None else (isinstance(result, Allowed) and result.role == role)


NESTED = "/k8s/clusters/c-1/api/v1/secrets"


@pytest.mark.parametrize(
    ("urls", "target", "expected"),
    [
        pytest.param(("*",), NESTED, None, id="an API below a path, with all paths"),
        pytest.param(("/*",), NESTED, None, id="with all paths below the root"),
        pytest.param(("*",), "/other/apis/apps/v1/deployments", None, id="an API of groups"),
        pytest.param(("*",), "/other/api", None, id="its root"),
        pytest.param(("*",), "/other/%61pi/v1/pods", None, id="an escaped letter"),
        pytest.param(("/k8s/*",), NESTED, "paths", id="with a role that names the path by its beginning"),
        pytest.param((NESTED,), NESTED, "paths", id="with a role that names the path"),
        pytest.param(("/k8s/*",), "/other/api/v1/secrets", None, id="with a role that names another path"),
        pytest.param(("*",), "/metrics", "paths", id="another path"),
        pytest.param(("*",), "/k8s/apiary/v1", "paths", id="a segment that begins with the name"),
        pytest.param(("*",), "/openapi/v3/apis/apps/v1", "paths", id="schemas of a group"),
        pytest.param(("*",), "/apis/api", "paths", id="discovery of a group"),
    ],
)
def test_a_path_below_which_an_api_may_lie_must_be_named(
    urls: tuple[str, ...], target: str, expected: str | None
) -> None:
    allow = (BoundRole(label="paths", rules=(PolicyRule(verbs=("get",), non_resource_urls=urls),)),)
    result = PermissionEvaluator(allow, ()).evaluate(attributes_of("GET", target))
    if expected is not None:
        assert result == Allowed(expected)
        return
    assert isinstance(result, NotAllowed)
    assert (result.missing.path, result.denied_by) == (parse_request("GET", target, "").path, "")


def test_deny_alone_keeps_callers_from_apis_below_a_path() -> None:
    evaluator = evaluator_of(None, ("secrets",))
    assert isinstance(evaluator.evaluate(attributes_of("GET", NESTED)), NotAllowed)
    assert evaluator.evaluate(attributes_of("GET", "/metrics")) == Allowed("")
    assert isinstance(evaluator.evaluate(attributes_of("GET", "/openapi/v3/api/v1")), Allowed)


def test_a_second_right_can_be_denied() -> None:
    result = evaluator_of(None, ("creating",)).evaluate(attributes_of("PUT", DEPLOYMENT))
    assert isinstance(result, NotAllowed)
    assert (result.denied_by, result.missing.verb) == ("creating", "create")


SECRETS = "/api/v1/secrets"
SECRET_RULE = PolicyRule(verbs=("*",), api_groups=("",), resources=("secrets",))
NAMED_SECRET_RULE = PolicyRule(verbs=("*",), api_groups=("",), resources=("secrets",), resource_names=("admin-token",))


@pytest.mark.parametrize(
    ("method", "target", "denied"),
    [
        pytest.param("GET", SECRETS, True, id="list"),
        pytest.param("GET", f"{SECRETS}?watch=1", True, id="watch"),
        pytest.param("GET", "/api/v1/watch/secrets", True, id="legacy watch"),
        pytest.param("GET", f"{SECRETS}?fieldSelector=metadata.namespace=kube-system", True, id="selected namespace"),
        pytest.param("GET", f"{SECRETS}?fieldSelector=metadata.name=a", True, id="selected name"),
        pytest.param("GET", f"{SECRETS}?watch=1&fieldSelector=metadata.name=a", True, id="watch of a selected name"),
        pytest.param("DELETE", SECRETS, True, id="deletecollection"),
        pytest.param("GET", f"{CORE}/secrets", False, id="list in another namespace"),
        pytest.param("GET", "/api/v1/watch/namespaces/web/secrets", False, id="legacy watch in another namespace"),
        pytest.param("GET", "/api/v1/pods", False, id="list of another resource"),
        pytest.param("GET", "/version", False, id="path"),
    ],
)
def test_an_entry_of_deny_with_namespaces_denies_requests_across_namespaces(
    method: str, target: str, denied: bool
) -> None:
    deny = (BoundRole(label="d", rules=(SECRET_RULE,), namespaces=frozenset({"kube-system"})),)
    result = PermissionEvaluator(None, deny).evaluate(attributes_of(method, target))
    assert (result == NotAllowed(attributes_of(method, target).info, "", "d")) is denied


@pytest.mark.parametrize(
    ("method", "target", "denied"),
    [
        pytest.param("GET", SECRETS, True, id="list of all namespaces"),
        pytest.param("GET", f"{CORE}/secrets", True, id="list"),
        pytest.param("GET", f"{CORE}/secrets?watch=true", True, id="watch"),
        pytest.param("GET", "/api/v1/watch/namespaces/web/secrets", True, id="legacy watch"),
        pytest.param("GET", f"{CORE}/secrets?fieldSelector=metadata.name=admin-token", True, id="selected name"),
        pytest.param("DELETE", f"{CORE}/secrets", True, id="deletecollection"),
        pytest.param("POST", f"{CORE}/secrets", True, id="create, which has the name in the body"),
        pytest.param("GET", f"{CORE}/secrets?fieldSelector=metadata.name=b", False, id="another selected name"),
        pytest.param("GET", f"{CORE}/secrets/b", False, id="another name"),
        pytest.param("PUT", f"{CORE}/secrets/b", False, id="a write with another name"),
        pytest.param("GET", f"{CORE}/pods", False, id="list of another resource"),
    ],
)
def test_a_role_of_deny_with_resource_names_denies_requests_without_a_name(
    method: str, target: str, denied: bool
) -> None:
    deny = (BoundRole(label="d", rules=(NAMED_SECRET_RULE,)),)
    result = PermissionEvaluator(None, deny).evaluate(attributes_of(method, target))
    assert (result == NotAllowed(attributes_of(method, target).info, "", "d")) is denied


@pytest.mark.parametrize(
    ("rule", "namespaces", "method", "target", "denied"),
    [
        pytest.param(SECRET_RULE, None, "POST", f"{ADMISSION}/validatingadmissionpolicies", True,
                     id="parameters may be a denied object"),
        pytest.param(NAMED_SECRET_RULE, {"web"}, "POST", f"{ADMISSION}/validatingadmissionpolicies", True,
                     id="parameters may be a denied object of a namespace"),
        pytest.param(PolicyRule(verbs=("bind",), api_groups=(GROUP,), resources=("clusterroles",),
                                resource_names=("cluster-admin",)), None, "POST", f"{RBAC}/clusterrolebindings", True,
                     id="a binding may be of a denied role"),
        pytest.param(PolicyRule(verbs=("get",), non_resource_urls=("/logs",)), None, "POST",
                     f"{ADMISSION}/validatingadmissionpolicies", False, id="a path is not a parameter"),
        pytest.param(PolicyRule(verbs=("*",), api_groups=("*",), resources=("*",)), {"web"}, "POST",
                     "/api/v1/namespaces", False, id="creating an object of the cluster"),
        pytest.param(PolicyRule(verbs=("*",), api_groups=("*",), resources=("*",)), {"web"}, "GET",
                     "/api/v1/nodes/n", False, id="an object of the cluster"),
        pytest.param(PolicyRule(verbs=("*",), api_groups=("*",), resources=("*",)), {"web"}, "GET",
                     "/api/v1/nodes", True, id="a list of objects of the cluster"),
    ],
)  # fmt: skip
def test_deny_covers_what_a_request_may_reach(
    rule: PolicyRule, namespaces: set[str] | None, method: str, target: str, denied: bool
) -> None:
    deny = (BoundRole(label="d", rules=(rule,), namespaces=frozenset(namespaces) if namespaces else None),)
    result = PermissionEvaluator(None, deny).evaluate(attributes_of(method, target))
    assert isinstance(result, NotAllowed) is denied


few_words = st.lists(st.sampled_from(["a", "b", "*"]), max_size=2).map(tuple)
deny_rules = st.builds(
    PolicyRule,
    verbs=st.lists(st.sampled_from(["get", "list", "watch", "deletecollection", "create", "*"]), max_size=3).map(tuple),
    api_groups=few_words,
    resources=st.lists(st.sampled_from(["a", "b", "*", "a/s", "*/s"]), max_size=2).map(tuple),
    resource_names=st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
)
deny_roles = st.builds(
    BoundRole,
    label=st.just("d"),
    rules=st.lists(deny_rules, max_size=3).map(tuple),
    namespaces=st.none() | st.frozensets(st.sampled_from(["n", "m"]), min_size=1),
)
resource_requests = st.builds(
    RequestInfo,
    verb=st.sampled_from(["get", "list", "watch", "deletecollection", "create"]),
    group=st.sampled_from(["a", "c"]),
    resource=st.sampled_from(["a", "c"]),
    subresource=st.sampled_from(["", "s"]),
    namespace=st.sampled_from(["", "n", "o"]),
    name=st.sampled_from(["", "x", "z"]),
    path=st.just("/"),
)


def reaches_denied_object(role: BoundRole, info: RequestInfo) -> bool:
    """Return True if one of all objects is reached by the request and covered by a rule, as a model of `deny`."""
    all_namespaces = info.verb in ("list", "watch", "deletecollection") or (not info.name and info.verb != "create")
    namespaces = [info.namespace] if info.namespace or not all_namespaces else ["", "n", "m", "o"]
    names = [info.name] if info.name else ["x", "y", "z"]
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return any(
        {info.verb, "*"} & {*rule.verbs}
        and {info.group, "*"} & {*rule.api_groups}
        and {resource, "*"} & {*rule.resources} | ({f"*/{info.subresource}"} & {*rule.resources})
        and (role.namespaces is None or namespace in role.namespaces)
        and (not rule.resource_names or name in rule.resource_names)
        for rule in role.rules
        for namespace in namespaces
        for name in names
    )


@given(st.lists(deny_roles, min_size=1, max_size=3).map(tuple), resource_requests)
def test_deny_denies_each_request_that_reaches_a_denied_object(deny: tuple[BoundRole, ...], info: RequestInfo) -> None:
    result = PermissionEvaluator(None, deny).evaluate(RequestAttributes(info=info))
    assert isinstance(result, NotAllowed) is any(reaches_denied_object(role, info) for role in deny)


def masking(allow: tuple[str, ...] | None = None, deny: tuple[str, ...] = ()) -> PermissionEvaluator:
    permissions = Permissions(
        allow=None if allow is None else entries(*allow),
        deny=entries(*deny),
        restrictions=Restrictions(masks_secrets=True),
    )
    evaluator = build_evaluator(permissions, ROLES.get)
    assert isinstance(evaluator, PermissionEvaluator)
    return evaluator


@pytest.mark.parametrize(
    ("method", "target", "treatment"),
    [
        ("GET", f"{CORE}/secrets", Treatment.MASK),
        ("GET", f"{CORE}/secrets?fieldSelector=data%3Da", None),
        ("PUT", f"{CORE}/secrets/a", None),
        ("GET", f"{CORE}/pods", Treatment.UNCHANGED),
        ("GET", "/openapi/v3/api/v1", Treatment.UNCHANGED),
        ("GET", "/metrics", None),
        ("GET", "/logs/", None),
        ("POST", "/version", None),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Treatment.REVIEW),
        ("POST", f"{ADMISSION}/validatingadmissionpolicies", None),
        ("POST", f"{RBAC}/namespaces/web/rolebindings", Treatment.UNCHANGED),
    ],
)
def test_a_mask_decides_on_what_the_roles_allow(method: str, target: str, treatment: Treatment | None) -> None:
    attributes = parse_request_attributes(method.encode(), target.encode(), Headers(), "")
    result = masking().evaluate(attributes)
    assert (result.treatment if isinstance(result, Allowed) else None) is treatment


def test_deny_wins_over_a_mask() -> None:
    assert isinstance(masking(None, ("secrets",)).evaluate(attributes_of("GET", f"{CORE}/secrets")), NotAllowed)


def test_a_refusal_names_the_mask() -> None:
    result = masking().evaluate(attributes_of("POST", f"{ADMISSION}/mutatingadmissionpolicybindings"))
    assert isinstance(result, NotAllowed)
    assert result.reason == "its parameters may be any object, and Secrets are masked"


def test_evaluators_with_another_mask_differ() -> None:
    assert masking(("reader",)) != evaluator_of(("reader",))
    assert masking(("reader",)) == masking(("reader",))
    assert evaluator_of(None, ("secrets",)).mask_gaps is None
    assert evaluator_of(None, ("secrets",)).ineffective_rights is None
    assert masking(None, ("secrets",)).ineffective_rights == (
        "mask has no effect, because secrets of deny covers reading Secrets",
    )
    assert masking(("admin",)).mask_gaps
    assert masking(("reader",)).mask_gaps == ()


def test_an_evaluator_is_widened_by_offered_roles() -> None:
    roles = {
        name: ClusterRole(name=name, rules=(PolicyRule(verbs=(name,), api_groups=("",), resources=("pods",)),))
        for name in ("get", "create", "delete")
    }
    permissions = Permissions(
        allow=entries("get"), deny=entries("delete"), on_request=entries("create", "delete", "gone")
    )
    evaluator = build_evaluator(permissions, roles.get)
    assert isinstance(evaluator, PermissionEvaluator)
    added = entries("create", "delete")
    wider = evaluator.widen(added)
    assert wider is not None
    assert evaluator.widen(added) is wider
    info = parse_request("POST", "/api/v1/namespaces/a/pods", "")
    assert isinstance(evaluator.evaluate(RequestAttributes(info=info)), NotAllowed)
    assert isinstance(wider.evaluate(RequestAttributes(info=info)), Allowed)
    deletion = parse_request("DELETE", "/api/v1/namespaces/a/pods/b", "")
    assert isinstance(wider.evaluate(RequestAttributes(info=deletion)), NotAllowed)
    assert evaluator.widen(entries("gone")) is None
    assert evaluator.widen(entries("cluster-admin")) is None
    assert PermissionEvaluator(None, ()).widen(()) is None
    for number in range(100):
        evaluator.widen(entries(f"create@n-{number}"))
    assert len(evaluator._widened) <= 64


@pytest.mark.parametrize(
    ("permissions", "message"),
    [
        (
            Permissions(allow=entries("reader", "nobody")),
            'clusterroles.rbac.authorization.k8s.io "nobody" not found; create it, '
            "or change spec.permissions.allow[1].clusterRole",
        ),
        (
            Permissions(allow=None, deny=entries("nobody")),
            'clusterroles.rbac.authorization.k8s.io "nobody" not found; create it, '
            "or change spec.permissions.deny[0].clusterRole",
        ),
        (
            Permissions(allow=entries("reader"), deny=entries("empty")),
            'clusterroles.rbac.authorization.k8s.io "empty" has no rules, so it denies nothing; give it rules, '
            "wait until the cluster has filled it, or change spec.permissions.deny[0].clusterRole",
        ),
    ],
)
def test_a_missing_role_is_a_problem(permissions: Permissions, message: str) -> None:
    assert build_evaluator(permissions, ROLES.get) == RoleProblem(message=message)


def test_equal_permissions_are_equal() -> None:
    assert evaluator_of(("reader",), ("secrets",)) == evaluator_of(("reader",), ("secrets",))
    assert hash(evaluator_of(("reader",))) == hash(evaluator_of(("reader",)))
    assert evaluator_of(("reader",)) != evaluator_of(("reader@web",))
    assert evaluator_of(("reader",)) != evaluator_of(None, ("reader",))
    assert evaluator_of(("reader",), ("secrets",)) != evaluator_of(("reader",), ("creating",))
    assert evaluator_of(("reader",), ("secrets",)) != evaluator_of(("reader",))
    assert evaluator_of(("reader",)) != "reader"
    assert repr(evaluator_of(("reader",), ("secrets",))) == "PermissionEvaluator(allow=4, deny=1)"
    assert repr(evaluator_of(None, ("secrets",))) == "PermissionEvaluator(allow=all, deny=1)"
