"""`connectorctl import`: a file without findings of `check`, or objects in a cluster."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from connector_store.kube.resources import SECRETS
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
    assert "is there already" in output.err
    assert "canary" not in output.out + output.err
    assert run(["check", "connectors"], is_plugin=False) == 0


def test_apply_writes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert run(["import", str(path), "--apply", "-o", "x"], is_plugin=False) == 2
    assert "writes no file" in capsys.readouterr().err


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
        pytest.param(403, False, "is deleted again: the Connector was refused", "DELETE admin-kind", id="refused"),
        pytest.param(403, True, "stays, as it cannot be deleted: keep", "DELETE admin-kind", id="not deletable either"),
        pytest.param(504, False, "whether the Connector was is not known", "POST connectors", id="no answer"),
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
