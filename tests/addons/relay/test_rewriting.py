"""Responses that the proxy rewrites: what the target gets, what the client gets, and what is refused."""

import json
from dataclasses import replace

import pytest

from addons.http1.messages import BodyEnd, RequestHead
from addons.relay.response import Progress, Response, TruncatedResponse
from addons.relay.rewriting import mask_rewriter, review_rewriter
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.decision.denial import Deny
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule
from tests.addons.relay.test_inject import target

CANARY = b"c4n4ry"
SECRETS = "/api/v1/namespaces/n/secrets"
SECRET = b'{"kind":"Secret","metadata":{"name":"a"},"data":{"p":"c4n4ry"}}'
LIST = b'{"kind":"SecretList","metadata":{},"items":[{"metadata":{"name":"a"},"data":{"p":"c4n4ry"}}]}'
EVENT = b'{"type":"ADDED","object":%b}\n' % SECRET
JSON = b"Content-Type: application/json\r\n"


def respond(path: str = f"{SECRETS}/a", *, method: str = "GET", accept: bytes = b"*/*") -> Response:
    head = RequestHead(method.encode(), path.encode(), 1, Headers([(b"Accept", accept)]), 0)
    rewriter = mask_rewriter(head, parse_request(method, path, ""))
    return Response(head, target("t"), None, max_head=4096, rewriter=rewriter)


def message(body: bytes, *, status: bytes = b"200 OK", headers: bytes = JSON) -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%b0\r\nT: c4n4ry\r\n\r\n" % (JSON, chunks)


def body_of(output: bytes) -> bytes:
    """Return the content of a chunked response."""
    remainder, content = output.partition(b"\r\n\r\n")[2], b""
    while remainder:
        size, _, remainder = remainder.partition(b"\r\n")
        content += remainder[: int(size, 16)]
        remainder = remainder[int(size, 16) + 2 :]
    return content


def test_the_target_is_asked_for_json_without_compression() -> None:
    headers = [(b"Host", b"h"), (b"accept", b"a/b;as=Table;v=v1;g=meta.k8s.io"), (b"Accept-Encoding", b"gzip"),
               (b"If-None-Match", b'"1"'), (b"Range", b"bytes=0-1")]  # fmt: skip
    head = RequestHead(b"GET", b"/", 1, Headers(headers), 0)
    rewritten = mask_rewriter(head, parse_request("GET", SECRETS, "")).rewrite_request(head)
    assert rewritten.headers == (
        (b"Host", b"h"),
        (b"Accept", b"application/json;as=Table;v=v1;g=meta.k8s.io"),
        (b"Accept-Encoding", b"identity"),
    )


@pytest.mark.parametrize(
    ("path", "data"),
    [
        pytest.param(f"{SECRETS}/a", message(SECRET), id="an object with a length"),
        pytest.param(f"{SECRETS}/a", chunked(SECRET[:30], SECRET[30:]), id="an object in chunks"),
        pytest.param(SECRETS, message(LIST), id="a list with a length"),
        pytest.param(SECRETS, chunked(LIST[:60], LIST[60:]), id="a list in chunks"),
        pytest.param(f"{SECRETS}?watch=1", chunked(EVENT, EVENT), id="a watch"),
    ],
)
def test_the_client_gets_the_masked_body_in_chunks(path: str, data: bytes) -> None:
    for size in (1, 7, len(data)):
        response = respond(path)
        output = b"".join(response.receive(data[start : start + size]) for start in range(0, len(data), size))
        assert (response.progress, response.failure) == (Progress.COMPLETE, None)
        assert response.allows_reuse
        assert b"bWFza2Vk" in body_of(output)
        assert CANARY not in output
        assert b"Transfer-Encoding: chunked" in output
        assert b"Content-Length" not in output


def test_only_known_headers_of_the_target_pass() -> None:
    headers = JSON + b"Audit-Id: 1\r\nWarning: 299 - c4n4ry\r\nX-Own: c4n4ry\r\nConnection: close\r\n"
    response = respond()
    output = response.receive(message(SECRET, headers=headers, status=b"200 c4n4ry"))
    assert CANARY not in output
    assert output.startswith(b"HTTP/1.1 200 OK\r\nAudit-Id: 1\r\n")
    assert response.must_close


def test_interim_heads_are_dropped() -> None:
    response = respond()
    assert response.receive(b"HTTP/1.1 103 Early Hints\r\nLink: c4n4ry\r\n\r\n") == b""
    assert CANARY not in response.receive(message(SECRET))
    assert not response.allows_reuse


def test_the_client_of_a_watch_gets_the_head_at_once_and_each_event_when_it_is_complete() -> None:
    response, data = respond(f"{SECRETS}?watch=1"), chunked(EVENT)
    start = data.index(b"\r\n\r\n") + 4
    assert response.receive(data[:start]).startswith(b"HTTP/1.1 200")
    assert response.render_error_event("no more") == b"" or response.head is not None
    assert response.receive(data[start:-30]) == b""
    assert b"bWFza2Vk" in response.receive(data[-30:])


def test_the_client_of_a_list_gets_nothing_before_the_first_byte_of_the_body() -> None:
    response = respond(SECRETS)
    assert response.receive(b"HTTP/1.1 200 OK\r\n%bContent-Length: 9\r\n\r\n" % JSON) == b""
    assert response.head is None


