"""`connectorctl unlock`, with a fake API server and with a folder."""

from pathlib import Path

import pytest
import yaml

from connector_store.kube.resources import ACCESS_LOCKS
from connectorctl import cli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster


async def test_unlock_deletes_one_lock(cluster: FakeAccessCluster) -> None:
    for user in ("joe", "jim"):
        assert (await cluster.run(f"lock a/prod --user {user} --reason x")).code == 0
    first, second = (raw["metadata"]["name"] for raw in cluster.objects(ACCESS_LOCKS))
    code, out, err = await cluster.run(f"unlock a/{first}")
    assert (code, out, err) == (0, f"accesslocks.connectors.alauda.io a/{first} deleted\n", "")
    assert [raw["metadata"]["name"] for raw in cluster.objects(ACCESS_LOCKS)] == [second]
    assert cluster.written_paths[-1] == ("DELETE", ACCESS_LOCKS.path("a", first))


async def test_a_lock_that_does_not_exist_fails(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("unlock a/absent")
    assert (code, out, err) == (1, "", 'Error from server (NotFound): "absent" not found\n')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param("", "Missing argument 'NAMESPACE/LOCK'", id="no lock"),
        pytest.param("prod", "not of the form NAMESPACE/NAME", id="no namespace"),
        pytest.param("a/../../b", "not of the form NAMESPACE/NAME", id="a path"),
        pytest.param("a/x a/y", "unexpected extra argument", id="two locks"),
        pytest.param("a/x --source ./connectors", "--kubeconfig: is for clusters", id="a folder and a kubeconfig"),
    ],
)
async def test_wrong_usage_removes_nothing(cluster: FakeAccessCluster, words: str, message: str) -> None:
    code, out, err = await cluster.run(f"unlock {words}")
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []


def test_unlock_removes_the_manifest_of_a_folder(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lock", "default/prod", "--user", "joe", "--reason", "x", "--source", "./connectors"]
    assert cli.run(words, is_plugin=False) == 0
    (path,) = connectors.glob("lock-*.yaml")
    name = yaml.safe_load(path.read_text())["metadata"]["name"]
    capsys.readouterr()
    assert cli.run(["unlock", f"other/{name}", "--source", "./connectors"], is_plugin=False) == 1
    assert path.exists(), "the lock of another namespace"
    capsys.readouterr()
    words = ["unlock", f"default/{name}", "--source", "./connectors"]
    assert cli.run(words, is_plugin=False) == 0
    assert capsys.readouterr().out == f"accesslocks.connectors.alauda.io default/{name} deleted\n"
    assert not path.exists()
    assert cli.run(words, is_plugin=False) == 1
    assert "remove the manifest of the lock from its file" in capsys.readouterr().err
