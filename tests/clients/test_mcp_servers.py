"""MCP servers from npm, unchanged, with the kubeconfig of an agent. Bypasses that users have reported fail.

containers/kubernetes-mcp-server#1415: an agent gets the kubeconfig from a tool, and uses it with kubectl.
Flux159/mcp-server-kubernetes GHSA-w23h-64x4-22h9, #280, #288: Secrets come back by other spellings and other tools.
"""

import os
from pathlib import Path

import pytest
import yaml

from lab.client_programs import MCP, ensure_clients
from lab.go_modules import ProgramsMissingError
from lab.kubectl import Kubectl
from tests.clients.agent import NAME, Agent
from tests.clients.mcp_client import McpServer
from tests.cluster.proxy.proxied_connector import TARGET_USER


@pytest.fixture(scope="session")
def mcp_folder() -> Path:
    """Folder with the servers of scripts/clients/mcp."""
    try:
        return ensure_clients(MCP) / "node_modules"
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def test_kubernetes_mcp_server_gives_no_value_away_even_with_its_kubeconfig(
    agent: Agent, mcp_folder: Path, tmp_path: Path
) -> None:
    program = mcp_folder / "kubernetes-mcp-server-linux-amd64/bin/kubernetes-mcp-server-linux-amd64"
    command = [str(program), "--kubeconfig", str(agent.kubectl.kubeconfig)]
    named = {"apiVersion": "v1", "kind": "Secret", "namespace": agent.namespace, "name": NAME}
    with McpServer(command, agent.environment(tmp_path)) as server:
        assert "teal" in server.call("resources_get", **named | {"kind": "ConfigMap", "name": "settings"}).text
        agent.assert_masked(server.call("resources_get", **named))
        agent.assert_masked(server.call("resources_list", apiVersion="v1", kind="Secret", namespace=agent.namespace))
        agent.assert_refused(server.call("resources_delete", **named))
        changed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": agent.namespace}}
        agent.assert_refused(
            server.call("resources_create_or_update", resource=yaml.safe_dump(changed | {"stringData": {"a": "b"}}))
        )
        view = server.call("configuration_view", minified=True)
    kubeconfig = next(each for each in yaml.safe_load_all(first_document(view.text)) if each)
    stolen = tmp_path / "stolen.kubeconfig"
    stolen.write_text(yaml.safe_dump(kubeconfig))
    thief = Kubectl(agent.kubectl.program, stolen)
    assert "teal" in thief("get", "configmap", "settings", "-o", "yaml", namespace=agent.namespace)
    agent.assert_no_value(thief("get", "secret", NAME, "-o", "yaml", namespace=agent.namespace))
    for arguments in (["delete", "secret", NAME], ["create", "token", TARGET_USER], ["delete", "secrets", "--all"]):
        refused = thief.run(*arguments, namespace=agent.namespace)
        assert (refused.returncode, "does not allow" in refused.stderr) == (1, True), refused.stderr
    agent.assert_unchanged()


def first_document(text: str) -> str:
    """Return the YAML of a tool's result, without what the server and the test add."""
    return text[text.index("apiVersion") : text.index('\n{"jsonrpc"')]


def test_mcp_server_kubernetes_gives_no_value_away_by_any_tool_or_spelling(
    agent: Agent, mcp_folder: Path, tmp_path: Path
) -> None:
    command = ["node", str(mcp_folder / "mcp-server-kubernetes/dist/index.js")]
    place = {"namespace": agent.namespace}
    with McpServer(command, agent.environment(tmp_path)) as server:
        assert "teal" in server.call("kubectl_get", resourceType="configmap", name="settings", **place).text
        for form in ("json", "yaml", "wide"):
            agent.assert_masked(server.call("kubectl_get", resourceType="secret", name=NAME, output=form, **place))
        agent.assert_masked(server.call("kubectl_get", resourceType=f"secret/{NAME}", output="yaml", **place))
        agent.assert_masked(server.call("kubectl_get", resourceType="secret,configmap", output="yaml", **place))
        agent.assert_masked(server.call("kubectl_describe", resourceType="secret", name=NAME, **place))
        generic = {"command": "get", "resourceType": "secret", "name": NAME, "outputFormat": "yaml"}
        agent.assert_masked(server.call("kubectl_generic", **generic, **place))
        template = {"output": "go-template={{.metadata.name}}{{range .data}}{{.}}{{end}}"}
        agent.assert_no_value(server.call("kubectl_generic", **generic | {"flags": template}, **place).text)
        agent.assert_refused(server.call("kubectl_delete", resourceType="secret", name=NAME, **place))
        patch = {"stringData": {"password": "x"}}
        agent.assert_refused(server.call("kubectl_patch", resourceType="secret", name=NAME, patchData=patch, **place))
        agent.assert_refused(
            server.call("kubectl_generic", command="create", subCommand="token", name=TARGET_USER, **place)
        )
    agent.assert_unchanged()
