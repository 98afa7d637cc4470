import itertools
from dataclasses import replace
from ipaddress import ip_network

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
    AccessPolicy,
    AuthenticateInTunnel,
    Decision,
    Forward,
    Inject,
    Resolution,
    decide_connect,
    decide_request,
    precheck_connect,
    precheck_request,
)
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Address, Target, Unusable
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import PermissionEvaluator
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule

KEY = ObjectKey("team-a", "k8s")
CALLER = BasicAuthorization(key=KEY, token="t")
INSIDE = BasicAuthorization(key=KEY, token=None)
MISSING = ParseError("Proxy-Authorization", "is missing")
GRANTED = Granted(identity=Identity(user="u"))
NO_TOKEN = Refused(check="token", reason="expired")
NO_USE = Refused(check="use", reason="RBAC says: no such role in secret-namespace")
AWAY = Unavailable(reason="timeout", retry_after=7)
ADDRESS = Address(host="t", port=6443, prefix="/p")
TARGET = Target(key=KEY, uid="", address=ADDRESS, credential=BearerToken("s3cret"), secret_name="s", ca=None)
OPEN = Target(key=KEY, uid="", address=ADDRESS, credential=None, secret_name=None, ca=None)
BROKEN = Unusable(key=KEY, reason="SecretNotFound", message="mend it")
HOST: Header = (b"Host", b"t:6443")
RULES = AccessPolicy(max_connections=1)
AT_AN_IP = Target(key=KEY, uid="", address=Address(host="10.0.0.1", port=1), credential=None, secret_name=None, ca=None)
NO_TENS = AccessPolicy(addresses=AddressPolicy(deny=(ip_network("10.0.0.0/8"),)))


@pytest.mark.parametrize(
    ("caller", "answer", "found", "authority", "verdict"),
    [
        pytest.param(CALLER, GRANTED, TARGET, "t:6443", Inject(target=TARGET, grant=GRANTED), id="all is well"),
        pytest.param(CALLER, GRANTED, OPEN, "t:6443", Forward(target=OPEN, grant=GRANTED), id="no Secret is needed"),
        pytest.param(
            CALLER, GRANTED, TARGET, "T:6443", Inject(target=TARGET, grant=GRANTED), id="the address in other letters"
        ),
        pytest.param(INSIDE, None, None, "x:1", AuthenticateInTunnel(key=KEY), id="the token comes inside"),
        pytest.param(
            MISSING, None, None, "x:1", denial.bad_credentials(MISSING, is_request=False), id="no credentials"
        ),
        pytest.param(CALLER, NO_TOKEN, TARGET, "t:6443", denial.bad_token(is_request=False), id="a bad token"),
        pytest.param(CALLER, NO_USE, TARGET, "t:6443", denial.access_denied(KEY), id="may not use it"),
        pytest.param(CALLER, GRANTED, None, "t:6443", denial.access_denied(KEY), id="no such Connector"),
        pytest.param(CALLER, AWAY, TARGET, "t:6443", denial.unavailable(7), id="the check is unavailable"),
        pytest.param(CALLER, None, TARGET, "t:6443", denial.internal_error(), id="nobody was asked"),
        pytest.param(CALLER, GRANTED, BROKEN, "x:1", denial.unusable(BROKEN), id="not usable"),
        pytest.param(CALLER, GRANTED, TARGET, "t:443", denial.wrong_address(KEY, ADDRESS), id="another address"),
    ],
)
def test_connect(
    caller: BasicAuthorization | ParseError,
    answer: AccessResult | None,
    found: Resolution,
    authority: str,
    verdict: object,
) -> None:
    assert connect(caller=caller, answer=answer, found=found, authority=authority) == verdict


def test_nothing_is_known_before_the_store_is_synced() -> None:
    unsynced = denial.not_synced()
    for caller in (CALLER, INSIDE, MISSING):
        assert precheck_connect(audit_log_full=False, synced=False, credentials=caller) == unsynced
        assert connect(synced=False, caller=caller) == unsynced
    assert request(synced=False) == unsynced


def test_what_would_not_be_written_down_does_not_begin() -> None:
    assert connect(full=True) == denial.audit_log_full()
    assert precheck_connect(audit_log_full=True, synced=True, credentials=CALLER) == denial.audit_log_full()


def test_whoever_can_be_read_is_checked() -> None:
    assert precheck_connect(audit_log_full=False, synced=True, credentials=CALLER) is CALLER


