"""Status of a Connector or a ConnectorClass: tolerant parser, and merge patch.

>>> parse_status({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).ready.status
'True'
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.status.http_address import HttpAddress, parse_http_address

CONDITION_READY: Final = "Ready"

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of status.conditions. `last_transition_time` is RFC 3339 text. Empty fields are omitted from the object."""

    type: str
    status: ConditionStatus
    reason: str = ""
    message: str = ""
    severity: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0
    """Generation of the spec that the condition is about, or 0 if it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The fields of a status that the controller writes. It does not change other fields."""

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    proxy: HttpAddress | None = None
    credential_expires_at: float | None = None
    """Expiry of the credential in Unix seconds. The object has whole seconds."""

    @property
    def ready(self) -> Condition | None:
        return self.condition(CONDITION_READY)

    def condition(self, kind: str) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == kind), None)


def parse_status(raw: Mapping[str, Any]) -> Status:
    """Parse the status of a raw object. Values of a wrong type count as absent, so the controller writes them again."""
    status = _mapping(raw.get("status"))
    conditions = status.get("conditions")
    return Status(
        conditions=tuple(_conditions(conditions if isinstance(conditions, list) else ())),
        observed_generation=_generation(status),
        proxy=_proxy(raw),
        credential_expires_at=rfc3339.parse_time(_mapping(status.get("credential")).get("expirationTime")),
    )


def status_patch(status: Status, *, with_proxy: bool = True) -> dict[str, Any]:
    """Return `status` for a merge patch (RFC 7396). Without `with_proxy`, `proxy` and `credential` stay unchanged."""
    body: dict[str, Any] = {
        "conditions": [_condition_body(condition) for condition in status.conditions],
        "observedGeneration": status.observed_generation,
    }
    if with_proxy:
        body["proxy"] = {"httpAddress": _proxy_body(status.proxy)} if status.proxy else None
        expires_at = status.credential_expires_at
        body["credential"] = None if expires_at is None else {"expirationTime": rfc3339.format_unix_time(expires_at)}
    return body


def _conditions(items: Iterable[object]) -> Iterable[Condition]:
    for item in items:
        raw = _mapping(item)
        kind, status = _text(raw, "type"), raw.get("status")
        if kind and (status == "True" or status == "False" or status == "Unknown"):
            yield Condition(
                type=kind,
                status=status,
                reason=_text(raw, "reason"),
                message=_text(raw, "message"),
                severity=_text(raw, "severity"),
                last_transition_time=_text(raw, "lastTransitionTime"),
                observed_generation=_generation(raw),
            )


def _condition_body(condition: Condition) -> dict[str, str | int]:
    body: dict[str, str | int] = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "severity": condition.severity,
        "lastTransitionTime": condition.last_transition_time,
        "observedGeneration": condition.observed_generation,
    }
    return {name: value for name, value in body.items() if value}


def _proxy(raw: Mapping[str, Any]) -> HttpAddress | None:
    try:
        return parse_http_address(raw)
    except ParseError:
        return None


def _proxy_body(proxy: HttpAddress) -> dict[str, str | None]:
    return {
        "url": proxy.url,
        "CACerts": base64.b64encode(proxy.ca).decode(),
        "audience": proxy.audience or None,
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _generation(raw: Mapping[str, Any]) -> int:
    value = raw.get("observedGeneration")
    return value if isinstance(value, int) else 0


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""
