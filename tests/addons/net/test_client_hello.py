"""Server name of a ClientHello, compared with the name that OpenSSL finds."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from addons.net.client_hello import MAX_HELLO, MAX_NAME, parse_server_name

NAMES = st.from_regex(r"[a-zA-Z0-9-]{1,20}(\.[a-zA-Z0-9-]{1,20}){0,5}", fullmatch=True)


def client_hello(name: str = "", groups: bytes = b"") -> bytes:
    """Return the record with OpenSSL's ClientHello."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if groups:
        assert SSL._lib.SSL_CTX_set1_curves_list(context._context, groups) == 1  # type: ignore[attr-defined]  # the binding is not in pyOpenSSL's public names
    client = SSL.Connection(context)
    if name:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


def record(content: bytes) -> bytes:
    return b"\x16\x03\x01" + struct.pack(">H", len(content)) + content


def with_extension(extension: bytes, *, kind: int = 0) -> bytes:
    """Return a record with a ClientHello that has one extension."""
    extensions = struct.pack(">HH", kind, len(extension)) + extension
    body = bytes(34) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + struct.pack(">H", len(extensions)) + extensions
    return record(b"\x01" + len(body).to_bytes(3) + body)


def server_name(name: bytes, *, kind: int = 0) -> bytes:
    return struct.pack(">HBH", len(name) + 3, kind, len(name)) + name


@pytest.mark.parametrize("groups", [b"X25519", b"X25519MLKEM768"])
@pytest.mark.parametrize("name", ["", "c-k8s.team-a.svc.cluster.local", "A.Example"])
def test_the_name_of_a_real_client(name: str, groups: bytes) -> None:
    assert parse_server_name(client_hello(name, groups)) == name.lower()


@given(name=NAMES, size=st.integers(min_value=1, max_value=300))
def test_for_every_name_and_fragmentation_the_name_is_found_when_the_hello_is_complete(name: str, size: int) -> None:
    message = client_hello(name)[5:]
    data = b"".join(record(message[start : start + size]) for start in range(0, len(message), size))
    assert parse_server_name(data) == name.lower()
    assert parse_server_name(data[:-1]) is None


@given(data=st.binary(max_size=400), position=st.integers(min_value=0, max_value=600))
def test_every_damaged_hello_gives_a_name_or_none(data: bytes, position: int) -> None:
    hello = client_hello("c-k8s.team-a.svc")
    damaged = hello[:position] + data + hello[position + len(data) :]
    for each in (damaged, data, b"\x16" + data):
        name = parse_server_name(each)
        assert name is None or len(name) <= MAX_NAME


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", None, id="no data"),
        pytest.param(b"\x16\x03", None, id="a part of a record header"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01", None, id="a part of a record"),
        pytest.param(record(b"\x01\x00\x00"), None, id="a part of a message header"),
        pytest.param(b"SSH-2.0", "", id="no TLS"),
        pytest.param(record(b"\x02\x00\x00\x00"), "", id="another message"),
        pytest.param(b"\x16\x03\x01\x40\x01", "", id="a record that is too long"),
        pytest.param(record(b"\x01" + (MAX_HELLO).to_bytes(3)), "", id="a message that is too long"),
        pytest.param(record(b"\x01\x00\x00\x00"), "", id="an empty ClientHello"),
        pytest.param(with_extension(server_name(b"a.b")), "a.b", id="a name"),
        pytest.param(with_extension(server_name(b"a.b"), kind=1), "", id="another extension"),
        pytest.param(with_extension(server_name(b"a.b", kind=1)), "", id="another kind of name"),
        pytest.param(with_extension(server_name(b"a.b")[:-1]), "", id="a name that is cut off"),
        pytest.param(with_extension(b""), "", id="no list"),
        pytest.param(with_extension(server_name(b"a" * MAX_NAME)), "a" * MAX_NAME, id="the longest name"),
        pytest.param(with_extension(server_name(b"a" * (MAX_NAME + 1))), "", id="a name that is too long"),
        pytest.param(with_extension(server_name("ä".encode())), "\ufffd\ufffd", id="a name that is not ASCII"),
    ],
)
def test_the_name_of_an_unusual_hello(data: bytes, expected: str | None) -> None:
    assert parse_server_name(data) == expected