@pytest.mark.parametrize("found", [None, TARGET, OPEN, BROKEN])
@pytest.mark.parametrize("authority", ["t:6443", "x:1"])
@pytest.mark.parametrize("answer", [NO_TOKEN, NO_USE, AWAY, None])
def test_who_may_not_use_it_learns_nothing_of_it(
    answer: AccessResult | None, found: Resolution, authority: str
) -> None:
    bare = connect(answer=answer, found=None, authority="")
    assert connect(answer=answer, found=found, authority=authority, taken=2) == bare
    inside = request(answer=answer, found=None, raw_target=b"*", headers=())
    assert request(answer=answer, found=found, authority=authority, taken=2) == inside
    assert isinstance(bare, Deny)
    assert b"secret-namespace" not in bare.body


def connect(
    *,
    full: bool = False,
    synced: bool = True,
    caller: BasicAuthorization | ParseError = CALLER,
    answer: AccessResult | None = GRANTED,
    found: Resolution = TARGET,
    authority: str = "t:6443",
    rules: AccessPolicy = RULES,
    taken: int = 0,
) -> Decision | AuthenticateInTunnel:
    return decide_connect(
        audit_log_full=full,
        synced=synced,
        credentials=caller,
        access=answer,
        resolution=found,
        authority=authority,
        policy=rules,
        connection_count=taken,
    )


def request(
    *,
    full: bool = False,
    method: bytes = b"GET",
    synced: bool = True,
    token: str | ParseError = "t",
    answer: AccessResult | None = GRANTED,
    found: Resolution = TARGET,
    authority: str | None = "t:6443",
    raw_target: bytes = b"/p/api",
    headers: tuple[Header, ...] = (HOST,),
    rules: AccessPolicy = RULES,
    taken: int = 0,
) -> Decision:
    return decide_request(
        audit_log_full=full,
        method=method,
        synced=synced,
        token=token,
        key=KEY,
        access=answer,
        resolution=found,
        authority=authority,
        raw_target=raw_target,
        headers=Headers(headers),
        policy=rules,
        connection_count=taken,
    )


def test_a_good_request_gets_the_credential() -> None:
    assert request() == Inject(target=TARGET, grant=GRANTED)
    assert request(found=OPEN) == Forward(target=OPEN, grant=GRANTED)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
def test_all_methods_but_trace_go_on(method: bytes) -> None:
    assert request(method=method) == Inject(target=TARGET, grant=GRANTED)


def test_the_host_and_the_authority_may_be_written_in_other_letters() -> None:
    written = request(authority="T:6443", headers=((b"Host", b"T:06443"),))
    assert written == Inject(target=TARGET, grant=GRANTED)


@pytest.mark.parametrize(
    ("deny", "change"),
    [
        pytest.param(denial.bad_credentials(MISSING, is_request=True), {"token": MISSING}, id="no token inside"),
        pytest.param(denial.bad_token(is_request=True), {"answer": NO_TOKEN}, id="a token no longer good"),
        pytest.param(denial.access_denied(KEY), {"answer": NO_USE}, id="may no longer use it"),
        pytest.param(denial.access_denied(KEY), {"found": None}, id="deleted"),
        pytest.param(denial.unusable(BROKEN), {"found": BROKEN}, id="became unusable"),
        pytest.param(denial.wrong_address(KEY, ADDRESS), {"authority": "old:1"}, id="the address changed"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"raw_target": b"/q"}, id="outside the prefix"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"raw_target": b"/p/%2e%2e/q"}, id="outside in disguise"),
        pytest.param(denial.path_outside(KEY, ADDRESS), {"raw_target": b"https://t:6443/p/api"}, id="absolute form"),
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
    assert request(**({"found": target} | change)) == deny  # type: ignore[arg-type]  # one changed argument of many


ORDERED: tuple[tuple[dict[str, object], Deny], ...] = (
    ({"full": True}, denial.audit_log_full()),
    ({"method": b"TRACE"}, denial.bad_method()),
    ({"synced": False}, denial.not_synced()),
    ({"token": MISSING}, denial.bad_credentials(MISSING, is_request=True)),
    ({"answer": NO_TOKEN}, denial.bad_token(is_request=True)),
    ({"found": BROKEN}, denial.unusable(BROKEN)),
    ({"authority": "old:1"}, denial.wrong_address(KEY, ADDRESS)),
    ({"headers": ()}, denial.wrong_host(KEY, ADDRESS)),
    ({"raw_target": b"/q"}, denial.path_outside(KEY, ADDRESS)),
    ({"taken": 1}, denial.too_many_connections(1)),
)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(ORDERED)), 2)))
def test_of_two_faults_the_earlier_check_answers(first: int, second: int) -> None:
    assert request(**ORDERED[first][0], **ORDERED[second][0]) == ORDERED[first][1]  # type: ignore[arg-type]  # ditto


