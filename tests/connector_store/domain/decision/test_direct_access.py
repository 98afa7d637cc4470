from base64 import b64encode

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.direct_access import (
    DirectRequest,
    host_header,
    parse_direct_path,
    parse_request_token,
    with_target_host,
)
from connector_store.domain.objects.models import Address

KEY = ObjectKey("team-a", "k8s")
BOTH = Headers([(b"Authorization", b"Bearer a"), (b"Proxy-Authorization", b"Basic b")])


@pytest.mark.parametrize(
    ("target", "request_target"),
    [
        pytest.param(b"/connectors/team-a/k8s", b"/", id="only the prefix"),
        pytest.param(b"/connectors/team-a/k8s/", b"/", id="a slash"),
        pytest.param(b"/connectors/team-a/k8s/api?a=/b?c", b"/api?a=/b?c", id="a path and a query"),
        pytest.param(b"/connectors/team-a/k8s?timeout=1", b"/?timeout=1", id="a query alone"),
        pytest.param(b"/connectors/team-a/k8s//api", b"//api", id="two slashes"),
        pytest.param(b"/connectors/team-a/k8s/../x", b"/../x", id="dots, which a later check refuses"),
    ],
)
def test_the_path_prefix_of_the_connector_is_removed(target: bytes, request_target: bytes) -> None:
    assert parse_direct_path(target) == DirectRequest(KEY, request_target)


@pytest.mark.parametrize(
    "target",
    [
        b"/api", b"/connectors", b"/connectors/", b"/connectors/team-a", b"/connectors/team-a/", b"/connectors//k8s",
        b"/connectors/team-a%2fk8s/api", b"/connectors/team-a/k8s%2fapi", b"/connectors/team-a/k8s%3fa", b"*",
        b"/connectors/../connectors/team-a/k8s", b"/connectors/./team-a/k8s", b"//connectors/team-a/k8s/api",
        b"/Connectors/team-a/k8s/api", b"/connectors/Team-A/k8s/api", b"/connectors/team-a/../k8s", b"/connectors/-/a",
        b"/connectors/team-a/..", b"/connectors/te%61m-a/k8s/api", b"https://h/connectors/team-a/k8s/api",
    ],
)  # fmt: skip
def test_other_paths_name_no_connector_and_are_not_decoded(target: bytes) -> None:
    assert parse_direct_path(target) is None


def basic(text: str) -> Headers:
    return Headers([(b"Authorization", b"basic " + b64encode(text.encode()))])


def test_the_token_is_a_bearer_token_or_a_basic_password() -> None:
    assert parse_request_token(Headers([(b"authorization", b"Bearer tok")]), KEY) == "tok"
    assert parse_request_token(basic("team-a/k8s:tok"), KEY) == "tok"
    [(name, value)] = basic("team-a/k8s:tok")
    assert parse_request_token(Headers([(name, b"BASIC" + value[5:])]), KEY) == "tok"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(Headers(), "is missing", id="none"),
        pytest.param(basic("team-a/other:tok"), "names another Connector", id="another Connector"),
        pytest.param(basic("team-a/k8s:x"), "has no token", id="the password for a token in the requests"),
        pytest.param(Headers([(b"Authorization", b"Bearer a")] * 2), "is missing", id="two"),
        pytest.param(
            Headers([(b"Authorization", b"Bearer a"), (b"Proxy-Authorization", b"Basic b")]),
            "is for CONNECT",
            id="two kinds",
        ),
    ],
)
def test_invalid_credentials_are_refused(fields: Headers, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_request_token(fields, KEY)


def test_the_target_gets_its_own_host() -> None:
    fields = Headers([(b"Accept", b"*/*"), (b"host", b"proxy"), (b"HOST", b"other")])
    assert with_target_host(fields, Address(host="h", port=6443)) == ((b"Host", b"h:6443"), (b"Accept", b"*/*"))


def test_the_default_port_of_https_is_omitted() -> None:
    assert host_header(Address(host="h", port=443)) == b"h"
    assert host_header(Address(host="fd00::1", port=443)) == b"[fd00::1]"
    assert host_header(Address(host="h", port=6443)) == b"h:6443"
