"""One JSON line per CONNECT, request and stream end: who used which Connector for what, and how it ended.

No header values but the User-Agent, no bodies; of the query string only names, but for the `command` of an exec,
which is what was done. Lines are handed over in batches, so that a request costs no write of its own.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from addons.exchange import Exchange

MAX_WAITING: Final = 10_000
"""Lines that wait for whoever reads our output; further ones are dropped and counted."""
MAX_TEXT: Final = 2048
"""Characters of a path, a user agent or a command in a line."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """Formats lines and keeps them until `flush`.

    `now` gives unix seconds; `commands` says whether an exec's command is written.
    """

    def __init__(
        self, write: Callable[[str], None], *, now: Callable[[], float], commands: bool = True, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when the first line waits: it arranges a `flush` soon."""
        self._write = write
        self._now = now
        self._commands = commands
        self._wake = wake
        self._waiting: list[str] = []
        self.dropped = 0
        """Lines that were lost because nobody read our output."""

    def record(self, exchange: Exchange) -> None:
        """Add a line for what ended now."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(_encode(line(exchange, now=self._now(), commands=self._commands)))
        if len(self._waiting) == 1:
            self._wake()

    def flush(self) -> None:
        """Write what waits, in one piece."""
        if self._waiting:
            lines = "\n".join(self._waiting) + "\n"
            self._waiting.clear()
            self._write(lines)


def line(exchange: Exchange, *, now: float, commands: bool) -> dict[str, object]:
    """The fields of one audit line."""
    info, identity = exchange.info, exchange.identity
    return {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": exchange.event,
        "connector": str(exchange.connector) if exchange.connector else None,
        "caller": {
            "user": identity.user,
            "groups": identity.groups,
            "pod": identity.pod,
            "node": identity.node,
            "uid": identity.uid,
        }
        if identity
        else None,
        "source_ip": exchange.source_ip,
        "verb": info.verb if info else None,
        "group": info.group if info else None,
        "resource": info.resource if info else None,
        "subresource": info.subresource if info else None,
        "namespace": info.namespace if info else None,
        "name": info.name if info else None,
        "path": loggable(exchange.target, commands=commands and info is not None and info.subresource == "exec"),
        "status": exchange.status,
        "reason": exchange.cause,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "duration_ms": round(exchange.duration * 1000, 1),
        "user_agent": exchange.user_agent[:MAX_TEXT],
    }


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
