import base64
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.authorization_header import (
    MAX_AUTHORIZATION_BYTES,
    BasicAuthorization,
    parse_basic,
    parse_bearer,
    parse_proxy_authorization,
)

KEY = ObjectKey("team-a", "k8s")
TOKEN = "eyJhbGciOi.J9-_~+/x=="


def basic(credentials: str | bytes) -> bytes:
    raw = credentials if isinstance(credentials, bytes) else credentials.encode()
    return b"Basic " + base64.b64encode(raw)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param(basic(f"team-a/k8s:{TOKEN}"), TOKEN, id="a slash"),
        pytest.param(basic(f"team-a%2Fk8s:{TOKEN}"), TOKEN, id="an escaped slash, as kube-rs sends it"),
        pytest.param(basic(f"team-a%2fk8s:{TOKEN}"), TOKEN, id="an escaped slash in lower case"),
        pytest.param(b"bAsIc  " + base64.b64encode(b"team-a/k8s:t"), "t", id="the scheme in any case, more spaces"),
        pytest.param(basic("team-a/k8s:x"), None, id="the password x means a token in the tunnel"),
    ],
)
def test_proxy_authorization_names_connector_and_token(value: bytes, token: str | None) -> None:
    assert parse_proxy_authorization(value) == BasicAuthorization(key=KEY, token=token)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(None, "missing", id="none"),
        pytest.param(b"", "missing", id="empty"),
        pytest.param(base64.b64encode(b"team-a/k8s:t"), "scheme Basic", id="no scheme"),
        pytest.param(b"Bearer t", "scheme Basic", id="another scheme"),
        pytest.param(b"Basic ???", "base64", id="not base64"),
        pytest.param(b"Basic dGVhbS1hL2s4czp0b2s", "base64", id="base64 without its padding"),
        pytest.param(b"Basic dGVh!bS1hL2s4czp0", "base64", id="base64 with something else within"),
        pytest.param(b"Basic dGVhbS1hL2s4czp0bw==dGVh", "base64", id="base64 that goes on behind its end"),
        pytest.param(b"Basic", "after the colon", id="a scheme alone"),
        pytest.param(basic("team-a/k8s"), "after the colon", id="no colon"),
        pytest.param(basic("team-a/k8s:"), "after the colon", id="no token"),
        pytest.param(basic("team-a/k8s:a b"), "after the colon", id="a space in the token"),
        pytest.param(basic("team-a/k8s:a\r\nX: y"), "after the colon", id="a line break in the token"),
        pytest.param(basic("team-a/k8s:tökén"), "after the colon", id="a token that is not ASCII"),
        pytest.param(basic("k8s:t"), "NAMESPACE/NAME", id="no slash"),
        pytest.param(basic("a/b/c:t"), "NAMESPACE/NAME", id="two slashes"),
        pytest.param(basic("a/b,c/d:t"), "NAMESPACE/NAME", id="two Connectors"),
        pytest.param(basic("a%252Fb:t"), "NAMESPACE/NAME", id="an escape of an escape"),
        pytest.param(basic("te\x00am/k8s:t"), "NAMESPACE/NAME", id="a control character"),
        pytest.param(basic("te\u00e4m/k8s:t"), "NAMESPACE/NAME", id="a name that is not ASCII"),
        pytest.param(basic("../k8s:t"), "NAMESPACE/NAME", id="dots for a namespace"),
        pytest.param(basic("a/b:" + "t" * 64000), str(MAX_AUTHORIZATION_BYTES), id="64 kB"),
    ],
)
def test_malformed_proxy_authorization_is_refused(value: bytes | None, message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        parse_proxy_authorization(value)
    assert caught.value.path == "Proxy-Authorization"


def test_requests_to_the_proxy_itself_need_the_token() -> None:
    assert parse_basic(basic("team-a%2Fk8s:t")) == BasicAuthorization(key=KEY, token="t")
    with pytest.raises(ParseError, match=r"^Authorization: has no token"):
        parse_basic(basic("team-a/k8s:x"))
    with pytest.raises(ParseError, match=r"^Authorization: is missing"):
        parse_basic(None)


def test_a_header_of_maximum_length_is_accepted() -> None:
    longest = "a" * (MAX_AUTHORIZATION_BYTES - len("Bearer "))
    assert parse_bearer(f"Bearer {longest}".encode()) == longest


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}".encode(), f"bearer   {TOKEN} ".encode()])
def test_bearer_returns_the_token(value: bytes) -> None:
    assert parse_bearer(value) == TOKEN


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param(b"Bearer", id="no token"),
        pytest.param(b"Bearer a b", id="two tokens"),
        pytest.param(b"Bearer a\x00", id="a control character"),
        pytest.param(b"Bearer =", id="padding alone"),
        pytest.param(b"Basic abc", id="another scheme"),
        pytest.param(b"Bearer " + b"a" * (MAX_AUTHORIZATION_BYTES - 6), id="a byte too long"),
    ],
)
def test_malformed_bearer_is_refused(value: bytes | None) -> None:
    with pytest.raises(ParseError):
        parse_bearer(value)


def test_no_repr_and_no_error_shows_the_token() -> None:
    assert "s3cret" not in repr(parse_proxy_authorization(basic("team-a/k8s:s3cret")))
    for value in (basic("s3cret"), basic("s3cret:s3cret"), b"s3cret", b"Basic s3cret!"):
        with pytest.raises(ParseError) as caught:
            parse_proxy_authorization(value)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


@given(st.binary(max_size=200) | st.builds(lambda raw: basic(raw), st.binary(max_size=100)))
@example(b"Basic \xff")
def test_any_value_raises_only_parse_errors(value: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [parse_proxy_authorization, parse_basic, parse_bearer]
    for parse in parsers:
        with contextlib.suppress(ParseError):
            parse(value)


@given(st.from_regex(r"[A-Za-z0-9\-._~+/]{1,80}={0,2}", fullmatch=True).filter(lambda text: text != "x"))
def test_every_token_is_parsed_unchanged(token: str) -> None:
    assert parse_proxy_authorization(basic(f"team-a/k8s:{token}")).token == token
    assert parse_bearer(b"Bearer " + token.encode()) == token
