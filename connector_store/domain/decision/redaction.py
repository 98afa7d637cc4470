"""Redaction of request targets for logs. A log never contains a token, but always shows what was done.

>>> redact_target("/api/v1/pods?watch=true&fieldSelector=x&Ey4=", frozenset())
'/api/v1/pods?watch&fieldSelector&...'
>>> redact_target("http://team-a%2Fk8s:TOKEN@proxy/kubeconfig", frozenset())
'http://proxy/kubeconfig'

The query is parsed as by Go's net/url, which the API server uses: names are decoded, and invalid pairs are ignored.
Three dots replace omitted text.
"""

import re
from typing import Final
from urllib.parse import unquote_plus

from connector_store.domain.base.request_info import RequestInfo

MAX_PATH: Final = 2048
"""Maximum characters of a path."""
MAX_COMMAND: Final = 16384
"""Maximum characters of all words of a command together."""
ELLIPSIS: Final = "..."

_LOGGED_PARAMETERS: Final = frozenset(
    [
        "allowWatchBookmarks",
        "cmd",
        "command",
        "container",
        "continue",
        "dryRun",
        "exact",
        "exclude",
        "export",
        "fieldManager",
        "fieldSelector",
        "fieldValidation",
        "follow",
        "force",
        "gracePeriodSeconds",
        "hash",
        "includeObject",
        "includeUninitialized",
        "insecureSkipTLSVerifyBackend",
        "labelSelector",
        "limit",
        "limitBytes",
        "orphanDependents",
        "path",
        "ports",
        "pretty",
        "previous",
        "propagationPolicy",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "sinceSeconds",
        "sinceTime",
        "stderr",
        "stdin",
        "stdout",
        "stream",
        "tailLines",
        "timeout",
        "timeoutSeconds",
        "timestamps",
        "tty",
        "verbose",
        "watch",
    ]
)
"""Parameters of the Kubernetes API and of kubelet's API. Other names are omitted, because they could be a secret."""

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_PARAMETERS: Final[frozenset[str]] = frozenset()
_EXEC_PARAMETERS: Final = frozenset({"command"})
_NODE_PROXY_PARAMETERS: Final = frozenset({"command", "cmd"})


def command_parameters(info: RequestInfo | None) -> frozenset[str]:
    """Return the parameters that contain a command: of exec, or of kubelet's /exec and /run in a node's `proxy`."""
    if info is not None and info.subresource == "exec":
        return _EXEC_PARAMETERS
    if info is not None and info.resource == "nodes" and info.subresource == "proxy":
        return _NODE_PROXY_PARAMETERS
    return _NO_PARAMETERS


def command_words(target: str, info: RequestInfo | None) -> tuple[str, ...]:
    """Return the words of the command in a request target, or nothing if the request has no command."""
    names = command_parameters(info)
    pairs = _split_query(target.partition("?")[2], names)[0] if names else []
    return tuple(unquote_plus(value) for _, _, value in (pair.partition("=") for pair in pairs))


def redact_target(target: str, commands: frozenset[str]) -> str:
    """Return a request target without the values of its query, except those of `commands`, which it puts first."""
    path, question_mark, query = _remove_userinfo(target).partition("?")
    logged_path = _truncate(redact_tokens(path), MAX_PATH)
    if not question_mark:
        return logged_path
    command_pairs, names = _split_query(query, commands)
    parts = [_truncate("&".join(command_pairs), MAX_COMMAND)] if command_pairs else []
    if names:
        parts.append(_truncate("&".join(names), MAX_PATH))
    return f"{logged_path}?{'&'.join(parts)}"


def redact_tokens(text: str) -> str:
    """Replace each JSON Web Token in `text` by dots."""
    return _JWT.sub(ELLIPSIS, text) if "eyJ" in text else text


def _split_query(query: str, commands: frozenset[str]) -> tuple[list[str], list[str]]:
    command_pairs: list[str] = []
    names: list[str] = []
    for pair in query.split("&"):
        raw, _, value = pair.partition("=")
        name = _decode_name(raw)
        if name is None or name not in _LOGGED_PARAMETERS or ";" in pair or _BAD_ESCAPE.search(value):
            if pair and names[-1:] != [ELLIPSIS]:
                names.append(ELLIPSIS)
        elif name in commands:
            command_pairs.append(f"{name}={value}")
        else:
            names.append(name)
    return command_pairs, names


def _decode_name(name: str) -> str | None:
    return None if _BAD_ESCAPE.search(name) else unquote_plus(name)


def _remove_userinfo(target: str) -> str:
    """Remove the userinfo from an absolute or authority form, even if it contains invalid characters."""
    if target.startswith("/") and not target.startswith("//"):
        return target
    before, at, after = target.rpartition("@")
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://|//", before) if at else None
    return f"{scheme[0] if scheme else ''}{after}"


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - len(ELLIPSIS)] + ELLIPSIS
