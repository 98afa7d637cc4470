"""Small TLS servers on loopback that answer, or fail to answer, as targets do in the wild."""

import contextlib
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.certificates import Issued, make_ca, make_leaf

Answer = Callable[[bytes], bytes]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"


def status(code: int) -> bytes:
    return b"HTTP/1.1 %d Because\r\nContent-Length: 0\r\n\r\n" % code


class Target:
    """Answers each request with `answer(head)`, which a test may change; without `tls` it only accepts."""

    def __init__(self, server: Issued, answer: Answer = lambda head: OK, *, host: str = "127.0.0.1") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.connections = 0
        self.silent = False
        """Accept connections and never say a word."""
        self._context = _context(server)
        self._listener = socket.create_server((host, 0))
        self._host = host
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def demand_certificates(self) -> None:
        """From now on serve only clients with a certificate of `CA`."""
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
        for each in tuple(self._open):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self.connections += 1
            if not self.silent:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._tls(connection) as tls:
            while head := _read_head(tls):
                self.heads.append(head)
                answer = self.answer(head)
                tls.sendall(answer)
                while answer is ENDLESS:
                    tls.sendall(b"x" * 65536)
        self._open.discard(connection)

    def _tls(self, connection: socket.socket) -> ssl.SSLSocket:
        tls = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        tls.settimeout(30)
        try:
            tls.do_handshake()
        except OSError as error:
            with tls:
                if isinstance(error, ssl.SSLError):
                    # With what the peer has sent unread, closing would reset the connection, and the alert be lost.
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


def _context(server: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(server.combined_pem)
        context.load_cert_chain(path)
    return context


CA = make_ca("target CA")


@contextlib.contextmanager
def target(answer: Answer = lambda head: OK, *, host: str = "127.0.0.1", ca: Issued = CA) -> Iterator[Target]:
    made = Target(make_leaf(ca, [host]), answer, host=host)
    try:
        yield made
    finally:
        made.close()
