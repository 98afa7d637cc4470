"""May the caller with this token use the Connector: the check that may wait, and whatever fails of it refuses."""

import asyncio
import logging
from typing import Final

from connector_store.domain.access import Access, Answer, Unavailable
from connector_store.domain.names import ObjectKey

logger = logging.getLogger(__name__)

CHECK_TIMEOUT: Final = 15.0
"""Seconds that a check may take, however long whoever is asked would wait."""

NOBODY: Final[Answer] = Unavailable(reason="nobody answered")


async def may_use(access: Access, token: str, key: ObjectKey, *, timeout: float = CHECK_TIMEOUT) -> Answer:  # noqa: ASYNC109 - the limit is part of what is promised
    """The answer of `access`; Unavailable where it fails or takes longer than `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await access.check(token, key)
    except TimeoutError:
        return Unavailable(reason="the check took too long")
    except Exception as error:
        logger.error("check of a caller of Connector %s failed: %s", key, type(error).__name__)
        return Unavailable(reason="the check failed")
