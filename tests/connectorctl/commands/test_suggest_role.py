"""`connectorctl suggest-role`."""

import json
from pathlib import Path

import pytest
import yaml

from tests.connectorctl.typed import Type


def audit(**fields: object) -> str:
    line: dict[str, object] = {"event": "request", "connector": "a/b", "caller": {"user": "u"}, "status": 200}
    line |= {"verb": "list", "group": "", "resource": "pods", "subresource": "", "namespace": "web", "path": "/"}
    return json.dumps(line | fields) + "\n"


def test_roles_are_ready_to_apply_with_their_entries(typed: Type, place: Path) -> None:
    lines = ["proxy: no JSON\n", "{broken\n", audit(), audit(connector="other/c", resource="secrets"),
             audit(caller=None, resource="nodes"), audit(status=403, resource="secrets")]  # fmt: skip
    (place / "proxy.log").write_text("".join(lines))
    done = typed("suggest-role --audit proxy.log --connector a/b --user u --name ci")
    assert done.code == 0
    (role,) = yaml.safe_load_all(done.out)
    assert (role["kind"], role["metadata"]["name"]) == ("ClusterRole", "ci")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    comment = "\n".join(each.removeprefix("# ") for each in done.out.splitlines() if each.startswith("# "))
    assert yaml.safe_load(comment) == {
        "spec": {"permissions": {"allow": [{"clusterRole": "ci", "namespaces": ["web"]}]}}
    }
    assert done.err == "left out: refused with 403: list secrets in web\n"


def test_nothing_done_is_no_role(typed: Type, place: Path) -> None:
    (place / "proxy.log").write_text(audit(status=403))
    done = typed("suggest-role --audit proxy.log")
    assert (done.code, done.out) == (0, "")
    assert "nothing that a role would have to lend" in done.err


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        pytest.param("10:00:00 list pods in web: 200\n", "", id="lines as people read them"),
        pytest.param(audit(), "--connector a/c", id="lines of another Connector"),
        pytest.param(audit(), "--user v", id="lines of another caller"),
    ],
)
def test_a_log_without_a_line_of_that_says_how_to_get_one(typed: Type, place: Path, lines: str, options: str) -> None:
    (place / "proxy.log").write_text(lines)
    done = typed(f"suggest-role --audit proxy.log {options}")
    assert (done.code, done.out) == (0, "")
    assert "no audit line of that is there as JSON" in done.err


def test_a_connector_without_its_namespace_is_usage(typed: Type, place: Path) -> None:
    (place / "proxy.log").write_text(audit())
    done = typed("suggest-role --audit proxy.log --connector b")
    assert done.code == 2
    assert "not of the form NAMESPACE/NAME" in done.err
