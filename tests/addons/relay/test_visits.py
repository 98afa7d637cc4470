"""The handler for requests to the proxy itself: whatever fails, the answer refuses."""

from typing import cast

from addons.access.questions import Visit
from addons.relay.pages import Page, Pages
from addons.relay.visits import Visits
from connector_store.domain.denial import Deny
from connector_store.domain.headers import Fields

PAGE = Page(content_type=b"text/plain", body=b"a")


class FakeLanding:
    def __init__(self, result: Page | Exception) -> None:
        self.result = result

    async def answer(self, method: bytes, target: bytes, headers: Fields) -> Page:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def visit(result: Page | Exception) -> Page | Deny:
    data = Visit(b"GET", b"/ca.crt", Fields())
    await Visits(lambda: cast(Pages, FakeLanding(result))).connector_visit(data)
    return data.answer


async def test_the_page_is_handed_on() -> None:
    assert await visit(PAGE) is PAGE


async def test_a_page_that_fails_is_a_500_and_one_that_hangs_a_503() -> None:
    failed, hung = await visit(RuntimeError()), await visit(TimeoutError())
    assert isinstance(failed, Deny)
    assert isinstance(hung, Deny)
    assert (failed.status, hung.status) == (500, 503)
