"""`connectorctl deny`, with a fake API server. Its options and errors are those of `approve`."""

import json

import pytest

from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_REQUESTS
from connectorctl import cli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster


async def test_a_denial_names_the_request_and_its_author(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    await cluster.put_policy("on-call")
    cluster.user = "joe"
    code, out, err = await cluster.run("deny a/prod-1 --comment 'not today'")
    assert (code, out) == (0, "accessrequests.connectors.alauda.io a/prod-1 denied\n")
    assert err == "jane asked for a/prod for 1h: INC-7\n"
    (raw,) = cluster.objects(ACCESS_APPROVALS)
    spec = raw["spec"]
    assert (spec["decision"], spec["by"], spec["comment"]) == ("Denied", "joe", "not today")
    assert spec["requestRef"]["uid"] == f"uid-{ACCESS_REQUESTS.path('a', 'prod-1')}"
    # The request stays, so that its requester sees the denial.
    assert len(cluster.objects(ACCESS_REQUESTS)) == 1


async def test_json_is_the_stored_denial(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    await cluster.put_policy("on-call")
    cluster.user = "joe"
    code, out, _ = await cluster.run("deny a/prod-1 -o json")
    assert (code, [json.loads(out)]) == (0, cluster.objects(ACCESS_APPROVALS))


async def test_the_requester_cancels_and_does_not_deny(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    await cluster.put_policy("on-call")
    code, _, err = await cluster.run("deny a/prod-1")
    assert code == 1
    assert "connectorctl cancel a/prod-1" in err
    assert cluster.written_paths == []


@pytest.mark.parametrize("words", ["", "prod-1", "a/prod-1 --policy ''", "a/prod-1 --comment ''"])
async def test_wrong_usage_sends_nothing(cluster: FakeAccessCluster, words: str) -> None:
    assert (await cluster.run(f"deny {words}")).code == 2
    assert cluster.server.requests == []


def test_requests_need_a_cluster(workdir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["deny", "a/x", "--source", "./folder"], is_plugin=False) == 2
    assert "access requests need a cluster; write --source kubernetes" in capsys.readouterr().err
