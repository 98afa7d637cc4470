import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.admin_api import AdminApi
from lab.pki import CertificateAuthority
from lab.waiting import TIMEOUT

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A TLS server that serves one connection at a time."""

    def __init__(self, folder: Path) -> None:
        ca = CertificateAuthority(folder)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(*ca.issue("server", common_name="server", hosts=[HOST]))
        self.listener = socket.create_server((HOST, 0))
        self.listener.settimeout(TIMEOUT)
        url = f"https://{HOST}:{self.listener.getsockname()[1]}"
        self.api = AdminApi(url, ca.certificate, *ca.issue("admin", common_name="admin"))

    def serve(self, *responses: bytes) -> threading.Thread:
        """Accept one connection, respond to its requests, and close it."""
        thread = threading.Thread(target=self._serve, args=responses)
        thread.start()
        return thread

    def _serve(self, *responses: bytes) -> None:
        connection, _ = self.listener.accept()
        with self._context.wrap_socket(connection, server_side=True) as tls:
            for response in responses:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += tls.recv(4096)
                tls.sendall(response)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    prepared = Server(tmp_path)
    yield prepared
    prepared.api.close()
    prepared.listener.close()


def test_requests_share_a_connection(server: Server) -> None:
    thread = server.serve(OK, OK, OK)
    assert [server.api.call("GET", "/") for _ in range(3)] == [{}, {}, {}]
    thread.join()


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(OK, id="without a word"),
        pytest.param(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), id="as the response says"),
    ],
)
def test_a_request_after_the_server_closed_the_connection_has_a_new_one(server: Server, response: bytes) -> None:
    for _ in range(2):
        thread = server.serve(response)
        assert server.api.call("GET", "/") == {}
        thread.join()


def test_a_request_is_sent_again_after_429(server: Server) -> None:
    thread = server.serve(OK.replace(b"200 OK", b"429 Too Many Requests"), OK)
    assert server.api.request("GET", "/").status == 200
    thread.join()
