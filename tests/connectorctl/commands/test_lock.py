"""`connectorctl lock`, with a fake API server and with a folder."""

import asyncio
import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest_access import parse_access_lock
from connector_store.kube.resources import ACCESS_LOCKS, CONNECTORS
from connectorctl import cli
from connectorctl.commands.lock import DELAY_NOTE, lock_file
from tests.connectorctl.cli_result import RunCli
from tests.connectorctl.fake_access_cluster import HOSTILE, FakeAccessCluster
from tests.fakes.api_server import refusal

ACCOUNT = "system:serviceaccount:ci:robot"


@pytest.fixture
async def connector(cluster: FakeAccessCluster) -> None:
    """Store the Connector a/prod."""
    await cluster.server.put(CONNECTORS, {"metadata": {"name": "prod", "namespace": "a"}, "spec": {}})


@pytest.mark.usefixtures("connector")
async def test_a_lock_names_callers_connector_and_end(cluster: FakeAccessCluster) -> None:
    begin = datetime.now(UTC).replace(microsecond=0)
    line = f"lock a/prod --user joe --user {ACCOUNT} --group g --reason 'stolen laptop' --for 1h"
    code, out, err = await cluster.run(line)
    (raw,) = cluster.objects(ACCESS_LOCKS)
    name = raw["metadata"]["name"]
    assert (code, out) == (0, f"accesslocks.connectors.alauda.io a/{name} created\n")
    assert err.startswith(f"{DELAY_NOTE}\nto remove it: connectorctl unlock a/{name} --source kubernetes --kubeconfig ")
    assert cluster.written_paths == [("POST", ACCESS_LOCKS.path("a"))]
    until = datetime.fromisoformat(raw["spec"].pop("until")) - timedelta(hours=1)
    assert begin <= until <= datetime.now(UTC)
    assert raw["spec"] == {
        "subjects": [
            {"kind": "User", "name": "joe"},
            {"kind": "ServiceAccount", "namespace": "ci", "name": "robot"},
            {"kind": "Group", "name": "g"},
        ],
        "connector": {"names": ["prod"]},
        "reason": "stolen laptop",
    }


async def test_data_is_the_stored_lock(cluster: FakeAccessCluster) -> None:
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        code, out, err = await cluster.run(f"lock a/prod --user joe --reason x -o {form}")
        assert code == 0
        assert parse(out) in cluster.objects(ACCESS_LOCKS)
        assert "connectorctl unlock a/prod-" in err


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ("--user joe", False),
        ("--user jane", True),
        ("--user joe --user jane", True),
        ("--group developers", True),
        ("--group others", False),
        ("--user joe --group developers", True),
        ("", True),
    ],
)
async def test_a_lock_warns_its_author_when_it_hits_them(cluster: FakeAccessCluster, words: str, warned: bool) -> None:
    code, _, err = await cluster.run(f"lock a/prod --reason x {words}")
    assert code == 0
    assert err.count("locks you out, too") == warned


@pytest.mark.parametrize(("words", "namespace"), [("", "connectors-system"), ("-n team-a", "team-a")])
async def test_a_lock_for_all_connectors(cluster: FakeAccessCluster, words: str, namespace: str) -> None:
    assert (await cluster.run(f"lock --all {words} --user joe --reason x")).code == 0
    (raw,) = cluster.objects(ACCESS_LOCKS, namespace)
    assert raw["metadata"]["name"].startswith("all-")
    assert "connector" not in raw["spec"]


