"""Audit lines: all fields and nothing else."""

import json
from dataclasses import replace

import pytest

from addons.records import audit
from addons.records.audit import AuditLog, LineFormat
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity

TARGET = "/api/v1/namespaces/web/pods/a/exec?command=ls&command=-l&stdin=true"
EXCHANGE = Record(
    event="request",
    connector=ObjectKey("team-a", "k8s"),
    status=101,
    source_ip="10.0.0.7",
    duration=0.01234,
    identity=Identity(
        user="system:serviceaccount:team-a:ci",
        uid="u-1",
        groups=("system:authenticated",),
        extra={
            "authentication.kubernetes.io/pod-name": ("ci-1",),
            "authentication.kubernetes.io/node-name": ("node-1",),
        },
    ),
    info=parse_request("POST", TARGET, ""),
    target=TARGET,
    user_agent="kubectl/v1.37.2",
    bytes_in=3,
    bytes_out=5,
    role="view",
    audit_id="1-2",
    access_request="team-a/r",
    approved_by=("joe", "sue"),
    treatment="dry_run",
)

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"


class Output:
    def __init__(self, *, commands: bool = True, form: LineFormat = "json") -> None:
        self.text = ""
        self.woken = 0
        self.log = AuditLog(
            self.write, now=lambda: 1_700_000_000.5, commands=commands, schedule_flush=self.wake, line_format=form
        )

    def write(self, text: str) -> None:
        self.text += text

    def wake(self) -> None:
        self.woken += 1

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(each) for each in self.text.splitlines()]


def test_a_request_has_every_field() -> None:
    output = Output()
    output.log.record(EXCHANGE)
    output.log.flush()
    assert output.lines() == [
        {
            "time": "2023-11-14T22:13:20.500Z",
            "event": "request",
            "connector": "team-a/k8s",
            "caller": {
                "user": "system:serviceaccount:team-a:ci",
                "groups": ["system:authenticated"],
                "pod": "ci-1",
                "node": "node-1",
                "uid": "u-1",
            },
            "source_ip": "10.0.0.7",
            "verb": "create",
            "group": "",
            "resource": "pods",
            "subresource": "exec",
            "namespace": "web",
            "name": "a",
            "path": "/api/v1/namespaces/web/pods/a/exec?command=ls&command=-l&stdin",
            "status": 101,
            "reason": "",
            "detail": "",
            "message": "",
            "role": "view",
            "audit_id": "1-2",
            "access_request": "team-a/r",
            "approved_by": ["joe", "sue"],
            "treatment": "dry_run",
            "bytes_in": 3,
            "bytes_out": 5,
            "duration_ms": 12.3,
            "user_agent": "kubectl/v1.37.2",
        }
    ]


def test_a_refused_connect_has_the_same_fields_without_values() -> None:
    output = Output()
    output.log.record(
        Record(event="connect", connector=None, status=407, source_ip="::1", duration=0.0, cause="credentials")
    )
    output.log.record(EXCHANGE)
    output.log.flush()
    refused, whole = output.lines()
    assert refused.keys() == whole.keys()
    assert (refused["caller"], refused["connector"], refused["verb"]) == (None, None, "")
    assert (refused["status"], refused["reason"]) == (407, "credentials")


def test_a_line_says_why_the_caller_was_not_checked() -> None:
    output = Output()
    output.log.record(
        Record(
            event="connect",
            connector=None,
            status=503,
            source_ip="::1",
            duration=0.0,
            cause="unavailable",
            detail="too_many_reviews",
        )
    )
    output.log.flush()
    [line] = output.lines()
    assert (line["reason"], line["detail"]) == ("unavailable", "too_many_reviews")


@pytest.mark.parametrize(
    ("message", "written"),
    [
        pytest.param('renew Secret "k8s"', 'renew Secret "k8s"', id="a sentence"),
        pytest.param("a\nb\x1b[2J\u2028", "a?b?[2J?", id="characters that a terminal obeys"),
        pytest.param("x" * 600, "x" * 512, id="a long one"),
        pytest.param(f"the token {TOKEN} is bad", "the token ... is bad", id="a token"),
    ],
)
def test_a_refusals_sentence_is_bounded_and_printable(message: str, written: str) -> None:
    output = Output()
    output.log.record(replace(EXCHANGE, status=403, cause="access", message=message))
    output.log.flush()
    assert output.lines()[0]["message"] == written


