"""From a head to its decision: whoever does not answer, or raises, lets nobody in."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from connector_store.domain.access import Answer, Granted, Identity, Refused, Unavailable
from connector_store.domain.names import ObjectKey
from connector_store.folder.access import TokenAccess
from tests.fakes.proxy import Proxy, running_proxy, until
from tests.fakes.target import Target
from tests.fakes.watcher import watch

KEY = "team-a/k8s"


class SlowAccess:
    """Knows nobody by heart; `answers` come when `go_on` is set."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.go_on = asyncio.Event()

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        return None

    async def check(self, token: str, key: ObjectKey) -> Answer:
        self.asked += 1
        await self.go_on.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> Answer:
        raise NotImplementedError


GRANTED = Granted(identity=Identity(user="u"))


def give(proxy: Proxy, access: SlowAccess) -> None:
    connections = proxy.master.addons.get("connections")
    connections.take(replace(connections.parts(), service=replace(proxy.service, access=access)))


def get(target: Target, token: str = "t") -> bytes:
    return b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n\r\n" % (
        target.port,
        token.encode(),
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(GRANTED, 200, id="granted"),
        pytest.param(Refused(what="token", reason=""), 401, id="a token that is none"),
        pytest.param(Refused(what="use", reason=""), 403, id="no right"),
        pytest.param(Unavailable(reason="", retry_after=7), 503, id="nobody to ask"),
        pytest.param(RuntimeError(), 503, id="a check that raises"),
    ],
)
async def test_with_password_x_each_request_brings_its_token(
    proxy: Proxy, target: Target, answer: Answer | Exception, status: int
) -> None:
    access = SlowAccess(answer)
    give(proxy, access)
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.say(get(target))
    await until(lambda: access.asked == 1)
    assert target.conversations == []
    access.go_on.set()
    assert (await client.answer()).status == status
    assert len(target.conversations) == (status == 200)


async def test_with_password_x_a_request_without_a_token_gets_401(proxy: Proxy, target: Target) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    answer = await client.answer()
    assert (answer.status, answer.json()["reason"]) == (401, "Unauthorized")
    assert target.conversations == []


async def test_while_a_check_runs_the_client_is_not_read(proxy: Proxy, target: Target) -> None:
    access = SlowAccess(GRANTED, Refused(what="use", reason=""))
    give(proxy, access)
    access.go_on.set()
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:t")
    access.go_on.clear()
    await client.say(b"PUT /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100000000\r\n\r\n" % target.port)
    await until(lambda: access.asked == 2)

    async def flood() -> None:
        while True:
            await client.say(b"x" * 65536)

    # The kernel and asyncio hold some; then the client has to wait, as writing to a full pipe does.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 2)
    access.go_on.set()
    assert (await client.answer()).status == 403


async def test_a_method_that_kubernetes_does_not_have_is_refused(proxy: Proxy, target: Target) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"TRACE /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    assert (await client.answer()).status == 400
    assert target.conversations == []


async def test_an_error_in_the_data_path_closes_the_connection(
    proxy: Proxy, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SlowAccess):
        def cached(self, token: str, key: ObjectKey) -> Answer | None:
            raise RuntimeError(f"about {token}")

    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    object.__setattr__(proxy.service, "access", Broken())
    await client.say(get(target, "canary-token"))
    assert await client.rest() == b""
    await until(lambda: proxy.connections == 0)
    assert target.conversations == []
    assert "RuntimeError in the data path" in caplog.text
    assert "canary" not in caplog.text


async def test_who_lost_the_right_while_a_person_thought_is_refused(
    folder: Path, confdir: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Refused(what="token", reason="expired")
    async with running_proxy(folder, confdir, connector_flows="on") as watched:
        watch(watched, "request", lambda _: monkeypatch.setattr(TokenAccess, "cached", lambda *_: refused))
        client = await watched.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{watched.token(KEY)}")
        await client.say(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        assert (await client.answer()).status == 401
    assert target.received == b""
