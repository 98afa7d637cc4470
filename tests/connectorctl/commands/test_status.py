"""`connectorctl status`."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from addons.server.summary import format_summary
from connector_store.domain.base import rfc3339
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.config.settings import Settings
from connectorctl.commands import status
from connectorctl.folder_source import load_store
from tests.connectorctl.cli_result import RunCli


def test_the_output_is_a_table(run_cli: RunCli, connectors: Path) -> None:
    replace_examples(connectors)
    code, out, _ = run_cli("status")
    assert code == 0
    assert out.splitlines()[1].split() == [
        "default/k8s-connector",
        "https://k8s.corp:6443",
        "yes",
        "bearerTokenAuth",
        "all",
    ]


def replace_examples(connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp"))


@pytest.mark.parametrize(
    ("spec", "allows"),
    [
        ("", "all"),
        ("  permissions: {deny: [{clusterRole: connectors-credentials}]}\n", "all but denied"),
        ("  permissions: {allow: [{clusterRole: view}]}\n", "roles"),
    ],
)
def test_what_a_connector_allows_is_shown(run_cli: RunCli, connectors: Path, spec: str, allows: str) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(f"{path.read_text()}{spec}  impersonate: {{}}\n")
    [item] = json.loads(run_cli("status -o json").out)["items"]
    assert (item["allows"], item["impersonates"]) == (allows, True)
    head, line = run_cli("status -o wide").out.splitlines()
    assert line[head.index("ALLOWS") :].startswith(allows)
    assert line[head.index("IMPERSONATES") :].startswith("yes")


@pytest.mark.parametrize("is_usable", [False, True])
def test_check_status_and_the_proxys_start_agree(run_cli: RunCli, connectors: Path, is_usable: bool) -> None:
    if is_usable:
        replace_examples(connectors)
    [item] = json.loads(run_cli("status -o json").out)["items"]
    assert item["usable"] is is_usable
    assert run_cli("check").err.startswith(f"{int(is_usable)} of 1 Connectors can be used; ")
    store = load_store(connectors, Settings())
    summary = format_summary(FolderSource("connectors"), store, [], confdir=Path("c"))
    assert summary.startswith("serving 1 Connector of" if is_usable else "serving 0 Connectors of")


def test_a_folder_has_no_ready_column(run_cli: RunCli, connectors: Path) -> None:
    assert "READY" not in run_cli("status").out


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_rows_are_available_as_json_and_yaml(
    run_cli: RunCli, connectors: Path, form: str, load: Callable[[str], Any]
) -> None:
    replace_examples(connectors)
    assert load(run_cli(f"status -o {form}").out) == {
        "items": [
            {
                "namespace": "default",
                "name": "k8s-connector",
                "address": "https://k8s.corp:6443",
                "usable": True,
                "ready": None,
                "expires": None,
                "auth": "bearerTokenAuth",
                "allows": "all",
                "impersonates": False,
                "reason": "",
                "message": "",
            }
        ]
    }


def test_the_credential_expiry_is_shown(run_cli: RunCli, connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().replace("k8s.example", "k8s.corp"))
    expires_at = int(time.time()) + 2 * 86400 + 600
    token = jwt.encode({"exp": expires_at}, "x" * 32, algorithm="HS256")
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", token))
    head, line = run_cli("status").out.splitlines()
    assert head.split() == ["CONNECTOR", "ADDRESS", "USABLE", "AUTH", "ALLOWS", "EXPIRES", "REASON", "MESSAGE"]
    assert line[head.index("EXPIRES") :] == "in 2 days"
    (item,) = json.loads(run_cli("status -o json").out)["items"]
    assert rfc3339.parse_time(item["expires"]) == expires_at


@pytest.mark.parametrize(
    ("line", "message"),
    [("status -n nope", "No resources found in nope namespace.\n"), ("status --source empty", "No resources found\n")],
)
def test_an_empty_result_has_kubectls_message(run_cli: RunCli, connectors: Path, line: str, message: str) -> None:
    Path("empty").mkdir()
    assert run_cli(line) == (0, "", message)


def test_a_watch_prints_changes_until_it_is_stopped(
    run_cli: RunCli, connectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = connectors / "k8s-connector.yaml"
    edits = iter([lambda: None, lambda: path.write_text(path.read_text().replace("https:", "http:"))])

    def sleep(seconds: float) -> None:
        assert seconds == status.WATCH_INTERVAL
        edit = next(edits, None)
        if edit is None:
            raise KeyboardInterrupt
        edit()

    monkeypatch.setattr("connectorctl.commands.status.time.sleep", sleep)
    code, out, _ = run_cli("status -w")
    assert code == 130
    assert [line.split()[0] for line in out.splitlines()] == ["CONNECTOR", "default/k8s-connector"] * 2
    assert "AddressInvalid" in out.splitlines()[3]


def test_a_watch_cannot_be_json(run_cli: RunCli, connectors: Path) -> None:
    assert run_cli("status -w -o json").code == 2


@pytest.mark.slow
@pytest.mark.parametrize(("form", "wrapped"), [("", True), ("-o wide", False)])
def test_messages_are_wrapped_on_a_terminal_unless_wide(connectors: Path, form: str, wrapped: bool) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().partition("---\n")[2])
    output = on_terminal(["connectorctl", "status", *form.split()], columns=210)
    assert ("create it with type connectors.cpaas.io/bearer-token" in " ".join(output.split())) is True
    assert (max(map(len, output.splitlines())) <= 210) == wrapped
    assert "\x1b[31mno\x1b[0m" in output


def on_terminal(command: list[str], *, columns: int) -> str:
    leader, follower = pty.openpty()
    program = str(Path(sys.executable).with_name(command[0]))
    subprocess.run([program, *command[1:]], stdout=follower, env=os.environ | {"COLUMNS": str(columns)}, timeout=180)
    os.close(follower)
    output = os.read(leader, 65536).decode()
    os.close(leader)
    return output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("status --source absent", "does not exist; create it with", id="a missing folder"),
        pytest.param("status --kubeconfig absent", "kubeconfig absent not found", id="a kubeconfig missing"),
    ],
)
def test_a_failure_has_a_reason(run_cli: RunCli, workdir: Path, line: str, message: str) -> None:
    code, out, err = run_cli(line)
    assert (code, out) == (1, "")
    assert message in err
