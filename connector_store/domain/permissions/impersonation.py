"""Impersonation (`spec.impersonate`): each request carries the verified caller for the target's RBAC and audit log.

Header names and the encoding of extra keys follow client-go (transport/round_trippers.go). The credential's account
needs the right `impersonate` on each user, group, UID and extra value that the headers name.

>>> identity = Identity(user="jane", groups=("dev",), extra={"example.com/team": ("a",)})
>>> write_impersonation_headers(Impersonation(user_prefix="c:", group_prefix="c:"), identity)
b'Impersonate-User: c:jane\\r\\nImpersonate-Group: c:dev\\r\\nImpersonate-Extra-example.com%2Fteam: a\\r\\n'
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.callers.access import Identity

DEFAULT_PREFIX: Final = "connectors:"
MAX_PREFIX_LENGTH: Final = 63
MAX_HEADER_BYTES: Final = 16384
"""Maximum length of all impersonation headers of one caller in bytes."""
REQUEST_EXTRA: Final = "connectors.alauda.io/access-request"
"""Key of the extra value that names the access request. A value that the caller brings is left out."""
SUPERUSER_GROUP: Final = "system:masters"
"""Group with all rights, which no authorizer checks."""

_SYSTEM_PREFIX: Final = "system:"
_PREFIX = re.compile(r"[!-~]*")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
# RFC 9110 section 5.6.2, without the percent sign, and without capitals, because the API server converts a key to lower
# case before it decodes it.
_TOKEN_CHARACTERS: Final = frozenset(b"!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Impersonation:
    """Prefixes for the names of users and groups. They can be empty."""

    user_prefix: str = DEFAULT_PREFIX
    group_prefix: str = DEFAULT_PREFIX


def parse_impersonation(spec: Fields) -> Impersonation | None:
    """Parse `impersonate` of a Connector's spec. Return None if it is absent. ParseError names the field."""
    if spec.value("impersonate") is None:
        return None
    fields = spec.child("impersonate")
    fields.reject_others(["userPrefix", "groupPrefix"], "impersonate has userPrefix and groupPrefix")
    return Impersonation(
        user_prefix=_parse_prefix(fields, "userPrefix"), group_prefix=_parse_prefix(fields, "groupPrefix")
    )


def _parse_prefix(fields: Fields, name: str) -> str:
    if fields.value(name) is None:
        return DEFAULT_PREFIX
    prefix = fields.text(name) or ""
    if len(prefix) > MAX_PREFIX_LENGTH or _PREFIX.fullmatch(prefix) is None or prefix.startswith(_SYSTEM_PREFIX):
        raise ParseError(
            fields.path_of(name),
            f"is not a prefix: at most {MAX_PREFIX_LENGTH} characters, no spaces, not beginning with system:",
        )
    return prefix


@lru_cache(maxsize=512)
def write_impersonation_headers(prefixes: Impersonation, identity: Identity, access_request: str = "") -> bytes:
    """Write the impersonation headers as lines that end with CRLF.

    `access_request` is NAMESPACE/NAME of the approved access request that allows the request, for REQUEST_EXTRA.
    The headers omit system:masters, and groups that would begin with `system:` after the prefix. Raises ParseError for
    a caller that must not be impersonated.
    """
    headers = list(_impersonation_headers(prefixes, identity))
    if access_request:
        headers.append((b"Impersonate-Extra-" + _encode_extra_key(REQUEST_EXTRA), _encode_value(access_request)))
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    if len(lines) > MAX_HEADER_BYTES:
        raise ParseError("", f"the caller's groups and claims need more than {MAX_HEADER_BYTES} bytes of headers")
    return lines


def _impersonation_headers(prefixes: Impersonation, identity: Identity) -> Iterator[tuple[bytes, bytes]]:
    user = prefixes.user_prefix + identity.user
    if not identity.user or user.startswith(_SYSTEM_PREFIX):
        raise ParseError(
            "", "a name of Kubernetes itself is not passed on without a prefix; set impersonate.userPrefix"
        )
    yield b"Impersonate-User", _encode_value(user)
    if identity.uid:
        yield b"Impersonate-Uid", _encode_value(identity.uid)
    for name in identity.groups:
        group = prefixes.group_prefix + name
        if name != SUPERUSER_GROUP and not group.startswith(_SYSTEM_PREFIX):
            yield b"Impersonate-Group", _encode_value(group)
    for key, values in sorted(identity.extra.items()):
        if key.lower() == REQUEST_EXTRA:
            continue
        for value in values:
            yield b"Impersonate-Extra-" + _encode_extra_key(key), _encode_value(value)


def _encode_value(text: str) -> bytes:
    if _CONTROL_CHARACTERS.search(text) is not None:
        raise ParseError("", "the caller's name, groups or claims have control characters")
    if text != text.strip():
        # A server removes it (RFC 9110 section 5.5), so the target would get another name than was verified.
        raise ParseError("", "the caller's name, groups or claims have white space at an end")
    return text.encode()


def _encode_extra_key(key: str) -> bytes:
    return b"".join(b"%c" % byte if byte in _TOKEN_CHARACTERS else b"%%%02X" % byte for byte in key.encode())
