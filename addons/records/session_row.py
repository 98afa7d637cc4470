"""Rows about live connections, for people who look at who is connected. They are built only when they are read."""

from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.names import ObjectKey

MAX_TEXT: Final = 512
"""Maximum number of characters of a text in a row. Callers and owners of Connectors choose names and commands."""
ELLIPSIS: Final = "..."
_KINDS: Final = {"": "request", "log": "logs", "portforward": "port-forward"}
"""Kind of a row, by `long_running_kind`, where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A request that was sent to a target and has not ended. `since` is in Unix seconds.

    `id` is the Audit-ID of the request, which the audit logs of the proxy and of the target also contain.
    """

    id: str
    since: float
    kind: str
    caller: str
    connector: ObjectKey
    source_ip: str
    verb: str
    resource: str
    """Resource with its subresource, such as `pods/exec`."""
    namespace: str
    name: str
    command: str
    """Command of an exec as shell words, or ""."""
    role: str
    """ClusterRole that allows the request, or ""."""
    access_request: str = ""
    """Access request that allows it, or ""."""
    bytes_in: int = 0
    """Bytes sent to the target after the head of the request."""
    bytes_out: int = 0
    """Bytes sent to the client."""

    def document(self) -> dict[str, object]:
        """Return the row as `sessions.schema.json` describes it."""
        return {
            "id": self.id,
            "since": round(self.since, 3),
            "kind": self.kind,
            "caller": self.caller,
            "connector": str(self.connector),
            "sourceIP": self.source_ip,
            "verb": self.verb,
            "resource": self.resource,
            "namespace": self.namespace,
            "name": self.name,
            "command": self.command,
            "role": self.role,
            "accessRequest": self.access_request,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
        }


def session_kind(long_running_kind: str) -> str:
    """Return the kind of a row: request, watch, logs, exec, attach, port-forward or upgrade."""
    return _KINDS.get(long_running_kind, long_running_kind)


def shorten(text: str) -> str:
    """Return at most MAX_TEXT characters of `text`."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(ELLIPSIS)] + ELLIPSIS
