"""TLS without IO on one side of a tunnel: OpenSSL over memory, called without what pyOpenSSL does around each call.

pyOpenSSL makes the sessions (contexts, verification, names); bytes pass by its binding, because its own `recv` and
`bio_read` allocate and clear a buffer of the size that one asks for, which costs more than the TLS of a small request.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from mitmproxy.connection import Connection
from OpenSSL import SSL

from connector_store.trust import describe_tls_error

_lib, _ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]  # the binding is not in pyOpenSSL's public names

_SIZE: Final = 163840
"""Bytes taken out of OpenSSL at once: what one read of a wire makes, and the record that had begun before it."""
_PLAIN: Final = _ffi.new("char[]", _SIZE)
"""Plain text that came, of all sessions: it is copied at once, and the data path runs on one event loop."""
_PLAIN_BYTES: Final = _ffi.buffer(_PLAIN)
_RECORDS: Final = _ffi.new("char[]", _SIZE)
"""Records that go out, of all sessions: what takes them copies what it keeps."""
_RECORDS_BYTES: Final = _ffi.buffer(_RECORDS)
_RECORDS_VIEW: Final = memoryview(_RECORDS_BYTES).cast("B")
_START: Final = _ffi.new("char **")
_RECORD: Final = 16384
"""RFC 8446 section 5.1: bytes of a record's content at most."""
_FULL: Final = _SIZE - _RECORD
"""Plain text beyond which another record may not fit."""
_RECORD_HEADER: Final = 5
"""Bytes before it (RFC 8446 section 5.1, RFC 5246 section 6.2.1); the last two are its length."""
_length_in: Final = struct.Struct(">3xH").unpack_from
_MUCH: Final = 16384
"""More bytes than these are read by OpenSSL where they are, and records written from where they are; once more were
written at once, its buffer is given back as soon as little passes again."""


class Out(Protocol):
    """Where the records go: a `Sockets`."""

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]: ...

    def finish(self, connection: Connection) -> None: ...


class Stream(Protocol):
    """One side of a client connection, in plain text or in TLS: what came goes in by `receive`."""

    connection: Connection
    ended: bool
    """The peer has said that nothing more comes (close_notify, or FIN in plain text), or `cut_off`."""
    cut_off: bool
    """Its connection has ended without its TLS session."""

    def receive(self, data: bytes | memoryview) -> bytes:
        """The plain text of what came; ConnectionError if it cannot be had."""

    def send(self, data: bytes) -> None:
        """Send plain text."""

    def finish(self, *, whole: bool = True) -> None:
        """Nothing more is sent."""


class RecordEnds:
    """Where records end in what came, without reading them; `receive` gets all that a peer sends.

    OpenSSL takes the beginning of a record out of its buffer, and does not tell that it has one.
    """

    __slots__ = ("_header", "_left", "between")

    def __init__(self) -> None:
        self.between = True
        """No record has only begun."""
        self._left = 0
        """Bytes of the record that have not come; none while its header has not."""
        self._header = b""
        """What has come of a header that is not whole."""

    def receive(self, data: bytes | memoryview) -> None:
        """Go on to the end of `data`."""
        at, size = self._left, len(data)
        if self._header:
            at = _RECORD_HEADER - len(self._header)
            self._header += bytes(data[:at])
            if size < at:
                return
            at += _length_in(self._header)[0]
            self._header = b""
        whole = size - _RECORD_HEADER
        while at <= whole:
            at += _RECORD_HEADER + _length_in(data, at)[0]
        if at < size:
            self._header = bytes(data[at:])
            at = size
        self._left = at - size
        self.between = not self._left and not self._header


