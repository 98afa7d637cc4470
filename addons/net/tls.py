"""TLS sessions without I/O: OpenSSL over memory buffers, for client connections and target connections.

pyOpenSSL creates the sessions (contexts, verification, names). Bytes pass through its low-level binding, because
pyOpenSSL's `recv` and `bio_read` allocate and clear a buffer of the requested size. That costs more than the TLS of a
small request.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from mitmproxy.connection import Connection
from OpenSSL import SSL

from connector_store.trust import tls_error

_lib, _ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]  # the binding is not in pyOpenSSL's public names

_BUFFER_SIZE: Final = 163840
"""Size of the buffers for OpenSSL's output: enough for one read of a connection and the record that began before it."""

_PLAIN_BUFFER: Final = _ffi.new("char[]", _BUFFER_SIZE)
"""Buffer for received plain text, shared by all sessions, which run on one event loop. The text is copied at once."""
_PLAIN_BYTES: Final = _ffi.buffer(_PLAIN_BUFFER)
_RECORDS_BUFFER: Final = _ffi.new("char[]", _BUFFER_SIZE)
"""Buffer for records to send, shared by all sessions. A receiver copies the bytes it needs."""
_RECORDS_BYTES: Final = _ffi.buffer(_RECORDS_BUFFER)
_RECORDS_VIEW: Final = memoryview(_RECORDS_BYTES).cast("B")
_POINTER: Final = _ffi.new("char **")
_MAX_RECORD: Final = 16384
"""Maximum number of content bytes of a record (RFC 8446 section 5.1)."""
_FULL_AT: Final = _BUFFER_SIZE - _MAX_RECORD
"""Bytes of plain text in the buffer above which another record may not fit."""
_RECORD_HEADER: Final = 5
"""Size of a record header (RFC 8446 section 5.1, RFC 5246 section 6.2.1). Its last two bytes are the content length."""
_unpack_length: Final = struct.Struct(">3xH").unpack_from
_LARGE: Final = 16384
"""Number of bytes above which OpenSSL reads the input in place, and records are sent without a copy. After a larger
write, OpenSSL's buffers are released with the next small read."""


class RecordSink(Protocol):
    """Receiver of records, such as `Sockets`."""

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]: ...

    def send_eof(self, connection: Connection) -> None: ...


class ClientStream(Protocol):
    """Byte stream with a client, in plain text or in TLS."""

    connection: Connection
    at_eof: bool
    """The peer sends nothing more: it sent close_notify, or FIN in plain text, or `is_truncated` is True."""
    is_truncated: bool
    """The connection ended without close_notify."""

    def receive(self, data: bytes | memoryview) -> bytes:
        """Return the plain text of the received `data`. Raises ConnectionError if `data` is not valid TLS."""

    def send(self, data: bytes) -> None:
        """Send plain text."""

    def send_eof(self, *, clean: bool = True) -> None:
        """Send nothing more. If `clean` is False, the sent data is incomplete, so TLS sends no close_notify."""


