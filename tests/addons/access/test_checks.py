"""The question whether a caller may use a Connector: whatever fails, the answer refuses."""

import asyncio

import pytest

from addons.access.checks import may_use
from connector_store.domain.access import Answer, Granted, Identity, Unavailable
from connector_store.domain.names import ObjectKey

KEY = ObjectKey("n", "a")
GRANTED = Granted(identity=Identity(user="u"))


class FakeAccess:
    def __init__(self, result: Answer | Exception | None) -> None:
        self.result = result

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        return None

    async def check(self, token: str, key: ObjectKey) -> Answer:
        if self.result is None:
            await asyncio.Event().wait()
        if isinstance(self.result, Exception):
            raise self.result
        assert self.result is not None
        return self.result

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> Answer:
        raise NotImplementedError


async def test_the_answer_of_the_check_is_handed_on() -> None:
    assert await may_use(FakeAccess(GRANTED), "t", KEY) is GRANTED


async def test_a_check_that_raises_refuses_and_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    answer = await may_use(FakeAccess(RuntimeError("about t-canary")), "t-canary", KEY)
    assert answer == Unavailable(reason="the check failed", retry_after=1)
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_check_that_hangs_has_its_end() -> None:
    answer = await may_use(FakeAccess(None), "t", KEY, timeout=0.01)
    assert answer == Unavailable(reason="the check took too long", retry_after=1)
