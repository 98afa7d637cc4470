"""No byte of a target's response ever reaches another request, whatever the target sends. Real sockets."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.certificates import make_ca, make_leaf
from tests.addons.hostile import NUMBERS, HostileTarget, Turn, play, turns
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Proxy, copy_confdir, running_proxy
from tests.fuzz import examples

GOODBYE = Turn(
    "HEAD", tunnel=True, twice=False, answer="silence", early=False, extra="goodbye", when="with", cuts=(21,)
)
"""The target closes the TLS session, maybe of a reused connection, in place of a response."""
GOOD = Turn("GET", tunnel=False, twice=False, answer="length", early=False, extra="nothing", when="with", cuts=())

World = tuple[Proxy, HostileTarget]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(confdir_template: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("hostile")
    ca = make_ca("target CA")
    async with HostileTarget(make_leaf(ca, ["127.0.0.1"])) as target:
        folder = home / "connectors"
        folder.mkdir()
        write(folder, connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=ca.pem))
        async with running_proxy(folder, copy_confdir(confdir_template, home / "confdir")) as proxy:
            yield proxy, target


async def assert_nothing_strays(world: World, plan: list[Turn]) -> None:
    """Assert that no response contains bytes of another one, and that the last caller gets its response."""
    proxy, target = world
    responses = await play(proxy, target, [*plan, GOOD])
    for number, received in responses.items():
        assert set(re.findall(rb"<([0-9]+)>", received)) <= {b"%d" % number}
        turn = target.turns[number]
        # Bytes that a reset discarded count as not sent.
        unanswered = turn.answer == "none" or (turn.extra == "reset" and turn.when == "with")
        unanswered |= turn.answer == "silence" and turn.extra == "goodbye" and turn.when == "with"
        is_retried = turn.method in ("GET", "HEAD") and unanswered
        assert target.request_counts[number] <= 1 + is_retried
    last = max(responses)
    assert responses[last].startswith(b"HTTP/1.1 200 OK\r\n")
    assert responses[last].endswith(b"\r\n\r\n" + b"<%d>" % last * 10)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=8)
@given(plan=st.lists(turns, min_size=1, max_size=2))
@example(plan=[GOOD, GOODBYE] * 8).via("a reused connection")
async def test_for_every_target_no_response_reaches_another_request(world: World, plan: list[Turn]) -> None:
    await assert_nothing_strays(world, plan)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=examples(40))
@given(plan=st.lists(turns, min_size=1, max_size=4))
async def test_for_every_target_no_response_reaches_another_request_at_length(world: World, plan: list[Turn]) -> None:
    await assert_nothing_strays(world, plan)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_unsolicited_data_a_connection_is_reused(world: World) -> None:
    """Connections are reused, so the other tests show something about reused connections."""
    proxy, target = world
    reuse_count = proxy.context.upstream_pool.reuse_count
    await play(proxy, target, [GOOD] * 4)
    assert proxy.context.upstream_pool.reuse_count >= reuse_count + 3
    assert next(NUMBERS) > len(target.turns)
