"""`connectorctl suggest-role`."""

import json
from pathlib import Path

import pytest
import yaml

from tests.connectorctl.cli_result import RunCli


def audit(**fields: object) -> str:
    line: dict[str, object] = {"event": "request", "connector": "a/b", "caller": {"user": "u"}, "status": 200}
    line |= {"verb": "list", "group": "", "resource": "pods", "subresource": "", "namespace": "web", "path": "/"}
    return json.dumps(line | fields) + "\n"


def test_roles_can_be_applied_with_their_entries(run_cli: RunCli, workdir: Path) -> None:
    lines = ["proxy: no JSON\n", "{broken\n", audit(), audit(connector="other/c", resource="secrets"),
             audit(caller=None, resource="nodes"), audit(status=403, resource="secrets")]  # fmt: skip
    (workdir / "proxy.log").write_text("".join(lines))
    result = run_cli("suggest-role --audit proxy.log --connector a/b --user u --name ci")
    assert result.code == 0
    (role,) = yaml.safe_load_all(result.out)
    assert (role["kind"], role["metadata"]["name"]) == ("ClusterRole", "ci")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    comment = "\n".join(each.removeprefix("# ") for each in result.out.splitlines() if each.startswith("# "))
    assert yaml.safe_load(comment) == {
        "spec": {"permissions": {"allow": [{"clusterRole": "ci", "namespaces": ["web"]}]}}
    }
    assert result.err == "left out: refused with 403: list secrets in web\n"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_roles_and_permissions_can_be_one_document(run_cli: RunCli, workdir: Path, form: str) -> None:
    (workdir / "proxy.log").write_text(audit())
    result = run_cli(f"suggest-role --audit proxy.log --name ci -o {form}")
    document = yaml.safe_load(result.out)
    assert (result.code, list(document)) == (0, ["roles", "permissions"])
    assert [role["metadata"]["name"] for role in document["roles"]] == ["ci"]


def test_a_log_without_allowed_requests_has_no_role(run_cli: RunCli, workdir: Path) -> None:
    (workdir / "proxy.log").write_text(audit(status=403))
    result = run_cli("suggest-role --audit proxy.log")
    assert (result.code, result.out) == (1, "")
    assert "no request needs a role" in result.err


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        pytest.param("10:00:00 list pods in web: 200\n", "", id="lines as people read them"),
        pytest.param(audit(), "--connector a/c", id="lines of another Connector"),
        pytest.param(audit(), "--user v", id="lines of another caller"),
    ],
)
def test_a_log_without_matching_lines_has_a_hint(run_cli: RunCli, workdir: Path, lines: str, options: str) -> None:
    (workdir / "proxy.log").write_text(lines)
    result = run_cli(f"suggest-role --audit proxy.log {options}")
    assert (result.code, result.out) == (1, "")
    assert "no audit record in JSON matches" in result.err


def test_a_connector_without_its_namespace_is_a_usage_error(run_cli: RunCli, workdir: Path) -> None:
    (workdir / "proxy.log").write_text(audit())
    result = run_cli("suggest-role --audit proxy.log --connector b")
    assert result.code == 2
    assert "not of the form NAMESPACE/NAME" in result.err