async def test_a_lock_can_come_before_its_connector(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("lock a/prod --user joe --reason x")
    (raw,) = cluster.objects(ACCESS_LOCKS)
    assert (code, out) == (0, f"accesslocks.connectors.alauda.io a/{raw['metadata']['name']} created\n")
    assert err.startswith(
        "warning: Connector a/prod does not exist; the lock applies when it is created; "
        "compare the name with: connectorctl status --namespace a --source kubernetes --kubeconfig "
    )
    assert "does not exist" not in (await cluster.run("lock --all --user joe --reason x")).err


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_a_connector_that_cannot_be_read_is_not_called_absent(cluster: FakeAccessCluster, status: int) -> None:
    cluster.server.faults.append(
        lambda request: refusal(status, "Reason", "no") if "/connectors/" in request.path else None
    )
    code, _, err = await cluster.run("lock a/prod --user joe --reason x")
    assert (code, len(cluster.objects(ACCESS_LOCKS))) == (0, 1)
    assert err.startswith(DELAY_NOTE)


WRONG_USAGE = [
    pytest.param("a/prod", "Missing option '--reason'", id="no reason"),
    pytest.param("--reason x", "name one Connector as NAMESPACE/NAME, or write --all", id="no Connector"),
    pytest.param("a/prod --all --reason x", "name one Connector as NAMESPACE/NAME, or write --all", id="one and all"),
    pytest.param("prod --reason x", "not of the form NAMESPACE/NAME", id="no namespace"),
    pytest.param("a/prod -n a --reason x", "--namespace: goes with --all", id="a namespace and one Connector"),
    pytest.param("--all -n '' --reason x", "is not the name of a namespace", id="an empty namespace is not all"),
    pytest.param("--all -n ../b --reason x", "is not the name of a namespace", id="a path as the namespace"),
    pytest.param("a/prod --reason ''", "'--reason': '': is empty", id="an empty reason"),
    pytest.param(f"a/prod --reason '{HOSTILE}'", "has line breaks, control characters", id="a hostile reason"),
    pytest.param("a/prod --reason 'a\u2066b'", "has line breaks, control characters", id="a reason that turns text"),
    pytest.param(f"a/prod --reason {'x' * 1025}", "has more than 1024 characters", id="a long reason"),
    pytest.param("a/prod --reason x --user ''", "'--user': '': is empty", id="an empty user is not all callers"),
    pytest.param("a/prod --reason x --group ''", "'--group': '': is empty", id="an empty group is not all callers"),
    pytest.param(
        "a/prod --reason x --user system:serviceaccount:ci", "is not the name of a ServiceAccount", id="half a user"
    ),
    pytest.param("a/prod --reason x --for 0", "is not between 1s and 720h", id="no time"),
    pytest.param("a/prod --reason x --for -1h", "is not a duration", id="a negative duration"),
    pytest.param("a/prod --reason x --for ever", "is not a duration", id="a duration in words"),
    pytest.param("a/prod --reason x --for 87600h", "is not between 1s and 720h", id="10 years"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_USAGE)
async def test_wrong_usage_locks_nothing(
    cluster: FakeAccessCluster, connectors: Path, words: str, message: str
) -> None:
    code, out, err = await cluster.run(f"lock {words}")
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []


async def test_a_refusal_of_the_api_server_is_printed(cluster: FakeAccessCluster) -> None:
    cluster.server.faults.append(
        lambda request: refusal(403, "Forbidden", "no") if request.path == ACCESS_LOCKS.path("a") else None
    )
    code, out, err = await cluster.run("lock a/prod --user joe --reason x")
    assert (code, out, err) == (1, "", "Error from server (Forbidden): no\n")


async def test_the_command_that_removes_it_works_as_printed(cluster: FakeAccessCluster, connectors: Path) -> None:
    """Next to a folder, `unlock` needs to be told that the lock is in the cluster."""
    code, _, err = await cluster.run("lock a/prod --user joe --reason x --source kubernetes")
    assert code == 0
    printed = err.splitlines()[-1].removeprefix("to remove it: connectorctl ")
    assert " --source kubernetes --kubeconfig " in printed
    assert await asyncio.to_thread(cli.run, shlex.split(printed), is_plugin=False) == 0
    assert cluster.objects(ACCESS_LOCKS) == []


async def test_missing_kinds_are_named(cluster: FakeAccessCluster) -> None:
    cluster.server.unserved.add("accesslocks")
    code, _, err = await cluster.run("lock a/prod --user joe --reason x")
    assert code == 1
    assert "the CustomResourceDefinition accesslocks.connectors.alauda.io is not installed" in err


def test_a_lock_in_a_folder_is_a_private_manifest(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lock", "default/k8s-connector", "--user", ACCOUNT, "--reason", "maintenance", "--source", "./connectors"]
    assert cli.run(words, is_plugin=False) == 0
    (path,) = connectors.glob("lock-*.yaml")
    raw = yaml.safe_load(path.read_text())
    assert path == lock_file(connectors, ObjectKey("default", raw["metadata"]["name"]))
    assert path.stat().st_mode & 0o777 == 0o600
    lock = parse_access_lock(raw)
    assert (lock.problem, set(lock.users), set(lock.connector.names)) == ("", {ACCOUNT}, {"k8s-connector"})
    out, err = capsys.readouterr()
    assert out == f"accesslocks.connectors.alauda.io {lock.key} created\n"
    assert err == f"to remove it: connectorctl unlock {lock.key} --source ./connectors\n"
    assert cli.run(["check", "connectors"], is_plugin=False) == 1
    assert path.name not in capsys.readouterr().out


def test_the_next_step_can_be_pasted_into_a_shell(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workdir / "my connectors").mkdir()
    words = ["lock", "a/prod", "--user", "joe", "--reason", "x", "--source", "./my connectors"]
    assert cli.run(words, is_plugin=False) == 0
    assert capsys.readouterr().err.endswith(" --source './my connectors'\n")


def test_a_lock_in_a_folder_can_come_before_its_connector(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lock", "default/other", "--user", "joe", "--reason", "x", "--source", "./connectors"]
    assert cli.run(words, is_plugin=False) == 0
    assert len(list(connectors.glob("lock-*.yaml"))) == 1
    warning, _ = capsys.readouterr().err.splitlines()
    assert warning == (
        "warning: Connector default/other does not exist; the lock applies when it is created; "
        "compare the name with: connectorctl status --namespace default --source ./connectors"
    )


def test_a_lock_needs_an_existing_folder(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lock", "a/prod", "--reason", "x", "--source", "./absent"]
    assert cli.run(words, is_plugin=False) == 1
    assert 'folder "absent" does not exist' in capsys.readouterr().err


def test_locks_of_different_namespaces_have_different_files() -> None:
    keys = [ObjectKey("a", "b-c"), ObjectKey("a-b", "c"), ObjectKey("a", "b.c"), ObjectKey("a", "c")]
    assert len({lock_file(Path(), key) for key in keys}) == len(keys)


@pytest.mark.parametrize("line", ["lock a/prod --user joe --reason x", "unlock a/prod-1"])
def test_a_folder_next_to_a_cluster_needs_a_choice(
    run_cli: RunCli, workdir: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Other commands would use the folder, so a lock in the cluster would not be where the user expects it."""
    monkeypatch.setenv("KUBECONFIG", str(workdir / "absent"))
    (workdir / "connectors").mkdir()
    code, _, err = run_cli(line)
    assert code == 2
    assert "write --source connectors or --source kubernetes" in err
    assert "write --source" not in run_cli(f"{line} --source kubernetes").err
