"""The page for agents: the five lines allow what the page says, and its manifests are those that the programs read."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.names import API_GROUP
from connector_store.domain.kubeconfig.volume_request import ATTRIBUTES
from connector_store.domain.objects.builtin import CONFIGURATIONS
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connector_store.domain.permissions.limits import Limits
from connectorctl import cli
from connectorctl.example import write_example
from tests.docs.pages import DOCS

PAGE = (DOCS / "agents.md").read_text()
LIMITS, WIDER, SANDBOX_ACCESS, POD, POD_LOGS = re.findall(r"^ *```yaml\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)


def can_i(arguments: str) -> bool:
    return cli.run(["can-i", *arguments.split()], is_plugin=False) == cli.EXIT_OK


@pytest.fixture
def connectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder `connectors` in the working folder, with the Connector of the page and its limits."""
    monkeypatch.chdir(tmp_path)
    for name in [each for each in os.environ if each.startswith(("CONNECTOR", "KUBE"))]:
        monkeypatch.delenv(name)
    path = write_example(Path("connectors"))
    path.write_text(path.read_text().rstrip().replace("k8s-connector", "my-cluster") + "\n" + LIMITS)
    return path.parent


def test_the_five_lines_allow_what_the_page_says(connectors: Path) -> None:
    assert len(LIMITS.splitlines()) == 5
    commands = re.findall(r"^    connectorctl can-i (.*?) +# (yes|no)$", PAGE, re.MULTILINE)
    assert {answer for _, answer in commands} == {"yes", "no"}
    assert [can_i(arguments) for arguments, _ in commands] == [answer == "yes" for _, answer in commands]


def test_the_wider_lines_mask_secrets_and_limit_requests(connectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = connectors / "k8s-connector.yaml"
    file.write_text(file.read_text().replace(LIMITS, WIDER))
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "agent-writes"}}
    rule = {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}
    (connectors / "role.yaml").write_text(yaml.safe_dump(role | {"rules": [rule]}))
    for request, answer in (
        ("get secrets", "yes, masked"),
        ("patch deployments.apps/scale", "yes, dry run only"),
        ("delete secrets", "no"),
        ("create pods/exec", "no"),
    ):
        can_i(f"{request} -n web --connector default/my-cluster")
        assert capsys.readouterr().out.startswith(answer), request
    [connector] = [each for each in yaml.safe_load_all(file.read_text()) if each["kind"] == "Connector"]
    parsed = parse_connector(connector)
    assert isinstance(parsed, Connector)
    assert parsed.limits == Limits(requests_per_second=20, writes_per_minute=30, deletes_per_hour=10)


def test_the_role_of_the_page_denies_logs(connectors: Path) -> None:
    request = "get pods/log -n web --connector default/my-cluster"
    assert can_i(request)
    (connectors / "pod-logs.yaml").write_text("\n".join(line[2:] for line in POD_LOGS.splitlines()))
    with (connectors / "k8s-connector.yaml").open("a") as file:
        file.write("    - {clusterRole: pod-logs}\n")
    assert not can_i(request)
    assert can_i("get pods -n web --connector default/my-cluster")


def test_the_account_of_the_sandbox_gets_the_right_for_the_connector_of_its_volume() -> None:
    account, role, binding = yaml.safe_load_all(SANDBOX_ACCESS)
    pod: dict[str, Any] = yaml.safe_load(POD)
    volume = pod["spec"]["volumes"][0]["csi"]["volumeAttributes"]
    assert role["rules"] == [
        {
            "apiGroups": [API_GROUP],
            "resources": ["connectors/proxy"],
            "resourceNames": [volume["connector.name"]],
            "verbs": ["use"],
        }
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"] == pod["spec"]["serviceAccountName"]
    assert volume.keys() <= set(ATTRIBUTES)
    assert volume["configuration.names"] in CONFIGURATIONS
