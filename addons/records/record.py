"""What is known of a CONNECT, a request or a stream when it ends: audit line and metrics are made of it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.denial import Cause


class Record(NamedTuple):
    """One thing that ended.

    `event`: a CONNECT that was refused or opened a tunnel; a request when its answer's head is known (`status`); a
    stream (watch, logs -f, an upgrade) when it ends. `identity` is None until the caller is verified, `connector` is
    what is asked for. `target` is the request target as it came; `cause` why it was refused or cut, empty if it was
    not. Bytes are of bodies and of streams, durations in seconds. `stream` is the kind of stream that the request has
    begun, or that has ended; empty where there is none. `role` is the ClusterRole by which a limited
    Connector lends it, or that denies it. `audit_id` is its name at the target.
    A tuple, because one is made for every request.
    """

    event: Literal["connect", "request", "stream"]
    connector: ObjectKey | None
    status: int
    source_ip: str
    duration: float
    identity: Identity | None = None
    info: RequestInfo | None = None
    target: str = ""
    user_agent: str = ""
    cause: Cause | str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    stream_kind: str = ""
    role: str = ""
    audit_id: str = ""


Recorders = tuple[Callable[[Record], None], ...]
"""Who is told of each: the audit log, the metrics."""
