"""Record of a CONNECT, a request or the end of a live connection, for the audit log and the metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.denial import Cause


@dataclass(slots=True)
class Record:
    """One event. Nothing changes it. It is not frozen, because each request creates one."""

    event: Literal["connect", "request", "stream"]
    """A CONNECT that was refused or opened a tunnel, a request whose response head was received, or the end of a watch,
    a followed log or an upgraded connection."""
    connector: ObjectKey | None
    """Connector that the client requested."""
    status: int
    source_ip: str
    duration: float
    """Seconds."""
    identity: Identity | None = None
    """Caller, or None if it is not authenticated."""
    info: RequestInfo | None = None
    target: str = ""
    """Request target as received."""
    user_agent: str = ""
    cause: Cause | str = ""
    """Reason of a refusal or of a close by the proxy, or ""."""
    detail: str = ""
    """Kind of an unavailable access check, the client's server name if its TLS handshake failed, or ""."""
    message: str = ""
    """Sentence of a refusal, which the client got too, or ""."""
    bytes_in: int = 0
    """Bytes sent to the target after the head of the request, with the framing of chunks."""
    bytes_out: int = 0
    """Bytes sent to the client for the request, with heads and framing."""
    long_running_kind: str = ""
    """Kind of the watch, log or session that the request started or that has ended, or ""."""
    role: str = ""
    """ClusterRole that allows or denies the request, or ""."""
    audit_id: str = ""
    """Value of the header Audit-ID in the request to the target."""
    access_request: str = ""
    """NAMESPACE/NAME of the approved access request without which the request would be refused, or ""."""
    approved_by: tuple[str, ...] = ()
    """User names of its approvers."""
    treatment: str = ""
    """`masked` or `dry_run` if the permissions limit the request in this way, or ""."""


Recorders = tuple[Callable[[Record], None], ...]
"""Functions that get each record: those of the audit log, of the metrics and of recent use."""
