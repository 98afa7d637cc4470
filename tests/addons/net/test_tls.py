"""TLS without I/O: two peers in memory."""

import ctypes
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.connection import Connection, Server
from OpenSSL import SSL

from addons.net.tls import RecordTracker, TlsStream
from connector_store.trust import TrustStore
from lab.certificates import KeyPair, make_leaf


class FakeSink:
    """Sink that records what a peer sends. `at_eof` is True once it has sent FIN."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.at_eof = False

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]:
        return lambda data: self.pieces.append(bytes(data))

    def send_eof(self, connection: Connection) -> None:
        self.at_eof = True

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


class Endpoint:
    """TLS stream and its sink."""

    def __init__(self, tls: SSL.Connection, outer: TlsStream | None = None) -> None:
        self.sink = FakeSink()
        self.stream = TlsStream(Server(address=None), tls, self.sink, outer=outer)


def server(certificate: KeyPair, outer: TlsStream | None = None) -> Endpoint:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey(certificate.key)
    context.use_certificate(certificate.certificate)
    connection = SSL.Connection(context)
    connection.set_accept_state()
    return Endpoint(connection, outer)


def client(ca: KeyPair, host: str = "127.0.0.1", outer: TlsStream | None = None) -> Endpoint:
    return Endpoint(TrustStore().openssl_connection(ca.pem, host), outer)


def shake(one: Endpoint, other: Endpoint) -> None:
    """Exchange records until neither side sends any."""
    one.stream.receive(b"")
    while data := one.sink.take():
        other.stream.receive(data)
        one, other = other, one


def test_two_peers_agree_and_pass_plain_text(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    assert near.stream.is_established
    assert far.stream.is_established
    big = b"x" * 300_000
    near.stream.send(big)
    assert far.stream.receive(near.sink.take()) == big
    far.stream.send(b"answer")
    assert near.stream.receive(memoryview(far.sink.take())) == b"answer"


def test_many_small_records_in_one_read_are_all_decrypted(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    for _ in range(500):
        near.stream.send(b"x" * 1000)
    assert far.stream.receive(near.sink.take()) == b"x" * 500_000


def test_a_partial_record_waits_for_its_remaining_bytes(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send(b"x" * 20_000)
    data = near.sink.take()
    assert far.stream.receive(data[:17_000]) + far.stream.receive(data[17_000:]) == b"x" * 20_000


class Malloc(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "used", "free", "keepcost")
    )


def heap_bytes() -> int:
    """Return the allocated bytes of the C heap, which OpenSSL uses."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Malloc
    received = ask()
    return int(received.used + received.hblkhd)


