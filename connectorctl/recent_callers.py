"""Callers of the last minutes, from the lists of Connectors of all proxies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from connectorctl.option_values import Selection
from connectorctl.proxy_sessions import Item, ProxyAnswer, format_age, number, text

MAX_SECONDS: Final = 15 * 60
"""Seconds for which a proxy keeps a caller."""
CALLER_HEADER: Final = ("USED", "CALLER", "CONNECTOR", "REQUESTS (15m)", "ERRORS (15m)", "LAST ERROR")


def join_callers(answers: Sequence[ProxyAnswer], selection: Selection, since: float) -> list[dict[str, Any]]:
    """Return who used a Connector in the last `since` seconds, the last one first. Counts of all proxies are added."""
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    for answer in sorted(answers, key=lambda answer: answer.proxy):
        for connector, use in _uses(answer):
            if not selection.includes(connector):
                continue
            if number(use, "lastUsed") < answer.time - since:
                continue
            key = connector, text(use, "caller")
            joined[key] = _add(joined.get(key, {}), use) | {"connector": connector, "caller": key[1]}
    return sorted(joined.values(), key=lambda row: -number(row, "lastUsed"))


def caller_notes(answers: Sequence[ProxyAnswer]) -> Iterator[str]:
    """Yield a line for each Connector with more callers than its proxy shows."""
    for answer in answers:
        for item in answer.items:
            total, shown = number(item, "callerCount"), len(_callers(item))
            if total > shown:
                yield f"warning: proxy {answer.proxy} shows {shown} of {total:g} callers of {text(item, 'connector')}"


def caller_cells(row: Item) -> tuple[str, ...]:
    """Return the cells for CALLER_HEADER."""
    return (
        format_age(time.time() - number(row, "lastUsed")),
        text(row, "caller"),
        text(row, "connector"),
        f"{number(row, 'requests'):g}",
        f"{number(row, 'errors'):g}",
        text(row, "lastError"),
    )


def _uses(answer: ProxyAnswer) -> Iterator[tuple[str, Item]]:
    for item in answer.items:
        for use in _callers(item):
            yield text(item, "connector"), use


def _callers(item: Item) -> Sequence[Item]:
    callers = item.get("callers")
    return [use for use in callers if isinstance(use, Mapping)] if isinstance(callers, list) else []


def _add(row: Item, use: Item) -> dict[str, Any]:
    """Add the use of one proxy to a row. The last error is that of the proxy that was used last and has one."""
    newest, other = (use, row) if number(use, "lastUsed") >= number(row, "lastUsed") else (row, use)
    return {
        "lastUsed": number(newest, "lastUsed"),
        "requests": number(row, "requests") + number(use, "requests"),
        "errors": number(row, "errors") + number(use, "errors"),
        "lastError": text(newest, "lastError") or text(other, "lastError"),
    }
