import base64

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.bearer_token import BEARER_TOKEN, KIND, MAX_TOKEN_BYTES, BearerToken

TOKEN = "canary-0d1c7a"
JWT = "e30." + base64.urlsafe_b64encode(b'{"iat":600,"exp":1200}').decode().rstrip("=") + ".sig"


def test_a_token_has_its_header_and_expiry() -> None:
    token = BearerToken(TOKEN)
    assert (token.authorization, token.expires_at) == (b"Bearer canary-0d1c7a", None)
    issued = BearerToken(JWT)
    assert (issued.issued_at, issued.expires_at) == (600.0, 1200.0)
    assert issued.expiry_warning_at(3600.0) == 1080.0, "the last fifth of ten minutes"
    assert KIND.secret_types == (BEARER_TOKEN,)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param(b"abc", "abc", id="unchanged"),
        pytest.param(b" \tabc\r\n", "abc", id="white space around it"),
        pytest.param(b"a" * MAX_TOKEN_BYTES, "a" * MAX_TOKEN_BYTES, id="the longest"),
    ],
)
def test_tokens(value: bytes, token: str) -> None:
    assert BEARER_TOKEN.read({"token": value}) == BearerToken(token)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(b" \n", "empty", id="white space alone"),
        pytest.param(b"s3cret" * MAX_TOKEN_BYTES, "longer", id="too long"),
        pytest.param(b"s3cret s3cret", "spaces", id="a space inside"),
        pytest.param("s3cret\u00e9".encode(), "ASCII", id="not ASCII"),
    ],
)
def test_an_invalid_token_is_refused_without_quoting_it(value: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        BEARER_TOKEN.read({"token": value})
    assert "s3cret" not in str(caught.value)
