"""`connectorctl sessions`: the proxies of a cluster by port-forward, or that of this machine."""

import asyncio
import contextlib
import json
import os
import pty
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from connector_store.sessions_file import write_url
from connector_store.version import VERSION
from connectorctl.commands.sessions import format_bytes
from connectorctl.proxy_sessions import format_age, number
from tests.connectorctl.cli_result import RunCli, RunInCluster
from tests.connectorctl.fake_pods import HOSTILE, FakePage, FakePods, answer, row
from tests.fakes.waiting import until

NOW = time.time()


async def test_the_rows_of_all_proxies_are_joined(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    async with FakePage(answer(row(1), row(3))) as one, FakePage(answer(row(2, command="sh -c ls"))) as two:
        pods.ports = {"proxy-a": one.port, "proxy-b": two.port}
        code, out, err = await run_in_cluster("sessions")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0].split() == ["AGE", "KIND", "CALLER", "CONNECTOR", "OBJECT", "WHAT", "BYTES"]
        assert [line.split()[2] for line in lines[1:]] == ["ci:3", "ci:2", "ci:1"], "the oldest is first"
        assert "sh -c ls" in lines[2]
        assert lines[1].endswith("6 kB")
        _, out, _ = await run_in_cluster("sessions -n team-2 -o json")
        document = json.loads(out)
        assert [(each["proxy"], each["id"]) for each in document["items"]] == [("proxy-b", "id-2")]
        assert [each["name"] for each in document["proxies"]] == ["proxy-a", "proxy-b"]
        _, out, _ = await run_in_cluster("sessions team-3/k8s -o json")
        assert [each["id"] for each in json.loads(out)["items"]] == ["id-3"]
        _, out, _ = await run_in_cluster("sessions --sort bytes -o wide")
        assert [line.split()[-1] for line in out.splitlines()[1:]] == ["id-3", "id-2", "id-1"]


