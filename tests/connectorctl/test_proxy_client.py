"""Requests to the proxy itself: the certificate is verified, and a refusal's sentence is read."""

import base64
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from connectorctl.proxy_client import Answer, basic_credentials, get_page, make_context, read_message
from lab.certificates import KeyPair, make_ca, make_leaf


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        login = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        body = f'{{"kind":"Status","message":"{login} asks for {self.path}"}}'.encode()
        self.send_response(503)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def ca() -> KeyPair:
    return make_ca()


@pytest.fixture
def port(ca: KeyPair) -> Iterator[int]:
    """Port of an HTTPS server with a certificate of `ca`."""
    context = make_leaf(ca, ["127.0.0.1"]).server_context()
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refusal_is_an_answer_with_its_sentence(ca: KeyPair, port: int) -> None:
    headers = {"Authorization": basic_credentials("default/k8s", "TOKEN")}
    answer = get_page("127.0.0.1", port, "/kubeconfig", context=make_context(ca.pem), headers=headers)
    assert answer == Answer(503, "default/k8s:TOKEN asks for /kubeconfig", "1")


def test_another_certificate_is_refused_before_credentials_are_sent(port: int) -> None:
    headers = {"Authorization": basic_credentials("default/k8s", "TOKEN")}
    with pytest.raises(ssl.SSLCertVerificationError):
        get_page("127.0.0.1", port, "/kubeconfig", context=make_context(make_ca().pem), headers=headers)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b'{"message":"no"}', "no", id="a Status"),
        pytest.param(b"plain\n", "plain", id="text"),
        pytest.param(b'{"message":1}', '{"message":1}', id="a message that is not a text"),
        pytest.param(b"[1]", "[1]", id="another document"),
        pytest.param(b"[" * 100_000, "[" * 100_000, id="a deep document"),
        pytest.param(b"\xff", "\ufffd", id="bytes that are not UTF-8"),
    ],
)
def test_the_message_of_a_body_is_read(body: bytes, message: str) -> None:
    assert read_message(body) == message
