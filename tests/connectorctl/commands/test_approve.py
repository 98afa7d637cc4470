"""`connectorctl approve`, with a fake API server. The choice of the policy is in test_access_cluster."""

import json

import pytest
import yaml

from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS
from connectorctl import cli
from tests.connectorctl.fake_access_cluster import HOSTILE, FakeAccessCluster
from tests.fakes.api_server import refusal


@pytest.fixture
async def cluster(cluster: FakeAccessCluster) -> FakeAccessCluster:
    """A cluster with a request of `jane` and a policy. The command line is that of `joe`."""
    await cluster.put_request()
    await cluster.put_policy("on-call", connector={"names": ["prod"]})
    cluster.user = "joe"
    return cluster


async def test_an_approval_names_the_uids_and_its_author(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("approve a/prod-1 --comment 'go ahead'")
    assert (code, out) == (0, "accessrequests.connectors.alauda.io a/prod-1 approved\n")
    assert err == "jane asked for a/prod for 1h: INC-7\n"
    (raw,) = cluster.objects(ACCESS_APPROVALS)
    assert cluster.written_paths == [("POST", ACCESS_APPROVALS.path("a"))]
    assert raw["metadata"]["name"].startswith("prod-1-")
    assert raw["spec"] == {
        "requestRef": {"name": "prod-1", "uid": f"uid-{ACCESS_REQUESTS.path('a', 'prod-1')}"},
        "policyRef": {"name": "on-call", "uid": f"uid-{ACCESS_POLICIES.path('a', 'on-call')}"},
        "by": "joe",
        "decision": "Approved",
        "comment": "go ahead",
    }


async def test_data_is_the_stored_approval(cluster: FakeAccessCluster) -> None:
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        code, out, _ = await cluster.run(f"approve a/prod-1 -o {form}")
        assert code == 0
        assert parse(out) in cluster.objects(ACCESS_APPROVALS)


async def test_hostile_text_of_the_request_is_printable(cluster: FakeAccessCluster) -> None:
    await cluster.put_request(subject={"kind": "User", "name": HOSTILE}, reason=HOSTILE)
    code, _, err = await cluster.run("approve a/prod-1")
    assert code == 0
    assert err == "a?]0;b??c?d asked for a/prod for 1h: a?]0;b??c?d\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("approve", "Missing argument 'NAMESPACE/REQUEST'", id="no request"),
        pytest.param("approve prod-1", "not of the form NAMESPACE/NAME", id="no namespace"),
        pytest.param("approve a/..", "not of the form NAMESPACE/NAME", id="a path"),
        pytest.param("approve a/prod-1 --policy ''", "is not the name of an object", id="an empty policy"),
        pytest.param("approve a/prod-1 --policy ..", "is not the name of an object", id="a path as the policy"),
        pytest.param("approve a/prod-1 --comment ''", "'--comment': '': is empty", id="an empty comment"),
        pytest.param(f"approve a/prod-1 --comment '{HOSTILE}'", "has line breaks", id="a hostile comment"),
        pytest.param(f"approve a/prod-1 --comment {'x' * 1025}", "has more than 1024", id="a long comment"),
    ],
)
async def test_wrong_usage_sends_nothing(cluster: FakeAccessCluster, line: str, message: str) -> None:
    code, out, err = await cluster.run(line)
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []


@pytest.mark.parametrize("user", ["jane", "boss"], ids=["the subject", "the requester"])
async def test_a_decision_that_does_not_count_is_not_sent(cluster: FakeAccessCluster, user: str) -> None:
    await cluster.put_request(requester="boss")
    cluster.user = user
    code, out, err = await cluster.run("approve a/prod-1")
    assert (code, out) == (1, "")
    assert err == (
        "error: you are the requester or the subject of a/prod-1, so your decision does not count; "
        "ask another user, or delete the request: connectorctl cancel a/prod-1\n"
    )
    assert cluster.written_paths == []


async def test_a_request_that_does_not_exist_fails(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("approve a/absent")
    assert (code, out, err) == (1, "", 'Error from server (NotFound): "absent" not found\n')


async def test_a_refusal_of_the_api_server_is_printed(cluster: FakeAccessCluster) -> None:
    cluster.server.faults.append(
        lambda request: refusal(403, "Forbidden", "no") if request.path == ACCESS_APPROVALS.path("a") else None
    )
    code, out, err = await cluster.run("approve a/prod-1")
    assert (code, out, err) == (1, "", "Error from server (Forbidden): no\n")


def test_requests_need_a_cluster(workdir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["approve", "a/x", "--source", "./folder"], is_plugin=False) == 2
    assert "access requests need a cluster; write --source kubernetes" in capsys.readouterr().err
