"""Pod tokens from kubelet: secrets take precedence, and errors never quote them."""

import base64
import contextlib
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.pod_token import TOKENS_KEY, PodToken, parse_pod_token

AUDIENCE = "connectors-proxy"
KEY = "k" * 32


def tokens(token: object, audience: str = AUDIENCE) -> dict[str, str]:
    return {TOKENS_KEY: json.dumps({audience: {"token": token, "expirationTimestamp": "2026-01-01T00:00:00Z"}})}


def test_secrets_take_precedence_over_the_volume_context() -> None:
    assert parse_pod_token(tokens("new"), tokens("old"), AUDIENCE).token == "new"


def test_the_token_of_an_older_kubelet_is_in_the_volume_context() -> None:
    assert parse_pod_token({}, tokens("old"), AUDIENCE).token == "old"


def test_the_lifetime_is_from_issue_to_expiry() -> None:
    token = jwt.encode({"iat": 1000, "exp": 2800}, KEY)
    read = parse_pod_token(tokens(token), {}, AUDIENCE)
    assert (read.lifetime, read.expires_at) == (1800, 2800)


@pytest.mark.parametrize(
    ("claims", "expires"),
    [
        pytest.param('{"exp": 2800}', 2800, id="without a time of issue"),
        pytest.param('{"exp": 0.5}', 0.5, id="a fraction"),
        pytest.param('{"exp": "2800"}', None, id="a text"),
        pytest.param('{"exp": Infinity}', None, id="never"),
        pytest.param('{"exp": 1' + "0" * 400 + "}", None, id="beyond every float"),
        pytest.param("{}", None, id="empty"),
    ],
)
def test_the_expiry_is_the_claim(claims: str, expires: float | None) -> None:
    token = "a." + base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=") + ".c"
    assert parse_pod_token(tokens(token), {}, AUDIENCE).expires_at == expires


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("opaque", id="no JWT"),
        pytest.param("a.%%%.c", id="no base64"),
        pytest.param("a.W10.c", id="a JSON list"),
        pytest.param(jwt.encode({"exp": 2800}, KEY), id="no time of issue"),
        pytest.param(jwt.encode({"iat": 1000}, KEY), id="no end"),
        pytest.param(jwt.encode({"exp": 2800, "iat": 0.5}, KEY)[:30], id="truncated"),
    ],
)
def test_a_token_without_times_has_no_lifetime(token: str) -> None:
    assert parse_pod_token(tokens(token), {}, AUDIENCE).lifetime is None


@pytest.mark.parametrize(
    ("given_tokens", "reason"),
    [
        pytest.param({}, "is missing", id="empty"),
        pytest.param({TOKENS_KEY: ""}, "is missing", id="empty"),
        pytest.param({TOKENS_KEY: "s3cret"}, "not what kubelet sends", id="no JSON"),
        pytest.param({TOKENS_KEY: '["s3cret"]'}, "has none for audience", id="a list"),
        pytest.param({TOKENS_KEY: "5"}, "not what kubelet sends", id="a number"),
        pytest.param({TOKENS_KEY: '{"connectors-proxy": "s3cret"}'}, "not what kubelet sends", id="no object"),
        pytest.param(
            {TOKENS_KEY: '{"connectors-proxy": {"s3cret": 1}}'}, "not what kubelet sends", id="no token in it"
        ),
        pytest.param(tokens("s3cret", "other"), "has none for audience", id="another audience"),
        pytest.param(tokens(["s3cret"]), "something else than a token", id="a token that is a list"),
        pytest.param(tokens(""), "something else than a token", id="an empty token"),
        pytest.param({TOKENS_KEY: "[" * 100_000}, "not what kubelet sends", id="lists in lists without end"),
        pytest.param(tokens("s3cret\nx"), "something else than a token", id="a line break without a space"),
        pytest.param(tokens("s3cret\nx: y"), "something else than a token", id="a line break"),
        pytest.param(tokens("s3cret x"), "something else than a token", id="a space"),
        pytest.param(tokens("s3cret\u00e9"), "something else than a token", id="not ASCII"),
    ],
)
def test_other_values_are_refused_without_quoting_them(given_tokens: dict[str, str], reason: str) -> None:
    with pytest.raises(ParseError, match=reason) as caught:
        parse_pod_token(given_tokens, {}, AUDIENCE)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "connectors-proxy" in str(caught.value) or "audience" in str(caught.value)


@given(st.text())
def test_every_text_is_a_token_or_a_parse_error(text: str) -> None:
    with contextlib.suppress(ParseError):
        parse_pod_token({TOKENS_KEY: text}, {}, AUDIENCE)


def test_text_forms_hide_the_token() -> None:
    assert "s3cret" not in repr(PodToken(token="s3cret"))
