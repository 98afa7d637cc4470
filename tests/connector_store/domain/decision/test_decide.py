import itertools
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.authorization_header import BasicAuthorization
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.decide import (
    ALLOWED_METHODS,
    CHECKS,
    CONNECT_CHECKS,
    UNCHECKED,
    UNLIMITED_CHECKS,
    AuthenticateInTunnel,
    Decision,
    Forward,
    Inject,
    ProxyLimits,
    Question,
    Resolution,
    decide,
)
from connector_store.domain.decision.denial import Deny
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.models import Address, Target, Unusable
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.limits import Exceeded, Limits, Spending, plan_spending
from connector_store.domain.permissions.permissions import RoleEntry
from connector_store.domain.permissions.rbac import BoundRole, ClusterRole, PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes

KEY = ObjectKey("team-a", "k8s")
CREDENTIALS = BasicAuthorization(key=KEY, token="t")
WITHOUT_TOKEN = BasicAuthorization(key=KEY, token=None)
MISSING = ParseError("Proxy-Authorization", "is missing")
GRANTED = Granted(identity=Identity(user="u"))
NO_TOKEN = Refused(check="token", reason="expired")
NO_USE = Refused(check="use", reason="RBAC says: no such role in secret-namespace")
UNAVAILABLE = Unavailable(reason="timeout", retry_after=7)
ADDRESS = Address(host="t", port=6443, prefix="/p")
TARGET = Target(key=KEY, uid="", address=ADDRESS, credential=BearerToken("s3cret"), secret_name="s", ca=None)
OPEN = Target(key=KEY, uid="", address=ADDRESS, credential=None, secret_name=None, ca=None)
BROKEN = Unusable(key=KEY, reason="SecretNotFound", message="fix it")
HOST: Header = (b"Host", b"t:6443")
POLICY = ProxyLimits(max_connections=1)
IP_TARGET = Target(
    key=KEY, uid="", address=Address(host="10.0.0.1", port=1), credential=None, secret_name=None, ca=None
)
DENY_TENS = ProxyLimits(addresses=AddressPolicy(deny=(ip_network("10.0.0.0/8"),)))


@pytest.mark.parametrize(
    ("credentials", "access", "resolution", "authority", "decision"),
    [
        pytest.param(CREDENTIALS, GRANTED, TARGET, "t:6443", Inject(target=TARGET, grant=GRANTED), id="allowed"),
        pytest.param(CREDENTIALS, GRANTED, OPEN, "t:6443", Forward(target=OPEN, grant=GRANTED), id="no Secret needed"),
        pytest.param(
            CREDENTIALS,
            GRANTED,
            TARGET,
            "T:6443",
            Inject(target=TARGET, grant=GRANTED),
            id="the address in another case",
        ),
        pytest.param(
            WITHOUT_TOKEN, None, None, "x:1", AuthenticateInTunnel(key=KEY), id="the token is in the requests"
        ),
        pytest.param(MISSING, None, None, "x:1", denial.bad_credentials(MISSING, on_connect=True), id="no credentials"),
        pytest.param(CREDENTIALS, NO_TOKEN, TARGET, "t:6443", denial.bad_token(on_connect=True), id="a bad token"),
        pytest.param(CREDENTIALS, NO_USE, TARGET, "t:6443", denial.access_denied(KEY), id="may not use it"),
        pytest.param(CREDENTIALS, GRANTED, None, "t:6443", denial.access_denied(KEY), id="no such Connector"),
        pytest.param(
            CREDENTIALS, UNAVAILABLE, TARGET, "t:6443", denial.unavailable(UNAVAILABLE), id="the check is unavailable"
        ),
        pytest.param(CREDENTIALS, None, TARGET, "t:6443", denial.internal_error(), id="no access check was made"),
        pytest.param(CREDENTIALS, GRANTED, BROKEN, "x:1", denial.unusable(BROKEN), id="not usable"),
        pytest.param(CREDENTIALS, GRANTED, TARGET, "t:443", denial.wrong_address(KEY, ADDRESS), id="another address"),
    ],
)
def test_connect(
    credentials: BasicAuthorization | ParseError,
    access: AccessResult | None,
    resolution: Resolution,
    authority: str,
    decision: object,
) -> None:
    result = connect(credentials=credentials, access=access, resolution=resolution, authority=authority)
    assert (type(result), result) == (type(decision), decision), "decisions are tuples, which are equal across types"


