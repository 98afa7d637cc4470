"""Every refusal of the API page, over real sockets: the whole response, audit line, metrics, and untouched targets.

The same table runs unwatched and watched: flows must not change what a client gets.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector_store.domain.decision.warning import warning_header
from tests.addons.refusal_world import World, deleted, running_world
from tests.addons.refusals import CASES, Case
from tests.fakes.manifests import TARGET_TOKEN
from tests.fakes.proxy import ClientConnection, Response, copy_confdir
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests",
    431: "RequestEntityTooLarge", 502: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
"""Values of metav1.StatusReason. It has none for 502."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["unwatched", "watched"])
async def world(
    request: pytest.FixtureRequest, confdir_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("refusals")
    confdir = copy_confdir(confdir_template, home / "conf")
    async with running_world(home, confdir, watched=request.param == "watched") as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_refusals(world: World, case: Case, read_output: Callable[[], str]) -> None:
    agent = f"case-{CASES.index(case)}"
    async with prepare(world, case, agent) as (stream, message):
        heard, counts = world.heard(), world.counts()
        await stream.send(message)
        response = await stream.read_response()
        assert await stream.read_to_eof() == b""
        counted = world.counts() - counts
        stream.close()
    await until(lambda: world.proxy.connection_count == 0)
    assert_answer(case, response)
    assert counted == expected_counts(case)
    line = await audit_line(read_output, agent, "connect" if case.inside is None else "request")
    assert (line["status"], line["reason"]) == (case.status, case.cause)
    assert response.phrase == f"{HTTPStatus(case.status).phrase}: {line['message']}"
    assert (line["caller"] is None) is case.stranger
    assert line["connector"] == (None if case.nameless else f"team-a/{case.connector}")
    assert_targets(case, heard, world.heard())


@asynccontextmanager
async def prepare(world: World, case: Case, agent: str) -> AsyncIterator[tuple[ClientConnection, bytes]]:
    """Yield a connection that is one message away from the refusal, and that message."""
    proxy = world.proxy
    authority = case.authority or world.authorities[case.connector]
    key = f"team-a/{case.connector}"

    def fill_in(message: bytes, agent: str) -> bytes:
        message = re.sub(
            rb"TOKEN(?:\[(.*?)\])?", lambda match: proxy.token((match[1] or b"").decode() or key).encode(), message
        )
        message = message.replace(b"HOST", authority.encode())
        return message.replace(b"\r\n\r\n", f"\r\nUser-Agent: {agent}\r\n\r\n".encode(), 1)

    credentials = case.credentials(proxy) if case.credentials else f"{key}:{proxy.token(key)}"
    async with AsyncExitStack() as stack:
        if case.inside is None:
            stream = await proxy.open()
            message = case.first or connect(authority, credentials)
        else:
            stream, response = await proxy.connect(authority, credentials, agent=agent)
            assert response.status == 200, response.phrase
            await proxy.start_tls(stream, authority.rpartition(":")[0])
            message = case.inside
        if case.served:
            await stream.send(fill_in(message, "served"))
            assert (await stream.read_response()).status == 200
        if case.meanwhile is not None:
            await stack.enter_async_context(case.meanwhile(world))
        yield stream, fill_in(message, agent)


def connect(authority: str, credentials: str | bytes | None) -> bytes:
    value = b"Basic " + base64.b64encode(credentials.encode()) if isinstance(credentials, str) else credentials
    line = b"" if value is None else b"Proxy-Authorization: %b\r\n" % value
    return b"CONNECT %b HTTP/1.1\r\nHost: HOST\r\n%b\r\n" % (authority.encode(), line)


def assert_answer(case: Case, response: Response) -> None:
    """Check the response: for CONNECT the phrase, which is all that kubectl shows, else the Status object."""
    assert response.status == case.status
    prefix = f"{HTTPStatus(case.status).phrase}: "
    message = response.phrase.removeprefix(prefix)
    assert response.headers == {
        "content-type": "application/json",
        "cache-control": "no-cache, private",
        "warning": warning_header(message)[1].decode(),
        "content-length": str(len(response.body)),
        "connection": "close",
        **case.headers,
    }
    assert response.phrase.startswith(prefix)
    assert case.words in response.phrase
    if case.inside is None and case.first is None:
        assert response.body == b""
        return
    expected: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS[case.status],
        "code": case.status,
    }
    if "retry-after" in case.headers:
        expected["details"] = {"retryAfterSeconds": int(case.headers["retry-after"])}
    assert response.json() == expected


def expected_counts(case: Case) -> Counter[tuple[str, ...]]:
    """Return the counters. A Connector is a label value only for callers who may use it, and while it exists."""
    counts: Counter[tuple[str, ...]] = Counter({("denial", case.cause): 1})
    if case.inside is not None and case.meanwhile is not deleted:
        counts["request", "" if case.stranger else f"team-a/{case.connector}", str(case.status)] = 1
    return counts


async def audit_line(read_output: Callable[[], str], agent: str, event: str) -> dict[str, Any]:
    """Return the line of `event`. An unreadable request has no user agent, so its line is the last one."""

    def find_lines() -> list[dict[str, Any]]:
        lines = (json.loads(each) for each in read_output().splitlines() if each.startswith('{"time"'))
        return [each for each in lines if each["event"] == event and each["user_agent"] in (agent, "")]

    await until(lambda: bool(find_lines()))
    return find_lines()[-1]


def assert_targets(case: Case, before: dict[str, list[bytes]], after: dict[str, list[bytes]]) -> None:
    """Only a target that caused the refusal got the request, and only one with a valid certificate got the token."""
    token = TARGET_TOKEN.encode()
    assert {name for name in after if after[name] != before[name]} == ({case.connector} if case.seen else set())
    got = {name for name in after if b"".join(after[name]).count(token) > b"".join(before[name]).count(token)}
    assert got == ({case.connector} if case.given else set())
