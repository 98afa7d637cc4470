"""An audit record as a line for a person at a terminal.

12:00:07 200 team-a/k8s get pods/log web/a (12 ms) by system:serviceaccount:team-a:ci
"""

import time

from addons.records.record import Record
from connector_store.domain.decision.loggable import command_parameters, redact_target

_QUICK = 10.0
"""Seconds up to which a duration is written in milliseconds."""


def readable(exchange: Record, *, now: float, commands: bool) -> str:
    """One line of printable characters, in local time, without its end."""
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    words = [
        clock,
        str(exchange.status or "-"),
        str(exchange.connector or "-"),
        _deed(exchange, commands=commands),
        f"({_span(exchange.duration)})",
    ]
    words.append(f"by {exchange.identity.user}" if exchange.identity is not None else f"from {exchange.source_ip}")
    text = " ".join(words) + (f": {exchange.cause}" if exchange.cause else "")
    return "".join(each if each.isprintable() else "?" for each in text)


def _deed(exchange: Record, *, commands: bool) -> str:
    info = exchange.info
    names = command_parameters(info) if commands else frozenset[str]()
    if info is None or not info.resource:
        return f"{exchange.event} {redact_target(exchange.target, names)}".strip()
    verb = info.verb if exchange.event == "request" else f"end of {info.verb}"
    what = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    which = "/".join(each for each in (info.namespace, info.name) if each)
    told = redact_target(exchange.target, names).partition("?")[2] if names else ""
    shown = [each for each in told.split("&") if "=" in each]
    return " ".join(each for each in (verb, what, which, *shown) if each)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < _QUICK else f"{seconds:.0f} s"