def test_large_buffers_are_released_with_the_next_small_record(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    def growth() -> int:
        near, far = client(target_ca), server(target_certificate)
        shake(near, far)

        def pass_both_ways(data: bytes) -> None:
            for one, other in ((near, far), (far, near)):
                one.stream.send(data)
                assert other.stream.receive(one.sink.take()) == data

        for _ in range(2):
            pass_both_ways(b"little")
        before = heap_bytes()
        pass_both_ways(b"x" * 100_000)
        for _ in range(2):
            pass_both_ways(b"little")
        return heap_bytes() - before

    # Other threads use the heap, too.
    assert min(growth() for _ in range(5)) < 10_000


def test_data_after_close_notify_is_ignored(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send(b"last")
    near.stream.send_eof()
    assert far.stream.receive(near.sink.take() + b"x" * 100_000) == b"last"
    assert far.stream.receive(b"x" * 100_000) == b""
    far.stream.send(b"answer")
    far.stream.send_eof()
    assert near.stream.receive(far.sink.take()) == b"answer"


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.lists(st.integers(1, 100_000), max_size=8))
def test_for_every_split_all_plain_text_arrives_and_the_input_buffer_can_be_reused(
    target_ca: KeyPair, target_certificate: KeyPair, sizes: list[int], cuts: list[int]
) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    plain = [number.to_bytes() * size for number, size in enumerate(sizes)]
    for each in plain:
        near.stream.send(each)
    stream, received = near.sink.take(), b""
    for cut in (*cuts, len(stream)):
        wire = bytearray(stream[:cut])
        stream = stream[cut:]
        received += far.stream.receive(memoryview(wire))
        wire[:] = bytes(len(wire))
    assert received == b"".join(plain)


def test_buffers_that_hold_data_are_not_released(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send(b"x" * 40_000)
    data = near.sink.take()
    pieces = (data[:20_000], data[20_000:20_010], data[20_010:39_000], data[39_000:39_001], data[39_001:])
    assert b"".join(far.stream.receive(each) for each in pieces) == b"x" * 40_000


def begin(near: Endpoint, far: Endpoint) -> None:
    """Do a handshake except its last step: the server has not received the client's last message."""
    near.stream.receive(b"")
    far.stream.receive(near.sink.take())
    near.stream.receive(far.sink.take())
    assert (near.stream.is_established, far.stream.is_established) == (True, False)


def test_session_tickets_are_sent_with_the_response_to_early_plain_text(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    near.stream.send(b"request")
    assert far.stream.receive(near.sink.take()) == b"request"
    assert far.sink.pieces == []
    far.stream.send(b"answer")
    assert len(far.sink.pieces) == 1
    assert not far.stream._has_large_buffers
    assert near.stream.receive(far.sink.take()) == b"answer"


def test_session_tickets_are_sent_at_once_without_early_plain_text(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    assert far.stream.receive(near.sink.take()) == b""
    assert len(far.sink.pieces) == 1
    assert near.stream.receive(far.sink.take()) == b""
    assert near.stream.tls.get_session() is not None


def test_deferred_session_tickets_are_sent_with_the_next_data_or_with_close_notify(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    near.stream.send(b"request")
    far.stream.receive(near.sink.take())
    near.stream.send(b", its rest")
    assert far.stream.receive(near.sink.take()) == b", its rest"
    assert len(far.sink.pieces) == 1
    far.sink.take()
    far.stream.send_eof()
    assert len(far.sink.pieces) == 1


def test_close_notify_is_sent_and_received(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send(b"last")
    near.stream.send_eof()
    assert near.sink.at_eof
    assert far.stream.receive(near.sink.take()) == b"last"
    assert far.stream.at_eof
    with pytest.raises(ConnectionError, match="TLS failed"):
        near.stream.send(b"more")


def test_a_truncated_session_has_no_close_notify(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send_eof(clean=False)
    assert (near.sink.take(), near.sink.at_eof) == (b"", True)


@pytest.mark.parametrize(
    ("hosts", "expired", "words"),
    [
        pytest.param(["other.example"], False, "IP address mismatch", id="another host"),
        pytest.param(["127.0.0.1"], True, "certificate has expired", id="an expired one"),
    ],
)
def test_a_certificate_that_is_not_valid_is_named(
    target_ca: KeyPair, hosts: list[str], expired: bool, words: str
) -> None:
    near, far = client(target_ca), server(make_leaf(target_ca, hosts, expired=expired))
    with pytest.raises(ConnectionError, match=f"its certificate is not valid: {words}"):
        shake(near, far)


def test_a_certificate_of_another_ca_is_named(target_ca: KeyPair) -> None:
    near, far = client(target_ca), server(make_leaf(None, ["127.0.0.1"]))
    with pytest.raises(ConnectionError, match="its certificate is not valid: self-signed"):
        shake(near, far)


def test_input_that_is_not_tls_is_reported(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        client(target_ca).stream.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        server(target_certificate).stream.receive(b"GET / HTTP/1.1\r\n\r\n")


def test_a_session_within_another_one_is_read_for_every_split(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    inner_near, inner_far = client(target_ca, outer=near.stream), server(target_certificate, outer=far.stream)
    inner_near.stream.receive(b"")
    for _ in range(2):
        inner_far.stream.receive(near.sink.take())
        inner_near.stream.receive(far.sink.take())
    plain = b"".join(bytes((number,)) * 1000 for number in range(200))
    inner_near.stream.send(plain)
    stream, received = near.sink.take(), b""
    for position in range(0, len(stream), 30_000):
        received += inner_far.stream.receive(stream[position : position + 30_000])
    assert received == plain


def test_a_damaged_record_ends_the_session(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.stream.send(b"hello")
    data = bytearray(near.sink.take())
    data[-1] ^= 1
    with pytest.raises(ConnectionError, match="TLS failed"):
        far.stream.receive(bytes(data))


def test_before_the_handshake_send_eof_sends_only_a_fin(target_ca: KeyPair) -> None:
    received = client(target_ca)
    received.stream.send_eof()
    assert (received.sink.take(), received.sink.at_eof) == (b"", True)


RECORDS = st.lists(
    st.binary(max_size=700).map(lambda content: b"\x17\x03\x03" + len(content).to_bytes(2) + content), max_size=6
)


@given(RECORDS, st.data())
def test_for_every_split_record_ends_are_tracked_exactly(records: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(records)
    ends = {sum(map(len, records[:count])) for count in range(len(records) + 1)}
    received, position = RecordTracker(), 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        received.receive(memoryview(stream)[position : position + size])
        position += size
        assert received.is_between_records == (position in ends)


def test_without_input_the_tracker_is_between_records() -> None:
    received = RecordTracker()
    received.receive(b"")
    assert received.is_between_records
