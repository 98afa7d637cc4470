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

from connector_store.domain.base import rfc3339
from connectorctl.commands import status
from tests.connectorctl.typed import Type


def test_it_is_a_table(typed: Type, connectors: Path) -> None:
    code, out, _ = typed("status")
    assert code == 0
    assert out.splitlines()[1].split() == ["default/k8s-connector", "https://k8s.example:6443", "yes"]


def test_a_folder_has_no_controller_and_so_no_column_for_it(typed: Type, connectors: Path) -> None:
    assert "READY" not in typed("status").out


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_a_value(typed: Type, connectors: Path, form: str, read: Callable[[str], Any]) -> None:
    assert read(typed(f"status -o {form}").out) == {
        "items": [
            {
                "namespace": "default",
                "name": "k8s-connector",
                "address": "https://k8s.example:6443",
                "usable": True,
                "ready": None,
                "expires": None,
                "reason": "",
                "message": "",
            }
        ]
    }


def test_it_says_when_what_a_secret_holds_ends(typed: Type, connectors: Path) -> None:
    path = connectors / "k8s-connector.yaml"
    ends = int(time.time()) + 2 * 86400 + 600
    token = jwt.encode({"exp": ends}, "x" * 32, algorithm="HS256")
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", token))
    head, line = typed("status").out.splitlines()
    assert head.split() == ["CONNECTOR", "ADDRESS", "USABLE", "EXPIRES", "REASON", "MESSAGE"]
    assert line[head.index("EXPIRES") :] == "in 2 days"
    (found,) = json.loads(typed("status -o json").out)["items"]
    assert rfc3339.parse_time(found["expires"]) == ends


@pytest.mark.parametrize(
    ("line", "message"),
    [("status -n nope", "No resources found in nope namespace.\n"), ("status --source empty", "No resources found\n")],
)
def test_nothing_found_is_said_as_kubectl_says_it(typed: Type, connectors: Path, line: str, message: str) -> None:
    Path("empty").mkdir()
    assert typed(line) == (0, "", message)


def test_a_watch_prints_what_changes_until_it_is_stopped(
    typed: Type, connectors: Path, monkeypatch: pytest.MonkeyPatch
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
    code, out, _ = typed("status -w")
    assert code == 130
    assert [line.split()[0] for line in out.splitlines()] == ["CONNECTOR", "default/k8s-connector"] * 2
    assert "AddressInvalid" in out.splitlines()[3]


def test_a_watch_is_no_value(typed: Type, connectors: Path) -> None:
    assert typed("status -w -o json").code == 2


@pytest.mark.slow
@pytest.mark.parametrize(("form", "wrapped"), [("", True), ("-o wide", False)])
def test_a_terminal_has_messages_wrapped_between_words_unless_it_is_to_be_wide(
    connectors: Path, form: str, wrapped: bool
) -> None:
    path = connectors / "k8s-connector.yaml"
    path.write_text(path.read_text().partition("---\n")[2])
    shown = on_terminal(["connectorctl", "status", *form.split()], columns=140)
    assert ("create it with type connectors.cpaas.io/bearer-token" in " ".join(shown.split())) is True
    assert (max(map(len, shown.splitlines())) <= 140) == wrapped
    assert "\x1b[31mno\x1b[0m" in shown


def on_terminal(command: list[str], *, columns: int) -> str:
    leader, follower = pty.openpty()
    program = str(Path(sys.executable).with_name(command[0]))
    subprocess.run([program, *command[1:]], stdout=follower, env=os.environ | {"COLUMNS": str(columns)}, timeout=60)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    return shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("status --source absent", "is not there; make it with", id="a folder that is not there"),
        pytest.param("status --kubeconfig absent", "kubeconfig absent not found", id="a kubeconfig missing"),
    ],
)
def test_a_failure_says_why(typed: Type, place: Path, line: str, message: str) -> None:
    code, out, err = typed(line)
    assert (code, out) == (1, "")
    assert message in err
