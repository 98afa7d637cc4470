"""TLS without IO: two peers that speak to each other in memory."""

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


class Sent:
    """What a peer sends; `ended` once it has sent FIN."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.at_eof = False

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]:
        return lambda data: self.pieces.append(bytes(data))

    def send_eof(self, connection: Connection) -> None:
        self.at_eof = True

    def take(self) -> bytes:
        taken = b"".join(self.pieces)
        self.pieces.clear()
        return taken


class End:
    """A peer, and what it has sent."""

    def __init__(self, tls: SSL.Connection, outer: TlsStream | None = None) -> None:
        self.sent = Sent()
        self.peer = TlsStream(Server(address=None), tls, self.sent, outer=outer)


def server(certificate: KeyPair, outer: TlsStream | None = None) -> End:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey(certificate.key)
    context.use_certificate(certificate.certificate)
    connection = SSL.Connection(context)
    connection.set_accept_state()
    return End(connection, outer)


def client(ca: KeyPair, host: str = "127.0.0.1", outer: TlsStream | None = None) -> End:
    return End(TrustStore().openssl_connection(ca.pem, host), outer)


def shake(one: End, other: End) -> None:
    """Until both have nothing more to say."""
    one.peer.receive(b"")
    while data := one.sent.take():
        other.peer.receive(data)
        one, other = other, one


def test_two_peers_agree_and_pass_plain_text(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    assert near.peer.is_established
    assert far.peer.is_established
    big = b"x" * 300_000
    near.peer.send(big)
    assert far.peer.receive(near.sent.take()) == big
    far.peer.send(b"answer")
    assert near.peer.receive(memoryview(far.sent.take())) == b"answer"


def test_many_small_records_that_come_at_once_are_all_read(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    for _ in range(500):
        near.peer.send(b"x" * 1000)
    assert far.peer.receive(near.sent.take()) == b"x" * 500_000


def test_a_record_that_has_come_in_part_waits_for_its_rest(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send(b"x" * 20_000)
    data = near.sent.take()
    assert far.peer.receive(data[:17_000]) + far.peer.receive(data[17_000:]) == b"x" * 20_000


class Malloc(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "used", "free", "keepcost")
    )


def held() -> int:
    """Bytes that the C heap holds, those of OpenSSL among them."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Malloc
    found = ask()
    return int(found.used + found.hblkhd)


def test_after_much_the_buffers_are_given_back_with_the_next_piece(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)

    def pass_both_ways(data: bytes) -> None:
        for one, other in ((near, far), (far, near)):
            one.peer.send(data)
            assert other.peer.receive(one.sent.take()) == data

    for _ in range(2):
        pass_both_ways(b"little")
    before = held()
    pass_both_ways(b"x" * 100_000)
    for _ in range(2):
        pass_both_ways(b"little")
    assert held() - before < 10_000


def test_much_behind_the_end_of_a_session_is_left_out(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send(b"last")
    near.peer.send_eof()
    assert far.peer.receive(near.sent.take() + b"x" * 100_000) == b"last"
    assert far.peer.receive(b"x" * 100_000) == b""
    far.peer.send(b"answer")
    far.peer.send_eof()
    assert near.peer.receive(far.sent.take()) == b"answer"


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.lists(st.integers(1, 100_000), max_size=8))
def test_for_every_cut_all_plain_text_comes_and_what_came_is_the_callers_again(
    target_ca: KeyPair, target_certificate: KeyPair, sizes: list[int], cuts: list[int]
) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    plain = [number.to_bytes() * size for number, size in enumerate(sizes)]
    for each in plain:
        near.peer.send(each)
    stream, found = near.sent.take(), b""
    for cut in (*cuts, len(stream)):
        wire = bytearray(stream[:cut])
        stream = stream[cut:]
        found += far.peer.receive(memoryview(wire))
        wire[:] = bytes(len(wire))
    assert found == b"".join(plain)


