"""Body of an event (events.k8s.io/v1), for the controller and the CSI driver."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from connector_store.domain.base.rfc3339 import format_micro_time

MAX_NOTE: Final = 1024
"""Maximum bytes of a note. Source: kubernetes pkg/apis/core/validation/events.go, which calls them characters."""
_MAX_INSTANCE: Final = 128
"""Maximum length of reportingInstance, which is ASCII."""
_MAX_NAME_PREFIX: Final = 200
"""Characters of the object's name at the start of the event's name. Names have at most 253 characters."""

CLUSTER_SCOPE_NAMESPACE: Final = "default"
"""Namespace of events about objects without a namespace, as in client-go."""

EventType = Literal["Normal", "Warning"]


class Reporter(NamedTuple):
    """Reporter of events: the program, its instance, and what it does when it reports."""

    controller: str
    instance: str
    action: str


def event_name(object_name: str, suffix: str) -> str:
    """Return the name of an event. `suffix` must be unique among the events about the same object."""
    # The shortened name must end with a letter or a digit.
    return f"{object_name[:_MAX_NAME_PREFIX].rstrip('-.')}.{suffix}"


def event_body(
    reporter: Reporter,
    *,
    name: str,
    regarding: Mapping[str, str],
    event_type: EventType,
    reason: str,
    note: str,
    event_time: datetime,
) -> dict[str, Any]:
    """Return an Event in the namespace of its object. `regarding` is a core/v1 ObjectReference."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": regarding.get("namespace", CLUSTER_SCOPE_NAMESPACE)},
        "eventTime": format_micro_time(event_time),
        "type": event_type,
        "reason": reason,
        "action": reporter.action,
        "note": note.encode(errors="replace")[:MAX_NOTE].decode(errors="ignore"),
        "regarding": dict(regarding),
        "reportingController": reporter.controller,
        "reportingInstance": reporter.instance[:_MAX_INSTANCE],
    }
