"""`connectorctl import`: a file without findings of `check`, or objects in a cluster."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from connector_store.domain.base.fields import Fields
from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES, READ_ONLY_ROLE
from connector_store.domain.permissions.evaluator import PermissionEvaluator, build_evaluator
from connector_store.domain.permissions.permissions import parse_permissions
from connector_store.kube.resources import SECRETS
from connectorctl import target_account
from connectorctl.cli import run
from tests.connectorctl.test_importer import write
from tests.fakes.api_server import FakeApiServer, refusal

SECRET = "/api/v1/namespaces/team-a/secrets/admin-kind"


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    """The API server of the kubeconfig in KUBECONFIG."""
    async with FakeApiServer().serving() as fake:
        own = tmp_path / "own"
        own.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "x", "cluster": {"server": fake.url}}],
                    "users": [{"name": "x", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                    "current-context": "x",
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(own))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield fake


async def apply(tmp_path: Path) -> int:
    line = ["import", str(write(tmp_path)), "-n", "team-a", "--apply"]
    return await asyncio.to_thread(run, line, is_plugin=False)


def requests(server: FakeApiServer) -> list[str]:
    """Return METHOD and the last segment of the path of each request. `?` marks a dry run."""
    return [
        f"{method}{'?' if 'dryRun' in query else ''} {path.rsplit('/', 1)[-1]}"
        for method, path, query in server.requests
    ]


def test_the_file_is_private_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    assert run(["import", str(path), "-n", "team-a"], is_plugin=False) == 0
    file = tmp_path / "connectors" / "admin-kind.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(["import", str(path)], is_plugin=False) == 1
    output = capsys.readouterr()
    assert "exists already" in output.err
    assert "canary" not in output.out + output.err
    assert run(["check", "connectors"], is_plugin=False) == 0


def test_the_current_kubeconfig_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path)))
    assert run(["import"], is_plugin=False) == 0
    wrote, warning = capsys.readouterr().err.splitlines()
    assert wrote == "wrote connectors/admin-kind.yaml; check it with: connectorctl check connectors"
    assert warning.startswith(
        "warning: the Connector allows everything that its credential can do; limit it with --read"
    )


def test_permissions_for_an_agent_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(write(tmp_path))
    assert run(["import", file, "--agent", "--allow", "edit", "-o", "f.yaml"], is_plugin=False) == 0
    _, connector = yaml.safe_load_all((tmp_path / "f.yaml").read_text())
    permissions = connector["spec"]["permissions"]
    assert permissions["mask"] == [{"resources": ["secrets"]}]
    assert permissions["allow"] == [{"clusterRole": "connectors-agent"}, {"clusterRole": "edit"}]
    parsed = parse_permissions(Fields(connector["spec"], "spec"))
    assert parsed is not None
    evaluator = build_evaluator(parsed, BUILTIN_ROLES.get)
    assert isinstance(evaluator, PermissionEvaluator)
    assert evaluator.mask_gaps == ()


@pytest.mark.parametrize(
    ("options", "permissions", "warning"),
    [
        ([], None, "warning: the Connector allows everything"),
        (
            ["--deny-credentials"],
            {"deny": [{"clusterRole": "connectors-credentials"}]},
            "warning: the Connector allows",
        ),
        (
            ["--read-only"],
            {"allow": [{"clusterRole": READ_ONLY_ROLE}]},
            "warning: --read-only allows reading Sec",
        ),
        (["--allow", "a", "--allow", "b"], {"allow": [{"clusterRole": "a"}, {"clusterRole": "b"}]}, ""),
        (
            ["--read-only", "--deny-credentials"],
            {"allow": [{"clusterRole": READ_ONLY_ROLE}], "deny": [{"clusterRole": "connectors-credentials"}]},
            "",
        ),
    ],
)
def test_permissions_are_written_and_their_absence_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    permissions: object,
    warning: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["import", str(write(tmp_path)), *options, "-o", "f.yaml"], is_plugin=False) == 0
    _, connector = yaml.safe_load_all((tmp_path / "f.yaml").read_text())
    assert connector["spec"].get("permissions") == permissions
    messages = capsys.readouterr().err.partition("\n")[2]
    assert messages.startswith(warning)
    assert bool(messages) == bool(warning)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["-o", "-"], "the credential is not printed; name a file", id="stdout"),
        pytest.param(["--kubeconfig", "f"], "the file is named already", id="two kubeconfigs"),
        pytest.param(["--agent", "--read-only"], "--agent: sets its own limits", id="other limits"),
        pytest.param(["--create-account"], "--create-account needs --role", id="an account without a role"),
        pytest.param(["--role", "view"], "go with --create-account", id="a role without an account"),
        pytest.param(["--dry-run"], "go with --create-account", id="a dry run without an account"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["import", str(write(tmp_path)), *options], is_plugin=False) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            [],
            "the credential can do what ClusterRole view of the target covers, in all namespaces, and the Connector "
            "allows that; to allow less, set spec.permissions in the Connector\n",
            id="the whole role",
        ),
        pytest.param(
            ["--deny-credentials"],
            "the credential can do what ClusterRole view of the target covers, in all namespaces, and the Connector "
            "allows that except what --deny-credentials denies; to allow less, set spec.permissions in the Connector\n",
            id="without credentials",
        ),
        pytest.param(["--allow", "pods"], "", id="a role of the Connector"),
    ],
)
def test_the_role_of_an_account_says_what_a_connector_allows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(target_account, "create_account", lambda *_, **__: b"token")
    line = ["import", str(write(tmp_path)), "--create-account", "--role", "view", "-o", str(tmp_path / "f.yaml")]
    assert run([*line, *options], is_plugin=False) == 0
    created, wrote, *messages = capsys.readouterr().err.splitlines(keepends=True)
    assert created.startswith("created ServiceAccount default/admin-kind with ClusterRole view on ")
    assert wrote.startswith("wrote ")
    assert "".join(messages) == message


def test_a_dry_run_prints_a_script_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    line = ["import", str(path), "--create-account", "--role", "view", "--account", "ci/deployer", "--dry-run"]
    assert run(line, is_plugin=False) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"kubectl --kubeconfig {path} create --filename - <<'MANIFEST'\n")
    assert "kubectl --kubeconfig" in out
    assert "wait secret/deployer-minter --namespace ci" in out
    assert "> connectors/admin-kind.yaml\n" in out
    assert "canary" not in out
    assert not (tmp_path / "connectors").exists()


def test_a_kubeconfig_that_does_not_exist_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "absent"
    assert run(["import", str(path)], is_plugin=False) == 1
    err = capsys.readouterr().err
    assert err == f'error: kubeconfig "{path}" does not exist; name one: connectorctl import KUBECONFIG\n'


def test_apply_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert run(["import", str(path), "--apply", "-o", "x"], is_plugin=False) == 2
    assert "writes no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "warned"), [([], True), (["--address", "https://kubernetes.default.svc"], False)], ids=["own", "other"]
)
async def test_apply_warns_of_an_address_that_a_proxy_in_a_cluster_denies(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], warned: bool
) -> None:
    path = write(tmp_path, cluster={"server": "https://127.0.0.1:6443"})
    line = ["import", str(path), "-n", "team-a", "--apply", *options]
    assert await asyncio.to_thread(run, line, is_plugin=False) == 0
    assert ("pods cannot reach https://127.0.0.1:6443" in capsys.readouterr().err) == warned


async def test_a_cluster_that_refuses_the_connector_leaves_the_target_unchanged(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target of this test does not exist, so each request to it would be another error."""
    server.faults.append(lambda request: refusal(403, "Forbidden", "no") if request.path.endswith("s") else None)
    line = ["import", str(write(tmp_path)), "--create-account", "--role", "view", "-n", "team-a", "--apply"]
    assert await asyncio.to_thread(run, line, is_plugin=False) == 1
    assert requests(server) == ["POST? secrets"]
    assert capsys.readouterr().err == "Error from server (Forbidden): no\n"