def test_nothing_that_waits_in_the_buffers_is_given_away(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send(b"x" * 40_000)
    data = near.sent.take()
    pieces = (data[:20_000], data[20_000:20_010], data[20_010:39_000], data[39_000:39_001], data[39_001:])
    assert b"".join(far.peer.receive(each) for each in pieces) == b"x" * 40_000


def begin(near: End, far: End) -> None:
    """Until all that is missing is the end of the handshake, which the client has sent."""
    near.peer.receive(b"")
    far.peer.receive(near.sent.take())
    near.peer.receive(far.sent.take())
    assert (near.peer.is_established, far.peer.is_established) == (True, False)


def test_who_asks_with_the_end_of_the_handshake_gets_tickets_and_answer_in_one_piece(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    near.peer.send(b"request")
    assert far.peer.receive(near.sent.take()) == b"request"
    assert far.sent.pieces == []
    far.peer.send(b"answer")
    assert len(far.sent.pieces) == 1
    assert not far.peer._has_large_buffers
    assert near.peer.receive(far.sent.take()) == b"answer"


def test_who_asks_nothing_with_the_end_of_the_handshake_gets_tickets_at_once(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    assert far.peer.receive(near.sent.take()) == b""
    assert len(far.sent.pieces) == 1
    assert near.peer.receive(far.sent.take()) == b""
    assert near.peer.tls.get_session() is not None


def test_tickets_that_wait_go_out_with_what_comes_next_or_with_the_end(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    begin(near, far)
    near.peer.send(b"request")
    far.peer.receive(near.sent.take())
    near.peer.send(b", its rest")
    assert far.peer.receive(near.sent.take()) == b", its rest"
    assert len(far.sent.pieces) == 1
    far.sent.take()
    far.peer.send_eof()
    assert len(far.sent.pieces) == 1


def test_the_end_of_a_session_is_said_and_heard(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send(b"last")
    near.peer.send_eof()
    assert near.sent.at_eof
    assert far.peer.receive(near.sent.take()) == b"last"
    assert far.peer.at_eof
    with pytest.raises(ConnectionError, match="TLS failed"):
        near.peer.send(b"more")


def test_what_was_cut_off_has_no_end_of_a_session(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send_eof(clean=False)
    assert (near.sent.take(), near.sent.at_eof) == (b"", True)


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


def test_what_is_not_tls_is_said(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        client(target_ca).peer.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        server(target_certificate).peer.receive(b"GET / HTTP/1.1\r\n\r\n")


def test_a_session_within_another_one_is_read_wherever_it_is_cut(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    inner_near, inner_far = client(target_ca, outer=near.peer), server(target_certificate, outer=far.peer)
    inner_near.peer.receive(b"")
    for _ in range(2):
        inner_far.peer.receive(near.sent.take())
        inner_near.peer.receive(far.sent.take())
    plain = b"".join(bytes((number,)) * 1000 for number in range(200))
    inner_near.peer.send(plain)
    stream, found = near.sent.take(), b""
    for at in range(0, len(stream), 30_000):
        found += inner_far.peer.receive(stream[at : at + 30_000])
    assert found == plain


def test_a_damaged_record_ends_the_session(target_ca: KeyPair, target_certificate: KeyPair) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    near.peer.send(b"hello")
    data = bytearray(near.sent.take())
    data[-1] ^= 1
    with pytest.raises(ConnectionError, match="TLS failed"):
        far.peer.receive(bytes(data))


def test_before_the_handshake_an_end_is_only_a_fin(target_ca: KeyPair) -> None:
    found = client(target_ca)
    found.peer.send_eof()
    assert (found.sent.take(), found.sent.at_eof) == (b"", True)


RECORDS = st.lists(
    st.binary(max_size=700).map(lambda content: b"\x17\x03\x03" + len(content).to_bytes(2) + content), max_size=6
)


@given(RECORDS, st.data())
def test_for_every_cut_it_is_between_exactly_where_a_record_ends(records: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(records)
    ends = {sum(map(len, records[:count])) for count in range(len(records) + 1)}
    found, at = RecordTracker(), 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        found.receive(memoryview(stream)[at : at + size])
        at += size
        assert found.is_between_records == (at in ends)


def test_before_anything_came_and_after_nothing_it_is_between() -> None:
    found = RecordTracker()
    found.receive(b"")
    assert found.is_between_records