CONNECT_ORDERED: tuple[tuple[dict[str, object], Deny], ...] = (
    ({"full": True}, denial.audit_log_full()),
    ({"synced": False}, denial.not_synced()),
    ({"caller": MISSING}, denial.bad_credentials(MISSING, is_request=False)),
    ({"answer": NO_USE}, denial.access_denied(KEY)),
    ({"found": BROKEN}, denial.unusable(BROKEN)),
    ({"authority": "old:1"}, denial.wrong_address(KEY, ADDRESS)),
    ({"taken": 1}, denial.too_many_connections(1)),
)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(CONNECT_ORDERED)), 2)))
def test_of_two_faults_of_a_connect_the_earlier_check_answers(first: int, second: int) -> None:
    assert connect(**CONNECT_ORDERED[first][0], **CONNECT_ORDERED[second][0]) == CONNECT_ORDERED[first][1]  # type: ignore[arg-type]  # ditto


def test_whom_a_request_acts_as_is_looked_at_behind_where_it_goes() -> None:
    acting = (b"Impersonate-User", b"admin")
    assert request(raw_target=b"/q", headers=(HOST, acting)) == denial.path_outside(KEY, ADDRESS)
    assert request(headers=((b"Host", b"x"), acting)) == denial.wrong_host(KEY, ADDRESS)
    assert request(authority=None, raw_target=b"/../q", headers=(acting,)) == denial.path_traversal(KEY)
    assert request(headers=(HOST, acting), taken=1) == denial.impersonation_header(b"Impersonate-User")


def test_another_address_is_said_before_one_that_may_not_be_dialled() -> None:
    wrong = denial.wrong_address(KEY, AT_AN_IP.address)
    assert connect(found=AT_AN_IP, authority="10.0.0.1:2", rules=NO_TENS) == wrong
    assert request(found=AT_AN_IP, authority="10.0.0.1:2", rules=NO_TENS) == wrong


def test_an_address_that_may_not_be_dialled_is_said_before_anybody_resolves_it() -> None:
    denied = denial.target_denied(AT_AN_IP, "10.0.0.1")
    assert connect(found=AT_AN_IP, authority="10.0.0.1:1", rules=NO_TENS) == denied
    inside = request(found=AT_AN_IP, authority="10.0.0.1:1", headers=((b"Host", b"10.0.0.1:1"),), rules=NO_TENS)
    assert inside == denied


def test_a_caller_has_so_many_connections() -> None:
    assert connect(taken=1) == denial.too_many_connections(1)
    assert request(taken=1) == denial.too_many_connections(1)


@pytest.mark.parametrize("authority", ["t", "t:", "t:0", "t:6443/path", "u@t:443", ":1", "[::1]", "a" * 301 + ":1"])
def test_where_the_token_comes_inside_the_authority_has_to_be_one(authority: str) -> None:
    assert connect(caller=INSIDE, answer=None, found=None, authority=authority) == denial.bad_authority()


def test_a_request_that_nobody_needs_to_be_asked_about_is_refused_before() -> None:
    assert precheck_request(audit_log_full=False, method=b"TRACE", synced=True, token="t") == denial.bad_method()
    assert precheck_request(audit_log_full=False, method=b"GET", synced=False, token="t") == denial.not_synced()
    assert precheck_request(audit_log_full=False, method=b"GET", synced=True, token=MISSING) == denial.bad_credentials(
        MISSING, is_request=True
    )
    assert precheck_request(audit_log_full=False, method=b"GET", synced=True, token="t") is None


def test_trace_would_show_the_credential() -> None:
    assert b"TRACE" not in ALLOWED_METHODS


READ_PODS = PolicyRule(verbs=("get", "list"), api_groups=("",), resources=("pods",))
LIMITED = replace(TARGET, permissions=PermissionEvaluator((BoundRole(label="pods", rules=(READ_PODS,)),), ()))
NAMED = replace(TARGET, impersonation=Impersonation(user_prefix="c:"))


def test_a_limited_connector_lends_by_a_role() -> None:
    assert request(found=LIMITED, raw_target=b"/p/api/v1/pods") == Inject(target=LIMITED, grant=GRANTED, role="pods")


