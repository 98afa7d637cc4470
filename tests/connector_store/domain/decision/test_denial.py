import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Unavailable
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.token_request import IssuedToken
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Address, Target, Unusable
from connector_store.domain.permissions.evaluator import NotAllowed
from connector_store.domain.permissions.limits import Exceeded, LimitScope, Rate

KEY = ObjectKey("team-a", "k8s")
UNAVAILABLE = Unavailable(reason="timeout of 10.0.0.1", kind="api_server_error", retry_after=7)
ADDRESS = Address(host="t", port=6443, prefix="/p")
TARGET = Target(key=KEY, uid="", address=ADDRESS, credential=BearerToken("s3cret"), secret_name="k8s-secret", ca=None)
NAMELESS = Target(key=KEY, uid="", address=ADDRESS, credential=None, secret_name=None, ca=None)
DELETE = parse_request("DELETE", "/apis/apps/v1/namespaces/web/deployments/web", "")
NODES = parse_request("GET", "/api/v1/nodes", "")._replace(subresource="proxy")
METRICS = parse_request("GET", "/metrics", "")
MISSING = ParseError("Proxy-Authorization", "is missing")


@pytest.mark.parametrize(
    ("deny", "status", "reason", "message_part"),
    [
        (denial.not_synced(), 503, "ServiceUnavailable", "try again"),
        (denial.bad_credentials(MISSING, on_connect=True), 407, "Unauthorized", "Proxy-Authorization: is missing"),
        (denial.bad_credentials(MISSING, on_connect=False), 401, "Unauthorized", "is missing"),
        (denial.bad_token(on_connect=True), 407, "Unauthorized", "get a new kubeconfig, or use a rotating one"),
        (denial.bad_token(on_connect=False), 401, "Unauthorized", "another audience; get a new kubeconfig"),
        (denial.unavailable(UNAVAILABLE), 503, "ServiceUnavailable", "try again"),
        (denial.access_denied(KEY), 403, "Forbidden", 'connectors.connectors.alauda.io "k8s" not found'),
        (
            denial.unusable(Unusable(key=KEY, reason="SecretNotFound", message="fix it")),
            503, "ServiceUnavailable", "Connector team-a/k8s cannot be used: fix it",
        ),
        (denial.wrong_address(KEY, ADDRESS), 403, "Forbidden", "https://t:6443/p"),
        (denial.path_outside(KEY, ADDRESS), 403, "Forbidden", "below /p/"),
        (denial.path_outside(KEY, Address(host="t", port=1)), 403, "Forbidden", "not a path"),
        (denial.wrong_host(KEY, ADDRESS), 403, "Forbidden", "Host t:6443"),
        (denial.path_traversal(KEY), 403, "Forbidden", "dot segments"),
        (denial.misdirected(), 421, "BadRequest", "one and the same Connector"),
        (
            denial.impersonation_header(b"Impersonate-User"), 403, "Forbidden",
            "header Impersonate-User is not passed on",
        ),
        (
            denial.not_permitted(KEY, DELETE, NotAllowed(DELETE)), 403, "Forbidden",
            'deployments.apps "web" is forbidden: Connector "team-a/k8s" does not allow "delete" on resource '
            '"deployments" in API group "apps" in the namespace "web"',
        ),
        (
            denial.not_permitted(KEY, NODES, NotAllowed(NODES._replace(verb="create"), "this request opens a stream")),
            403, "Forbidden",
            'nodes is forbidden: Connector "team-a/k8s" does not allow "create" on resource "nodes/proxy" in API group '
            '"" at the cluster scope: this request opens a stream',
        ),
        (
            denial.not_permitted(KEY, METRICS, NotAllowed(METRICS, denied_by="no-metrics")), 403, "Forbidden",
            'forbidden: Connector "team-a/k8s" does not allow "get" on path "/metrics"',
        ),
        (
            denial.cannot_impersonate(KEY, ParseError("", "no name")), 403, "Forbidden",
            "cannot impersonate you: no name",
        ),
        (denial.absolute_form(), 403, "Forbidden", "only CONNECT"),
        (denial.bad_authority(), 400, "BadRequest", "HOST:PORT"),
        (denial.bad_method(), 400, "BadRequest", "a method"),
        (denial.bad_request("two lengths"), 400, "BadRequest", "two lengths"),
        (denial.header_too_large(65536), 431, "RequestEntityTooLarge", "65536 bytes"),
        (denial.invalid_message(431, "", 65536), 431, "RequestEntityTooLarge", "65536 bytes"),
        (denial.invalid_message(400, "two lengths", 65536), 400, "BadRequest", "two lengths"),
        (denial.too_many_connections(1000), 429, "TooManyRequests", "1000 connections"),
        (denial.not_found(), 404, "NotFound", "Connectors at /connectors/NAMESPACE/NAME"),
        (denial.target_unreachable(TARGET, "refused"), 502, "InternalError", "Connector team-a/k8s: refused"),
        (denial.target_denied(TARGET, "127.0.0.1"), 503, "ServiceUnavailable", "127.0.0.1"),
        (denial.target_timeout(TARGET, 10), 504, "Timeout", "within 10 s"),
        (denial.target_refused(TARGET), 502, "InternalError", "renew Secret k8s-secret"),
        (
            denial.target_refused(replace(TARGET, credential=IssuedToken("s3cret", BearerToken("issuer")))),
            502, "InternalError",
            "refused the token that it granted for Connector team-a/k8s; try again",
        ),
        (denial.target_redirect(TARGET), 502, "InternalError", "redirects to another server"),
        (denial.cross_site(), 403, "Forbidden", "send the token as Bearer"),
        (denial.loop(KEY), 508, "InternalError", "leads back to the Connector"),
        (denial.target_refused(NAMELESS), 502, "InternalError", "team-a/k8s"),
        (denial.audit_log_full(), 503, "ServiceUnavailable", "audit log is not read"),
        (denial.internal_error(), 500, "InternalError", "log"),
        (denial.failed_addon(), 500, "InternalError", '"Addon error" in its log'),
    ],
    ids=lambda value: value.cause if isinstance(value, Deny) else "",
)  # fmt: skip
def test_every_refusal_is_a_status(deny: Deny, status: int, reason: str, message_part: str) -> None:
    body = json.loads(deny.body)
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"], body["message"]) == (status, reason, deny.message)
    assert message_part in deny.message
    assert deny.phrase.endswith(deny.message.encode())
    assert b"s3cret" not in deny.body + deny.phrase


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, False),
        (b"application/json, */*", False),
        (b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", False),
        (b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", True),
        (b"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", True),
    ],
)
def test_discovery_of_client_go_reads_a_text(accept: bytes | None, expected: bool) -> None:
    headers = Headers(((b"Accept", accept),) if accept is not None else ())
    assert denial.is_discovery(headers) is expected


