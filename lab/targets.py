"""Small TLS servers on loopback that respond, or fail to respond, as real targets do."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

from lab.certificates import KeyPair, make_ca, make_leaf
from lab.waiting import TIMEOUT

RequestHandler = Callable[[bytes], bytes]

OK_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"


def status_response(code: int) -> bytes:
    return b"HTTP/1.1 %d Because\r\nContent-Length: 0\r\n\r\n" % code


class TargetServer:
    """A TLS server that answers each request with `respond(head)`. Tests may replace `respond`."""

    def __init__(
        self, key_pair: KeyPair, respond: RequestHandler = lambda head: OK_RESPONSE, *, host: str = "127.0.0.1"
    ) -> None:
        self.respond = respond
        self.request_heads: list[bytes] = []
        self.connection_count = 0
        self.silent = False
        """Accept connections and send nothing."""
        self._context = key_pair.server_context()
        self._listener = socket.create_server((host, 0))
        self._host = host
        self._open_connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def require_client_certificates(self) -> None:
        """Serve only clients with a certificate of `CA` from now on."""
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata=CA.pem.decode())

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"https://{self._host}:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in tuple(self._open_connections):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open_connections.add(connection)
            self.connection_count += 1
            if not self.silent:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._handshake(connection) as tls:
            while head := _read_head(tls):
                self.request_heads.append(head)
                response = self.respond(head)
                tls.sendall(response)
                while response is ENDLESS_RESPONSE:
                    tls.sendall(b"x" * 65536)
        self._open_connections.discard(connection)

    def _handshake(self, connection: socket.socket) -> ssl.SSLSocket:
        tls = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        tls.settimeout(TIMEOUT)
        try:
            tls.do_handshake()
        except OSError as error:
            with tls:
                if isinstance(error, ssl.SSLError):
                    # Closing with unread input would reset the connection, and the client would not get the alert.
                    tls.settimeout(None)
                    while os.read(tls.fileno(), 65536):
                        pass
                raise
        return tls


def _read_head(tls: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = tls.recv(4096)
        if not piece:
            return b""
        data += piece
    return data


CA = make_ca("target CA")


@contextlib.contextmanager
def run_target(
    respond: RequestHandler = lambda head: OK_RESPONSE, *, host: str = "127.0.0.1", ca: KeyPair = CA
) -> Iterator[TargetServer]:
    server = TargetServer(make_leaf(ca, [host]), respond, host=host)
    try:
        yield server
    finally:
        server.close()
