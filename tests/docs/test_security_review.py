"""The page for a security review: its schema has the fields of the code, its tests exist, and its commands work."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import pytest

from addons.records import audit
from addons.records.audit import AuditLog
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity
from tests.docs.pages import DOCS, REFERENCE

PAGE: Final = DOCS / "security-review.md"
DEFINITIONS: Final[Mapping[str, Any]] = json.loads((REFERENCE / "audit-record.schema.json").read_text())["$defs"]
TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}
CLAIM_COUNT: Final = 12
REFUSED_EXEC: Final = "/api/v1/namespaces/web/pods/a/exec?command=id"


def audit_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of a request, an exec, a refused request and a refused CONNECT, and both kinds of notes."""
    monkeypatch.setattr(audit, "MAX_PENDING_LINES", 5)
    monkeypatch.setattr(audit, "UNAUTHENTICATED_BURST", 1.0)
    texts: list[str] = []
    log = AuditLog(texts.append, now=lambda: 1_700_000_000.5, commands=True, schedule_flush=lambda: None)
    request = Record(
        event="request",
        connector=ObjectKey("team-a", "k8s"),
        status=200,
        source_ip="192.0.2.7",
        duration=0.01,
        identity=Identity(user="system:serviceaccount:team-a:ci", uid="u-1", groups=("system:authenticated",)),
        info=parse_request("GET", "/api/v1/namespaces/web/pods", ""),
        target="/api/v1/namespaces/web/pods",
        audit_id="1-2",
    )
    log.record(request)
    log.record(replace(request, info=parse_request("GET", REFUSED_EXEC, ""), target=REFUSED_EXEC, status=101))
    log.record(replace(request, status=403, cause="not_allowed", role="connectors-credentials", audit_id=""))
    stranger = Record(
        event="connect", connector=None, status=407, source_ip="192.0.2.1", duration=0, cause="credentials"
    )
    for _ in range(3):
        log.record(stranger)
    for _ in range(3):
        log.record(request)
    log.flush()
    return "".join(texts).splitlines()


def assert_matches(schema: Mapping[str, Any], value: Any, place: str) -> None:
    """Assert that the value has all properties of the schema, no others, and their types."""
    if "enum" in schema:
        assert value in schema["enum"], place
        return
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    assert any(isinstance(value, TYPES[name]) for name in names), place
    if isinstance(value, dict):
        assert value.keys() == schema["properties"].keys(), place
        assert sorted(schema["required"]) == sorted(value), place
        for name, member in value.items():
            assert_matches(schema["properties"][name], member, f"{place}.{name}")
    if isinstance(value, list):
        for member in value:
            assert_matches(schema["items"], member, place)


def test_the_schema_has_the_fields_of_every_audit_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(each) for each in audit_lines(monkeypatch)]
    for line in lines:
        assert_matches(DEFINITIONS["note" if "lines" in line else "record"], line, line["event"])
    notes = DEFINITIONS["note"]["properties"]["event"]["enum"]
    assert {each["event"] for each in lines} == {"connect", "request", *notes}
    assert {each["caller"] is None for each in lines if "caller" in each} == {True, False}


def test_the_schema_has_every_event_of_a_record() -> None:
    assert DEFINITIONS["record"]["properties"]["event"]["enum"] == list(get_args(get_type_hints(Record)["event"]))


def test_each_claim_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (\[.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, CLAIM_COUNT + 1))
    for number, tests in rows:
        for file_and_tests in tests.split("; "):
            match = re.fullmatch(r"\[.*\]\((.+)\), (`test_\w+`(?:, `test_\w+`)*)", file_and_tests)
            assert match, number
            source = (PAGE.parent / match[1]).read_text()
            names = re.findall(r"`(\w+)`", match[2])
            assert [name for name in names if f"def {name}(" not in source] == [], number


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed; install it with: scripts/install --node")
def test_each_jq_command_of_the_page_prints_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"^```sh\n(jq .*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "proxy.log").write_text("a line of mitmproxy\n" + "\n".join(audit_lines(monkeypatch)) + "\n")
    commands = re.split(r"(?<=proxy\.log)\n", block.strip())
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout, command
