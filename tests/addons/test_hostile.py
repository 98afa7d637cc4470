"""Whatever a target sends before, within or after an answer, no byte of it is ever another request's; real sockets."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.certificates import make_ca, make_leaf
from tests.addons.hostile import NUMBERS, HostileTarget, Turn, play, turns
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Proxy, copy_confdir, running_proxy

GOOD = Turn("GET", tunnel=False, twice=False, answer="length", early=False, more="nothing", when="with", cuts=())

World = tuple[Proxy, HostileTarget]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(confdir_template: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("hostile")
    ca = make_ca("target CA")
    async with HostileTarget(make_leaf(ca, ["127.0.0.1"]), home) as target:
        folder = home / "connectors"
        folder.mkdir()
        write(folder, connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=ca.pem))
        async with running_proxy(folder, copy_confdir(confdir_template, home / "confdir")) as proxy:
            yield proxy, target


async def assert_nothing_strays(world: World, plan: list[Turn]) -> None:
    """The last caller is answered as if nothing had been."""
    proxy, target = world
    got = await play(proxy, target, [*plan, GOOD])
    for number, received in got.items():
        assert set(re.findall(rb"<([0-9]+)>", received)) <= {b"%d" % number}
        turn = target.turns[number]
        # What a reset takes along has never come.
        unanswered = turn.answer == "none" or (turn.more == "reset" and turn.when == "with")
        once_more = turn.method in ("GET", "HEAD") and unanswered
        assert target.seen[number] <= 1 + once_more
    last = max(got)
    assert got[last].startswith(b"HTTP/1.1 200 OK\r\n")
    assert got[last].endswith(b"\r\n\r\n" + b"<%d>" % last * 10)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=8)
@given(plan=st.lists(turns, min_size=1, max_size=2))
async def test_for_every_target_no_answer_strays(world: World, plan: list[Turn]) -> None:
    await assert_nothing_strays(world, plan)


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=40)
@given(plan=st.lists(turns, min_size=1, max_size=4))
async def test_for_every_target_no_answer_strays_at_length(world: World, plan: list[Turn]) -> None:
    await assert_nothing_strays(world, plan)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_word_too_many_a_connection_is_shared(world: World) -> None:
    """What the others show, they show of connections that are kept."""
    proxy, target = world
    taken = proxy.shared.upstream_pool.reuse_count
    await play(proxy, target, [GOOD] * 4)
    assert proxy.shared.upstream_pool.reuse_count >= taken + 3
    assert next(NUMBERS) > len(target.turns)
