from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.headers import Headers
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.request_attributes import (
    MAX_QUERY_PAIRS,
    RequestAttributes,
    is_canonical_path,
    is_self_review,
    may_create,
    parse_request_attributes,
    requires_create,
)


@pytest.mark.parametrize(
    ("method", "types", "creates"),
    [
        (b"PUT", (b"application/json",), True),
        (b"POST", (), False),
        (b"GET", (), False),
        (b"PATCH", (b"application/json-patch+json",), False),
        (b"PATCH", (b"application/strategic-merge-patch+json; charset=utf-8",), False),
        (b"PATCH", (b"application/apply-patch+yaml",), True),
        (b"PATCH", (b"application/apply-patch+cbor",), True),
        (b"PATCH", (b"Application/Merge-Patch+json",), True),
        (b"PATCH", (), True),
        (b"PATCH", (b"application/merge-patch+json", b"application/apply-patch+yaml"), True),
    ],
)
def test_requests_that_may_create(method: bytes, types: tuple[bytes, ...], creates: bool) -> None:
    assert may_create(method, types) is creates


@pytest.mark.parametrize(
    "target",
    [
        "/", "/api", "/api/", "/api/v1/pods", "/api/v1/pods/", "/apis/a.b/v1/c?x=%2F..//&y", "/api/v1/nodes/system:a",
        "/api/v1/nodes/system%3Aa", "/a/%7Eb", "/a/b.c/..d/.e", "/a/x%20y", "/a/" + "b" * 5000, "?a", "",
        "/a/-._~!$&'()*+,=:@|^\"<>{}[]`", "/a/.../b", "/a%20%21", "/a?" + "&" * (MAX_QUERY_PAIRS - 1),
    ],
)  # fmt: skip
def test_canonical_paths(target: str) -> None:
    assert is_canonical_path(target)


@pytest.mark.parametrize(
    "target",
    [
        "//api", "/api//v1", "/api/v1//", "/./api", "/api/.", "/api/..", "/api/../v1", "/api/%2e", "/api/.%2E/v1",
        "/a/%2F",
        "/a%2fb", "/a%5Cb", "/a\\b", "/a;b", "/a%3Bb", "/a%3fb", "/a%23b", "/a%25b", "/a%20%2Fb", "/a%20%25b",
        "/a%20%00", "/a%", "/a%2", "/a%zz", "/a%00",
        "/a%0A",
        "/a%C3%A9", "/aé", "/a b", "api/v1", "*", "/a%7F",
        "/a?" + "&" * MAX_QUERY_PAIRS,
    ],
)  # fmt: skip
def test_other_paths(target: str) -> None:
    assert not is_canonical_path(target)


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=0x2FF), min_size=1, max_size=5), max_size=4))
def test_decoding_a_canonical_path_again_changes_nothing(segments: list[str]) -> None:
    target = "".join(f"/{quote(each, safe='%~!:;')}" for each in segments)
    if is_canonical_path(target):
        path = parse_request("GET", target, "").path
        assert parse_request("GET", path, "").path == path
        assert path.count("/") == target.count("/")


def test_attributes_are_parsed_from_a_request_head() -> None:
    headers = Headers([(b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Content-Type", b"x/y")])
    assert parse_request_attributes(b"PATCH", b"/p/api/v1//pods", headers, "/p") == RequestAttributes(
        info=parse_request("PATCH", "/api/v1//pods", ""), is_canonical=False, is_upgrade=True, may_create=True
    )
    assert parse_request_attributes(b"PUT", b"/api/v1/nodes/a", Headers(), "").may_create
    merge = Headers([(b"Content-Type", b"application/merge-patch+json")])
    assert not parse_request_attributes(b"PATCH", b"/api/v1/nodes/a", merge, "").may_create
    assert parse_request_attributes(b"GET", b"/version", Headers(), "") == RequestAttributes(
        info=parse_request("GET", "/version", "")
    )


@pytest.mark.parametrize(
    ("method", "path", "is_one"),
    [
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", True),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", True),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", False),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", False),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", False),
        ("POST", "/apis/x.io/v1/selfsubjectaccessreviews", False),
    ],
)
def test_self_reviews(method: str, path: str, is_one: bool) -> None:
    assert is_self_review(parse_request(method, path, "")) is is_one


@pytest.mark.parametrize(
    ("subresource", "is_upgrade", "required"),
    [
        pytest.param("exec", False, True, id="exec without an upgrade, as a server may take it"),
        pytest.param("log", True, False, id="an upgrade to read logs"),
        pytest.param("", True, False, id="an upgrade to watch"),
        pytest.param("console", True, True, id="an upgrade of a subresource that another server defines"),
        pytest.param("console", False, False, id="a read of a subresource that another server defines"),
    ],
)
def test_streams_require_create(subresource: str, is_upgrade: bool, required: bool) -> None:
    assert requires_create(subresource, is_upgrade=is_upgrade) is required