def test_head_has_no_body() -> None:
    output = respond(method="HEAD").receive(b"HTTP/1.1 200 OK\r\n%bContent-Length: 64\r\n\r\n" % JSON)
    assert output == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(message(SECRET, headers=b""), "content type", id="no content type"),
        pytest.param(message(SECRET, headers=b"Content-Type: application/yaml\r\n"), "content type", id="YAML"),
        pytest.param(message(SECRET, headers=JSON + JSON), "content type", id="two content types"),
        pytest.param(message(SECRET, headers=JSON + b"Content-Encoding: gzip\r\n"), "compressed", id="gzip"),
        pytest.param(message(SECRET, status=b"206 Partial"), "status 206", id="a part"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", "status 304", id="not modified"),
        pytest.param(message(b"", status=b"302 Found"), "status 302", id="a redirect"),
        pytest.param(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (JSON, SECRET), "length", id="no length"),
        pytest.param(message(LIST), "kind", id="a list instead of the object"),
        pytest.param(message(SECRET[:-1]), "", id="JSON that is cut off"),
        pytest.param(message(b""), "", id="no body"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\nc4n4ry", "not asked for", id="an upgrade"),
        pytest.param(b"HTTP/1.1 401 U\r\nContent-Length: 6\r\n\r\nc4n4ry", "credential", id="401"),
    ],
)
def test_another_response_is_refused(data: bytes, words: str) -> None:
    response = respond()
    assert response.receive(data) == b""
    assert isinstance(response.failure, Deny)
    assert response.failure.status == 502
    assert words in response.failure.message
    assert CANARY not in response.failure.body


def test_a_connection_that_ends_early_is_refused() -> None:
    response = respond()
    response.receive(message(SECRET)[:-5])
    assert response.receive_eof(clean_eof=True) == b""
    assert isinstance(response.failure, Deny)


@pytest.mark.parametrize("end", [b"garbage", LIST[:-4]])
def test_a_list_that_turns_out_wrong_is_truncated(end: bytes) -> None:
    response = respond(SECRETS)
    output = response.receive(chunked(LIST[:80] + end))
    assert isinstance(response.failure, TruncatedResponse)
    assert CANARY not in output
    assert not output.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("status", [b"404 Not Found", b"429 c4n4ry", b"500 c4n4ry", b"599 c4n4ry"])
def test_a_status_passes_and_another_error_loses_its_body(status: bytes) -> None:
    body = b'{"kind":"Status","code":404,"own":"c4n4ry"}'
    output = respond().receive(message(body, status=status, headers=JSON + b"Retry-After: 1\r\n"))
    assert json.loads(body_of(output)) == {"kind": "Status", "code": 404}
    assert b"Retry-After: 1" in output
    output = respond().receive(message(CANARY, status=status, headers=b"Content-Encoding: gzip\r\n"))
    assert body_of(output) == b""
    assert CANARY not in output


def test_a_table_is_masked_as_a_table() -> None:
    table = (
        b'{"kind":"Table","metadata":{},"columnDefinitions":[],"rows":[{"cells":["a","Opaque",1,"5m"],"object":%b}]}'
    )
    response = respond(SECRETS, accept=b"application/json;as=Table;v=v1;g=meta.k8s.io")
    output = response.receive(message(table % SECRET))
    assert json.loads(body_of(output))["rows"][0]["cells"] == ["a", "Opaque", 1, "5m"]
    assert CANARY not in output


def test_the_framing_of_the_client_is_chunked() -> None:
    response = respond(SECRETS)
    response.receive(message(LIST))
    assert response.head is not None
    assert response.head.body is BodyEnd.LAST_CHUNK


REVIEW = b'{"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"%b","resource":"pods"}},"status":%b}'


def respond_to_review(permissions: PermissionEvaluator | None, wider: tuple[PermissionEvaluator, ...] = ()) -> Response:
    head = RequestHead(b"POST", b"/", 1, Headers([(b"Accept", b"application/vnd.kubernetes.protobuf")]), 9)
    limited = replace(target("t"), permissions=permissions)
    rewriter = review_rewriter(head, limited, wider)
    assert rewriter.rewrite_request(head).headers[0] == (b"Accept", b"application/json")
    return Response(head, limited, None, max_head=4096, rewriter=rewriter)


@pytest.mark.parametrize(("verb", "allowed"), [(b"get", True), (b"delete", False)])
def test_a_self_review_says_what_the_connector_allows(verb: bytes, allowed: bool) -> None:
    rule = PolicyRule(verbs=("get",), api_groups=("",), resources=("pods",))
    permissions = PermissionEvaluator((BoundRole(label="r", rules=(rule,)),), ())
    body = REVIEW % (verb, b'{"allowed":true}')
    output = respond_to_review(permissions).receive(message(body, status=b"201 Created"))
    assert json.loads(body_of(output))["status"]["allowed"] is allowed
    assert output.startswith(b"HTTP/1.1 201 Created")


def test_a_self_review_says_what_an_access_request_adds() -> None:
    body = REVIEW % (b"delete", b'{"allowed":true}')
    output = respond_to_review(PermissionEvaluator((), ()), (PermissionEvaluator(None, ()),)).receive(message(body))
    assert json.loads(body_of(output))["status"]["allowed"] is True


def test_another_response_to_a_self_review_is_refused() -> None:
    response = respond_to_review(None)
    assert response.receive(message(REVIEW % (b"get", b'{"allowed":true}'))) == b""
    assert isinstance(response.failure, Deny)
