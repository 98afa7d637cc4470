"""A mitmproxy script: the check of a caller inside a tunnel never comes to an end, that of its CONNECT does."""

import asyncio

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult
from connector_store.folder.caller_tokens import TokenAccess

_at_once = TokenAccess.check_cached
_passed: set[str] = set()


def _first_time_only(self: TokenAccess, token: str, key: ObjectKey) -> AccessResult | None:
    if token in _passed:
        return None
    _passed.add(token)
    return _at_once(self, token, key)


async def _hang(self: TokenAccess, token: str, key: ObjectKey) -> AccessResult:
    await asyncio.Event().wait()
    return _at_once(self, token, key)


TokenAccess.check_cached = _first_time_only  # type: ignore[method-assign,assignment]  # to hang is what it is for
TokenAccess.check = _hang  # type: ignore[method-assign]  # to hang is what it is for
