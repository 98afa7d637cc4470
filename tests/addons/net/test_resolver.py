"""Names of targets are resolved by sockets: what is silent keeps nobody else waiting, and what fails has words."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from addons.net import resolver
from addons.net.resolver import MAX_ADDRESSES, MAX_TTL, ResolvedAddresses, Resolver
from tests.fakes.name_server import NameServer
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[3]
TABLE = {
    "a.example": ["192.0.2.1"],
    "both.example": ["192.0.2.2", "2001:db8::2"],
    "many.example": [f"192.0.2.{number}" for number in range(1, 30)],
    "empty.example": [],
}


@asynccontextmanager
async def asking(server: NameServer) -> AsyncIterator[Resolver]:
    async with server:
        found = Resolver(servers=[server.address])
        yield found
        found.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        pytest.param("a.example", {"192.0.2.1"}, id="one address"),
        pytest.param("A.Example", {"192.0.2.1"}, id="in any case"),
        pytest.param("both.example", {"192.0.2.2", "2001:db8::2"}, id="both families"),
    ],
)
async def test_a_name_has_addresses(name: str, addresses: set[str]) -> None:
    async with asking(NameServer(TABLE)) as found:
        answer = await found.resolve(name, 6443)
    assert (set(answer.addresses), answer.problem) == (addresses, "")


async def test_addresses_are_bounded() -> None:
    async with asking(NameServer(TABLE)) as found:
        assert len((await found.resolve("many.example", 6443)).addresses) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("absent.example", "its name cannot be resolved: Domain name not found", id="no such name"),
        pytest.param("empty.example", "its name cannot be resolved: DNS server returned answer with no data",
                     id="a name without an address"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_said_in_words(name: str, problem: str) -> None:
    async with asking(NameServer(TABLE)) as found:
        assert await found.resolve(name, 6443) == ResolvedAddresses((), problem)


async def test_an_answer_is_kept_as_long_as_its_ttl_says() -> None:
    server = NameServer(TABLE, ttl=3600)
    async with asking(server) as found:
        first = await found.resolve("a.example", 6443)
        asked = len(server.queries)
        assert await found.resolve("a.example", 6443) == first
        assert len(server.queries) == asked


async def test_an_answer_that_is_good_for_now_only_is_not_kept() -> None:
    server = NameServer(TABLE, ttl=0)
    async with asking(server) as found:
        await found.resolve("a.example", 6443)
        server.table["a.example"] = ["192.0.2.9"]
        assert (await found.resolve("a.example", 6443)).addresses == ("192.0.2.9",)


async def test_an_answer_goes_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """c-ares, which has a clock of its own, is kept from remembering."""
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    times = iter([0.0, 0.0, 59.0, 60.0, 60.0])
    async with NameServer(TABLE, ttl=60) as server:
        found = Resolver(servers=[server.address], now=lambda: next(times))
        for questions in (2, 2, 4):
            await found.resolve("a.example", 6443)
            assert len(server.queries) == questions
        found.close()


async def test_no_answer_is_kept_longer_than_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    now = 0.0
    async with NameServer(TABLE, ttl=1_000_000) as server:
        found = Resolver(servers=[server.address], now=lambda: now)
        await found.resolve("a.example", 6443)
        now = float(MAX_TTL)
        await found.resolve("a.example", 6443)
        assert len(server.queries) == 4
        found.close()


async def test_what_is_kept_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    monkeypatch.setattr(resolver, "MAX_CACHED", 1)
    server = NameServer(TABLE, ttl=3600)
    async with asking(server) as found:
        for name in ("a.example", "both.example", "both.example", "a.example"):
            assert (await found.resolve(name, 6443)).addresses
    assert server.queries[::2] == ["a.example", "both.example", "a.example"]


async def test_channels_that_were_left_are_gone_and_what_they_were_asked_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has a thread and file descriptors."""
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    table = {f"{number}.example": ["192.0.2.1"] for number in range(30)}
    async with asking(NameServer(table, ttl=0)) as found:
        before = open_files()
        answers = await asyncio.gather(*(found.resolve(name, 6443) for name in table))
        assert {each.addresses for each in answers} == {("192.0.2.1",)}
        await until(lambda: open_files() < before + 6)


