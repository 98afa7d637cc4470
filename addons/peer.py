"""TLS without IO on one side of a tunnel (pyOpenSSL over memory), and the commands that carry its bytes."""

from collections.abc import Iterator
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy.commands import CloseTcpConnection, Command, SendData
from OpenSSL import SSL

_RECORDS: Final = 131072
"""Bytes taken out of OpenSSL at once: more than what one read of a socket makes."""


class Peer:
    """A connection and its TLS session. Bytes go in by `receive`; what is to be sent comes out as commands."""

    def __init__(self, connection: Connection, tls: SSL.Connection) -> None:
        self.connection = connection
        self.tls = tls
        self.established = False
        self.ended = False
        """The peer has said that nothing more comes (close_notify)."""

    def receive(self, data: bytes) -> bytes:
        """Take what came; returns the plain text of it. ConnectionError if it is not TLS, or its peer not trusted."""
        if data:
            self.tls.bio_write(data)
        if not self.established and not self._handshake():
            return b""
        pieces = []
        while not self.ended:
            try:
                pieces.append(self.tls.recv(_RECORDS))
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self.ended = True
            except SSL.Error as error:
                raise ConnectionError(explain(self.tls, error)) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pending(self) -> Iterator[Command]:
        """What TLS itself has to say: its handshake, answers to key updates."""
        records = self._records()
        if records:
            yield SendData(self.connection, records)

    def send(self, data: bytes) -> Command:
        """Send plain text."""
        self.tls.sendall(data)
        return SendData(self.connection, self._records())

    def finish(self) -> Iterator[Command]:
        """Nothing more is sent: close_notify, then FIN. The peer may go on."""
        if self.established:
            try:
                self.tls.shutdown()
            except SSL.Error:
                pass
            else:
                yield from self.pending()
        yield CloseTcpConnection(self.connection, half_close=True)

    def _handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise ConnectionError(explain(self.tls, error)) from None
        self.established = True
        return True

    def _records(self) -> bytes:
        pieces = []
        while True:
            try:
                piece = self.tls.bio_read(_RECORDS)
            except SSL.WantReadError:
                break
            pieces.append(piece)
            if len(piece) < _RECORDS:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def explain(tls: SSL.Connection, error: SSL.Error) -> str:
    """What went wrong in words: the certificate's fault, or OpenSSL's own last reason."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    last = reasons[-1][-1] if reasons else type(error).__name__
    if last == "certificate verify failed":
        # pyOpenSSL has no public way to the verdict (SSL_get_verify_result(3)).
        lib, ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]  # the binding is not in pyOpenSSL's public names
        verdict = lib.X509_verify_cert_error_string(lib.SSL_get_verify_result(tls._ssl))
        return f"its certificate is not valid: {ffi.string(verdict).decode()}"
    if tls.get_finished() is None and last in (
        "wrong version number",
        "packet length too long",
        "record layer failure",
        "http request",
    ):
        return "it does not speak TLS"
    return f"TLS failed: {last or 'unexpected end'}"
