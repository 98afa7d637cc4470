"""What a tunnel was granted, and how many one caller may have."""

from addons.access.grant import Asked, Grant, Limits, bearer
from addons.http1.messages import RequestHead
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import Fields
from connector_store.domain.names import ObjectKey

A, B = ObjectKey("n", "a"), ObjectKey("n", "b")


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/api", 1, Fields(fields), 0)


def test_a_request_brings_a_token_or_none_that_can_be_read() -> None:
    assert bearer(head((b"Authorization", b"Bearer own"))) == "own"
    assert isinstance(bearer(head()), ParseError)


def test_no_text_form_shows_a_token() -> None:
    granted = Grant(key=A, authority="h:1", host="h", token="canary")
    assert "canary" not in repr(granted) + repr(Asked(A, "h:1", "canary"))


def test_connections_are_counted_by_caller_and_connector() -> None:
    limits = Limits()
    for user, key in (("u", A), ("u", A), ("u", B), ("v", A)):
        limits.take(user, key)
    limits.give_back("u", A)
    limits.give_back("u", B)
    assert limits.taken == {("u", A): 1, ("v", A): 1}
