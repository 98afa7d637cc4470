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

_BUFFER_SIZE: Final = 163840
"""Bytes taken out of OpenSSL at once: what one read of a wire makes, and the record that had begun before it."""
_PLAIN_BUFFER: Final = _ffi.new("char[]", _BUFFER_SIZE)
"""Plain text that came, of all sessions: it is copied at once, and the data path runs on one event loop."""
_PLAIN_BYTES: Final = _ffi.buffer(_PLAIN_BUFFER)
_RECORDS_BUFFER: Final = _ffi.new("char[]", _BUFFER_SIZE)
"""Records that go out, of all sessions: what takes them copies what it keeps."""
_RECORDS_BYTES: Final = _ffi.buffer(_RECORDS_BUFFER)
_RECORDS_VIEW: Final = memoryview(_RECORDS_BYTES).cast("B")
_POINTER: Final = _ffi.new("char **")
_MAX_RECORD: Final = 16384
"""RFC 8446 section 5.1: bytes of a record's content at most."""
_FULL_AT: Final = _BUFFER_SIZE - _MAX_RECORD
"""Plain text beyond which another record may not fit."""
_RECORD_HEADER: Final = 5
"""Bytes before it (RFC 8446 section 5.1, RFC 5246 section 6.2.1); the last two are its length."""
_unpack_length: Final = struct.Struct(">3xH").unpack_from
_LARGE: Final = 16384
"""More bytes than these are read by OpenSSL where they are, and records written from where they are; once more were
written at once, its buffer is given back as soon as little passes again."""


class RecordSink(Protocol):
    """Where the records go: a `Sockets`."""

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]: ...

    def send_eof(self, connection: Connection) -> None: ...


class ClientStream(Protocol):
    """One side of a client connection, in plain text or in TLS: what came goes in by `receive`."""

    connection: Connection
    at_eof: bool
    """The peer has said that nothing more comes (close_notify, or FIN in plain text), or `cut_off`."""
    is_truncated: bool
    """Its connection has ended without its TLS session."""

    def receive(self, data: bytes | memoryview) -> bytes:
        """The plain text of what came; ConnectionError if it cannot be had."""

    def send(self, data: bytes) -> None:
        """Send plain text."""

    def send_eof(self, *, clean: bool = True) -> None:
        """Nothing more is sent."""


class RecordTracker:
    """Where records end in what came, without reading them; `receive` gets all that a peer sends.

    OpenSSL takes the beginning of a record out of its buffer, and does not tell that it has one.
    """

    __slots__ = ("_header", "_remaining", "is_between_records")

    def __init__(self) -> None:
        self.is_between_records = True
        """No record has only begun."""
        self._remaining = 0
        """Bytes of the record that have not come; none while its header has not."""
        self._header = b""
        """What has come of a header that is not whole."""

    def receive(self, data: bytes | memoryview) -> None:
        """Go on to the end of `data`."""
        position, size = self._remaining, len(data)
        if self._header:
            position = _RECORD_HEADER - len(self._header)
            self._header += bytes(data[:position])
            if size < position:
                return
            position += _unpack_length(self._header)[0]
            self._header = b""
        last_header = size - _RECORD_HEADER
        while position <= last_header:
            position += _RECORD_HEADER + _unpack_length(data, position)[0]
        if position < size:
            self._header = bytes(data[position:])
            position = size
        self._remaining = position - size
        self.is_between_records = not self._remaining and not self._header


