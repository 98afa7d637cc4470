"""Certificates of a PEM text, each as one canonical block (RFC 7468).

This module refuses only what cannot be a certificate. The code that loads a certificate checks the rest. All other
content of the text is dropped, including private keys.
"""

import base64
import binascii
import re
from typing import Final

from connector_store.domain.base.errors import ParseError

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(?P<body>[^-]*)-----END CERTIFICATE-----")
BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_LINE_LENGTH: Final = 64
_SEQUENCE_TAG: Final = 0x30


def parse_certificates(text: bytes) -> list[bytes]:
    """Return the certificates in `text`, at least one. Raises ParseError with an empty path."""
    blocks = [_canonicalize(block["body"]) for block in _BLOCK.finditer(text)]
    if not blocks or len(blocks) != text.count(BEGIN):
        raise ParseError("", "has no whole PEM certificate; it begins with -----BEGIN CERTIFICATE-----")
    return blocks


def _canonicalize(body: bytes) -> bytes:
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise ParseError("", "has a certificate that is not base64") from None
    if not _is_der_sequence(der):
        raise ParseError("", "has a certificate that is cut off or is none")
    encoded = base64.b64encode(der)
    lines = [encoded[start : start + _LINE_LENGTH] for start in range(0, len(encoded), _LINE_LENGTH)]
    return b"\n".join([BEGIN, *lines, b"-----END CERTIFICATE-----", b""])


def _is_der_sequence(der: bytes) -> bool:
    """Return True for exactly one DER SEQUENCE (RFC 5280 section 4.1; X.690 section 8.1.3 for the length)."""
    if len(der) < 2 or der[0] != _SEQUENCE_TAG:
        return False
    length = der[1]
    if length < 0x80:
        return len(der) == 2 + length
    length_size = length & 0x7F
    return 0 < length_size <= 4 and len(der) == 2 + length_size + int.from_bytes(der[2 : 2 + length_size])