@pytest.mark.parametrize(
    ("method", "raw_target", "headers", "says"),
    [
        (b"DELETE", b"/p/api/v1/namespaces/a/pods/b", (), 'pods "b" is forbidden: Connector "team-a/k8s" does not lend '
         '"delete" on resource "pods" in API group "" in the namespace "a"'),
        (b"GET", b"/p/api/v1/secrets", (), '"list" on resource "secrets"'),
        (b"GET", b"/p/api/v1//pods", (), "only paths in their plain form"),
        (b"GET", b"/p/metrics", (), '"get" on path "/metrics"'),
    ],
)  # fmt: skip
def test_what_is_not_lent_is_refused(method: bytes, raw_target: bytes, headers: tuple[Header, ...], says: str) -> None:
    deny = request(found=LIMITED, method=method, raw_target=raw_target, headers=(HOST, *headers))
    assert isinstance(deny, Deny)
    assert (deny.status, deny.cause) == (403, "not_lent")
    assert says in deny.message


def test_an_upgrade_and_an_apply_need_more() -> None:
    rule = replace(READ_PODS, verbs=("get", "patch"), resources=("pods", "pods/exec"))
    limited = replace(TARGET, permissions=PermissionEvaluator((BoundRole(label="r", rules=(rule,)),), ()))
    upgrade = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    pod = b"/p/api/v1/namespaces/a/pods/b"
    apply = ((b"Content-Type", b"application/apply-patch+yaml"),)
    merge = ((b"Content-Type", b"application/merge-patch+json"),)
    assert isinstance(request(found=limited, raw_target=pod + b"/exec", headers=(HOST, *upgrade)), Deny)
    assert isinstance(request(found=limited, method=b"PATCH", raw_target=pod, headers=(HOST, *apply)), Deny)
    assert isinstance(request(found=limited, method=b"PATCH", raw_target=pod, headers=(HOST, *merge)), Inject)


def test_what_is_not_lent_is_said_before_connections_are_counted_and_after_headers_that_act_as_another() -> None:
    refused = request(found=LIMITED, raw_target=b"/p/api/v1/secrets", taken=1)
    assert isinstance(refused, Deny)
    assert refused.cause == "not_lent"
    acting = (HOST, (b"Impersonate-User", b"a"))
    assert request(found=LIMITED, headers=acting) == denial.impersonation_header(b"Impersonate-User")
    assert request(found=LIMITED, raw_target=b"/p/api/v1/pods", taken=1) == denial.too_many_connections(1)


def test_the_target_is_told_who_calls() -> None:
    found = request(found=NAMED)
    assert isinstance(found, Inject)
    assert found.impersonation_headers.startswith(b"Impersonate-User: c:")
    bare = replace(TARGET, impersonation=Impersonation(user_prefix=""))
    system = replace(GRANTED, identity=replace(GRANTED.identity, user="system:admin"))
    refused = request(found=bare, answer=system)
    assert isinstance(refused, Deny)
    assert refused.cause == "impersonation"
    assert "Impersonate-User" not in repr(found)
    both = replace(bare, permissions=LIMITED.permissions)
    not_lent = request(found=both, answer=system, raw_target=b"/p/api/v1/secrets")
    assert isinstance(not_lent, Deny)
    assert not_lent.cause == "not_lent"


def test_at_the_direct_door_host_is_the_proxys_and_the_path_lies_below_that_of_the_address() -> None:
    assert request(authority=None, raw_target=b"/api", headers=((b"Host", b"proxy"),)) == Inject(
        target=TARGET, grant=GRANTED
    )


@pytest.mark.parametrize("target", [pytest.param(TARGET, id="injected"), pytest.param(OPEN, id="forwarded")])
@pytest.mark.parametrize("raw_target", [b"/../x", b"/a/%2e%2e/x", b"/..%2fx", b"/a/..;/x", b"*", b"https://t:6443/api"])
def test_at_the_direct_door_no_path_leads_up(raw_target: bytes, target: Target) -> None:
    assert request(found=target, authority=None, raw_target=raw_target, headers=()) == denial.path_traversal(KEY)
    assert request(authority=None, raw_target=raw_target, headers=(), answer=NO_USE) == denial.access_denied(KEY)


def test_at_the_direct_door_what_is_lent_is_decided_on_by_the_path_that_the_target_sees() -> None:
    assert isinstance(request(found=LIMITED, authority=None, raw_target=b"/api/v1/pods", headers=()), Inject)
    assert isinstance(request(found=LIMITED, authority=None, raw_target=b"/p/api/v1/pods", headers=()), Deny)