async def test_a_proxy_that_does_not_answer_is_named(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    async with FakePage(answer(row(1))) as one:
        pods.ports = {"proxy-a": one.port, "proxy-b": None}
        code, out, err = await run_in_cluster("sessions")
        assert (code, len(out.splitlines())) == (0, 2)
        assert err == "warning: proxy proxy-b does not answer: the port-forward failed: connection refused\n"
        pods.ports = {"proxy-b": None}
        assert (await run_in_cluster("sessions")).code == 1


async def test_a_row_of_another_release_can_lack_fields(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    async with FakePage(answer({"id": "1", "since": "soon", "caller": ["x"]}, version="9")) as one:
        pods.ports = {"proxy-a": one.port}
        code, out, err = await run_in_cluster("sessions -o wide")
        assert code == 0
        assert out.splitlines()[1].split()[-2:] == ["proxy-a", "1"]
        assert f"is of release 9, and this program of {VERSION}" in err


@pytest.mark.parametrize("command", ["sessions", "sessions -o wide", "sessions -o json"])
async def test_no_control_character_reaches_the_terminal(
    run_in_cluster: RunInCluster, pods: FakePods, command: str
) -> None:
    item = {name: HOSTILE if isinstance(value, str) else value for name, value in row(1).items()}
    async with FakePage(answer(item, version=HOSTILE)) as one:
        pods.ports = {"proxy-a": one.port}
        _, out, err = await run_in_cluster(command)
    assert out
    assert (out + err).replace("\n", "").isprintable()


async def test_a_folder_means_the_proxy_of_this_machine(run_cli: RunCli, workdir: Path) -> None:
    async with FakePage(answer(row(1))) as page:
        write_url(workdir / "confdir", f"http://127.0.0.1:{page.port}/#the-secret")
        code, out, _ = await asyncio.to_thread(run_cli, "sessions --confdir confdir")
        assert (code, len(out.splitlines())) == (0, 2)
        assert page.authorizations == ["Bearer the-secret"]
    code, _, err = await asyncio.to_thread(run_cli, "sessions --confdir confdir")
    assert code == 1
    assert "does not answer: Connection refused; start one: connectorctl proxy" in err


def test_watch_is_for_tables(run_cli: RunCli) -> None:
    assert run_cli("sessions -w -o json").code == 2


def connector(*callers: object, **values: object) -> dict[str, Any]:
    return {"connector": "team-a/prod", "callers": [*callers], "callerCount": len(callers)} | values


def use(caller: str, ago: float, **values: object) -> dict[str, Any]:
    return {"caller": caller, "lastUsed": NOW - ago, "requests": 2, "errors": 0, "lastError": ""} | values


async def test_the_callers_of_the_last_minute_by_the_clocks_of_the_proxies(
    run_in_cluster: RunInCluster, pods: FakePods
) -> None:
    newest = use("ci:b", 5, errors=1, lastError="pods is forbidden")
    other = connector(use("ci:c", 1), connector="team-b/prod")
    first = answer(connector(use("ci:a", 59), newest, use("ci:old", 61), callerCount=25), other, time=NOW)
    # The clock of the other proxy is an hour ahead.
    second = answer(connector(use("ci:b", 10 - 3600, lastError="older", errors=1)), time=NOW + 3600)
    async with FakePage(first) as one, FakePage(second) as two:
        pods.ports = {"proxy-a": one.port, "proxy-b": two.port}
        code, out, err = await run_in_cluster("sessions --since 1m -n team-a")
        document = json.loads((await run_in_cluster("sessions --since 1m -o json")).out)
        of_one = json.loads((await run_in_cluster("sessions team-b/prod --since 1m -o json")).out)
    assert code == 0
    assert err == "No refusals in this time\nwarning: proxy proxy-a shows 3 of 25 callers of team-a/prod\n"
    header, *lines = out.splitlines()
    assert re.split("  +", header) == ["USED", "CALLER", "CONNECTOR", "REQUESTS (15m)", "ERRORS (15m)", "LAST ERROR"]
    assert [line.split()[1:5] for line in lines] == [
        ["ci:b", "team-a/prod", "4", "2"],
        ["ci:a", "team-a/prod", "2", "0"],
    ]
    assert [(each["caller"], each["connector"]) for each in document["items"]] == [
        ("ci:b", "team-a/prod"), ("ci:c", "team-b/prod"), ("ci:a", "team-a/prod"),
    ]  # fmt: skip
    assert [each["caller"] for each in of_one["items"]] == ["ci:c"]


def refusal(caller: str, ago: float, **values: object) -> dict[str, Any]:
    return {"time": NOW - ago, "status": 403, "caller": caller, "connector": "team-a/prod", "message": "no"} | values


async def test_one_command_says_who_used_a_connector_and_what_was_refused(
    run_in_cluster: RunInCluster, pods: FakePods
) -> None:
    refusals = answer(
        refusal("ci:b", 50), refusal("", 5, sourceIP="::1"), refusal("ci:old", 70),
        refusal("ci:c", 1, connector="team-b/prod"), time=NOW,
    )  # fmt: skip
    async with FakePage(answer(connector(use("ci:a", 5)), time=NOW), refusals=refusals) as one:
        pods.ports = {"proxy-a": one.port, "proxy-b": None}
        code, out, err = await run_in_cluster("sessions --since 1m team-a/prod")
        document = json.loads((await run_in_cluster("sessions --since 1m team-a/prod -o json")).out)
        only_refusals = await run_in_cluster("refusals --since 1m team-a/prod")
        one.answers["refusals"] = answer(time=NOW)
        only_callers = (await run_in_cluster("sessions --since 1m team-a/prod")).out
        one.answer = answer(time=NOW)
        nothing = await run_in_cluster("sessions --since 1m team-a/prod")
    assert (code, err) == (0, "warning: proxy proxy-b does not answer: the port-forward failed: connection refused\n")
    callers, refused = out.split("\n\n")
    assert [line.split()[1] for line in callers.splitlines()] == ["CALLER", "ci:a"]
    assert refused == only_refusals.out
    assert [line.split()[2] for line in refused.splitlines()] == ["CALLER", "from", "ci:b"]
    # The first column is an age, which grows between two commands.
    assert [line.split()[1:] for line in only_callers.splitlines()] == [
        line.split()[1:] for line in callers.splitlines()
    ]
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err.startswith("No callers in this time\nNo refusals in this time\nwarning: ")
    assert [each["caller"] for each in document["items"]] == ["ci:a"]
    assert [(each["proxy"], each["caller"]) for each in document["refusals"]] == [("proxy-a", ""), ("proxy-a", "ci:b")]
    assert [each["name"] for each in document["proxies"]] == ["proxy-a", "proxy-b"]


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({}, id="no callers"),
        pytest.param({"callers": 1, "callerCount": "many"}, id="callers that are a number"),
        pytest.param(connector("x", 1, None, callerCount=0), id="callers that are no objects"),
        pytest.param(connector(use(HOSTILE, -1e300, requests="x", errors=None, lastError=[])), id="hostile texts"),
    ],
)
async def test_callers_of_another_release_can_be_anything(
    run_in_cluster: RunInCluster, pods: FakePods, item: dict[str, Any]
) -> None:
    async with FakePage(answer(item, time="now")) as one:
        pods.ports = {"proxy-a": one.port}
        code, out, err = await run_in_cluster("sessions --since 1m")
    assert code == 0
    assert "No callers in this time" in err or HOSTILE not in out
    assert (out + err).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param("--since 16m", "at most 15m", id="more than proxies keep"),
        pytest.param("--since 1m -w", "not for --watch", id="a watch"),
        pytest.param("--since 0", "is not a time before now", id="no time"),
        pytest.param("--since soon", "is not a duration", id="a text"),
    ],
)
def test_since_is_a_time_that_proxies_keep(run_cli: RunCli, options: str, text: str) -> None:
    code, _, err = run_cli(f"sessions {options}")
    assert code == 2
    assert text in err


