"""Answers our layers' question whether a caller may use a Connector: the checks that may wait."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from addons.access.questions import MayUse
from connector_store.domain.access import Access, Unavailable

logger = logging.getLogger(__name__)

CHECK_TIMEOUT: Final = 15.0
"""Seconds that a check may take, however long whoever is asked would wait himself."""


class Authenticate:
    """The handler of ConnectorMayUseHook. A question whose check fails keeps the answer that refuses."""

    def __init__(self, access: Callable[[], Access]) -> None:
        self._access = access

    async def connector_may_use(self, data: MayUse) -> None:
        """Put the answer into `data`."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                data.answer = await self._access().check(data.token, data.key)
        except TimeoutError:
            data.answer = Unavailable(reason="the check took too long")
        except Exception as error:
            logger.error("check of a caller of Connector %s failed: %s", data.key, type(error).__name__)
