"""`connectorctl status`."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from addons.server.summary import format_summary
from connector_store.domain.base import rfc3339
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.config.settings import Settings
from connector_store.kube.resources import CONNECTORS
from connectorctl.commands import status
from connectorctl.folder_source import load_store
from tests.connectorctl.cli_result import RunCli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster
from tests.fakes.terminal import read_to_end


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


LOCK = "lock default/k8s-connector --user jane --reason maintenance --for 1h --source connectors"


def test_locks_in_force_are_a_second_table(run_cli: RunCli, connectors: Path) -> None:
    before = run_cli("status").out
    assert run_cli(LOCK).code == 0
    (connectors / "ended.yaml").write_text(
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: AccessLock\nmetadata: {name: ended, namespace: default}\n"
        "spec: {until: 2020-01-01T00:00:00Z, reason: x}\n"
    )
    table, locks = run_cli("status").out.split("\n\n")
    assert f"{table}\n" == before
    head, line = locks.splitlines()
    (document,) = json.loads(run_cli("status -o json").out)["locks"]
    assert head.split() == ["LOCK", "CALLERS", "CONNECTORS", "UNTIL", "REASON"]
    key, until = f"{document['namespace']}/{document['name']}", document["until"]
    assert re.split("   +", line) == [key, "jane", "k8s-connector in default", until, "maintenance"]
    assert run_cli("status -n other") == (0, "", "No resources found in other namespace.\n")


def test_a_lock_of_all_connectors_is_shown_without_a_connector(run_cli: RunCli, workdir: Path) -> None:
    Path("connectors").mkdir()
    assert run_cli("lock --all --reason maintenance --source connectors").code == 0
    code, out, err = run_cli("status -n other")
    assert (code, err) == (0, "No resources found in other namespace.\n")
    assert re.split("   +", out.splitlines()[1])[1:] == ["all callers", "all in all namespaces", "maintenance"]


async def test_locks_of_a_cluster_are_shown(cluster: FakeAccessCluster) -> None:
    spec = {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443"}
    await cluster.server.put(CONNECTORS, {"metadata": {"name": "prod", "namespace": "a"}, "spec": spec})
    before = (await cluster.run("status")).out
    assert "LOCK" not in before
    assert (await cluster.run("lock a/prod --group ops --reason x")).code == 0
    table, locks = (await cluster.run("status")).out.split("\n\n")
    assert f"{table}\n" == before
    assert "group ops" in locks
    cluster.server.unserved.add("accesslocks")
    assert (await cluster.run("status")).out == before


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
    lock = connectors / "lock.yaml"
    edits: Iterator[Callable[[], object]] = iter(
        [
            lambda: None,
            lambda: path.write_text(path.read_text().replace("https:", "http:")),
            lambda: lock.write_text(
                "apiVersion: connectors.alauda.io/v1alpha1\nkind: AccessLock\n"
                "metadata: {name: l, namespace: default}\nspec: {reason: x}\n"
            ),
            lambda: None,
            lock.unlink,
        ]
    )

    def sleep(seconds: float) -> None:
        assert seconds == status.WATCH_INTERVAL
        edit = next(edits, None)
        if edit is None:
            raise KeyboardInterrupt
        edit()

    monkeypatch.setattr("connectorctl.commands.status.time.sleep", sleep)
    code, out, _ = run_cli("status -w")
    assert code == 130
    first_cells = [line.split()[0] for line in out.splitlines()]
    assert first_cells == [*["CONNECTOR", "default/k8s-connector"] * 2, "LOCK", "default/l", "LOCK"]
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
    output = read_to_end(leader).decode()
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