class TlsStream:
    """A connection and its TLS session. Bytes go in by `receive`; what is to be sent goes to `out`.

    `receive` also answers for TLS itself: its handshake, key updates, alerts. A session within another one is made with
    `outer`: what came goes through that one first.
    """

    def __init__(
        self, connection: Connection, tls: SSL.Connection, out: Out, *, outer: "TlsStream | None" = None
    ) -> None:
        self.connection = connection
        self.tls = tls
        self.established = False
        self.ended = False
        """The peer has said that nothing more comes (close_notify), or `cut_off`."""
        self.cut_off = False
        """Its connection has ended without its TLS session."""
        self.records: RecordEnds | None = None
        """Is given all that comes, where somebody wants to know where records end."""
        self._out: Out | None = out
        self._outer = outer
        self._send = out.sender(connection) if outer is None else outer.send
        self._ssl, self._into, self._from = tls._ssl, tls._into_ssl, tls._from_ssl
        self._waits = False
        """What TLS says by itself goes out with the answer to what it brought."""
        self._swollen = True
        """OpenSSL's buffers are large: of a handshake, or of much that was written."""
        # pyOpenSSL sets it, but memory takes all that is written: one call for all records.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)

    def carried_by(self, out: Out | None) -> None:
        """From now on it is for `out` to end its connection, or for nobody; the connection stays the same."""
        self._out = out

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came; returns the plain text of it. ConnectionError if it is not TLS, or its peer not trusted."""
        outer = self._outer
        if outer is not None:
            data = outer.receive(data)
        if self.records is not None:
            self.records.receive(data)
        much = len(data) > _MUCH
        if much:
            self._read_from(_lib.BIO_new_mem_buf(_ffi.from_buffer(data), len(data)))
        elif data:
            _lib.BIO_write(self._into, _ffi.from_buffer(data), len(data))
        try:
            known = self.established
            if not known and not self._handshake():
                return b""
            size = self._read()
            # Session tickets: nobody waits for them who has asked for something with the last of the handshake.
            self._waits = not known and size > 0 and _lib.SSL_version(self._ssl) == _lib.TLS1_3_VERSION
            pieces: list[bytes] = []
            if size < _FULL:
                plain: bytes = _PLAIN_BYTES[:size]
                return plain
            while size:
                pieces.append(_PLAIN_BYTES[:size])
                size = self._read() if size >= _FULL else 0
            return b"".join(pieces)
        finally:
            # What TLS itself has to say: its handshake, answers to key updates, alerts.
            if not self._waits and _lib.BIO_get_mem_data(self._from, _START) > 0:
                self._send_records()
            if much:
                # `data` is the caller's again.
                self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
            elif self._swollen and self.established:
                self._give_back()
            if outer is not None and outer.ended and not self.ended:
                self.ended = self.cut_off = True

    def send(self, data: bytes | memoryview) -> None:
        """Send plain text."""
        if not data:
            return
        if len(data) > _MUCH:
            self._swollen = True
        done = _lib.SSL_write(self._ssl, _ffi.from_buffer(data), len(data))
        if done <= 0:
            raise ConnectionError(describe_tls_error(self.tls, self._error(done)))
        self._send_records()
        if self._waits:
            self._waits = False
            self._give_back()

    def finish(self, *, whole: bool = True) -> None:
        """Nothing more is sent: close_notify where what was sent is `whole`, then FIN. The peer may go on."""
        if self.established and whole:
            try:
                self.tls.shutdown()
            except SSL.Error:
                pass
            else:
                self._send_records()
        if self._outer is not None:
            self._outer.finish(whole=whole)
        elif self._out is not None:
            self._out.finish(self.connection)

    def _handshake(self) -> bool:
        done = _lib.SSL_do_handshake(self._ssl)
        if done == 1:
            self.established = True
        elif _lib.SSL_get_error(self._ssl, done) != _lib.SSL_ERROR_WANT_READ:
            raise ConnectionError(describe_tls_error(self.tls, self._error(done)))
        return self.established

    def _read(self) -> int:
        """Fill the buffer, but for the room of a record; returns the number of bytes."""
        if self.ended:
            return 0
        read, ssl, filled = _lib.SSL_read, self._ssl, 0
        while filled <= _FULL:
            size = read(ssl, _PLAIN + filled, _RECORD)
            if size <= 0:
                self._look_why(size)
                break
            filled += size
            # More follows a full record, as a rule.
            if size < _RECORD and _lib.BIO_get_mem_data(self._into, _START) == 0 and _lib.SSL_pending(ssl) == 0:
                break
        return filled

    def _look_why(self, size: int) -> None:
        """There is nothing to read: not yet, or never any more; ConnectionError if what came is not TLS."""
        reason = _lib.SSL_get_error(self._ssl, size)
        if reason == _lib.SSL_ERROR_ZERO_RETURN:
            self.ended = True
        elif reason != _lib.SSL_ERROR_WANT_READ:
            raise ConnectionError(describe_tls_error(self.tls, self._error(size)))

    def _read_from(self, into: Any) -> None:
        """Have OpenSSL read that; the one before is freed (SSL_set_bio(3))."""
        if into == _ffi.NULL:
            raise MemoryError
        # Its end is none: more may come.
        _lib.BIO_set_mem_eof_return(into, -1)
        _lib.SSL_set_bio(self._ssl, into, self._from)
        self._into = self.tls._into_ssl = into

    def _give_back(self) -> None:
        """Give back OpenSSL's buffers, which it keeps as large as they ever were, once nothing is in them."""
        if _lib.BIO_get_mem_data(self._into, _START) > 0 or _lib.BIO_get_mem_data(self._from, _START) > 0:
            return
        into, from_ = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        if into == _ffi.NULL or from_ == _ffi.NULL:
            raise MemoryError
        # SSL_set_bio(3): the old ones are freed, the new ones are the session's.
        _lib.SSL_set_bio(self._ssl, into, from_)
        self._into, self._from = self.tls._into_ssl, self.tls._from_ssl = into, from_
        self._swollen = False

    def _error(self, result: int) -> SSL.Error:
        try:
            self.tls._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error
        raise RuntimeError("OpenSSL says nothing of an error")

    def _send_records(self) -> None:
        size = _SIZE
        while size == _SIZE:
            size = _lib.BIO_read(self._from, _RECORDS, _SIZE)
            if size > 0:
                self._send(_RECORDS_VIEW[:size] if size > _MUCH else _RECORDS_BYTES[:size])
