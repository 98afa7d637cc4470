"""`connectorctl refusals`."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.sessions_file import write_url
from tests.connectorctl.cli_result import RunCli, RunInCluster
from tests.connectorctl.fake_pods import HOSTILE, FakePage, FakePods, answer


def refusal(number: int, **values: object) -> dict[str, Any]:
    return {
        "number": number, "time": float(number), "status": 403, "reason": "not_allowed", "message": f"no {number}",
        "caller": "", "sourceIP": "::1", "connector": "team-a/k8s", "request": "list pods web",
    } | values  # fmt: skip


async def test_the_newest_refusal_is_first(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    async with FakePage(answer(refusal(1), refusal(3))) as one, FakePage(answer(refusal(2, caller="ci:b"))) as two:
        pods.ports = {"proxy-a": one.port, "proxy-b": two.port}
        code, out, err = await run_in_cluster("refusals")
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["TIME", "STATUS", "CALLER", "CONNECTOR", "REQUEST", "MESSAGE"]
    assert [line.split()[-1] for line in lines] == ["3", "2", "1"]
    local_time = time.strftime("%H:%M:%S", time.localtime(3))
    assert lines[0].split() == [local_time, "403", "from", "::1", "team-a/k8s", "list", "pods", "web", "no", "3"]
    assert lines[1].split()[2] == "ci:b"


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        pytest.param({"message": "", "reason": "token"}, "token", id="the reason without a sentence"),
        pytest.param({"message": None, "reason": None}, "", id="neither"),
    ],
)
async def test_the_last_column_says_why(
    run_in_cluster: RunInCluster, pods: FakePods, values: dict[str, object], cell: str
) -> None:
    async with FakePage(answer(refusal(1, **values))) as one:
        pods.ports = {"proxy-a": one.port}
        header, line = (await run_in_cluster("refusals")).out.splitlines()
    assert line[header.index("MESSAGE") :].strip() == cell


async def test_only_refusals_of_a_namespace(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    items = [refusal(1), refusal(2, connector="team-b/k8s"), refusal(3, connector="")]
    async with FakePage(answer(*items)) as one:
        pods.ports = {"proxy-a": one.port}
        document = json.loads((await run_in_cluster("refusals -n team-b -o json")).out)
        assert [each["number"] for each in document["items"]] == [2]
        assert document["proxies"][0]["name"] == "proxy-a"
        rows = yaml.safe_load((await run_in_cluster("refusals -o yaml")).out)["items"]
        assert rows == [{"proxy": "proxy-a", **each} for each in reversed(items)]


async def test_only_refusals_of_the_last_minute_by_the_clock_of_the_proxy(
    run_in_cluster: RunInCluster, pods: FakePods
) -> None:
    async with FakePage(answer(refusal(1), refusal(40), refusal(100), time=100.0)) as one:
        pods.ports = {"proxy-a": one.port}
        document = json.loads((await run_in_cluster("refusals --since 1m -o json")).out)
    assert [each["number"] for each in document["items"]] == [100, 40]


async def test_without_refusals_there_is_a_message(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    async with FakePage(answer()) as one:
        pods.ports = {"proxy-a": one.port}
        assert await run_in_cluster("refusals") == (0, "", "No refusals\n")


async def test_without_an_answer_it_fails(run_in_cluster: RunInCluster, pods: FakePods) -> None:
    pods.ports = {"proxy-a": None}
    code, out, err = await run_in_cluster("refusals")
    assert (code, out) == (1, "")
    assert err == "warning: proxy proxy-a does not answer: the port-forward failed: connection refused\n"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1e300, id="after the last year"),
        pytest.param(-1e300, id="before the first year"),
        pytest.param(10**400, id="an integer that no float can hold"),
        pytest.param(float("-inf"), id="infinity"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param("soon", id="a text"),
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param(True, id="true"),
    ],
)
async def test_a_time_of_another_release_can_be_anything(
    run_in_cluster: RunInCluster, pods: FakePods, value: object
) -> None:
    async with FakePage(answer(refusal(1, time=value, status=value))) as one:
        pods.ports = {"proxy-a": one.port}
        code, out, _ = await run_in_cluster("refusals")
    assert (code, len(out.splitlines())) == (0, 2)


@pytest.mark.parametrize("form", ["", "-o wide", "-o json"])
async def test_no_control_character_reaches_the_terminal(
    run_in_cluster: RunInCluster, pods: FakePods, form: str
) -> None:
    hostile = {name: HOSTILE if isinstance(value, str) else value for name, value in refusal(1).items()}
    async with FakePage(answer(hostile, version=HOSTILE)) as one:
        pods.ports = {"proxy-a": one.port}
        _, out, err = await run_in_cluster(f"refusals {form}".strip())
    assert out
    assert (out + err).replace("\n", "").isprintable()


async def test_a_folder_means_the_proxy_of_this_machine(run_cli: RunCli, workdir: Path) -> None:
    async with FakePage(answer(refusal(1))) as page:
        write_url(workdir / "confdir", f"http://127.0.0.1:{page.port}/#the-secret")
        code, out, _ = await asyncio.to_thread(run_cli, "refusals --confdir confdir")
    assert (code, len(out.splitlines())) == (0, 2)


def test_without_a_proxy_on_this_machine(run_cli: RunCli) -> None:
    code, out, err = run_cli("refusals --confdir confdir")
    assert (code, out) == (1, "")
    assert "proxy local has no address in confdir; start it, or start it again: connectorctl proxy" in err
