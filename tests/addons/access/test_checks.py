"""The question whether a caller may use a Connector: whatever fails, the answer refuses."""

import asyncio

import pytest

from addons.access import checks
from addons.access.checks import Authenticate
from addons.access.questions import MayUse
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
    question = MayUse(KEY, "t")
    await Authenticate(lambda: FakeAccess(GRANTED)).connector_may_use(question)
    assert question.answer is GRANTED


async def test_a_check_that_raises_leaves_the_refusal_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    question = MayUse(KEY, "t-canary")
    await Authenticate(lambda: FakeAccess(RuntimeError("about t-canary"))).connector_may_use(question)
    assert isinstance(question.answer, Unavailable)
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_check_that_hangs_has_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_TIMEOUT", 0.01)
    question = MayUse(KEY, "t")
    await Authenticate(lambda: FakeAccess(None)).connector_may_use(question)
    assert question.answer == Unavailable(reason="the check took too long")
