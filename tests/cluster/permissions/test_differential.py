"""Decisions of a Connector compared with those of a real API server: thousands of requests, thirty roles.

The attributes of a request do not depend on the role. So each request is compared for some of the roles, in turn, and
each role for hundreds of requests. That is 21,000 comparisons in half a minute, where all would be 158,000.
"""

from collections import Counter
from typing import Any

import pytest

from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES, role_manifest
from connector_store.domain.permissions.evaluator import Allowed, NotAllowed, PermissionEvaluator, build_evaluator
from connector_store.domain.permissions.permissions import parse_permissions
from connector_store.domain.permissions.rbac import ClusterRole, parse_cluster_role
from connector_store.domain.permissions.request_attributes import RequestAttributes, is_canonical_path, may_create
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from tests.cluster.permissions.authorization_probe import AuthorizationProbe
from tests.cluster.permissions.generated_requests import NAMESPACES, Request, requests, roles, served_resources

GENERATED = 22
OWN = ("view", "edit", "connectors-permissions-read-only", "connectors-credentials")
"""Our own roles, in all namespaces and in one."""
ROLES = 30
LEAST = 5000
"""Number of requests, each compared for ASKED roles."""
ASKED = 4
LEAST_OF_ROLE = 690
RBAC = "/apis/rbac.authorization.k8s.io/v1"

NESTED_API = "an API may lie below this path, so a role must name it"
"""Only roles for all paths meet this strict rule, and only if they are compared for such a path."""
NOT_PLAIN = "only canonical paths are allowed: no empty or dot segments, few escapes"


class Bound:
    """A user with a binding to one role at the API server, and a Connector with that role in `allow` or `deny`."""

    def __init__(
        self,
        plane: ControlPlane,
        user: str,
        role: dict[str, Any],
        namespaces: list[str] | None,
        *,
        field: str = "allow",
    ) -> None:
        self.user = user
        name = f"differential-{user}"
        plane.api.call("POST", f"{RBAC}/clusterroles", role | {"metadata": {"name": name}})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        }
        for space in namespaces or [""]:
            path = f"namespaces/{space}/rolebindings" if space else "clusterrolebindings"
            plane.api.call("POST", f"{RBAC}/{path}", binding)
        # The object of the API server, as in a watch.
        cluster_role = parse_cluster_role(plane.api.call("GET", f"{RBAC}/clusterroles/{name}"))
        entry = {"clusterRole": name} | ({"namespaces": namespaces} if namespaces else {})
        self.evaluator = _evaluator({field: [entry]}, cluster_role)


def _evaluator(permissions: dict[str, Any], cluster_role: ClusterRole) -> PermissionEvaluator:
    parsed = parse_permissions(Fields({"permissions": permissions}, "spec"))
    assert parsed is not None
    evaluator = build_evaluator(parsed, {cluster_role.name: cluster_role}.get)
    assert isinstance(evaluator, PermissionEvaluator)
    return evaluator


def attributes_of(request: Request) -> RequestAttributes:
    return RequestAttributes(
        info=parse_request(request.method, request.target, ""),
        is_canonical=is_canonical_path(request.target),
        is_upgrade=request.upgrade,
        may_create=may_create(request.method.encode(), (request.content_type.encode(),)),
    )


def create_namespaces(plane: ControlPlane) -> None:
    """Create the namespaces of the requests, unless another test has."""
    present = plane.kubectl("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()
    for space in set(NAMESPACES) - set(present):
        plane.create_namespace(space)


@pytest.fixture(scope="module")
def bound(control_plane: ControlPlane) -> list[Bound]:
    create_namespaces(control_plane)
    bindings = [
        Bound(control_plane, f"generated-{number}", {"rules": rules}, spaces)
        for number, (rules, spaces) in enumerate(roles(served_resources(control_plane.api), GENERATED))
    ]
    for name in OWN:
        rules = {"rules": role_manifest(BUILTIN_ROLES[name])["rules"]}
        bindings.append(Bound(control_plane, f"all-{name}", rules, None))
        bindings.append(Bound(control_plane, f"web-{name}", rules, ["web"]))
    wait_for_rbac(control_plane.api)
    return bindings


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_for_every_request_the_decision_is_the_api_servers_but_for_the_strict_rules(
    control_plane: ControlPlane, bound: list[Bound]
) -> None:
    everything = list(requests(served_resources(control_plane.api)))
    assert len(everything) >= LEAST
    assert len(bound) == ROLES
    pairs = [
        (request, bound[(number * 7 + turn * 11) % ROLES])
        for number, request in enumerate(everything)
        for turn in range(ASKED)
    ]
    per_role = Counter(each.user for _, each in pairs)
    assert len(per_role) == ROLES
    assert min(per_role.values()) >= LEAST_OF_ROLE
    answers = AuthorizationProbe(control_plane).are_forbidden([(request, each.user) for request, each in pairs])
    counted: Counter[str] = Counter()
    wrong: list[str] = []
    for (request, each), forbidden in zip(pairs, answers, strict=True):
        decision = each.evaluator.evaluate(attributes_of(request))
        if forbidden is None:
            counted["malformed"] += 1
        elif isinstance(decision, Allowed) is not forbidden:
            counted["allowed" if isinstance(decision, Allowed) else "not allowed"] += 1
        elif isinstance(decision, NotAllowed) and decision.reason:
            counted[decision.reason] += 1
        else:
            wrong.append(f"{request} as {each.user}: {'forbidden' if forbidden else 'allowed'} there, {decision}")
    assert wrong[:10] == [], f"{len(wrong)} of {len(pairs)}"
    strict = set(counted) - {"allowed", "not allowed", "malformed"}
    assert strict | {NESTED_API} == {
        NESTED_API,
        NOT_PLAIN, "this request creates what is not there", "this request opens a stream", "its rules may be any",
        "it may bind any role", "it may be of any signer", "its parameters may be any object",
    }  # fmt: skip
    # Neither side says the same all the time, and few are decided by strictness.
    assert min(counted["allowed"], counted["not allowed"]) > len(pairs) / 5
    assert counted["malformed"] < len(pairs) / 20
    assert sum(counted[each] for each in strict) < len(pairs) / 5


def test_the_built_in_roles_are_those_of_the_server(control_plane: ControlPlane) -> None:
    for name, sources in (("view", ["view"]), ("edit", ["edit", "view"])):
        rules = [
            rule
            for source in sources
            for rule in parse_cluster_role(
                control_plane.api.call("GET", f"{RBAC}/clusterroles/system:aggregate-to-{source}")
            ).rules
        ]
        assert list(BUILTIN_ROLES[name].rules) == rules