class RecordTracker:
    """Tracker of record boundaries in the bytes that a peer sends. It does not decrypt them.

    OpenSSL removes the beginning of a partial record from its buffer and does not report it.
    """

    __slots__ = ("_header", "_remaining", "is_between_records")

    def __init__(self) -> None:
        self.is_between_records = True
        """The received bytes end with a complete record."""
        self._remaining = 0
        """Content bytes of the current record that are missing. 0 while its header is incomplete."""
        self._header = b""
        """Received bytes of an incomplete header."""

    def receive(self, data: bytes | memoryview) -> None:
        """Process all bytes of `data`."""
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
    """TLS session of a connection. Received records go in with `receive`, records to send go to `sink`.

    `receive` also sends the output of TLS itself: handshake messages, key updates and alerts. With `outer`, the session
    runs within another session, which decrypts received bytes first.
    """

    def __init__(
        self, connection: Connection, tls: SSL.Connection, sink: RecordSink, *, outer: "TlsStream | None" = None
    ) -> None:
        self.connection = connection
        self.tls = tls
        self.is_established = False
        self.at_eof = False
        """The peer has sent close_notify, or `is_truncated` is True."""
        self.is_truncated = False
        """The connection ended without close_notify."""
        self.record_tracker: RecordTracker | None = None
        """Tracker that gets all received bytes, if set."""
        self._sink: RecordSink | None = sink
        self._outer = outer
        self._send = sink.sender(connection) if outer is None else outer.send
        self._ssl, self._incoming, self._outgoing = tls._ssl, tls._into_ssl, tls._from_ssl
        self._is_flush_deferred = False
        """Output of TLS itself waits for the next `send`, to go out with it."""
        self._has_large_buffers = True
        """OpenSSL's buffers are large after a handshake or a large write."""
        # pyOpenSSL sets this mode. A memory buffer accepts all data, so one call can write all records.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)

    def set_sink(self, sink: RecordSink | None) -> None:
        """Replace the sink that `send_eof` uses, or remove it. The connection and its sender stay the same."""
        self._sink = sink

    def receive(self, data: bytes | memoryview, *, is_outer_decrypted: bool = False) -> bytes:
        """Return the plain text of the received `data`. Raises ConnectionError on a TLS error or an untrusted peer.

        If `is_outer_decrypted` is True, `data` is plain text of the outer session.
        """
        outer = self._outer
        if outer is not None and not is_outer_decrypted:
            data = outer.receive(data)
        if self.record_tracker is not None:
            self.record_tracker.receive(data)
        is_large = len(data) > _LARGE
        if is_large:
            self._set_incoming(_lib.BIO_new_mem_buf(_ffi.from_buffer(data), len(data)))
        elif data:
            # A copy costs less than the object that refers to a view.
            _lib.BIO_write(self._incoming, bytes(data), len(data))
        try:
            was_established = self.is_established
            if not was_established and not self._do_handshake():
                return b""
            size = self._read_plain()
            # If plain text came with the end of the handshake, the session tickets can wait for its response.
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
            # Output of TLS itself: handshake messages, replies to key updates, alerts.
            if not self._is_flush_deferred and _lib.BIO_get_mem_data(self._outgoing, _POINTER) > 0:
                self._send_records()
            if is_large:
                # The caller may reuse `data` after this call, so OpenSSL must not refer to it.
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
        result = _lib.SSL_write(self._ssl, data if isinstance(data, bytes) else _ffi.from_buffer(data), len(data))
        if result <= 0:
            raise tls_error(self.tls, self._error(result))
        self._send_records()
        if self._is_flush_deferred:
            self._is_flush_deferred = False
            self._release_buffers()

    def send_eof(self, *, clean: bool = True) -> None:
        """Send close_notify if the sent data is complete (`clean`), then FIN. The peer may continue to send."""
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
            raise tls_error(self.tls, self._error(result))
        return self.is_established

    def _read_plain(self) -> int:
        """Decrypt into the shared buffer until less than a record fits. Return the number of bytes."""
        if self.at_eof:
            return 0
        read, ssl, filled = _lib.SSL_read, self._ssl, 0
        while filled <= _FULL_AT:
            size = read(ssl, _PLAIN_BUFFER + filled, _MAX_RECORD)
            if size <= 0:
                self._check_read_error(size)
                break
            filled += size
            # After a full record there is usually another one, so only a smaller one needs the check. OpenSSL has read
            # the whole of a smaller one (SSL_pending(3) is 0).
            if size < _MAX_RECORD and _lib.BIO_get_mem_data(self._incoming, _POINTER) == 0:
                break
        return filled

    def _check_read_error(self, result: int) -> None:
        """Set `at_eof` after close_notify. Raises ConnectionError on a TLS error."""
        reason = _lib.SSL_get_error(self._ssl, result)
        if reason == _lib.SSL_ERROR_ZERO_RETURN:
            self.at_eof = True
        elif reason != _lib.SSL_ERROR_WANT_READ:
            raise tls_error(self.tls, self._error(result))

    def _set_incoming(self, bio: Any) -> None:
        """Make OpenSSL read from `bio`. OpenSSL frees the previous one (SSL_set_bio(3))."""
        if bio == _ffi.NULL:
            raise MemoryError
        # The end of this buffer is not an EOF, because more data may follow.
        _lib.BIO_set_mem_eof_return(bio, -1)
        _lib.SSL_set_bio(self._ssl, bio, self._outgoing)
        self._incoming = self.tls._into_ssl = bio

    def _release_buffers(self) -> None:
        """Replace OpenSSL's empty buffers with new ones, because they never shrink."""
        if _lib.BIO_get_mem_data(self._incoming, _POINTER) > 0 or _lib.BIO_get_mem_data(self._outgoing, _POINTER) > 0:
            return
        incoming, outgoing = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        if incoming == _ffi.NULL or outgoing == _ffi.NULL:
            raise MemoryError
        # SSL_set_bio(3): OpenSSL frees the old buffers, and the session owns the new ones.

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