def test_every_request_is_refused_before_the_store_is_synced() -> None:
    not_synced = denial.not_synced()
    for credentials in (CREDENTIALS, WITHOUT_TOKEN, MISSING):
        assert decide(question_of_connect(credentials)._replace(synced=False, access=None)) == not_synced
        assert connect(synced=False, credentials=credentials) == not_synced
    assert request(synced=False) == not_synced


def test_a_connect_is_refused_if_the_audit_log_is_full() -> None:
    assert connect(audit_log_full=True) == denial.audit_log_full()
    assert (
        decide(question_of_connect(CREDENTIALS)._replace(audit_log_full=True, access=None)) == denial.audit_log_full()
    )


def test_valid_credentials_pass_the_prechecks() -> None:
    assert decide(question_of_connect(CREDENTIALS)._replace(access=None)) is UNCHECKED


@pytest.mark.parametrize("resolution", [None, TARGET, OPEN, BROKEN])
@pytest.mark.parametrize("authority", ["t:6443", "x:1"])
@pytest.mark.parametrize("access", [NO_TOKEN, NO_USE, UNAVAILABLE, None])
def test_without_access_the_refusal_does_not_depend_on_the_connector(
    access: AccessResult | None, resolution: Resolution, authority: str
) -> None:
    bare = connect(access=access, resolution=None, authority="")
    assert connect(access=access, resolution=resolution, authority=authority, connection_count=2) == bare
    in_tunnel = request(access=access, resolution=None, target=b"*", headers=())
    assert request(access=access, resolution=resolution, authority=authority, connection_count=2) == in_tunnel
    assert isinstance(bare, Deny)
    assert b"secret-namespace" not in bare.body


def connect(
    *,
    credentials: BasicAuthorization | ParseError = CREDENTIALS,
    authority: str = "t:6443",
    **changes: Any,
) -> Decision | AuthenticateInTunnel:
    return decide(question_of_connect(credentials, authority)._replace(**changes))


def question_of_connect(credentials: BasicAuthorization | ParseError, authority: str = "t:6443") -> Question:
    return Question(
        is_connect=True,
        key=None if isinstance(credentials, ParseError) else credentials.key,
        authority=authority,
        token=credentials if isinstance(credentials, ParseError) else credentials.token,
        method=b"CONNECT",
        target=authority.encode(),
        headers=Headers(()),
        audit_log_full=False,
        synced=True,
        policy=POLICY,
        access=GRANTED,
        resolution=TARGET,
    )


REQUEST = Question(
    is_connect=False,
    key=KEY,
    authority="t:6443",
    token="t",
    method=b"GET",
    target=b"/p/api",
    headers=Headers((HOST,)),
    audit_log_full=False,
    synced=True,
    policy=POLICY,
    access=GRANTED,
    resolution=TARGET,
)


def request(*, headers: tuple[Header, ...] = (HOST,), **changes: Any) -> Decision:
    decision = decide(REQUEST._replace(headers=Headers(headers), **changes))
    assert not isinstance(decision, AuthenticateInTunnel)
    return decision


def test_a_good_request_gets_the_credential() -> None:
    inject, forward = request(), request(resolution=OPEN)
    assert (type(inject), inject) == (Inject, Inject(target=TARGET, grant=GRANTED))
    assert (type(forward), forward) == (Forward, Forward(target=OPEN, grant=GRANTED))


