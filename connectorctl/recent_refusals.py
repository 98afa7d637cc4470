"""Refusals of the last minutes, from the lists of all proxies."""

import time
from collections.abc import Sequence
from typing import Any, Final

from connectorctl.option_values import Selection
from connectorctl.proxy_sessions import Item, ProxyAnswer, number, text

REFUSAL_HEADER: Final = ("TIME", "STATUS", "CALLER", "CONNECTOR", "REQUEST", "MESSAGE")


def join_refusals(answers: Sequence[ProxyAnswer], selection: Selection, since: float | None) -> list[dict[str, Any]]:
    """Return what was refused in the last `since` seconds (None: ever), the newest first, each with its proxy."""
    rows = [
        {"proxy": answer.proxy, **item}
        for answer in answers
        for item in answer.items
        if selection.includes(text(item, "connector"))
        if since is None or number(item, "time") >= answer.time - since
    ]
    return sorted(rows, key=lambda row: -number(row, "time"))


def refusal_cells(row: Item) -> tuple[str, ...]:
    """Return the cells for REFUSAL_HEADER."""
    return (
        time.strftime("%H:%M:%S", time.localtime(number(row, "time"))),
        f"{number(row, 'status'):g}",
        text(row, "caller") or f"from {text(row, 'sourceIP')}",
        text(row, "connector"),
        text(row, "request"),
        text(row, "message") or text(row, "reason"),
    )
