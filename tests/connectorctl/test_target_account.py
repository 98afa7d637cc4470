"""An account on a target: its objects, what is left after an error, and the script that does the same."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.kube.errors import ApiError
from connectorctl import target_account
from connectorctl.target_account import build_account, create_account, render_script
from tests.fakes.api_server import FakeApiServer, refusal

ACCOUNT = ObjectKey("ci", "deployer")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FakeApiServer]:
    """The target. It knows the ClusterRole `view`, and writes no token by itself."""
    async with FakeApiServer().serving() as fake:
        config = {
            "clusters": [{"name": "x", "cluster": {"server": fake.url}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        (tmp_path / "target").write_text(json.dumps(config))

        def role(request: web.Request) -> web.Response | None:
            name = request.path.rpartition("/clusterroles/")[2]
            return web.json_response({"kind": "ClusterRole"}) if name == "view" else None

        fake.faults.append(role)
        yield fake


async def create(folder: Path, role: str = "view") -> bytes:
    return await asyncio.to_thread(create_account, ACCOUNT, role, kubeconfig=folder / "target", context=None)


def created(server: FakeApiServer) -> list[str]:
    return [path.rpartition("/")[2] for method, path, _ in server.requests if method == "POST"]


def answer_token(request: web.Request) -> web.Response | None:
    if request.method == "GET" and request.path.endswith("/secrets/deployer-minter"):
        return web.json_response({"data": {"token": base64.b64encode(b"TOKEN").decode()}})
    return None


def test_the_second_account_may_only_issue_tokens_of_the_first() -> None:
    objects = {str(each): each.manifest for each in build_account(ACCOUNT, "view")}
    assert list(objects) == [
        "ServiceAccount deployer",
        "ClusterRoleBinding deployer",
        "ServiceAccount deployer-minter",
        "Role deployer-minter",
        "RoleBinding deployer-minter",
        "Secret deployer-minter",
    ]
    assert objects["Role deployer-minter"]["rules"] == [
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["deployer"], "verbs": ["create"]}
    ]
    assert objects["ClusterRoleBinding deployer"]["roleRef"]["name"] == "view"
    bound = {name: each["subjects"] for name, each in objects.items() if "subjects" in each}
    assert bound == {
        "ClusterRoleBinding deployer": [{"kind": "ServiceAccount", "namespace": "ci", "name": "deployer"}],
        "RoleBinding deployer-minter": [{"kind": "ServiceAccount", "namespace": "ci", "name": "deployer-minter"}],
    }


async def test_the_token_of_the_second_account_is_returned(server: FakeApiServer, tmp_path: Path) -> None:
    server.faults.append(answer_token)
    assert await create(tmp_path) == b"TOKEN"
    assert created(server) == [
        *("serviceaccounts", "clusterrolebindings", "serviceaccounts", "roles", "rolebindings", "secrets"),
    ]


async def test_an_absent_role_creates_nothing(server: FakeApiServer, tmp_path: Path) -> None:
    with pytest.raises(ApiError):
        await create(tmp_path, role="absent")
    assert created(server) == []


async def test_what_was_created_before_an_error_is_named(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(lambda request: refusal(403, "Forbidden", "no") if request.path.endswith("/roles") else None)
    with pytest.raises(ApiError):
        await create(tmp_path)
    names = "ServiceAccount deployer, ClusterRoleBinding deployer, ServiceAccount deployer-minter"
    assert capsys.readouterr().err == f"warning: the target keeps these; delete them before you try again: {names}\n"


async def test_an_object_that_exists_is_named_with_the_next_step(
    server: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(lambda request: refusal(409, "AlreadyExists", "no") if request.method == "POST" else None)
    with pytest.raises(ApiError):
        await create(tmp_path)
    message = "the target has ServiceAccount deployer already; delete it, or name another --account"
    assert capsys.readouterr().err == f"warning: {message}\n"


async def test_a_token_that_does_not_come_is_an_error(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_account, "TOKEN_TIMEOUT", 0.3)
    with pytest.raises(ParseError, match=r"secrets/deployer-minter: got no token within 0\.3 s"):
        await create(tmp_path)


def test_the_script_contains_no_value_that_a_shell_would_run() -> None:
    objects: list[dict[str, Any]] = [{"data": {"token": target_account.TOKEN_PLACEHOLDER}, "address": "https://$(id)"}]
    script = render_script(
        ACCOUNT, "view", objects, kubeconfig=Path("my file"), context="$(id)", file=Path("a b/c.yaml")
    )
    assert script.count("<<'MANIFEST'") == 2
    assert "kubectl --kubeconfig 'my file' --context '$(id)' create" in script
    assert "> 'a b/c.yaml'\n" in script