async def test_many_records_count_as_many_answers() -> None:
    server = NameServer({**TABLE, "last.example": ["192.0.2.1"]}, ttl=3600)
    async with asking(server) as found:
        await found.resolve("many.example", 6443)
        channel = found._channel
        assert channel is not None
        assert channel._record_count == 30


async def test_names_whose_servers_are_silent_keep_no_other_waiting() -> None:
    server = NameServer(TABLE)
    async with asking(server) as found:
        silent = [asyncio.ensure_future(found.resolve(f"{number}.silent", 6443)) for number in range(100)]
        await until(lambda: len({each for each in server.queries if each.endswith(".silent")}) == 100)
        assert (await found.resolve("a.example", 6443)).addresses == ("192.0.2.1",)
        assert not any(each.done() for each in silent)
        found.close()
        await asyncio.wait(silent)
    assert all(each.cancelled() for each in silent)


async def test_many_who_ask_for_one_name_are_one_question() -> None:
    server = NameServer(TABLE)
    async with asking(server) as found:
        answers = await asyncio.gather(*(found.resolve("a.example", 6443) for _ in range(50)))
    assert set(answers) == {ResolvedAddresses(("192.0.2.1",))}
    assert len(server.queries) == 2


async def test_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    async with asking(NameServer(TABLE)) as found:
        first = asyncio.ensure_future(found.resolve("a.example", 6443))
        second = asyncio.ensure_future(found.resolve("a.example", 6443))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).addresses == ("192.0.2.1",)


async def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_QUERIES", 1)
    async with asking(NameServer(TABLE)) as found:
        first = asyncio.ensure_future(found.resolve("a.silent", 6443))
        await asyncio.sleep(0)
        assert "too many names" in (await found.resolve("b.silent", 6443)).problem
        first.cancel()


COMPARE = """
import asyncio, json, socket, sys
from addons.net.resolver import Resolver
from tests.fakes.name_server import NameServer

def systems(name):
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)})
    except OSError:
        return []

async def main():
    table = json.loads(sys.argv[1])
    loop, found, shown = asyncio.get_running_loop(), Resolver(), {}
    async with NameServer(table, port=53):
        for name in sys.argv[2:]:
            theirs = await loop.run_in_executor(None, systems, name)
            shown[name] = [theirs, sorted((await found.resolve(name, 443)).addresses)]
    print(json.dumps(shown))

asyncio.run(main())
"""
OF_A_POD = {
    "a.other.svc.cluster.local": ["10.1.1.1"],
    "kubernetes.default.svc.cluster.local": ["10.96.0.1"],
    "api.example.com": ["192.0.2.5", "2001:db8::5"],
    "six.example.com": ["2001:db8::6"],
    "one.two.three.four.five.six": ["192.0.2.8"],
}
ASKED = ["hosted", "HOSTED", "alias", "a.other", "kubernetes.default", "kubernetes.default.svc", "api.example.com",
         "api.example.com.", "six.example.com", "one.two.three.four.five.six", "absent.example.com",
         "absent"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and util-linux")
def test_in_a_pod_names_lead_where_the_systems_resolver_leads(tmp_path: Path) -> None:
    """With a pod's resolv.conf and hosts, in namespaces of its own."""
    (tmp_path / "resolv.conf").write_text(
        "nameserver 127.0.0.1\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.9.9.9 hosted alias\n")
    (tmp_path / "compare.py").write_text(COMPARE)
    script = (
        'ip link set lo up && mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)" '
        '&& mount --bind hosts /etc/hosts && exec "$@"'
    )
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-euc", script, "sh", sys.executable, "compare.py",
         json.dumps(OF_A_POD), *ASKED],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert {name: ours for name, (_, ours) in shown.items()} == {name: theirs for name, (theirs, _) in shown.items()}
    assert [name for name, (theirs, _) in shown.items() if not theirs] == ["absent.example.com", "absent"]
