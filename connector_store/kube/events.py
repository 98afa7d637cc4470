"""The body of an event (events.k8s.io/v1), as the controller and the CSI driver write it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from connector_store.domain.base.rfc3339 import format_micro_time

MAX_NOTE: Final = 1024
"""Bytes of a note (kubernetes pkg/apis/core/validation/events.go, which calls them characters)."""
_MAX_INSTANCE: Final = 128
"""Characters of reportingInstance, which has no others than ASCII."""
_MAX_NAME_PREFIX: Final = 200
"""Characters of the name of what an event is about that its own name begins with; names have at most 253."""

EventType = Literal["Normal", "Warning"]


def event_name(object_name: str, suffix: str) -> str:
    """`unique` tells it from every other event about the same object: a time, a number, chance."""
    # What is cut must end as a name may.
    return f"{object_name[:_MAX_NAME_PREFIX].rstrip('-.')}.{suffix}"


def event_body(
    *,
    name: str,
    namespace: str,
    regarding: Mapping[str, str],
    event_type: EventType,
    reason: str,
    note: str,
    action: str,
    controller: str,
    instance: str,
    event_time: datetime,
) -> dict[str, Any]:
    """`regarding` is a core/v1 ObjectReference; `controller` and `instance` say who reports."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": format_micro_time(event_time),
        "type": event_type,
        "reason": reason,
        "action": action,
        "note": note.encode(errors="replace")[:MAX_NOTE].decode(errors="ignore"),
        "regarding": dict(regarding),
        "reportingController": controller,
        "reportingInstance": instance[:_MAX_INSTANCE],
    }
