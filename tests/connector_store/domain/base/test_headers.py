import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.headers import Header, Headers

HOST: Header = (b"Host", b"t:6443")


@pytest.mark.parametrize(
    "name",
    [b"Impersonate-User", b"IMPERSONATE-GROUP", b"impersonate_user", b"X-Remote-User", b"x_remote_group",
     b"X-Remote_Uid", b"X_Remote-Extra-a"],
)  # fmt: skip
def test_impersonation_headers_are_detected(name: bytes) -> None:
    assert Headers([HOST, (name, b"")]).impersonation_header == name


@pytest.mark.parametrize("name", [b"X-Remote", b"Impersonate", b"X-Request-Id", b"X-Impersonate-User", b"Accept"])
def test_other_headers_do_not_impersonate(name: bytes) -> None:
    assert Headers([HOST, (name, b"")]).impersonation_header is None


def test_all_values_of_a_header_are_returned_without_regard_to_case() -> None:
    headers = Headers([HOST, (b"hOST", b"b"), (b"Hos", b"c")])
    assert headers.values(b"host") == [b"t:6443", b"b"]
    assert headers.values(b"accept") == ()
    assert (headers.single_value(b"host"), headers.single_value(b"hos"), headers.single_value(b"accept")) == (
        None,
        b"c",
        None,
    )


@pytest.mark.parametrize(
    ("headers", "protocol"),
    [
        pytest.param([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], b"websocket", id="websocket"),
        pytest.param([(b"connection", b"keep-alive, upgrade"), (b"UPGRADE", b"SPDY/3.1")], b"spdy/3.1", id="SPDY"),
        pytest.param([(b"Upgrade", b"websocket")], None, id="no Connection header"),
        pytest.param([(b"Connection", b"close"), (b"Upgrade", b"websocket")], None, id="Connection names another"),
        pytest.param([(b"Connection", b"Upgrade")], None, id="no Upgrade header"),
        pytest.param([(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], None, id="HTTP/2 in clear"),
        pytest.param([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket, h2c")], None, id="a choice"),
        pytest.param(
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")], None, id="two headers"
        ),
    ],
)
def test_an_upgrade_is_one_protocol_that_kubectl_uses(headers: list[Header], protocol: bytes | None) -> None:
    assert Headers(headers).upgrade_protocol == protocol


@pytest.mark.parametrize(
    "hop_by_hop",
    [
        pytest.param([(b"Proxy-Authorization", b"Basic x")], id="the proxy's credentials"),
        pytest.param([(b"proxy-connection", b"close")], id="anything of the proxy's"),
        pytest.param([(b"Keep-Alive", b"1")], id="Keep-Alive"),
        pytest.param([(b"TE", b"trailers")], id="TE"),
        pytest.param([(b"Transfer-Encoding", b"chunked")], id="Transfer-Encoding"),
        pytest.param([(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], id="Upgrade"),
        pytest.param([(b"Upgrade", b"h2c")], id="an Upgrade that Connection does not name"),
        pytest.param([(b"Connection", b"close"), (b"Upgrade", b"h2c")], id="an Upgrade beside another Connection"),
        pytest.param([(b"Connection", b"x-a,X-B"), (b"X-A", b"1"), (b"x-b", b"2")], id="what Connection names"),
        pytest.param([(b"Connection", b"close"), (b"Connection", b"X-A"), (b"X-A", b"1")], id="in a second Connection"),
    ],
)
def test_hop_by_hop_headers_are_dropped_in_both_directions(hop_by_hop: list[Header]) -> None:
    end_to_end: tuple[Header, ...] = (HOST, (b"Accept", b"*/*"))
    assert Headers([*hop_by_hop, *end_to_end]).end_to_end == end_to_end
    assert Headers([*end_to_end, *hop_by_hop]).to_target == end_to_end
    assert Headers([*end_to_end, *hop_by_hop]).lines_to_target == b"Host: t:6443\r\nAccept: */*\r\n"


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"Audit-ID", b"audit-id"])
def test_replaced_headers_are_not_forwarded(name: bytes) -> None:
    assert Headers([HOST, (name, b"the caller's")]).to_target == (HOST,)


def test_connection_cannot_remove_host_and_content_length() -> None:
    end_to_end: tuple[Header, ...] = (HOST, (b"Content-Length", b"5"))
    assert Headers([(b"Connection", b"host, content-length"), *end_to_end]).to_target == end_to_end


@pytest.mark.parametrize(
    ("headers", "user_agent"),
    [
        pytest.param([HOST], "", id="none"),
        pytest.param([(b"User-Agent", b"kubectl/\xe9"), (b"user-agent", b"b")], "kubectl/é", id="the first of two"),
    ],
)
def test_user_agent_is_read_for_the_audit_log(headers: list[Header], user_agent: str) -> None:
    assert Headers(headers).user_agent == user_agent


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        pytest.param(b"v5.channel.k8s.io", b"v5.channel.k8s.io", id="without a token it is forwarded unchanged"),
        pytest.param(
            b"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.abc", b"v5.channel.k8s.io", id="a token after"
        ),
        pytest.param(b"Base64URL.bearer.authorization.k8s.io.a , b,c", b"b, c", id="a token before, in any case"),
        pytest.param(b"base64url.bearer.authorization.k8s.io.abc", None, id="a token alone"),
    ],
)
def test_a_bearer_subprotocol_is_removed(sent: bytes, forwarded: bytes | None) -> None:
    expected = (HOST,) if forwarded is None else (HOST, (b"Sec-WebSocket-Protocol", forwarded))
    assert Headers([HOST, (b"Sec-WebSocket-Protocol", sent)]).to_target == expected