def test_the_repr_of_a_decision_has_no_credential_and_no_header() -> None:
    decisions = [kind(TARGET, GRANTED, "view", impersonation_headers=b"canary") for kind in (Inject, Forward)]
    assert list(map(repr, decisions)) == [
        "Inject(team-a/k8s, role='view', UNCHANGED)", "Forward(team-a/k8s, role='view', UNCHANGED)",
    ]  # fmt: skip


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
def test_all_methods_except_trace_are_allowed(method: bytes) -> None:
    assert request(method=method) == Inject(target=TARGET, grant=GRANTED)


def test_host_and_authority_are_compared_without_case() -> None:
    decision = request(authority="T:6443", headers=((b"Host", b"T:06443"),))
    assert decision == Inject(target=TARGET, grant=GRANTED)


@pytest.mark.parametrize(
    ("deny", "change"),
    [
        pytest.param(
            denial.bad_credentials(MISSING, on_connect=False), {"token": MISSING}, id="no token in the request"
        ),
        pytest.param(denial.bad_token(on_connect=False), {"access": NO_TOKEN}, id="the token is no longer valid"),
        pytest.param(denial.access_denied(KEY), {"access": NO_USE}, id="may no longer use it"),
        pytest.param(denial.access_denied(KEY), {"resolution": None}, id="deleted"),
        pytest.param(denial.unusable(BROKEN), {"resolution": BROKEN}, id="became unusable"),
        pytest.param(denial.wrong_address(KEY, ADDRESS), {"authority": "old:1"}, id="the address changed"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"target": b"/q"}, id="outside the prefix"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"target": b"/p/%2e%2e/q"}, id="outside by escaped dots"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"target": b"https://t:6443/p/api"}, id="absolute form"),
        pytest.param(denial.wrong_host(KEY, ADDRESS), {"headers": ((b"host", b"x"),)}, id="another Host"),
        pytest.param(denial.wrong_host(KEY, ADDRESS), {"headers": ()}, id="no Host"),
        pytest.param(denial.wrong_host(KEY, ADDRESS), {"headers": (HOST, HOST)}, id="two Hosts"),
        pytest.param(
            denial.impersonation_header(b"Impersonate-User"),
            {"headers": (HOST, (b"Impersonate-User", b"admin"))},
            id="impersonation",
        ),
    ],
)
@pytest.mark.parametrize("target", [pytest.param(TARGET, id="injected"), pytest.param(OPEN, id="forwarded")])
def test_inside(deny: Deny, change: dict[str, object], target: Target) -> None:
    assert request(**({"resolution": target} | change)) == deny  # type: ignore[arg-type]  # one changed argument of many


ORDERED: tuple[tuple[dict[str, object], Deny], ...] = (
    ({"audit_log_full": True}, denial.audit_log_full()),
    ({"method": b"TRACE"}, denial.bad_method()),
    ({"synced": False}, denial.not_synced()),
    ({"token": MISSING}, denial.bad_credentials(MISSING, on_connect=False)),
    ({"access": NO_TOKEN}, denial.bad_token(on_connect=False)),
    ({"resolution": BROKEN}, denial.unusable(BROKEN)),
    ({"authority": "old:1"}, denial.wrong_address(KEY, ADDRESS)),
    ({"headers": ()}, denial.wrong_host(KEY, ADDRESS)),
    ({"target": b"/q"}, denial.path_outside(KEY, ADDRESS)),
    ({"connection_count": 1}, denial.too_many_connections(1)),
)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(ORDERED)), 2)))
def test_of_two_faults_in_a_request_the_earlier_check_decides(first: int, second: int) -> None:
    assert request(**ORDERED[first][0], **ORDERED[second][0]) == ORDERED[first][1]  # type: ignore[arg-type]  # ditto


