"""A mitmproxy script: the check of a caller's token succeeds for the CONNECT and never ends for later requests."""

import asyncio

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult
from connector_store.folder.caller_tokens import TokenAccess

_check_cached = TokenAccess.check_cached
_checked_tokens: set[str] = set()


def _check_cached_once(self: TokenAccess, token: str, key: ObjectKey) -> AccessResult | None:
    if token in _checked_tokens:
        return None
    _checked_tokens.add(token)
    return _check_cached(self, token, key)


async def _hang(self: TokenAccess, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
    await asyncio.Event().wait()
    return _check_cached(self, token, key)


TokenAccess.check_cached = _check_cached_once  # type: ignore[method-assign,assignment]  # the point
TokenAccess.check = _hang  # type: ignore[method-assign]  # the point