async def test_apply_runs_both_as_a_dry_run_first(server: FakeApiServer, tmp_path: Path) -> None:
    assert await apply(tmp_path) == 0
    assert requests(server) == ["POST? secrets", "POST? connectors", "POST secrets", "POST connectors"]


async def test_a_refused_connector_leaves_no_secret(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_refused = [True]

    def refuse_connectors(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", "no") if request.path.endswith("/connectors") and is_refused[0] else None

    server.faults.append(refuse_connectors)
    assert await apply(tmp_path) == 1
    assert requests(server) == ["POST? secrets", "POST? connectors"]
    assert capsys.readouterr().err == "Error from server (Forbidden): no\n"
    is_refused[0] = False
    assert await apply(tmp_path) == 0


@pytest.mark.parametrize(
    ("status", "undeletable", "message", "last"),
    [
        pytest.param(403, False, "deleted again because the Connector was refused", "DELETE admin-kind", id="refused"),
        pytest.param(403, True, "stays, as it cannot be deleted: keep", "DELETE admin-kind", id="not deletable either"),
        pytest.param(504, False, "see if the Connector exists, too", "POST connectors", id="no answer"),
    ],
)
async def test_the_secret_is_deleted_if_the_connector_fails_after_its_dry_run(
    server: FakeApiServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    undeletable: bool,
    message: str,
    last: str,
) -> None:
    def fault(request: web.Request) -> web.Response | None:
        if request.method == "DELETE" and undeletable:
            return refusal(403, "Forbidden", "keep")
        late = request.path.endswith("/connectors") and "dryRun" not in request.query
        return refusal(status, "Reason", "no") if late else None

    server.faults.append(fault)
    assert await apply(tmp_path) == 1
    err = capsys.readouterr().err
    assert "Secret team-a/admin-kind was created" in err
    assert message in err
    assert err.endswith("Error from server (Reason): no\n")
    assert requests(server)[-1] == last
    if last.startswith("DELETE"):
        assert server.requests[-1][2]["body"] == {"preconditions": {"uid": f"uid-{SECRET}"}}


async def test_an_existing_secret_is_not_changed(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await server.put(SECRETS, {"metadata": {"name": "admin-kind", "namespace": "team-a"}})
    assert await apply(tmp_path) == 1
    assert requests(server) == ["POST? secrets"]
    assert "AlreadyExists" in capsys.readouterr().err


async def test_a_webhook_without_dry_run_is_called_on_creation(server: FakeApiServer, tmp_path: Path) -> None:
    def fault(request: web.Request) -> web.Response | None:
        refused = refusal(400, "BadRequest", 'admission webhook "w" does not support dry run')
        return refused if "dryRun" in request.query else None

    server.faults.append(fault)
    assert await apply(tmp_path) == 0
    assert requests(server)[2:] == ["POST secrets", "POST connectors"]
