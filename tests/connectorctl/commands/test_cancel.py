"""`connectorctl cancel`, with a fake API server."""

import pytest

from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl import cli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster


async def test_cancel_deletes_one_request(cluster: FakeAccessCluster) -> None:
    await cluster.put_request()
    await cluster.put_request("prod-2")
    code, out, err = await cluster.run("cancel a/prod-1")
    assert (code, out, err) == (0, "accessrequests.connectors.alauda.io a/prod-1 deleted\n", "")
    assert [raw["metadata"]["name"] for raw in cluster.objects(ACCESS_REQUESTS)] == ["prod-2"]
    assert cluster.written_paths == [("DELETE", ACCESS_REQUESTS.path("a", "prod-1"))]


async def test_a_request_that_does_not_exist_fails(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("cancel a/absent")
    assert (code, out, err) == (1, "", 'Error from server (NotFound): "absent" not found\n')


async def test_missing_kinds_are_named(cluster: FakeAccessCluster) -> None:
    cluster.server.unserved.add("prod-1")
    code, out, err = await cluster.run("cancel a/prod-1")
    assert (code, out) == (1, "")
    assert "the CustomResourceDefinition accessrequests.connectors.alauda.io is not installed" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param("", "Missing argument 'NAMESPACE/REQUEST'", id="no request"),
        pytest.param("prod-1", "not of the form NAMESPACE/NAME", id="no namespace"),
        pytest.param("a/", "not of the form NAMESPACE/NAME", id="no name"),
        pytest.param("a/..", "not of the form NAMESPACE/NAME", id="a path"),
        pytest.param("a/x a/y", "unexpected extra argument", id="two requests"),
    ],
)
async def test_wrong_usage_sends_nothing(cluster: FakeAccessCluster, words: str, message: str) -> None:
    code, out, err = await cluster.run(f"cancel {words}")
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []


def test_requests_need_a_cluster(workdir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cancel", "a/x", "--source", "./folder"], is_plugin=False) == 2
    assert "access requests need a cluster; write --source kubernetes" in capsys.readouterr().err