def test_the_text_is_printable() -> None:
    assert Deny(status=403, message="a\nb", cause="access").text == b"a?b"


@pytest.mark.parametrize(
    ("deny", "name", "value"),
    [
        (denial.bad_token(on_connect=True), b"Proxy-Authenticate", b'Basic realm="connectors"'),
        (
            Deny(status=401, message="", cause="token", challenge="Basic"),
            b"WWW-Authenticate",
            b'Basic realm="connectors"',
        ),
        (denial.bad_token(on_connect=False), b"WWW-Authenticate", b'Bearer realm="connectors"'),
        (denial.unavailable(UNAVAILABLE), b"Retry-After", b"7"),
        (denial.not_synced(), b"Retry-After", b"1"),
        (denial.internal_error(), b"Content-Type", b"application/json"),
        (denial.internal_error(), b"Warning", b'299 kubernetes-connector "the proxy failed; its log says why"'),
    ],
)
def test_headers_of_refusals(deny: Deny, name: bytes, value: bytes) -> None:
    assert (name, value) in deny.headers


def test_why_a_caller_cannot_be_checked_is_only_in_the_audit_log() -> None:
    deny = denial.unavailable(UNAVAILABLE)
    assert deny.detail == "api_server_error"
    assert not any(text in deny.body + deny.phrase for text in (b"api_server_error", b"10.0.0.1"))
    assert b"issuer https://i" in denial.unavailable(replace(UNAVAILABLE, public_reason="issuer https://i")).body


def test_only_temporary_refusals_have_retry_after() -> None:
    names = {name for name, _ in denial.unusable(Unusable(key=KEY, reason="", message="")).headers}
    assert b"Retry-After" not in names
    assert json.loads(denial.unavailable(UNAVAILABLE).body)["details"] == {"retryAfterSeconds": 7}


@given(st.text())
def test_for_every_message_the_phrase_is_one_printable_line(message: str) -> None:
    phrase = denial.bad_request(message).phrase
    assert all(0x20 <= byte <= 0x7E for byte in phrase)
    assert len(phrase) <= 512


def test_the_message_of_a_status_has_printable_characters_only() -> None:
    deny = denial.unusable(Unusable(key=KEY, reason="RoleNotFound", message="role \x1b]0;t\x07\u202e\nb"))
    assert json.loads(deny.body)["message"].endswith("role ?]0;t???b")


def test_a_long_header_name_is_truncated() -> None:
    assert len(denial.impersonation_header(b"Impersonate-" + b"a" * 9000).message) < 200


def test_a_request_without_permission_has_the_api_servers_details() -> None:
    deny = denial.not_permitted(KEY, DELETE, NotAllowed(DELETE, denied_by="no-deletions"))
    assert json.loads(deny.body)["details"] == {"name": "web", "group": "apps", "kind": "deployments"}
    assert b"no-deletions" not in deny.body
    assert json.loads(denial.not_permitted(KEY, METRICS, NotAllowed(METRICS)).body)["details"] == {}


