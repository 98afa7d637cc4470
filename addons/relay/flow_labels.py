"""Labels of flows: who called, for which Connector, what for, and why the proxy refused it.

A label is the comment of a flow, for people and filters such as `~comment team-a/prod`, and its metadata, for addons.
"""

import time
from dataclasses import dataclass
from typing import Final

from mitmproxy import connection, http

from addons.http1.messages import RequestHead
from addons.records.audit_text import describe_request
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.redaction import redact_target

REFUSED: Final = ":no_entry:"
"""Marker of a flow that the proxy refused."""
MAX_TEXT: Final = 1024
"""Maximum number of characters of a comment or of one metadata value. Callers choose names and paths."""
_SHOWN_FIELDS: Final = frozenset({b"host", b"user-agent", b"accept", b"content-type", b"content-length", b"upgrade"})
"""Header fields of a refused request in its flow. Others can contain the caller's token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLabel:
    """Facts about the request of a flow."""

    connector: ObjectKey | None
    identity: Identity | None
    source_ip: str
    info: RequestInfo | None
    role: str = ""
    """ClusterRole that allows or denies the request."""
    refusal: Deny | None = None

    @property
    def caller(self) -> str:
        return self.identity.user if self.identity is not None else f"stranger at {self.source_ip}"

    def comment(self) -> str:
        parts = [str(self.connector) if self.connector is not None else "no Connector", self.caller, self._request()]
        text = " · ".join(part for part in parts if part)
        if self.refusal is not None:
            text = f"{text}: {self.refusal.message}"
        return printable(text)[:MAX_TEXT]

    def _request(self) -> str:
        info = self.info
        if info is None:
            return ""
        return describe_request(info) if info.resource else f"{info.verb} {redact_target(info.path, frozenset())}"

    def metadata(self) -> dict[str, str]:
        info = self.info
        values = {
            "connector": str(self.connector or ""),
            "caller": self.caller,
            "verb": info.verb if info is not None else "",
            "group": info.group if info is not None else "",
            "resource": info.resource if info is not None else "",
            "subresource": info.subresource if info is not None else "",
            "namespace": info.namespace if info is not None else "",
            "name": info.name if info is not None else "",
            "role": self.role,
            "reason": self.refusal.cause if self.refusal is not None else "",
        }
        return {key: printable(value)[:MAX_TEXT] for key, value in values.items()}

    def apply(self, flow: http.HTTPFlow) -> None:
        """Set the comment and the metadata, and the marker and the response of a refusal."""
        flow.comment = self.comment()
        flow.metadata |= self.metadata()
        if self.refusal is not None:
            flow.marked = REFUSED
            if flow.response is None:
                flow.response = http.Response.make(
                    self.refusal.status, self.refusal.body, [(b"Content-Type", b"application/json")]
                )


def create_refused_flow(client: connection.Client, head: RequestHead | None, label: FlowLabel) -> http.HTTPFlow:
    """Create the flow of a request that does not reach a target. It contains no credential and no query value.

    `head` is None if the client sent no request that the proxy could parse.
    """
    flow = http.HTTPFlow(client, connection.Server(address=None))
    method, path, host, fields = "GET", "", b"", []
    if head is not None:
        method, path = head.method.decode("latin-1"), redact_target(head.target.decode("latin-1"), frozenset())
        host = head.headers.single_value(b"host") or b""
        fields = [field for field in head.headers if field[0].lower() in _SHOWN_FIELDS]
    name, _, port = host.decode("latin-1").rpartition(":")
    flow.request = http.Request(
        host=name or host.decode("latin-1"),
        port=int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else 443,
        method=method.encode("latin-1"),
        scheme=b"https",
        authority=path.encode("latin-1") if method == "CONNECT" else b"",
        path=path.encode("latin-1"),
        http_version=b"HTTP/1.1",
        headers=http.Headers(fields),
        content=b"",
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=time.time(),
    )
    label.apply(flow)
    return flow