CONNECT_ORDERED: tuple[tuple[dict[str, object], Deny], ...] = (
    ({"audit_log_full": True}, denial.audit_log_full()),
    ({"synced": False}, denial.not_synced()),
    ({"credentials": MISSING}, denial.bad_credentials(MISSING, on_connect=True)),
    ({"access": NO_USE}, denial.access_denied(KEY)),
    ({"resolution": BROKEN}, denial.unusable(BROKEN)),
    ({"authority": "old:1"}, denial.wrong_address(KEY, ADDRESS)),
    ({"connection_count": 1}, denial.too_many_connections(1)),
)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(CONNECT_ORDERED)), 2)))
def test_of_two_faults_in_a_connect_the_earlier_check_decides(first: int, second: int) -> None:
    assert connect(**CONNECT_ORDERED[first][0], **CONNECT_ORDERED[second][0]) == CONNECT_ORDERED[first][1]  # type: ignore[arg-type]  # ditto


def test_impersonation_headers_are_checked_after_host_and_path() -> None:
    impersonation = (b"Impersonate-User", b"admin")
    assert request(target=b"/q", headers=(HOST, impersonation)) == denial.path_outside(KEY, ADDRESS)
    assert request(headers=((b"Host", b"x"), impersonation)) == denial.wrong_host(KEY, ADDRESS)
    assert request(authority=None, target=b"/../q", headers=(impersonation,)) == denial.path_traversal(KEY)
    assert request(headers=(HOST, impersonation), connection_count=1) == denial.impersonation_header(
        b"Impersonate-User"
    )


def test_a_wrong_address_is_checked_before_a_denied_one() -> None:
    wrong = denial.wrong_address(KEY, IP_TARGET.address)
    assert connect(resolution=IP_TARGET, authority="10.0.0.1:2", policy=DENY_TENS) == wrong
    assert request(resolution=IP_TARGET, authority="10.0.0.1:2", policy=DENY_TENS) == wrong


def test_a_denied_ip_address_is_refused_without_a_lookup() -> None:
    denied = denial.target_denied(IP_TARGET, "10.0.0.1")
    assert connect(resolution=IP_TARGET, authority="10.0.0.1:1", policy=DENY_TENS) == denied
    in_tunnel = request(
        resolution=IP_TARGET, authority="10.0.0.1:1", headers=((b"Host", b"10.0.0.1:1"),), policy=DENY_TENS
    )
    assert in_tunnel == denied


def test_the_number_of_a_callers_connections_is_limited() -> None:
    assert connect(connection_count=1) == denial.too_many_connections(1)
    assert request(connection_count=1) == denial.too_many_connections(1)


@pytest.mark.parametrize("authority", ["t", "t:", "t:0", "t:6443/path", "u@t:443", ":1", "[::1]", "a" * 301 + ":1"])
def test_a_tunnel_without_a_token_needs_a_valid_authority(authority: str) -> None:
    assert (
        connect(credentials=WITHOUT_TOKEN, access=None, resolution=None, authority=authority) == denial.bad_authority()
    )


BUDGETED = replace(TARGET, limits=Limits(requests_per_second=5, deletes_per_hour=1))
SPENDING = plan_spending(
    Limits(requests_per_second=5), KEY, "", "u", RequestAttributes(info=parse_request("GET", "/api", ""))
)


def test_a_request_that_is_within_the_limits_says_what_it_counts_against() -> None:
    decision = request(resolution=BUDGETED, find_exceeded=lambda spending: None)
    assert decision == Inject(target=BUDGETED, grant=GRANTED, spending=SPENDING)
    deletion = request(
        resolution=BUDGETED, method=b"DELETE", target=b"/p/api/v1/nodes/a", find_exceeded=lambda spending: None
    )
    assert isinstance(deletion, Inject)
    assert deletion.spending is not None
    assert [rate.field for rate in deletion.spending.rates] == ["requestsPerSecond", "deletesPerHour"]


