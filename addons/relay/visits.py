"""Answers our gate's question for a page of the proxy itself."""

import asyncio
import logging
from collections.abc import Callable

from addons.access.checks import CHECK_TIMEOUT
from addons.access.questions import Visit
from addons.relay.pages import Pages
from connector_store.domain import denial

logger = logging.getLogger(__name__)


class Visits:
    """The handler of ConnectorVisitHook."""

    def __init__(self, landing: Callable[[], Pages]) -> None:
        self._landing = landing

    async def connector_visit(self, data: Visit) -> None:
        """Put the page, or the refusal, into `data`."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                data.answer = await self._landing().answer(data.method, data.target, data.headers)
        except TimeoutError:
            data.answer = denial.unavailable(1)
        except Exception as error:
            logger.error("a page of the proxy failed: %s", type(error).__name__)
