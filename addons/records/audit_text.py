"""Text format of audit records, for people at a terminal.

12:00:07 200 team-a/k8s get pods/log web/a (12 ms) by system:serviceaccount:team-a:ci

A refusal ends with its code and its sentence.
"""

import time
from typing import Final

from addons.records.record import Record
from connector_store.domain.base.printable import printable
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.decision.redaction import command_parameters, redact_target, redact_tokens

MAX_MESSAGE: Final = 512
"""Maximum number of characters of a refusal's sentence in a line of both formats."""
_MAX_IN_MILLISECONDS = 10.0
"""Number of seconds up to which a duration is written in milliseconds."""


def format_text(record: Record, *, now: float, commands: bool) -> str:
    """Return one line of printable characters in local time, without the newline."""
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    words = [
        clock,
        str(record.status or "-"),
        str(record.connector or "-"),
        _describe(record, commands=commands),
        f"({_format_duration(record.duration)})",
    ]
    words.append(f"by {record.identity.user}" if record.identity is not None else f"from {record.source_ip}")
    text = (
        " ".join(words)
        + (f": {record.cause}" if record.cause else "")
        + (f" ({record.detail})" if record.detail else "")
        + (f": {redact_tokens(record.message)[:MAX_MESSAGE]}" if record.message else "")
    )
    return printable(text)


def _describe(record: Record, *, commands: bool) -> str:
    info = record.info
    names = command_parameters(info) if commands else frozenset[str]()
    if info is None or not info.resource:
        return f"{record.event} {redact_target(record.target, names)}".strip()
    end = "" if record.event == "request" else "end of "
    query = redact_target(record.target, names).partition("?")[2] if names else ""
    arguments = [parameter for parameter in query.split("&") if "=" in parameter]
    return " ".join([f"{end}{describe_request(info)}", *arguments])


def describe_request(info: RequestInfo) -> str:
    """Return the verb, the resource, and the namespace and name of the object, such as `get pods/log web/a`."""
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    name = "/".join(part for part in (info.namespace, info.name) if part)
    return " ".join(part for part in (info.verb, resource, name) if part)


def _format_duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < _MAX_IN_MILLISECONDS else f"{seconds:.0f} s"
