"""Permissions that approved access requests add to those of a Connector."""

from dataclasses import replace

import pytest

from connector_store.domain.base.request_info import parse_request
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.wider_permissions import evaluate_grants, widen_by_grants
from connector_store.domain.permissions.evaluator import Allowed, NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.permissions import RoleEntry
from connector_store.domain.permissions.rbac import BoundRole, ClusterRole, PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes
from connector_store.domain.permissions.restrictions import Restrictions, Treatment
from tests.connector_store.domain.grants.access_objects import NOW, REQUEST


def rules(verb: str, resource: str) -> tuple[PolicyRule, ...]:
    return (PolicyRule(verbs=(verb,), api_groups=("",), resources=(resource,)),)


OFFERED = (
    ClusterRole(name="edit", rules=(*rules("create", "pods"), *rules("delete", "secrets"))),
    ClusterRole(name="logs", rules=rules("get", "nodes")),
)
PERMISSIONS = PermissionEvaluator(
    (BoundRole(label="view", rules=rules("list", "pods")),),
    (BoundRole(label="no-secrets", rules=rules("delete", "secrets")),),
    offered=OFFERED,
)


def grant(*roles: str, namespaces: frozenset[str] | None = None) -> AccessGrant:
    return AccessGrant(
        request=REQUEST.key,
        request_uid="-".join(roles),
        policy="on-call",
        approved_by=("joe",),
        approval_uid="a",
        pod_uid="",
        started_at=NOW,
        duration=60,
        roles=tuple(RoleEntry(cluster_role=role, namespaces=namespaces) for role in roles),
    )


CREATE_POD = ("POST", "/api/v1/namespaces/web/pods")
DELETE_SECRET = ("DELETE", "/api/v1/namespaces/web/secrets/a")
GET_NODE = ("GET", "/api/v1/nodes/a")
EDIT, LOGS, USE_ONLY, UNKNOWN = grant("edit"), grant("logs"), grant(), grant("edit", "deleted-role")
IN_WEB = grant("edit", namespaces=frozenset({"web"}))
IN_DB = grant("edit", namespaces=frozenset({"db"}))


@pytest.mark.parametrize(
    ("request_line", "grants", "used"),
    [
        pytest.param(CREATE_POD, (EDIT,), EDIT, id="an added role allows it"),
        pytest.param(CREATE_POD, (), None, id="no grant"),
        pytest.param(CREATE_POD, (USE_ONLY,), None, id="a grant without roles adds nothing"),
        pytest.param(CREATE_POD, (LOGS,), None, id="another role"),
        pytest.param(CREATE_POD, (LOGS, EDIT), EDIT, id="the second of two grants"),
        pytest.param(CREATE_POD, (UNKNOWN,), None, id="a grant with a role that does not exist adds nothing"),
        pytest.param(CREATE_POD, (IN_WEB,), IN_WEB, id="in the namespace of the grant"),
        pytest.param(CREATE_POD, (IN_DB,), None, id="in another namespace"),
        pytest.param(DELETE_SECRET, (EDIT,), None, id="deny is not lifted"),
        pytest.param(GET_NODE, (EDIT, LOGS), LOGS, id="a role of all namespaces"),
    ],
)
def test_grants_add_permissions(
    request_line: tuple[str, str], grants: tuple[AccessGrant, ...], used: AccessGrant | None
) -> None:
    attributes = RequestAttributes(info=parse_request(*request_line, ""))
    refusal = PERMISSIONS.evaluate(attributes)
    assert isinstance(refusal, NotAllowed)
    result, grant_used = evaluate_grants(PERMISSIONS, grants, attributes, refusal)
    assert grant_used == used
    assert (result is refusal) is (used is None)
    assert used is None or isinstance(result, Allowed)


def test_deny_holds_even_if_the_refusal_does_not_name_it() -> None:
    attributes = RequestAttributes(info=parse_request(*DELETE_SECRET, ""))
    refusal = replace(NotAllowed(attributes.info), denied_by="")
    assert evaluate_grants(PERMISSIONS, (EDIT,), attributes, refusal) == (refusal, None)


def test_a_write_that_a_grant_allows_stays_a_dry_run() -> None:
    plan_mode = PermissionEvaluator((), (), Restrictions(dry_run=True), OFFERED)
    attributes = RequestAttributes(info=parse_request(*CREATE_POD, ""))
    refusal = plan_mode.evaluate(attributes)
    assert isinstance(refusal, NotAllowed)
    result, _ = evaluate_grants(plan_mode, (EDIT,), attributes, refusal)
    assert isinstance(result, Allowed)
    assert result.treatment is Treatment.DRY_RUN


def test_restrictions_stay() -> None:
    masked = PermissionEvaluator((), (), Restrictions(masks_secrets=True), OFFERED)
    wider = masked.widen(EDIT.roles)
    assert wider is not None
    assert wider.restrictions == masked.restrictions
    assert masked != PermissionEvaluator((), (), Restrictions(masks_secrets=True))


@pytest.mark.parametrize(
    ("grants", "count"),
    [((), 0), ((USE_ONLY, UNKNOWN), 0), ((EDIT, USE_ONLY, LOGS), 2)],
    ids=["no grant", "grants that add nothing", "two grants that add permissions"],
)
def test_each_grant_that_adds_permissions_has_its_own_evaluator(grants: tuple[AccessGrant, ...], count: int) -> None:
    evaluators = widen_by_grants(PERMISSIONS, grants)
    assert evaluators == tuple(PERMISSIONS.widen(each) for each in (EDIT.roles, LOGS.roles)[:count])
