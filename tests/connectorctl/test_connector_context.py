"""The context of a kubeconfig that leads to a Connector."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl import connector_context
from connectorctl.connector_context import ConnectorContext

TUNNEL = {"server": "https://k8s.example/base", "proxy-url": "http://team-a%2Fk8s:a%2Fb@127.0.0.1:8080"}


def read(
    folder: Path, *, cluster: dict[str, Any] = TUNNEL, user: dict[str, Any] | None = None, **top: Any
) -> ConnectorContext:
    config = {
        "current-context": "k8s",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {"token": "fake-token"}}],
        "contexts": [{"name": "k8s", "context": {"cluster": "c", "user": "u", "namespace": "web"}}],
    } | top
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return ConnectorContext.read(folder / "kubeconfig", None)


def test_a_tunnel_has_its_token_in_the_proxys_url(tmp_path: Path) -> None:
    context = read(tmp_path)
    assert context.key == ObjectKey("team-a", "k8s")
    assert (context.connect_token, context.request_token(), context.namespace) == ("a/b", "fake-token", "web")


def test_direct_access_has_its_token_in_the_requests(tmp_path: Path) -> None:
    context = read(tmp_path, cluster={"server": "https://proxy.example/connectors/team-a/k8s"}, user={"token": "T"})
    assert (context.key, context.proxy, context.connect_token) == (ObjectKey("team-a", "k8s"), None, "")
    assert context.request_token() == "T"


def test_a_token_file_is_next_to_the_kubeconfig(tmp_path: Path) -> None:
    context = read(tmp_path, user={"tokenFile": "context.token"})
    with pytest.raises(ParseError, match=r"tokenFile: .*context\.token: No such file"):
        context.request_token()
    (tmp_path / "context.token").write_text("T\n")
    assert context.request_token() == "T"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"current-context": ""}, "current-context: is empty", id="no current context"),
        pytest.param(
            {"current-context": "x"},
            'current-context: context "x" does not exist; the kubeconfig has: k8s',
            id="an unknown context",
        ),
        pytest.param({"users": []}, 'users: user "u" does not exist; the kubeconfig has: none', id="an unknown user"),
        pytest.param({"cluster": {"server": "https://k8s.example"}}, "does not lead to a Connector", id="a cluster"),
    ],
)
def test_another_kubeconfig_is_an_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read(tmp_path, **change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "result"),
    [
        pytest.param('printf \'{"kind":"ExecCredential","status":{"token":"%s"}}\' "$A$1"', "bc", id="a token"),
        pytest.param("echo token", "printed no ExecCredential with a token", id="another output"),
        pytest.param("exit 3", "ended with exit code 3", id="a failure"),
        pytest.param("sleep 60", "did not end within 0.2 s", id="a program that hangs"),
    ],
)
def test_a_plugin_is_run_as_kubectl_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, result: str
) -> None:
    monkeypatch.setattr(connector_context, "PLUGIN_TIMEOUT", 0.2 if "sleep" in script else 180.0)
    (tmp_path / "plugin").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "plugin").chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": ["c"],
              "env": [{"name": "A", "value": "b"}]}  # fmt: skip
    context = read(tmp_path, user={"exec": plugin})
    if result == "bc":
        assert context.request_token() == result
        return
    with pytest.raises(ParseError, match=result):
        context.request_token()


@pytest.mark.slow
def test_a_plugin_gets_the_clients_request_and_can_be_missing(tmp_path: Path) -> None:
    words = ["-c", "import json, os; info = json.loads(os.environ['KUBERNETES_EXEC_INFO']); "
             "print(json.dumps({'kind': 'ExecCredential', 'status': {'token': info['apiVersion']}}))"]  # fmt: skip
    context = read(tmp_path, user={"exec": {"apiVersion": "v9", "command": "python3", "args": words}})
    assert context.request_token() == "v9"
    context = read(tmp_path, user={"exec": {"command": "absent-program"}})
    with pytest.raises(ParseError, match="command: cannot run absent-program: No such file"):
        context.request_token()


def test_the_token_is_not_in_the_representation(tmp_path: Path) -> None:
    assert "canary" not in json.dumps(repr(read(tmp_path, user={"token": "canary"})))
