"""What a tunnel was granted, and what a request brings."""

from addons.access.connector_request import ConnectorRequest, TunnelGrant, parse_bearer_token
from addons.http1.messages import RequestHead
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey

A = ObjectKey("n", "a")


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/api", 1, Headers(fields), 0)


def test_a_bearer_token_is_parsed_or_reported_as_unreadable() -> None:
    assert parse_bearer_token(head((b"Authorization", b"Bearer own"))) == "own"
    assert isinstance(parse_bearer_token(head()), ParseError)


def test_no_text_form_shows_a_token() -> None:
    granted = TunnelGrant(key=A, authority="h:1", host="h", token="canary")
    assert "canary" not in repr(granted) + repr(ConnectorRequest(A, "h:1", "canary"))
