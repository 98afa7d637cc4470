"""`connectorctl requests`, with a fake API server."""

import asyncio
import json
from typing import Literal

import pytest
import yaml

from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl import cli
from tests.connectorctl.fake_access_cluster import HOSTILE, FakeAccessCluster, ready
from tests.fakes.api_server import refusal


async def test_requests_are_a_table_and_data(cluster: FakeAccessCluster) -> None:
    approved = {**ready("True", "Approved"), "expirationTime": "2026-01-31T19:00:00Z", "approvedBy": ["joe"]}
    await cluster.put_request(status=approved)
    await cluster.put_request("prod-2")
    head, first, second = (await cluster.run("requests -n a")).out.splitlines()
    assert head.split("  ")[0] == "REQUEST"
    assert first.split() == ["a/prod-1", "jane", "prod", "1h", "Approved", "2026-01-31T19:00:00Z", "joe", "INC-7"]
    assert second.split() == ["a/prod-2", "jane", "prod", "1h", "Pending", "INC-7"]
    as_json = json.loads((await cluster.run("requests -o json")).out)
    assert yaml.safe_load((await cluster.run("requests -o yaml")).out) == as_json
    item = as_json["items"][0]
    assert (item["state"], item["approved_by"], item["is_ready"]) == ("Approved", ["joe"], True)


@pytest.mark.parametrize(
    ("decision", "by", "state"),
    [("Approved", "joe", "Approved"), ("Denied", "joe", "Denied"), ("Approved", "jane", "Pending")],
    ids=["approved", "denied", "approved by the requester, which does not count"],
)
async def test_the_state_follows_from_the_approvals(
    cluster: FakeAccessCluster, decision: Literal["Approved", "Denied"], by: str, state: str
) -> None:
    request = await cluster.put_request()
    await cluster.put_policy("on-call")
    await cluster.put_approval(request, by=by, decision=decision)
    (item,) = json.loads((await cluster.run("requests -o json")).out)["items"]
    assert (item["state"], item["is_ready"]) == (state, state == "Approved")


async def test_hostile_text_is_printable_in_the_table_and_whole_in_data(cluster: FakeAccessCluster) -> None:
    subject = {"kind": "User", "name": HOSTILE}
    status = {**ready("True", HOSTILE), "approvedBy": [HOSTILE]}
    await cluster.put_request(subject=subject, reason=HOSTILE, status=status)
    table = (await cluster.run("requests")).out
    assert len(table.splitlines()) == 2
    assert table.replace("\n", "").isprintable()
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        out = (await cluster.run(f"requests -o {form}")).out
        assert out.replace("\n", "").isprintable()
        (item,) = parse(out)["items"]
        assert (item["reason"], item["subject"], item["state"]) == (HOSTILE, HOSTILE, HOSTILE)


@pytest.mark.parametrize(
    ("words", "message"),
    [("-n a", "No resources found in a namespace.\n"), ("", "No resources found\n")],
    ids=["in one namespace", "in all namespaces"],
)
async def test_no_request_has_kubectls_message(cluster: FakeAccessCluster, words: str, message: str) -> None:
    assert await cluster.run(f"requests {words}") == (0, "", message)


async def test_no_request_is_an_empty_list_as_data(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("requests -o json")
    assert (code, json.loads(out), err) == (0, {"items": []}, "")


async def test_requests_of_other_namespaces_are_not_listed(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    assert (await cluster.run("requests -n b")).err == "No resources found in b namespace.\n"


@pytest.mark.parametrize(
    ("words", "has_hint"), [("", True), ("-n a", False)], ids=["in all namespaces", "in one namespace"]
)
async def test_a_user_who_may_not_list_is_told_to_name_a_namespace(
    cluster: FakeAccessCluster, words: str, has_hint: bool
) -> None:
    where = ACCESS_REQUESTS.path("a" if words else None)
    cluster.server.faults.append(lambda request: refusal(403, "Forbidden", "no") if request.path == where else None)
    code, out, err = await cluster.run(f"requests {words}")
    assert (code, out) == (1, "")
    assert err == f"Error from server (Forbidden): no{'; name a namespace with -n' if has_hint else ''}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param("-w -o json", "--watch is for tables", id="a watch as data"),
        pytest.param("-n ''", "is not the name of a namespace", id="an empty namespace"),
        pytest.param("-n a/b", "is not the name of a namespace", id="a namespace with a slash"),
        pytest.param("-o wide", "'wide' is not one of 'json', 'yaml'", id="an unknown format"),
        pytest.param("a/prod", "unexpected extra argument", id="an argument"),
    ],
)
async def test_wrong_usage_sends_nothing(cluster: FakeAccessCluster, words: str, message: str) -> None:
    code, out, err = await cluster.run(f"requests {words}")
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []


def test_requests_need_a_cluster(workdir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["requests", "--source", "./folder"], is_plugin=False) == 2
    assert "access requests need a cluster; write --source kubernetes" in capsys.readouterr().err


async def test_a_watch_prints_changed_requests(cluster: FakeAccessCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await cluster.put_request()
    await cluster.put_request("prod-2")
    loop = asyncio.get_running_loop()
    rounds = iter([True, False])

    def sleep(_: float) -> None:
        if not next(rounds):
            raise KeyboardInterrupt
        change = cluster.put_request(status=ready("False", "Denied"))
        asyncio.run_coroutine_threadsafe(change, loop).result(120)

    monkeypatch.setattr("connectorctl.commands.requests.time.sleep", sleep)
    code, out, _ = await cluster.run("requests --watch")
    assert code == cli.EXIT_INTERRUPTED
    rows = [line.split() for line in out.splitlines() if line.startswith("a/")]
    assert [(row[0], row[4]) for row in rows] == [
        ("a/prod-1", "Pending"),
        ("a/prod-2", "Pending"),
        ("a/prod-1", "Denied"),
    ]


async def test_missing_kinds_are_named(cluster: FakeAccessCluster) -> None:
    cluster.server.unserved.add("accessrequests")
    code, _, err = await cluster.run("requests")
    assert code == 1
    assert "the CustomResourceDefinition accessrequests.connectors.alauda.io is not installed" in err
