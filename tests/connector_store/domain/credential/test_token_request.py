import contextlib

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import MAX_TOKEN_BYTES, BearerToken
from connector_store.domain.credential.credentials import AuthParams
from connector_store.domain.credential.token_request import (
    KIND,
    IssuingCredential,
    TokenRequest,
    describe_failure,
    parse_token_response,
)

NOW = 1_800_000_000.0
ACCOUNT = ("serviceAccount", "ci/deployer")
REQUEST = TokenRequest(service_account=ObjectKey("ci", "deployer"))
CREDENTIAL = BearerToken("canary-held")
ISSUING_CREDENTIAL = IssuingCredential(CREDENTIAL, REQUEST)


def token(**claims: float) -> str:
    return jwt.encode(dict(claims), "x" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param((ACCOUNT,), REQUEST, id="the minimum"),
        pytest.param((("serviceAccount", " ci/deployer\n"),), REQUEST, id="white space around it"),
        pytest.param(
            (ACCOUNT, ("expirationSeconds", "600"), ("audiences", "a, https://b")),
            TokenRequest(service_account=REQUEST.service_account, expiration_seconds=600, audiences=("a", "https://b")),
            id="everything",
        ),
        pytest.param(
            (ACCOUNT, ("expirationSeconds", "4294967296")),
            TokenRequest(service_account=REQUEST.service_account, expiration_seconds=4294967296),
            id="as long as an API server takes",
        ),
    ],
)
def test_params_are_parsed(params: AuthParams, expected: TokenRequest) -> None:
    issuing_credential = KIND.derive(CREDENTIAL, params)
    assert isinstance(issuing_credential, IssuingCredential)
    assert (issuing_credential.credential, issuing_credential.request) == (CREDENTIAL, expected)
    assert issuing_credential == IssuingCredential(CREDENTIAL, expected)
    assert issuing_credential != IssuingCredential(BearerToken("other"), expected)
    assert issuing_credential.authorization is None, "it is never sent"
    assert "canary" not in repr(issuing_credential)


def test_it_expires_with_the_issuing_credential() -> None:
    assert IssuingCredential(BearerToken(token(exp=NOW)), REQUEST).expires_at == NOW


def test_an_issued_token_reports_the_expiry_of_the_issuing_credential() -> None:
    issuing_credential = IssuingCredential(BearerToken(token(exp=NOW)), REQUEST)
    issued = parse_token_response(token_response(token(iat=5, exp=605)), issuing_credential, now=NOW).token
    assert issued.expires_at == NOW
    assert issued.authorization == b"Bearer " + token(iat=5, exp=605).encode()