@pytest.mark.slow
async def test_a_terminal_is_drawn_again_and_a_proxy_can_go(pods: FakePods, workdir: Path) -> None:
    async with FakePage(answer(row(1))) as one, FakePage(answer(row(2))) as two:
        pods.ports = {"proxy-a": one.port, "proxy-b": two.port}
        terminal, inner = pty.openpty()
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connectorctl", "sessions", "-w", "--kubeconfig", "config",
            stdin=inner, stdout=inner, stderr=inner,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"},
        )  # fmt: skip
        os.close(inner)
        os.set_blocking(terminal, False)
        seen = bytearray()

        def read() -> bytes:
            with contextlib.suppress(BlockingIOError):
                seen.extend(os.read(terminal, 65536))
            return bytes(seen)

        await until(lambda: b"ci:1" in read() and b"ci:2" in read())
        await two.stop()
        pods.ports["proxy-b"] = None

        def shows_one_proxy() -> bool:
            """Return True if the last drawing says so. It may not be whole yet."""
            last = read().rpartition(b"\x1b[2J")[2]
            return b"proxy proxy-b does not answer" in last and b"ci:1" in last and b"ci:2" not in last

        await until(shows_one_proxy)
        one.answer = answer()
        await until(lambda: b"No live connections" in read())
        program.terminate()
        await program.wait()
        os.close(terminal)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(2**53, 2**53, id="the largest integer of JSON"),
        pytest.param(2**53 + 1, 0, id="an integer out of range"),
        pytest.param(10**400, 0, id="an integer that no float can hold"),
        pytest.param(float("-inf"), 0, id="infinity"),
        pytest.param(float("nan"), 0, id="not a number"),
        pytest.param("1", 0, id="a text"),
        pytest.param(None, 0, id="null"),
    ],
)
def test_a_number_out_of_range_is_0(value: object, expected: float) -> None:
    assert number({"since": value}, "since") == expected
    assert number({}, "since") == 0


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (345600, "4d")])
def test_the_age(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_bytes_have_a_unit() -> None:
    assert [format_bytes(size) for size in (0, 1023, 1024, 5 << 30)] == ["0 B", "1023 B", "1 kB", "5 GB"]