@pytest.mark.parametrize(
    "space", [b"\xc2\xa0", b"\xc2\x85", b"\xe2\x80\x83", b"\xe3\x80\x80", b"\x0b", b"\xa0", b"v5."], ids=repr
)
def test_a_bearer_subprotocol_is_removed_behind_every_space_that_a_server_strips(space: bytes) -> None:
    sent = b"v5.channel.k8s.io," + space + b"base64url.bearer.authorization.k8s.io.abc"
    forwarded = (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io")
    assert Headers([HOST, (b"Sec-WebSocket-Protocol", sent)]).to_target == (HOST, forwarded)


@pytest.mark.parametrize(
    "name",
    [
        b"X-Forwarded-For", b"x-forwarded-host", b"X_Forwarded_For", b"X-Forwarded-Client-Cert", b"X-Forwarded-User",
        b"Forwarded", b"X-Real-IP", b"x_real_ip", b"True-Client-IP", b"Remote-User", b"X-Original-URL",
        b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-Client-Cert", b"X-SSL-Client-DN", b"X-Auth-Request-User",
        b"X-Client-IP", b"X-Cluster-Client-IP", b"CF-Connecting-IP", b"Fastly-Client-IP", b"X-HTTP-Method",
        b"X-Method-Override", b"Remote-Addr", b"REMOTE_USER", b"X-WebAuth-User", b"X-User", b"X-Groups",
        b"X-Envoy-Original-Path", b"SSL-Client-Verify", b"ssl_client_cert",
    ],
)  # fmt: skip
def test_front_end_headers_of_a_client_are_not_forwarded(name: bytes) -> None:
    assert Headers([HOST, (name, b"10.0.0.1"), (b"Accept", b"*/*")]).to_target == (HOST, (b"Accept", b"*/*"))


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        pytest.param(b"X-Checksum", True, id="of the sender's own"),
        pytest.param(b"Grpc-Status", True, id="of gRPC"),
        pytest.param(b"content-length", False, id="framing"),
        pytest.param(b"Transfer-Encoding", False, id="a transfer coding"),
        pytest.param(b"Proxy-Authenticate", False, id="a proxy's"),
        pytest.param(b"Set-Cookie", False, id="a cookie"),
        pytest.param(b"Content-Type", False, id="how the content is read"),
        pytest.param(b"Warning", False, id="a warning"),
        pytest.param(b"Trailer", False, id="Trailer"),
        *(
            pytest.param(name, False, id=f"{name.decode()} decides on a request or its answer")
            for name in (
                b"Host",
                b"Content-Encoding",
                b"Content-Range",
                b"Authorization",
                b"Cookie",
                b"WWW-Authenticate",
                b"Authentication-Info",
                b"Cache-Control",
                b"Expect",
                b"Max-Forwards",
                b"Pragma",
                b"Range",
                b"If-Match",
                b"If-None-Match",
                b"If-Modified-Since",
                b"If-Unmodified-Since",
                b"If-Range",
                b"Age",
                b"Expires",
                b"Date",
                b"Location",
                b"Retry-After",
                b"Vary",
            )
        ),
    ],
)
def test_allowed_trailers(name: bytes, is_allowed: bool) -> None:
    expected = [(b"A", b"1"), (name, b"2")] if is_allowed else [(b"A", b"1")]
    assert Headers([(b"A", b"1"), (name, b"2")]).allowed_trailers == tuple(expected)


def test_headers_without_some_names() -> None:
    assert Headers([HOST, (b"X", b"1")]).without(b"host") == ((b"X", b"1"),)


TOKEN_NAMES = st.sampled_from([b"Authorization", b"authorization", b"Proxy-Authorization", b"Sec-WebSocket-Protocol"])
HEADERS = st.lists(
    st.tuples(
        TOKEN_NAMES | st.sampled_from([b"Host", b"Connection", b"Accept"]),
        st.sampled_from(
            [b"s3cret", b"authorization", b"host", b"a,base64url.bearer.authorization.k8s.io.s3cret", b"", b" , ,"]
        ),
    )
)


@given(HEADERS)
def test_for_every_header_block_no_token_of_the_caller_reaches_the_target(headers: list[Header]) -> None:
    fields = Headers(headers)
    for name, value in fields.to_target:
        assert name.lower() not in (b"authorization", b"proxy-authorization")
        assert name.lower() != b"sec-websocket-protocol" or b"bearer.authorization" not in value
    assert Headers(fields.to_target).values(b"host") == fields.values(b"host")