def test_commands_are_omitted_if_disabled() -> None:
    output = Output(commands=False)
    output.log.record(EXCHANGE)
    output.log.flush()
    assert output.lines()[0]["path"] == "/api/v1/namespaces/web/pods/a/exec?command&command&stdin"


@pytest.mark.parametrize("text", ['"}\n{"event":"forged"', "\x1b[2J", "\u2028", "\udc80"])
def test_nothing_that_is_sent_can_forge_a_line(text: str) -> None:
    output = Output()
    output.log.record(replace(EXCHANGE, user_agent=text, target="/" + text))
    output.log.flush()
    assert len(output.text.splitlines()) == 1
    assert output.lines()[0]["user_agent"] == text
    assert output.text.isascii()


def test_a_batch_is_scheduled_once_and_written_in_one_piece() -> None:
    output = Output()
    output.log.flush()
    for _ in range(3):
        output.log.record(EXCHANGE)
    assert (output.woken, output.text) == (1, "")
    output.log.flush()
    output.log.record(EXCHANGE)
    assert (output.woken, len(output.lines())) == (2, 3)


def test_dropped_lines_are_counted_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_PENDING_LINES", 2)
    output = Output()
    for _ in range(5):
        output.log.record(EXCHANGE)
    output.log.flush()
    *written, told = output.lines()
    assert (len(written), output.log.dropped_count) == (2, 3)
    assert (told["event"], told["lines"], told["reason"]) == ("lost", 3, "the audit log was not read in time")
    output.log.record(EXCHANGE)
    output.log.flush()
    assert len(output.lines()) == 4


def test_pending_lines_are_bounded_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output()
    output.log.record(EXCHANGE)
    output.log.flush()
    monkeypatch.setattr(audit, "MAX_PENDING_CHARACTERS", 2 * len(output.text) - 2)
    for _ in range(3):
        output.log.record(EXCHANGE)
    assert output.log.dropped_count == 1


def test_the_log_is_full_before_lines_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_PENDING_LINES", 4)
    output = Output()
    output.log.record(EXCHANGE)
    assert not output.log.is_full
    output.log.record(EXCHANGE)
    assert output.log.is_full
    output.log.flush()
    assert not output.log.is_full


@pytest.mark.parametrize("form", ["json", "text"])
def test_refusals_of_unauthenticated_clients_are_rate_limited_and_counted(form: LineFormat) -> None:
    output = Output(form=form)
    stranger = replace(EXCHANGE, identity=None, event="connect", status=407)
    for _ in range(int(audit.UNAUTHENTICATED_BURST) + 7):
        output.log.record(stranger)
    output.log.record(EXCHANGE)
    output.log.flush()
    *written, told = output.text.splitlines()
    assert len(written) == audit.UNAUTHENTICATED_BURST + 1
    assert "7" in told
    assert "omitted" in told
    assert output.log.dropped_count == 0


def test_omitted_lines_are_reported_without_further_records() -> None:
    output = Output()
    for _ in range(int(audit.UNAUTHENTICATED_BURST)):
        output.log.record(replace(EXCHANGE, identity=None))
    output.log.flush()
    output.log.record(replace(EXCHANGE, identity=None))
    assert output.woken == 2
    output.log.flush()
    assert output.lines()[-1]["lines"] == 1


def test_a_token_in_a_user_agent_is_not_written() -> None:
    output = Output()
    output.log.record(replace(EXCHANGE, user_agent="curl eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"))
    output.log.flush()
    assert output.lines()[0]["user_agent"] == "curl ..."


def test_a_long_target_is_written_and_not_cached() -> None:
    output = Output()
    target = TARGET + "&command=" + "a" * 5000
    output.log.record(replace(EXCHANGE, target=target))
    output.log.flush()
    assert "a" * 5000 in output.text
    assert audit._request_members.cache_info().currsize <= audit.CACHE_SIZE
    assert len(target) > audit.MAX_TEXT
