"""Server name of a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), read before the handshake begins.

The name decides on the certificate, which may not be available yet. Only OpenSSL judges whether a ClientHello is valid.
"""

import struct
from typing import Final

MAX_NAME: Final = 255
"""Maximum number of characters of a server name. OpenSSL refuses longer ones."""
MAX_HELLO: Final = 32768
"""Maximum number of bytes of a ClientHello. One with post-quantum keys has 2 kB."""
_HANDSHAKE_RECORD: Final = 0x16
_CLIENT_HELLO: Final = 0x01
_MAX_RECORD: Final = 16384
"""Maximum number of content bytes of a record (RFC 8446 section 5.1)."""
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_EXTENSION_HEADER: Final = 4
_VERSION_AND_RANDOM: Final = 34
_SERVER_NAME: Final = 0
"""Type of the extension."""
_HOST_NAME: Final = 0
"""Type of the only kind of server name."""
_unpack_extension: Final = struct.Struct(">HH").unpack_from


def parse_server_name(data: bytes) -> str | None:
    """Return the name in lower case, None if `data` ends within the ClientHello, or "" if there is no name.

    The result is "" for invalid data, too.
    """
    message, position = b"", 0
    while position < len(data):
        size = int.from_bytes(data[position + 3 : position + _RECORD_HEADER])
        if data[position] != _HANDSHAKE_RECORD or size > _MAX_RECORD:
            return ""
        message += data[position + _RECORD_HEADER : position + _RECORD_HEADER + size]
        if message and message[0] != _CLIENT_HELLO:
            return ""
        end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER])
        if end > MAX_HELLO:
            return ""
        if len(message) >= max(end, _MESSAGE_HEADER):
            return _find_name(message[_MESSAGE_HEADER:end])
        position += _RECORD_HEADER + size
    return None


def _find_name(hello: bytes) -> str:
    position = _VERSION_AND_RANDOM
    # The session ID, the cipher suites and the compression methods, each with a length of so many bytes.
    for length_size in (1, 2, 1):
        position += length_size + int.from_bytes(hello[position : position + length_size])
    position += 2
    last = len(hello) - _EXTENSION_HEADER
    while position <= last:
        kind, size = _unpack_extension(hello, position)
        if kind == _SERVER_NAME:
            return _parse_extension(hello[position + _EXTENSION_HEADER : position + _EXTENSION_HEADER + size])
        position += _EXTENSION_HEADER + size
    return ""


def _parse_extension(extension: bytes) -> str:
    """Return the first name of the list, whose length has two bytes."""
    size = int.from_bytes(extension[3:5])
    if len(extension) < 5 + size or extension[2] != _HOST_NAME or size > MAX_NAME:
        return ""
    return extension[5 : 5 + size].decode("ascii", "replace").lower()
