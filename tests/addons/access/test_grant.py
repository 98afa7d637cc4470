"""A tunnel's text form hides its token."""

from addons.access.grant import Grant
from connector_store.domain.names import ObjectKey


def test_a_tunnel_shows_no_token() -> None:
    tunnel = Grant(key=ObjectKey("n", "a"), authority="h:1", host="h", source_ip="10.0.0.1", token="canary")
    assert "canary" not in repr(tunnel)