def test_a_watch_error_is_an_error_event() -> None:
    event = json.loads(denial.watch_error("its caller may not use the Connector any more"))
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 403
    assert event["object"]["message"] == "the proxy closed the watch: its caller may not use the Connector any more"


def test_a_refusal_says_how_to_ask_only_to_those_who_may() -> None:
    plain, hint = denial.access_denied(KEY), denial.access_denied(KEY, may_request=True)
    assert "connectorctl" not in plain.message
    assert hint.message.endswith("or ask for access with: connectorctl request team-a/k8s --for 1h --reason TEXT")
    assert (hint.status, hint.cause) == (plain.status, plain.cause)


@pytest.mark.parametrize(
    ("reason", "shown"), [("stolen\x1b[2J", "stolen?[2J"), ("", "no reason is given")], ids=["controls", "empty"]
)
def test_a_lock_gives_its_reason(reason: str, shown: str) -> None:
    deny = denial.locked(KEY, reason)
    assert (deny.status, deny.cause) == (403, "locked")
    assert f"you are locked out of Connector team-a/k8s: {shown}; ask" in deny.message


def test_a_response_that_cannot_be_rewritten_names_the_target_and_the_problem() -> None:
    address = Address(host="h", port=443)
    target = Target(key=ObjectKey("n", "c"), uid="", address=address, credential=None, secret_name=None, ca=None)
    deny = denial.target_response(target, "it is compressed")
    assert (deny.status, deny.cause) == (502, "target_response")
    assert "target https://h:443 of Connector n/c sent a response" in deny.message
    assert "cannot read: it is compressed; try again" in deny.message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param("no deletions on Fridays", "no deletions on Fridays", id="the addon gives a message"),
        pytest.param("", "an addon of the proxy responded with status 418", id="it gives none"),
    ],
)
def test_a_refusal_of_an_addon_has_its_status_and_message(message: str, text: str) -> None:
    deny = denial.refused_by_addon(418, message)
    assert (deny.status, deny.cause, deny.message) == (418, "addon", text)


def test_delete_options_that_cannot_be_read_are_refused_with_the_next_step() -> None:
    deny = denial.unreadable_delete_options(ParseError("", "is not JSON"))
    assert (deny.status, deny.cause) == (400, "bad_request")
    assert deny.message.endswith("the body of this deletion is not JSON; send DeleteOptions as JSON")


DELETES, SESSIONS = Rate("deletesPerHour", 10, "hour", 10), Rate("sessions", 2, "second", 2)
CALLER, SPACE, EVERYONE = LimitScope("", "u", 1), LimitScope("namespace", "web", 4), LimitScope("connector", "", 16)


@pytest.mark.parametrize(
    ("exceeded", "status", "retry_after", "message"),
    [
        pytest.param(
            Exceeded(DELETES, CALLER, 2.1), 429, 3,
            "allows 10 requests of this kind per hour for one caller; try again in 3 s", id="a short wait",
        ),
        pytest.param(
            Exceeded(DELETES, SPACE, 30.0), 429, 30,
            "allows 40 requests of this kind per hour for all callers of namespace web together; try again in 30 s",
            id="a namespace",
        ),
        pytest.param(
            Exceeded(DELETES, EVERYONE, 0.001), 429, 1,
            "allows 160 requests of this kind per hour for all its callers together; try again in 1 s",
            id="all callers",
        ),
        pytest.param(Exceeded(DELETES, CALLER, 30.1), 429, None, "try again in 31 s", id="a wait that clients do not"),
        pytest.param(
            Exceeded(SESSIONS, CALLER, None), 429, 5, "allows 2 sessions at once for one caller; close some",
            id="sessions",
        ),
        pytest.param(
            Exceeded(DELETES._replace(amount=0), CALLER, None), 403, None,
            "is 0, so this request is refused; ask the owner of the Connector", id="a limit of 0",
        ),
    ],
)  # fmt: skip
def test_an_exceeded_limit_names_the_field_the_callers_and_the_wait(
    exceeded: Exceeded, status: int, retry_after: int | None, message: str
) -> None:
    deny = denial.limit_exceeded(KEY, exceeded)
    assert deny.message.startswith(f"spec.limits.{exceeded.rate.field} of Connector team-a/k8s ")
    assert deny.message.endswith(message)
    assert (deny.status, deny.cause, deny.detail, deny.retry_after) == (
        status,
        "limit",
        exceeded.rate.field,
        retry_after,
    )
    assert dict(deny.headers).get(b"Retry-After") == (None if retry_after is None else b"%d" % retry_after)
    assert json.loads(deny.body).get("details") == (None if retry_after is None else {"retryAfterSeconds": retry_after})
