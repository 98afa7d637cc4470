"""Name resolution with a real name server on a socket: silent servers do not delay other names."""

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

from connector_store import resolver
from connector_store.resolver import MAX_ADDRESSES, MAX_TTL, ResolvedAddresses, Resolver
from tests.fakes.name_server import NameServer
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[2]
TABLE = {
    "a.example": ["192.0.2.1"],
    "both.example": ["192.0.2.2", "2001:db8::2"],
    "many.example": [f"192.0.2.{number}" for number in range(1, 30)],
    "empty.example": [],
}


@asynccontextmanager
async def serving(server: NameServer) -> AsyncIterator[Resolver]:
    async with server:
        dns = Resolver(servers=[server.address])
        yield dns
        dns.close()


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
async def test_a_name_resolves_to_its_addresses(name: str, addresses: set[str]) -> None:
    async with serving(NameServer(TABLE)) as dns:
        result = await dns.resolve(name, 6443)
    assert (set(result.addresses), result.problem) == (addresses, "")


async def test_addresses_are_bounded() -> None:
    async with serving(NameServer(TABLE)) as dns:
        assert len((await dns.resolve("many.example", 6443)).addresses) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("absent.example", "its name cannot be resolved: Domain name not found", id="no such name"),
        pytest.param("empty.example", "its name cannot be resolved: DNS server returned answer with no data",
                     id="a name without an address"),
    ],
)  # fmt: skip
async def test_a_failed_resolution_is_described_in_words(name: str, problem: str) -> None:
    async with serving(NameServer(TABLE)) as dns:
        assert await dns.resolve(name, 6443) == ResolvedAddresses((), problem)


async def test_a_result_is_cached_for_its_ttl() -> None:
    server = NameServer(TABLE, ttl=3600)
    async with serving(server) as dns:
        first = await dns.resolve("a.example", 6443)
        query_count = len(server.queries)
        assert await dns.resolve("a.example", 6443) == first
        assert len(server.queries) == query_count


async def test_a_result_with_ttl_0_is_not_cached() -> None:
    server = NameServer(TABLE, ttl=0)
    async with serving(server) as dns:
        await dns.resolve("a.example", 6443)
        server.table["a.example"] = ["192.0.2.9"]
        assert (await dns.resolve("a.example", 6443)).addresses == ("192.0.2.9",)


async def test_a_cached_result_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """c-ares has a cache with its own clock, so the test replaces its channel for each query."""
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    times = iter([0.0, 0.0, 59.0, 60.0, 60.0])
    async with NameServer(TABLE, ttl=60) as server:
        dns = Resolver(servers=[server.address], now=lambda: next(times))
        for questions in (2, 2, 4):
            await dns.resolve("a.example", 6443)
            assert len(server.queries) == questions
        dns.close()


async def test_no_result_is_cached_for_more_than_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    now = 0.0
    async with NameServer(TABLE, ttl=1_000_000) as server:
        dns = Resolver(servers=[server.address], now=lambda: now)
        await dns.resolve("a.example", 6443)
        now = float(MAX_TTL)
        await dns.resolve("a.example", 6443)
        assert len(server.queries) == 4
        dns.close()


async def test_the_number_of_cached_results_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    monkeypatch.setattr(resolver, "MAX_CACHED", 1)
    server = NameServer(TABLE, ttl=3600)
    async with serving(server) as dns:
        for name in ("a.example", "both.example", "both.example", "a.example"):
            assert (await dns.resolve(name, 6443)).addresses
    assert server.queries[::2] == ["a.example", "both.example", "a.example"]