def test_a_request_that_exceeds_a_limit_is_refused() -> None:
    exceeded = Exceeded(SPENDING.rates[0], SPENDING.scopes[0], 2.0)
    refusal = denial.limit_exceeded(KEY, exceeded)
    assert request(resolution=BUDGETED, find_exceeded=lambda spending: exceeded) == refusal
    assert request(resolution=replace(BUDGETED, credential=None), find_exceeded=lambda spending: exceeded) == refusal
    assert request(find_exceeded=lambda spending: exceeded) == Inject(target=TARGET, grant=GRANTED), "it has no limits"
    assert connect(resolution=BUDGETED, find_exceeded=lambda spending: exceeded) == Inject(
        target=BUDGETED, grant=GRANTED
    )


def test_limits_are_checked_last_and_never_left_out() -> None:
    assert request(resolution=BUDGETED) is UNCHECKED
    assert request(resolution=BUDGETED, connection_count=1) == denial.too_many_connections(1)


def test_what_an_earlier_decision_counted_is_not_counted_again() -> None:
    counted: list[Spending] = []
    decision = request(resolution=BUDGETED, find_exceeded=counted.append, paid=SPENDING)
    assert [spending.rates for spending in counted] == [()]
    assert decision == Inject(target=BUDGETED, grant=GRANTED, spending=SPENDING)


def test_prechecks_refuse_requests_without_a_review() -> None:
    unchecked = REQUEST._replace(access=None, resolution=None)
    assert decide(unchecked._replace(method=b"TRACE")) == denial.bad_method()
    assert decide(unchecked._replace(synced=False)) == denial.not_synced()
    assert decide(unchecked._replace(token=MISSING)) == denial.bad_credentials(MISSING, on_connect=False)
    assert decide(unchecked) is UNCHECKED


def test_only_a_connect_can_defer_the_authentication() -> None:
    assert request(token=None, access=None) == denial.internal_error()


def test_a_check_of_a_connect_is_a_check_of_a_request() -> None:
    assert set(CONNECT_CHECKS) < set(CHECKS)


def test_a_connector_without_limits_costs_no_call_for_them() -> None:
    assert [check.__name__ for check in CHECKS if check not in UNLIMITED_CHECKS] == ["_check_limits"]
    assert tuple(check for check in CHECKS if check in UNLIMITED_CHECKS) == UNLIMITED_CHECKS


def test_no_text_form_of_a_question_shows_a_token() -> None:
    assert "canary" not in repr(REQUEST._replace(token="canary"))


def test_trace_is_not_allowed() -> None:
    assert b"TRACE" not in ALLOWED_METHODS


READ_PODS = PolicyRule(verbs=("get", "list"), api_groups=("",), resources=("pods",))
LIMITED = replace(TARGET, permissions=PermissionEvaluator((BoundRole(label="pods", rules=(READ_PODS,)),), ()))
IMPERSONATED = replace(TARGET, impersonation=Impersonation(user_prefix="c:"))


def test_the_decision_has_the_role_that_allows_the_request() -> None:
    assert request(resolution=LIMITED, target=b"/p/api/v1/pods") == Inject(target=LIMITED, grant=GRANTED, role="pods")


@pytest.mark.parametrize(
    ("method", "raw_target", "headers", "message"),
    [
        (b"DELETE", b"/p/api/v1/namespaces/a/pods/b", (), 'pods "b" is forbidden: Connector "team-a/k8s" does not '
         'allow "delete" on resource "pods" in API group "" in the namespace "a"'),
        (b"GET", b"/p/api/v1/secrets", (), '"list" on resource "secrets"'),
        (b"GET", b"/p/api/v1//pods", (), "only canonical paths are allowed"),
        (b"GET", b"/p/metrics", (), '"get" on path "/metrics"'),
    ],
)  # fmt: skip
def test_requests_without_permission_are_refused(
    method: bytes, raw_target: bytes, headers: tuple[Header, ...], message: str
) -> None:
    deny = request(resolution=LIMITED, method=method, target=raw_target, headers=(HOST, *headers))
    assert isinstance(deny, Deny)
    assert (deny.status, deny.cause) == (403, "not_allowed")
    assert message in deny.message


