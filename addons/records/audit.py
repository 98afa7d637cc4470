"""One JSON line per CONNECT, request and stream end: who used which Connector for what, and how it ended.

No header values but the User-Agent, no bodies; of the query string only names, but for the `command` of an exec,
which is what was done. Lines are handed over in batches, so that a request costs no write of its own.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from addons.records.record import Record
from connector_store.domain.access import Identity
from connector_store.domain.names import ObjectKey
from connector_store.domain.request_info import RequestInfo

MAX_WAITING: Final = 10_000
"""Lines that wait for whoever reads our output; further ones are dropped and counted."""
MAX_TEXT: Final = 2048
"""Characters of a path, a user agent or a command in a line."""

REMEMBERED: Final = 512
"""Callers, targets and texts whose words are kept; each is some kB at most, as heads are bounded."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """Formats lines and keeps them until `flush`.

    `now` gives unix seconds; `commands` says whether an exec's command is written.
    """

    def __init__(
        self, write: Callable[[str], None], *, now: Callable[[], float], commands: bool, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when the first line waits: it arranges a `flush` soon."""
        self._write = write
        self._now = now
        self._commands = commands
        self._wake = wake
        self._waiting: list[str] = []
        self.dropped = 0
        """Lines that were lost because nobody read our output in time."""

    def record(self, exchange: Record) -> None:
        """Add a line for what ended now."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line(exchange, now=self._now(), commands=self._commands))
        if len(self._waiting) == 1:
            self._wake()

    def flush(self) -> None:
        """Write what waits, in one piece."""
        if self._waiting:
            lines = "\n".join(self._waiting) + "\n"
            self._waiting.clear()
            self._write(lines)


def line(exchange: Record, *, now: float, commands: bool) -> str:
    """One audit line, without its end. What requests have in common is put into words once."""
    second = int(now)
    return (
        f'{{"time":"{_second(second)}.{int((now - second) * 1000):03}Z","event":"{exchange.event}",'
        f"{_who(exchange.connector, exchange.identity, exchange.source_ip)},"
        f"{_what(exchange.info, exchange.target, commands)},"
        f'"status":{exchange.status},"reason":{_text(exchange.cause)},'
        f'"bytes_in":{exchange.bytes_in},"bytes_out":{exchange.bytes_out},'
        f'"duration_ms":{exchange.duration * 1000:.1f},"user_agent":{_text(exchange.user_agent[:MAX_TEXT])}}}'
    )


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_text = lru_cache(maxsize=REMEMBERED)(_encode)


@lru_cache(maxsize=REMEMBERED)
def _who(connector: ObjectKey | None, identity: Identity | None, source_ip: str) -> str:
    caller = identity and {
        "user": identity.user,
        "groups": identity.groups,
        "pod": identity.pod,
        "node": identity.node,
        "uid": identity.uid,
    }
    return _members(connector=str(connector) if connector else None, caller=caller, source_ip=source_ip)


@lru_cache(maxsize=REMEMBERED)
def _what(info: RequestInfo | None, target: str, commands: bool) -> str:
    return _members(
        verb=info.verb if info else None,
        group=info.group if info else None,
        resource=info.resource if info else None,
        subresource=info.subresource if info else None,
        namespace=info.namespace if info else None,
        name=info.name if info else None,
        path=loggable(target, commands=commands and info is not None and info.subresource == "exec"),
    )


def _members(**fields: object) -> str:
    return _encode(fields)[1:-1]


def loggable(target: str, *, commands: bool) -> str:
    """A request target without the values of its query: `/exec?command=ls&stdin` with `commands`.

    >>> loggable("/api/v1/pods?watch=true&fieldSelector=x", commands=False)
    '/api/v1/pods?watch&fieldSelector'
    """
    if "?" not in target:
        return target[:MAX_TEXT]
    path, _, query = target.partition("?")
    words = []
    for pair in query[: 4 * MAX_TEXT].split("&"):
        name, _, value = pair.partition("=")
        words.append(f"{name}={value}" if commands and name == "command" else name)
    return f"{path}?{'&'.join(words)}"[:MAX_TEXT]
