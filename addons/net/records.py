"""Where the records of TLS end in what came, without reading them (RFC 8446 section 5.1, RFC 5246 section 6.2.1)."""

from typing import Final

_HEADER: Final = 5
"""Bytes before a record's content; the last two are its length."""


class RecordEnds:
    """`receive` gets all that a peer sends.

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
        while at < size:
            if self._header or size - at < _HEADER:
                missing = _HEADER - len(self._header)
                self._header += bytes(data[at : at + missing])
                at += missing
                if len(self._header) < _HEADER:
                    self._left = 0
                    self.between = False
                    return
                at += int.from_bytes(self._header[3:])
                self._header = b""
            else:
                at += _HEADER + (data[at + 3] << 8 | data[at + 4])
        self._left = at - size
        self.between = at == size