def test_an_upgrade_and_an_apply_require_a_second_right() -> None:
    rule = replace(READ_PODS, verbs=("get", "patch"), resources=("pods", "pods/exec"))
    limited = replace(TARGET, permissions=PermissionEvaluator((BoundRole(label="r", rules=(rule,)),), ()))
    upgrade = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    pod = b"/p/api/v1/namespaces/a/pods/b"
    apply = ((b"Content-Type", b"application/apply-patch+yaml"),)
    merge = ((b"Content-Type", b"application/merge-patch+json"),)
    assert isinstance(request(resolution=limited, target=pod + b"/exec", headers=(HOST, *upgrade)), Deny)
    assert isinstance(request(resolution=limited, method=b"PATCH", target=pod, headers=(HOST, *apply)), Deny)
    assert isinstance(request(resolution=limited, method=b"PATCH", target=pod, headers=(HOST, *merge)), Inject)


def test_permissions_are_checked_after_impersonation_headers_and_before_the_connection_count() -> None:
    deny = request(resolution=LIMITED, target=b"/p/api/v1/secrets", connection_count=1)
    assert isinstance(deny, Deny)
    assert deny.cause == "not_allowed"
    impersonation = (HOST, (b"Impersonate-User", b"a"))
    assert request(resolution=LIMITED, headers=impersonation) == denial.impersonation_header(b"Impersonate-User")
    assert request(resolution=LIMITED, target=b"/p/api/v1/pods", connection_count=1) == denial.too_many_connections(1)


def test_impersonation_headers_tell_the_target_who_the_caller_is() -> None:
    resolution = request(resolution=IMPERSONATED)
    assert isinstance(resolution, Inject)
    assert resolution.impersonation_headers.startswith(b"Impersonate-User: c:")
    bare = replace(TARGET, impersonation=Impersonation(user_prefix=""))
    system = replace(GRANTED, identity=replace(GRANTED.identity, user="system:admin"))
    deny = request(resolution=bare, access=system)
    assert isinstance(deny, Deny)
    assert deny.cause == "impersonation"
    assert "Impersonate-User" not in repr(resolution)
    both = replace(bare, permissions=LIMITED.permissions)
    not_allowed = request(resolution=both, access=system, target=b"/p/api/v1/secrets")
    assert isinstance(not_allowed, Deny)
    assert not_allowed.cause == "not_allowed"


def test_with_direct_access_host_is_the_proxys_and_the_path_is_relative_to_the_address() -> None:
    assert request(authority=None, target=b"/api", headers=((b"Host", b"proxy"),)) == Inject(
        target=TARGET, grant=GRANTED
    )


@pytest.mark.parametrize("target", [pytest.param(TARGET, id="injected"), pytest.param(OPEN, id="forwarded")])
@pytest.mark.parametrize("raw_target", [b"/../x", b"/a/%2e%2e/x", b"/..%2fx", b"/a/..;/x", b"*", b"https://t:6443/api"])
def test_with_direct_access_path_traversal_is_refused(raw_target: bytes, target: Target) -> None:
    assert request(resolution=target, authority=None, target=raw_target, headers=()) == denial.path_traversal(KEY)
    assert request(authority=None, target=raw_target, headers=(), access=NO_USE) == denial.access_denied(KEY)


def test_with_direct_access_permissions_apply_to_the_path_that_the_target_gets() -> None:
    assert isinstance(request(resolution=LIMITED, authority=None, target=b"/api/v1/pods", headers=()), Inject)
    assert isinstance(request(resolution=LIMITED, authority=None, target=b"/p/api/v1/pods", headers=()), Deny)


