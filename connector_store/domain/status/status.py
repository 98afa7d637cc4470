"""`status` of a Connector or a ConnectorClass: read tolerantly, written as a merge patch.

>>> parse_status({"status": {"observedGeneration": 3, "conditions": [{"type": "Ready", "status": "True"}]}}).ready
Condition(type='Ready', status='True', reason='', message='', severity='', transition='')
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from connector_store.domain.base import rfc3339
from connector_store.domain.base.errors import ParseError
from connector_store.domain.status.http_address import HttpAddress, parse_http_address

CONDITION_READY: Final = "Ready"

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of status.conditions; `transition` is RFC 3339 text. Empty fields are left out of the object."""

    type: str
    status: ConditionStatus
    reason: str = ""
    message: str = ""
    severity: str = ""
    last_transition_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What we write of a status; other fields of it are let alone."""

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    proxy: HttpAddress | None = None
    credential_expires_at: float | None = None
    """When the credential ends, in unix seconds; whole ones in the object."""

    @property
    def ready(self) -> Condition | None:
        return self.condition(CONDITION_READY)

    def condition(self, kind: str) -> Condition | None:
        return next((each for each in self.conditions if each.type == kind), None)


def parse_status(raw: Mapping[str, Any]) -> Status:
    """The status of a raw object; what is not of the schema's types is taken as absent, so it is written anew."""
    status = _mapping(raw.get("status"))
    generation = status.get("observedGeneration")
    conditions = status.get("conditions")
    return Status(
        conditions=tuple(_conditions(conditions if isinstance(conditions, list) else ())),
        observed_generation=generation if isinstance(generation, int) else 0,
        proxy=_proxy(raw),
        credential_expires_at=rfc3339.parse_time(_mapping(status.get("credential")).get("expirationTime")),
    )


def status_patch(status: Status, *, with_proxy: bool = True) -> dict[str, Any]:
    """The value of `status` in a merge patch (RFC 7396). Without `with_proxy` that field is let alone."""
    body: dict[str, Any] = {
        "conditions": [_condition_body(each) for each in status.conditions],
        "observedGeneration": status.observed_generation,
    }
    if with_proxy:
        body["proxy"] = {"httpAddress": _proxy_body(status.proxy)} if status.proxy else None
        body["credential"] = (
            None
            if status.credential_expires_at is None
            else {"expirationTime": _format_time(status.credential_expires_at)}
        )
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
            )


def _condition_body(condition: Condition) -> dict[str, str]:
    body = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "severity": condition.severity,
        "lastTransitionTime": condition.last_transition_time,
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


def _format_time(seconds: float) -> str:
    return rfc3339.format_time(datetime.fromtimestamp(seconds, UTC))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""
