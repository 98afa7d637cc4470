import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.callers.token_claims import parse_claims, parse_issuer, rejection_reason

OURS = "connectors-proxy"


def token(payload: Any) -> str:
    return "e30." + base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=") + ".c2ln"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("bogus17", "it is not a JWT", id="a word"),
        pytest.param("", "it is not a JWT", id="empty"),
        pytest.param("a.b", "it is not a JWT", id="two parts"),
        pytest.param("a..c", "it is not a JWT", id="an empty part"),
        pytest.param(token({"aud": OURS}).removeprefix("e30"), "it is not a JWT", id="no head"),
        pytest.param(token({"aud": OURS}).removesuffix("c2ln"), "it is not a JWT", id="no signature"),
        pytest.param(f"a.{'W1tb' * 4000}.c", "it is not a JWT", id="lists in lists, as deep as a header can have them"),
        pytest.param("a.!.c", "it is not a JWT", id="no base64"),
        pytest.param("a.YQ.c", "it is not a JWT", id="no JSON"),
        pytest.param(token([OURS]), "it is not a JWT", id="JSON that is not an object"),
        pytest.param(token({}), "it is not for audience connectors-proxy", id="no audience"),
        pytest.param(token({"aud": "other"}), "it is not for audience connectors-proxy", id="another audience"),
        pytest.param(token({"aud": ["a", "b"]}), "it is not for audience connectors-proxy", id="other audiences"),
        pytest.param(token({"aud": OURS, "exp": 100}), "it has expired", id="an end that is past"),
        pytest.param(token({"aud": OURS, "exp": 101}), None, id="an end that is not"),
        pytest.param(token({"aud": ["a", OURS]}), None, id="one of several audiences, without an end"),
        pytest.param(
            token({"aud": OURS, "exp": "soon"}), None, id="the server decides about an expiry that is not a number"
        ),
    ],
)
def test_a_token_that_no_api_server_would_accept_is_rejected(text: str, reason: str | None) -> None:
    assert rejection_reason(text, OURS, now=100) == reason


def test_the_issuer_is_parsed_or_empty() -> None:
    assert parse_issuer(token({"iss": "https://issuer"})) == "https://issuer"
    assert parse_issuer(token({"iss": 7})) == parse_issuer(token({})) == parse_issuer("bogus") == ""


@given(st.text())
def test_every_text_has_a_result(text: str) -> None:
    assert parse_claims(text) is None or isinstance(parse_claims(text), dict)
    rejection_reason(text, OURS, now=0)