class TlsStream:
    """A connection and its TLS session. Bytes go in by `receive`; what is to be sent goes to `out`.

    `receive` also answers for TLS itself: its handshake, key updates, alerts. A session within another one is made with
    `outer`: what came goes through that one first.
    """

    def __init__(
        self, connection: Connection, tls: SSL.Connection, sink: RecordSink, *, outer: "TlsStream | None" = None
    ) -> None:
        self.connection = connection
        self.tls = tls
        self.is_established = False
        self.at_eof = False
        """The peer has said that nothing more comes (close_notify), or `cut_off`."""
        self.is_truncated = False
        """Its connection has ended without its TLS session."""
        self.record_tracker: RecordTracker | None = None
        """Is given all that comes, where somebody wants to know where records end."""
        self._sink: RecordSink | None = sink
        self._outer = outer
        self._send = sink.sender(connection) if outer is None else outer.send
        self._ssl, self._incoming, self._outgoing = tls._ssl, tls._into_ssl, tls._from_ssl
        self._is_flush_deferred = False
        """What TLS says by itself goes out with the answer to what it brought."""
        self._has_large_buffers = True
        """OpenSSL's buffers are large: of a handshake, or of much that was written."""
        # pyOpenSSL sets it, but memory takes all that is written: one call for all records.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)

    def set_sink(self, sink: RecordSink | None) -> None:
        """From now on it is for `out` to end its connection, or for nobody; the connection stays the same."""
        self._sink = sink

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came; returns the plain text of it. ConnectionError if it is not TLS, or its peer not trusted."""
        outer = self._outer
        if outer is not None:
            data = outer.receive(data)
        if self.record_tracker is not None:
            self.record_tracker.receive(data)
        is_large = len(data) > _LARGE
        if is_large:
            self._set_incoming(_lib.BIO_new_mem_buf(_ffi.from_buffer(data), len(data)))
        elif data:
            _lib.BIO_write(self._incoming, _ffi.from_buffer(data), len(data))
        try:
            was_established = self.is_established
            if not was_established and not self._do_handshake():
                return b""
            size = self._read_plain()
            # Session tickets: nobody waits for them who has asked for something with the last of the handshake.
            self._is_flush_deferred = (
                not was_established and size > 0 and _lib.SSL_version(self._ssl) == _lib.TLS1_3_VERSION
            )
            pieces: list[bytes] = []
            if size < _FULL_AT:
                plain: bytes = _PLAIN_BYTES[:size]
                return plain
            while size:
                pieces.append(_PLAIN_BYTES[:size])
                size = self._read_plain() if size >= _FULL_AT else 0
            return b"".join(pieces)
        finally:
            # What TLS itself has to say: its handshake, answers to key updates, alerts.
            if not self._is_flush_deferred and _lib.BIO_get_mem_data(self._outgoing, _POINTER) > 0:
                self._send_records()
            if is_large:
                # `data` is the caller's again.
                self._set_incoming(_lib.BIO_new(_lib.BIO_s_mem()))
            elif self._has_large_buffers and self.is_established:
                self._release_buffers()
            if outer is not None and outer.at_eof and not self.at_eof:
                self.at_eof = self.is_truncated = True

    def send(self, data: bytes | memoryview) -> None:
        """Send plain text."""
        if not data:
            return
        if len(data) > _LARGE:
            self._has_large_buffers = True
        result = _lib.SSL_write(self._ssl, _ffi.from_buffer(data), len(data))
        if result <= 0:
            raise ConnectionError(describe_tls_error(self.tls, self._error(result)))
        self._send_records()
        if self._is_flush_deferred:
            self._is_flush_deferred = False
            self._release_buffers()

    def send_eof(self, *, clean: bool = True) -> None:
        """Nothing more is sent: close_notify where what was sent is `whole`, then FIN. The peer may go on."""
        if self.is_established and clean:
            try:
                self.tls.shutdown()
            except SSL.Error:
                pass
            else:
                self._send_records()
        if self._outer is not None:
            self._outer.send_eof(clean=clean)
        elif self._sink is not None:
            self._sink.send_eof(self.connection)

    def _do_handshake(self) -> bool:
        result = _lib.SSL_do_handshake(self._ssl)
        if result == 1:
            self.is_established = True
        elif _lib.SSL_get_error(self._ssl, result) != _lib.SSL_ERROR_WANT_READ:
            raise ConnectionError(describe_tls_error(self.tls, self._error(result)))
        return self.is_established

    def _read_plain(self) -> int:
        """Fill the buffer, but for the room of a record; returns the number of bytes."""
        if self.at_eof:
            return 0
        read, ssl, filled = _lib.SSL_read, self._ssl, 0
        while filled <= _FULL_AT:
            size = read(ssl, _PLAIN_BUFFER + filled, _MAX_RECORD)
            if size <= 0:
                self._check_read_error(size)
                break
            filled += size
            # More follows a full record, as a rule.
            if (
                size < _MAX_RECORD
                and _lib.BIO_get_mem_data(self._incoming, _POINTER) == 0
                and _lib.SSL_pending(ssl) == 0
            ):
                break
        return filled

    def _check_read_error(self, result: int) -> None:
        """There is nothing to read: not yet, or never any more; ConnectionError if what came is not TLS."""
        reason = _lib.SSL_get_error(self._ssl, result)
        if reason == _lib.SSL_ERROR_ZERO_RETURN:
            self.at_eof = True
        elif reason != _lib.SSL_ERROR_WANT_READ:
            raise ConnectionError(describe_tls_error(self.tls, self._error(result)))

    def _set_incoming(self, bio: Any) -> None:
        """Have OpenSSL read that; the one before is freed (SSL_set_bio(3))."""
        if bio == _ffi.NULL:
            raise MemoryError
        # Its end is none: more may come.
        _lib.BIO_set_mem_eof_return(bio, -1)
        _lib.SSL_set_bio(self._ssl, bio, self._outgoing)
        self._incoming = self.tls._into_ssl = bio

    def _release_buffers(self) -> None:
        """Give back OpenSSL's buffers, which it keeps as large as they ever were, once nothing is in them."""
        if _lib.BIO_get_mem_data(self._incoming, _POINTER) > 0 or _lib.BIO_get_mem_data(self._outgoing, _POINTER) > 0:
            return
        incoming, outgoing = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        if incoming == _ffi.NULL or outgoing == _ffi.NULL:
            raise MemoryError
        # SSL_set_bio(3): the old ones are freed, the new ones are the session's.
        _lib.SSL_set_bio(self._ssl, incoming, outgoing)
        self._incoming, self._outgoing = self.tls._into_ssl, self.tls._from_ssl = incoming, outgoing
        self._has_large_buffers = False

    def _error(self, result: int) -> SSL.Error:
        try:
            self.tls._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error
        raise RuntimeError("OpenSSL says nothing of an error")

    def _send_records(self) -> None:
        size = _BUFFER_SIZE
        while size == _BUFFER_SIZE:
            size = _lib.BIO_read(self._outgoing, _RECORDS_BUFFER, _BUFFER_SIZE)
            if size > 0:
                self._send(_RECORDS_VIEW[:size] if size > _LARGE else _RECORDS_BYTES[:size])
