"""Parse method and request target into the attributes that the API server authorizes.

The rules are those of RequestInfoFactory in k8s.io/apiserver, pkg/endpoints/request/requestinfo.go (Kubernetes 1.37).

>>> parse_request("GET", "/api/v1/namespaces/web/pods/a/log?follow=true", "")
RequestInfo(verb='get', group='', resource='pods', subresource='log', namespace='web', name='a', \
path='/api/v1/namespaces/web/pods/a/log')
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_plus

from connector_store.domain.base.selectors import is_label_selector, required_name

_VERBS: Final = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_SPECIAL_VERBS: Final = frozenset({"proxy", "watch"})
_NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})
_MAX_QUERY_PAIRS: Final = 10_000
"""Maximum number of pairs in a query. The API server ignores a longer query (Go's urlmaxqueryparams, 1.24.12)."""
_MAX_CACHED_LENGTH: Final = 1024
"""Maximum length of a cached request target in characters. It bounds the cache in bytes."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"([+-]?)(?=[0-9])0*([0-9]{0,19})", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class RequestInfo(NamedTuple):
    """A request as the API server reads it. It is a tuple because each request creates one.

    A non-resource path has an empty `resource`, and the method in lower case as its verb. `path` is decoded.
    """

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    path: str


def parse_request(method: str, target: str, prefix: str) -> RequestInfo:
    """Parse an origin-form target. `prefix` is the path of the target's address, which its API server does not see."""
    if len(target) > _MAX_CACHED_LENGTH:
        return _parse(method, target, prefix)
    return _parse_cached(method, target, prefix)


def _parse(method: str, target: str, prefix: str) -> RequestInfo:
    raw_path, _, query = target.partition("?")
    raw_path = raw_path.removeprefix(prefix)
    path = unquote(raw_path) if "%" in raw_path else raw_path
    parts = path.strip("/").split("/")
    non_resource = RequestInfo(method.lower(), "", "", "", "", "", path)
    if parts[0] == "api" and len(parts) >= 3:
        return _parse_resource(method, "", parts[2:], query, non_resource)
    if parts[0] == "apis" and len(parts) >= 4:
        return _parse_resource(method, parts[1], parts[3:], query, non_resource)
    return non_resource


_parse_cached = lru_cache(maxsize=2048)(_parse)


def _parse_resource(method: str, group: str, parts: list[str], query: str, non_resource: RequestInfo) -> RequestInfo:
    verb = _VERBS.get(method, "")
    if parts[0] in _SPECIAL_VERBS:
        if len(parts) < 2:
            return non_resource._replace(group=group)
        verb, *parts = parts
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 and verb != "proxy" else ""
    if not name and verb == "get":
        verb, name = _parse_list_query(query)
    elif not name and verb == "delete":
        verb = "deletecollection"
    return RequestInfo(verb, group, parts[0], subresource, namespace, name, non_resource.path)


def _parse_list_query(query: str) -> tuple[str, str]:
    if not query:
        return "list", ""
    values = _first_values(query)
    watch = values.get("watch")
    name = _parse_selected_name(values)
    if name is None:
        # The API server ignores all options if one is malformed, except `watch`, for which it uses another parser.
        return "list" if watch is None or watch == "0" or watch.lower() == "false" else "watch", ""
    verb = "list" if watch is None or watch == "0" or watch.casefold() == "false" else "watch"
    # https://pkg.go.dev/k8s.io/apimachinery/pkg/api/validation/path#IsValidPathSegmentName
    return verb, "" if name in (".", "..") or "/" in name or "%" in name else name


def _parse_selected_name(values: Mapping[str, str]) -> str | None:
    """Return the object name that list options select, or an empty string. Return None if an option is malformed."""
    if not all(_is_int64(values[option]) for option in ("limit", "timeoutSeconds") if option in values):
        return None
    if not is_label_selector(values.get("labelSelector", "")):
        return None
    return required_name(values.get("fieldSelector", ""))


def _first_values(query: str) -> Mapping[str, str]:
    """Parse a query as Go's url.ParseQuery: drop pairs with a semicolon or a malformed escape, use the first value."""
    values: dict[str, str] = {}
    if query.count("&") >= _MAX_QUERY_PAIRS:
        return values
    for pair in query.split("&"):
        if not pair or ";" in pair or _BAD_ESCAPE.search(pair) is not None:
            continue
        key, _, value = pair.partition("=")
        values.setdefault(unquote_plus(key), unquote_plus(value))
    return values


def _is_int64(text: str) -> bool:
    # Go accepts any number of leading zeros, but Python refuses to convert more than 4,300 digits.
    match = _INTEGER.fullmatch(text)
    return match is not None and int(f"{match[1]}0{match[2]}") in _INT64