async def test_replaced_channels_are_closed_and_their_queries_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each channel has a thread and file descriptors."""
    monkeypatch.setattr(resolver, "MAX_CHANNEL_RECORDS", 1)
    table = {f"{number}.example": ["192.0.2.1"] for number in range(30)}
    async with serving(NameServer(table, ttl=0)) as dns:
        open_before = open_files()
        results = await asyncio.gather(*(dns.resolve(name, 6443) for name in table))
        assert {each.addresses for each in results} == {("192.0.2.1",)}
        await until(lambda: open_files() < open_before + 6)


async def test_each_record_counts_towards_the_limit_of_a_channel() -> None:
    server = NameServer({**TABLE, "last.example": ["192.0.2.1"]}, ttl=3600)
    async with serving(server) as dns:
        await dns.resolve("many.example", 6443)
        channel = dns._channel
        assert channel is not None
        assert channel._record_count == 30


async def test_names_with_silent_servers_do_not_delay_other_names() -> None:
    server = NameServer(TABLE)
    async with serving(server) as dns:
        silent = [asyncio.ensure_future(dns.resolve(f"{number}.silent", 6443)) for number in range(100)]
        await until(lambda: len({each for each in server.queries if each.endswith(".silent")}) == 100)
        assert (await dns.resolve("a.example", 6443)).addresses == ("192.0.2.1",)
        assert not any(each.done() for each in silent)
        dns.close()
        await asyncio.wait(silent)
    assert all(each.cancelled() for each in silent)


async def test_concurrent_lookups_of_one_name_share_a_query() -> None:
    server = NameServer(TABLE)
    async with serving(server) as dns:
        results = await asyncio.gather(*(dns.resolve("a.example", 6443) for _ in range(50)))
    assert set(results) == {ResolvedAddresses(("192.0.2.1",))}
    assert len(server.queries) == 2


async def test_a_cancelled_lookup_does_not_cancel_the_shared_query() -> None:
    async with serving(NameServer(TABLE)) as dns:
        first = asyncio.ensure_future(dns.resolve("a.example", 6443))
        second = asyncio.ensure_future(dns.resolve("a.example", 6443))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).addresses == ("192.0.2.1",)


async def test_concurrent_queries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_QUERIES", 1)
    async with serving(NameServer(TABLE)) as dns:
        first = asyncio.ensure_future(dns.resolve("a.silent", 6443))
        await asyncio.sleep(0)
        assert "too many names" in (await dns.resolve("b.silent", 6443)).problem
        first.cancel()


COMPARE = """
import asyncio, json, socket, sys
from connector_store.resolver import Resolver
from tests.fakes.name_server import NameServer

def resolve_with_system(name):
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)})
    except OSError:
        return []

async def main():
    table = json.loads(sys.argv[1])
    loop, dns, results = asyncio.get_running_loop(), Resolver(), {}
    async with NameServer(table, port=53):
        for name in sys.argv[2:]:
            expected = await loop.run_in_executor(None, resolve_with_system, name)
            results[name] = [expected, sorted((await dns.resolve(name, 443)).addresses)]
    print(json.dumps(results))

asyncio.run(main())
"""
POD_TABLE = {
    "a.other.svc.cluster.local": ["10.1.1.1"],
    "kubernetes.default.svc.cluster.local": ["10.96.0.1"],
    "api.example.com": ["192.0.2.5", "2001:db8::5"],
    "six.example.com": ["2001:db8::6"],
    "one.two.three.four.five.six": ["192.0.2.8"],
}
POD_NAMES = ["hosted", "HOSTED", "alias", "a.other", "kubernetes.default", "kubernetes.default.svc", "api.example.com",
         "api.example.com.", "six.example.com", "one.two.three.four.five.six", "absent.example.com",
         "absent"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and util-linux")
def test_in_a_pod_names_resolve_as_with_the_systems_resolver(tmp_path: Path) -> None:
    """The test has a pod's resolv.conf and hosts file, in its own namespaces."""
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
         json.dumps(POD_TABLE), *POD_NAMES],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {name: actual for name, (_, actual) in results.items()} == {
        name: expected for name, (expected, _) in results.items()
    }
    assert [name for name, (expected, _) in results.items() if not expected] == ["absent.example.com", "absent"]