def test_path_and_body_of_a_token_request() -> None:
    assert REQUEST.path == "/api/v1/namespaces/ci/serviceaccounts/deployer/token"
    assert REQUEST.body["spec"] == {"audiences": [], "expirationSeconds": 3600}
    assert (REQUEST.body["apiVersion"], REQUEST.body["kind"]) == ("authentication.k8s.io/v1", "TokenRequest")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param((), "spec.auth.params[serviceAccount]: is missing", id="none"),
        pytest.param((ACCOUNT, ACCOUNT), "spec.auth.params[serviceAccount]: is there twice", id="doubled"),
        pytest.param((("serviceaccount", "a/b"),), "[serviceaccount]: is no parameter", id="misspelt"),
        pytest.param((("", "a/b"),), "is no parameter", id="without a name"),
        pytest.param((("serviceAccount", "deployer"),), "[serviceAccount]: is not of the form", id="no namespace"),
        pytest.param((("serviceAccount", ""),), "not of the form NAMESPACE/NAME", id="empty"),
        pytest.param((("serviceAccount", "a/b/../c"),), "not of the form NAMESPACE/NAME", id="a path"),
        pytest.param((ACCOUNT, ("expirationSeconds", "599")), "from 600 to", id="too short"),
        pytest.param((ACCOUNT, ("expirationSeconds", "4294967297")), "from 600 to 4294967296", id="too long"),
        pytest.param((ACCOUNT, ("expirationSeconds", "1h")), "from 600 to", id="a unit"),
        pytest.param((ACCOUNT, ("expirationSeconds", "-600")), "from 600 to", id="negative"),
        pytest.param((ACCOUNT, ("expirationSeconds", "9" * 400)), "from 600 to", id="without end"),
        pytest.param((ACCOUNT, ("expirationSeconds", "")), "from 600 to", id="empty seconds"),
        pytest.param((ACCOUNT, ("expirationSeconds", "٦٠٠")), "from 600 to", id="digits of another script"),
        pytest.param((ACCOUNT, ("audiences", "a,,b")), "an empty audience", id="an empty audience"),
    ],
)
def test_invalid_params_are_named_with_the_next_step(params: AuthParams, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        KIND.derive(CREDENTIAL, params)
    assert message in str(caught.value)


def token_response(text: object, expiration: object = "2027-01-15T09:00:00Z") -> object:
    return {"kind": "TokenRequest", "status": {"token": text, "expirationTimestamp": expiration}}


@pytest.mark.parametrize(
    ("response", "lifetime"),
    [
        pytest.param(
            token_response(token(iat=5, exp=605)),
            599,
            id="from iat and exp, rounded to seconds, independent of our clock",
        ),
        pytest.param(token_response("opaque"), 3600, id="from the timestamp"),
        pytest.param(token_response(token(iat=5)), 3600, id="from the timestamp, without exp"),
        pytest.param(token_response(token(iat=600, exp=611)), 10, id="the minimum"),
        pytest.param(token_response(token(exp=NOW + 700), None), 700, id="from exp alone"),
        pytest.param(token_response("opaque", "soon"), 3600, id="as requested, without times"),
    ],
)
def test_lifetime_of_a_token(response: object, lifetime: float) -> None:
    parsed = parse_token_response(response, ISSUING_CREDENTIAL, now=NOW)
    assert parsed.lifetime == lifetime
    assert "opaque" not in repr(parsed)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        pytest.param({}, "without a token", id="not an object"),
        pytest.param([], "without a token", id="a list"),
        pytest.param({"status": []}, "without a token", id="another status"),
        pytest.param(token_response(None), "without a token", id="null"),
        pytest.param(token_response(""), "without a token", id="empty"),
        pytest.param(token_response(5), "without a token", id="a number"),
        pytest.param(token_response("canary x"), "cannot be sent", id="a space in it"),
        pytest.param(token_response("canary\u00e9"), "cannot be sent", id="not ASCII"),
        pytest.param(token_response("c" * (MAX_TOKEN_BYTES + 1)), "cannot be sent", id="too long"),
        pytest.param(token_response(token(iat=600, exp=600)), "expired already", id="no lifetime"),
        pytest.param(token_response(token(iat=600, exp=601)), "expired already", id="a lifetime that rounds to zero"),
        pytest.param(token_response("canary", "2020-01-01T00:00:00Z"), "expired already", id="one that has expired"),
        pytest.param(token_response(token(iat=600, exp=610)), "for 9 s only", id="one for seconds"),
    ],
)
def test_a_response_without_a_usable_token_is_refused_without_quoting_it(response: object, message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        parse_token_response(response, ISSUING_CREDENTIAL, now=NOW)
    assert "canary" not in str(caught.value)


FIELDS = st.sampled_from(["status", "token", "expirationTimestamp"])
SCALARS = st.none() | st.booleans() | st.floats() | st.text()


@given(
    st.recursive(
        SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(FIELDS, each, max_size=9), max_leaves=20
    )
)
def test_every_response_is_a_token_or_a_parse_error(response: object) -> None:
    with contextlib.suppress(ParseError):
        assert parse_token_response(response, ISSUING_CREDENTIAL, now=NOW).lifetime > 0


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, 'does not accept the credential in secrets "s"'),
        (403, 'may not create serviceaccounts/token of "deployer" in namespace "ci" of the target'),
        (404, 'serviceaccounts "deployer" not found in namespace "ci"'),
        (429, "come back later"),
        (500, "status code 500"),
    ],
)
def test_a_failure_names_the_next_step(status: int, message: str) -> None:
    assert message in describe_failure(status, REQUEST, "s")
