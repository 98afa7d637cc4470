"""A target with TLS 1.2 that renegotiates during an upload: the upload succeeds, or ends with a reason."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from OpenSSL import SSL

from lab.certificates import KeyPair
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import running_proxy

BODY = b"x" * 4_000_000


class Renegotiating:
    """Target for one connection that reads a head, renegotiates, and reads the whole body."""

    def __init__(self, certificate: KeyPair) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self._context.use_privatekey(certificate.key)
        self._context.use_certificate(certificate.certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.renegotiated = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        with suppress(OSError, SSL.Error):
            accepted, _ = self._listener.accept()
            with accepted:
                accepted.settimeout(120)
                # pyOpenSSL does not wait on a socket with a timeout.
                accepted.setblocking(True)
                tls = SSL.Connection(self._context, accepted)
                tls.set_accept_state()
                received = b""
                while b"\r\n\r\n" not in received:
                    received += tls.recv(4096)
                tls.renegotiate()
                self.renegotiated.set()
                tls.do_handshake()
                left = len(BODY) - len(received.partition(b"\r\n\r\n")[2])
                while left > 0:
                    left -= len(tls.recv(65536))
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def renegotiating(target_certificate: KeyPair) -> Iterator[Renegotiating]:
    running = Renegotiating(target_certificate)
    yield running
    running.close()


async def test_a_target_that_renegotiates_during_an_upload_leaves_no_traceback(
    renegotiating: Renegotiating, target_ca: KeyPair, tmp_path: Path, confdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "connectors"
    folder.mkdir()
    authority = f"127.0.0.1:{renegotiating.port}"
    write(folder, connector("k8s", f"https://{authority}"), secret(ca=target_ca.pem))
    async with running_proxy(folder, confdir) as proxy:
        stream = await proxy.tunnel(authority, f"team-a/k8s:{proxy.token('team-a/k8s')}")
        head = b"PUT /api HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (authority.encode(), len(BODY))
        with suppress(OSError):
            await stream.send(head + BODY)
        answer = await stream.read_to_eof()
    assert renegotiating.renegotiated.is_set()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
