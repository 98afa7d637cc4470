"""Documents about live connections, Connectors and refusals. They are built in pieces, between which others can run."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import batched
from typing import Final

from addons.access.live_connections import LiveConnections
from addons.records.recent_use import RecentUse, Use
from addons.records.session_row import shorten
from connector_store.domain.base import rfc3339
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector, InvalidConnector, Target, Unusable
from connector_store.domain.permissions.permissions import Permissions
from connector_store.store import Store

BATCH_SIZE: Final = 64
"""Objects that are examined before other tasks can run, which takes a few milliseconds at most."""
MAX_CALLERS: Final = 20
"""Maximum number of callers in the document of one Connector."""

_encode = json.JSONEncoder(separators=(",", ":")).encode

Item = tuple[str, str]
"""Key of an object, and the object as JSON."""


class State:
    """State of one proxy. `get_parts` returns the current store and live connections.

    With `commands`, rows contain the command of an exec.
    """

    def __init__(
        self, get_parts: Callable[[], tuple[Store, LiveConnections]], recent_use: RecentUse, *, commands: bool
    ) -> None:
        self._get_parts = get_parts
        self._recent_use = recent_use
        self._commands = commands

    async def sessions(self) -> AsyncIterator[Item]:
        """Yield the live connections, in no order."""
        for batch in batched(self._get_parts()[1].connections(), BATCH_SIZE):
            for connection in batch:
                row = connection.session_row(commands=self._commands)
                if row is not None:
                    yield f"session/{row.id}", _encode(row.document())
            await asyncio.sleep(0)

    async def connectors(self) -> AsyncIterator[Item]:
        """Yield the Connectors with their callers of the last minutes, by name."""
        store = self._get_parts()[0]
        uses: defaultdict[ObjectKey, list[Use]] = defaultdict(list)
        for use_batch in batched(self._recent_use.uses(), BATCH_SIZE):
            for use in use_batch:
                uses[use.connector].append(use)
            await asyncio.sleep(0)
        for batch in batched(sorted(store.connectors(), key=lambda connector: connector.key), BATCH_SIZE):
            for connector in batch:
                document = _connector_document(store, connector, uses.get(connector.key, []))
                yield f"connector/{connector.key}", _encode(document)
            await asyncio.sleep(0)

    async def refusals(self) -> AsyncIterator[Item]:
        """Yield the last refusals, the newest first."""
        for refusal in self._recent_use.refusals():
            yield f"refusal/{refusal.number}", _encode(refusal.document())


def _connector_document(
    store: Store, connector: Connector | InvalidConnector, uses: Iterable[Use]
) -> dict[str, object]:
    newest_uses = sorted(uses, key=lambda use: use.last_used, reverse=True)
    target = store.get(connector.key)
    credential = target.credential if isinstance(target, Target) else None
    return {
        "connector": str(connector.key),
        "address": shorten(str(connector.address)) if isinstance(connector, Connector) else "",
        **_usability(target),
        "expires": _format_time(credential.expires_at) if credential is not None else None,
        "permissions": shorten("; ".join(_permissions(connector))),
        "callerCount": len(newest_uses),
        "callers": [use.document() for use in newest_uses[:MAX_CALLERS]],
        "requestsPerMinute": round(sum(use.requests_per_minute for use in newest_uses), 1),
        "errorsPerMinute": round(sum(use.errors_per_minute for use in newest_uses), 1),
    }


def _usability(target: Target | Unusable | None) -> dict[str, object]:
    match target:
        case Target():
            return {"usable": True, "reason": "", "message": ""}
        case Unusable(reason=reason, message=message):
            return {"usable": False, "reason": reason, "message": shorten(message)}
        case None:
            return {
                "usable": False,
                "reason": "NotOurs",
                "message": "its class authenticates in a way that is not served",
            }


def _format_time(seconds: float | None) -> str | None:
    return rfc3339.format_unix_time(seconds) if seconds is not None else None


def _permissions(connector: Connector | InvalidConnector) -> Iterator[str]:
    """Yield what the Connector allows, denies, masks and limits."""
    if not isinstance(connector, Connector):
        return
    permissions = connector.permissions or Permissions(allow=None)
    if permissions.allow is None:
        yield "everything that the credential can do"
    else:
        yield "allow " + (", ".join(entry.cluster_role for entry in permissions.allow) or "nothing")
    if permissions.deny:
        yield "deny " + ", ".join(entry.cluster_role for entry in permissions.deny)
    if permissions.restrictions.masks_secrets:
        yield "mask Secrets"
    if permissions.restrictions.dry_run:
        yield "writes as dry runs"
    if connector.limits is not None:
        yield "limits"
