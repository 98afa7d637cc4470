from base64 import b64encode

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.direct_access import (
    DirectRequest,
    host_header,
    is_cross_site,
    parse_direct_path,
    parse_request_token,
    rewrite_request_headers,
    rewrite_response_headers,
    via,
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
    rewritten = rewrite_request_headers(fields, Address(host="h", port=6443), b"1.1 a")
    assert rewritten == ((b"Host", b"h:6443"), (b"Accept", b"*/*"), (b"Via", b"1.1 a"))


def test_via_tells_connectors_and_processes_apart_and_shows_no_name() -> None:
    values = {via(key, secret) for key in (KEY, ObjectKey("team-a", "other")) for secret in (b"a", b"b")}
    assert len(values) == 4
    assert not any(b"k8s" in value or b"team" in value or value != value.lower() for value in values)


def test_the_default_port_of_https_is_omitted() -> None:
    assert host_header(Address(host="h", port=443)) == b"h"
    assert host_header(Address(host="fd00::1", port=443)) == b"[fd00::1]"
    assert host_header(Address(host="h", port=6443)) == b"h:6443"


PREFIXED = Address(host="t.example", port=6443, prefix="/kubernetes/global")
PLAIN = Address(host="t.example", port=443)


def rewrite(
    *headers: tuple[bytes, bytes],
    address: Address = PLAIN,
    path_prefix: bytes = b"/connectors/team-a/k8s",
    is_redirect: bool = True,
) -> Headers | None:
    request_target = address.prefix.encode() + b"/api/v1/pods?limit=1"
    return rewrite_response_headers(
        Headers(headers),
        is_redirect=is_redirect,
        request_target=request_target,
        address=address,
        path_prefix=path_prefix,
    )


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (b"/api/v1/x/", b"/api/v1/x/"),
        (b"/", b"/"),
        (b"https://t.example/api?a=b#c", b"/api?a=b#c"),
        (b"HTTPS://T.Example:443", b"/"),
        (b"//t.example/api", b"/api"),
        (b"nodes", b"/api/v1/nodes"),
        (b"?limit=2", b"/api/v1/pods?limit=2"),
        (b"../../other/x", b"/other/x"),
        (b"../../../../connectors/team-b/x", b"/connectors/team-b/x"),
    ],
)
def test_a_redirect_within_the_target_gets_the_form_of_the_client(location: bytes, path: bytes) -> None:
    assert rewrite((b"location", location)) == ((b"location", b"/connectors/team-a/k8s" + path),)
    assert rewrite((b"location", location), path_prefix=b"") == ((b"location", path),)


def test_a_redirect_loses_the_prefix_of_the_address() -> None:
    for location in (b"/kubernetes/global/api", b"https://t.example:6443/kubernetes/global/api", b"../../api"):
        assert rewrite((b"Location", location), address=PREFIXED) == ((b"Location", b"/connectors/team-a/k8s/api"),)
    assert rewrite((b"Location", b"/kubernetes/global"), address=PREFIXED, path_prefix=b"") == ((b"Location", b"/"),)


@pytest.mark.parametrize(
    "location",
    [
        b"http://t.example/api", b"https://evil.example/api", b"//evil.example/api", b"https://t.example:6443/api",
        b"https://t.example@evil.example/", b"https://evil.example\\@t.example/", b"/\\evil.example/",
        b"\\\\evil.example", b"https://t.example//evil.example/", b"https://[::1/", b"javascript:alert(1)", b"/a\tb",
        b"/\xc3\xa4", b" https://evil.example/", b"/api/%2e%2e/%2e%2e/connectors/team-b/x", b"https://t.example:x/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path_prefix", [b"/connectors/team-a/k8s", b""])
def test_a_redirect_that_leaves_the_target_is_refused(location: bytes, path_prefix: bytes) -> None:
    assert rewrite((b"Location", location), path_prefix=path_prefix) is None
    assert rewrite((b"Location", b"/api"), (b"Location", location), path_prefix=path_prefix) is None
    created = rewrite((b"Location", location), path_prefix=path_prefix, is_redirect=False)
    assert created == ((b"Location", location),)


@pytest.mark.parametrize("location", [b"/api", b"/kubernetes/globally", b"../../../api", b"https://t.example:6443/"])
def test_a_redirect_that_leaves_the_prefix_of_the_address_is_refused(location: bytes) -> None:
    assert rewrite((b"Location", location), address=PREFIXED) is None


@pytest.mark.parametrize("path_prefix", [b"/connectors/team-a/k8s", b""])
def test_a_response_without_location_and_cookies_is_unchanged(path_prefix: bytes) -> None:
    headers = (
        (b"Content-Location", b"https://t.example/api"),
        (b"Link", b"</api>; rel=next"),
        (b"A", b"b"),
        (b"a", b"c"),
    )
    assert rewrite(*headers, path_prefix=path_prefix) == headers


def test_an_empty_location_is_not_a_redirect() -> None:
    assert rewrite((b"Location", b"")) == ((b"Location", b""),)


def test_clients_get_cookies_only_by_alias_and_only_for_its_host() -> None:
    cookies = (b"Set-Cookie", b"a=domain; Path=/"), (b"set-cookie", b"b=c; Domain = svc.cluster.local")
    assert rewrite(*cookies, (b"A", b"b"), is_redirect=False) == ((b"A", b"b"),)
    assert rewrite(*cookies, path_prefix=b"", is_redirect=False) == cookies[:1]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"Sec-Fetch-Site", b"cross-site", True),
        (b"Sec-Fetch-Site", b"same-site", True),
        (b"sec-fetch-site", b"same-origin", False),
        (b"Sec-Fetch-Site", b"none", False),
        (b"Origin", b"https://evil.test", True),
        (b"Origin", b"null", True),
        (b"Origin", b"https://proxy", True),
        (b"Origin", b"https://proxy:8080.evil.test", True),
        (b"origin", b"https://proxy:8080", False),
        (b"Accept", b"*/*", False),
    ],
)
def test_basic_credentials_in_a_request_of_another_origin_are_cross_site(
    name: bytes, value: bytes, expected: bool
) -> None:
    host = (b"Host", b"proxy:8080")
    assert is_cross_site(Headers([host, *basic("team-a/k8s:tok"), (name, value)])) is expected
    assert not is_cross_site(Headers([host, (b"Authorization", b"Bearer tok"), (name, value)]))
