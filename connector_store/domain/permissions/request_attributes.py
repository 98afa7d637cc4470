"""Attributes of a request that permissions depend on: its RequestInfo, and how servers may read it otherwise."""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from connector_store.domain.base.headers import Headers
from connector_store.domain.base.request_info import RequestInfo, parse_request

MAX_QUERY_PAIRS: Final = 1000
"""Maximum number of pairs in a query. Servers ignore a longer query with its selectors (Go: 10,000 pairs)."""
STREAM_SUBRESOURCES: Final = frozenset({"exec", "attach", "portforward"})
READ_BY_UPGRADE: Final = frozenset({"", "log"})
"""Subresources that an upgrade only reads. The empty one is an object or a collection, which can be watched."""
REVIEWS_GROUP: Final = "authorization.k8s.io"
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"})
_CREATING_METHODS: Final = frozenset({b"PUT", b"PATCH"})
_NON_APPLY_PATCHES: Final = frozenset(
    {b"application/json-patch+json", b"application/merge-patch+json", b"application/strategic-merge-patch+json"}
)
_CANONICAL_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@|^\"<>{}\[\]`%-]+)*/?")
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|$)")
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_PRINTABLE = re.compile(r"[ -~]*")
_DELIMITER = re.compile(r"[/\\%;?#]")
_MAX_CACHED_LENGTH: Final = 1024
"""Maximum length of a cached request target in bytes. It bounds the cache in bytes."""


class RequestAttributes(NamedTuple):
    """Attributes of a request that permissions depend on. It is a tuple because each request creates one.

    `is_canonical`: every server reads the path alike. `is_upgrade`: the request asks for another protocol.
    `may_create`: the request can create the object that its path names, as a PUT can. `query` is not decoded.
    """

    info: RequestInfo
    is_canonical: bool = True
    is_upgrade: bool = False
    may_create: bool = False
    query: str = ""


def parse_request_attributes(method: bytes, raw_target: bytes, headers: Headers, prefix: str) -> RequestAttributes:
    """Parse the attributes of a request.

    `prefix` is the path of the target's address, which the API server behind it does not see.
    """
    is_upgrade = headers.upgrade_protocol is not None
    creates = method in _CREATING_METHODS and may_create(method, tuple(headers.values(b"content-type")))
    parse = _parse if len(raw_target) > _MAX_CACHED_LENGTH else _parse_cached
    return parse(method, raw_target, prefix, is_upgrade, creates)


def _parse(method: bytes, raw_target: bytes, prefix: str, is_upgrade: bool, creates: bool) -> RequestAttributes:
    target = raw_target.decode("ascii")
    return RequestAttributes(
        info=parse_request(method.decode("ascii"), target, prefix),
        is_canonical=is_canonical_path(target),
        is_upgrade=is_upgrade,
        may_create=creates,
        query=target.partition("?")[2],
    )


_parse_cached = lru_cache(maxsize=2048)(_parse)


def is_self_review(info: RequestInfo) -> bool:
    """Return True for a self-review. The target answers it for the credential."""
    return info.group == REVIEWS_GROUP and info.verb == "create" and info.resource in _SELF_REVIEWS


def is_canonical_path(target: str) -> bool:
    """Return True if every server reads the path of a request target alike.

    A server in front of the API server then reads the same path as the API server. The path has no empty segments, no
    dot segments, and no escapes of delimiters or of anything other than printable ASCII.
    """
    path, _, query = target.partition("?")
    if query.count("&") >= MAX_QUERY_PAIRS or _CANONICAL_PATH.fullmatch(path) is None:
        return False
    if "%" in path:
        if any(len(escape) == 1 for escape in _ESCAPE.findall(path)):
            return False
        escaped = "".join(unquote(escape, "latin-1") for escape in _ESCAPE.findall(path))
        if _PRINTABLE.fullmatch(escaped) is None or _DELIMITER.search(escaped) is not None:
            return False
        path = unquote(path)
    return _DOT_SEGMENT.search(path) is None


def may_create(method: bytes, content_types: tuple[bytes, ...]) -> bool:
    """Return True if a request can create the object that its path names: PUT, and PATCH by server-side apply.

    A PATCH of an unknown type counts as server-side apply. `content_types` are the values of Content-Type, one in a
    valid request.
    """
    if method == b"PUT":
        return True
    if method != b"PATCH":
        return False
    return len(content_types) != 1 or content_types[0].partition(b";")[0] not in _NON_APPLY_PATCHES


def requires_create(subresource: str, *, is_upgrade: bool) -> bool:
    """Return True if a request of a subresource opens a stream, for which any verb also requires `create`.

    An upgrade of any subresource except `log` does, because servers behind the API server define more of them
    (KubeVirt: `console`, `vnc`).
    """
    return subresource not in READ_BY_UPGRADE if is_upgrade else subresource in STREAM_SUBRESOURCES
