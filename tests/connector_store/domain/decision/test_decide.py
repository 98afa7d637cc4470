import itertools
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
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
    AccessPolicy,
    AuthenticateInTunnel,
    Decision,
    Forward,
    Inject,
    Question,
    Resolution,
    decide,
)
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Address, Target, Unusable
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import PermissionEvaluator
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule

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
POLICY = AccessPolicy(max_connections=1)
IP_TARGET = Target(
    key=KEY, uid="", address=Address(host="10.0.0.1", port=1), credential=None, secret_name=None, ca=None
)
DENY_TENS = AccessPolicy(addresses=AddressPolicy(deny=(ip_network("10.0.0.0/8"),)))


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
    assert connect(credentials=credentials, access=access, resolution=resolution, authority=authority) == decision


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
    assert request() == Inject(target=TARGET, grant=GRANTED)
    assert request(resolution=OPEN) == Forward(target=OPEN, grant=GRANTED)


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
        (b"DELETE", b"/p/api/v1/namespaces/a/pods/b", (), 'pods "b" is forbidden: Connector "team-a/k8s" does not lend '
         '"delete" on resource "pods" in API group "" in the namespace "a"'),
        (b"GET", b"/p/api/v1/secrets", (), '"list" on resource "secrets"'),
        (b"GET", b"/p/api/v1//pods", (), "only paths in their plain form"),
        (b"GET", b"/p/metrics", (), '"get" on path "/metrics"'),
    ],
)  # fmt: skip
def test_requests_without_permission_are_refused(
    method: bytes, raw_target: bytes, headers: tuple[Header, ...], message: str
) -> None:
    deny = request(resolution=LIMITED, method=method, target=raw_target, headers=(HOST, *headers))
    assert isinstance(deny, Deny)
    assert (deny.status, deny.cause) == (403, "not_lent")
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
    assert deny.cause == "not_lent"
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
    not_lent = request(resolution=both, access=system, target=b"/p/api/v1/secrets")
    assert isinstance(not_lent, Deny)
    assert not_lent.cause == "not_lent"


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