GRANT = AccessGrant(
    request=ObjectKey("team-a", "r"),
    request_uid="r-1",
    policy="on-call",
    approved_by=("joe",),
    approval_uid="a-1",
    pod_uid="",
    started_at=0.0,
    duration=60.0,
    roles=(RoleEntry(cluster_role="edit"),),
)
LOCK = AccessLock(key=ObjectKey("team-a", "l"), reason="stolen laptop")
CREATE_PODS = (PolicyRule(verbs=("create",), api_groups=("",), resources=("pods",)),)
OFFERING = replace(
    TARGET,
    permissions=PermissionEvaluator((), (), offered=(ClusterRole(name="edit", rules=CREATE_PODS),)),
    impersonation=Impersonation(),
)


def test_a_grant_without_which_the_request_would_be_refused_is_in_the_decision() -> None:
    used = request(access_grant=GRANT)
    assert isinstance(used, Inject)
    assert used.access_grant == GRANT
    not_needed = request(grants=(GRANT,))
    assert isinstance(not_needed, Inject)
    assert not_needed.access_grant is None
    in_tunnel = connect(access_grant=GRANT)
    assert isinstance(in_tunnel, Inject)
    assert in_tunnel.access_grant == GRANT


def test_a_grant_adds_permissions_and_the_target_sees_the_request() -> None:
    create: dict[str, Any] = {"method": b"POST", "target": b"/p/api/v1/namespaces/web/pods", "resolution": OFFERING}
    refused = request(**create)
    assert isinstance(refused, Deny)
    assert refused.cause == "not_allowed"
    allowed = request(**create, grants=(GRANT,))
    assert isinstance(allowed, Inject)
    assert (allowed.role, allowed.access_grant) == ("edit", GRANT)
    assert b"Impersonate-Extra-connectors.alauda.io%2Faccess-request: team-a/r\r\n" in allowed.impersonation_headers
    still_refused = request(**create, grants=(replace(GRANT, roles=()),))
    assert isinstance(still_refused, Deny)


def test_a_self_review_gets_the_permissions_of_the_grants() -> None:
    review: dict[str, Any] = {
        "method": b"POST",
        "target": b"/p/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "resolution": OFFERING,
    }
    alone, wider = request(**review), request(**review, grants=(GRANT,))
    assert isinstance(alone, Inject)
    assert isinstance(wider, Inject)
    assert OFFERING.permissions is not None
    assert (alone.wider, wider.wider) == ((), (OFFERING.permissions.widen(GRANT.roles),))
    other = request(method=b"GET", target=b"/p/version", resolution=OFFERING, grants=(GRANT,))
    assert isinstance(other, Inject)
    assert other.wider == ()


@pytest.mark.parametrize("resolution", [TARGET, OPEN, OFFERING])
def test_a_lock_beats_everything(resolution: Target) -> None:
    for decision in (
        request(resolution=resolution, lock=LOCK, grants=(GRANT,), access_grant=GRANT),
        connect(resolution=resolution, lock=LOCK, access_grant=GRANT),
    ):
        assert decision == denial.locked(KEY, "stolen laptop")


def test_a_lock_that_cannot_be_parsed_says_so() -> None:
    decision = request(lock=replace(LOCK, reason="", problem="spec.subjects: is not a list"))
    assert isinstance(decision, Deny)
    assert "spec.subjects: is not a list" in decision.message


def test_a_lock_does_not_reveal_that_a_connector_exists() -> None:
    assert request(lock=LOCK, access=NO_USE) == request(access=NO_USE)
    assert request(lock=LOCK, access=NO_USE, resolution=None) == request(access=NO_USE, resolution=None)


@pytest.mark.parametrize("resolution", [None, TARGET, OPEN, BROKEN])
def test_the_hint_depends_only_on_the_names(resolution: Resolution) -> None:
    decision = request(access=replace(NO_USE, may_request=True), resolution=resolution)
    assert decision == denial.access_denied(KEY, may_request=True)
    assert isinstance(decision, Deny)
    assert "connectorctl request team-a/k8s --for 1h --reason TEXT" in decision.message
    plain = request(access=NO_USE, resolution=resolution)
    assert isinstance(plain, Deny)
    assert "connectorctl request" not in plain.message
