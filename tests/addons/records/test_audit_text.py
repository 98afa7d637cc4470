"""Text format of audit records."""

from dataclasses import replace

import pytest

from addons.records.audit_text import format_text
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity

KEY = ObjectKey("team-a", "k8s")
WHO = Identity(user="ci", uid="", groups=(), extra={})


def record(method: str, target: str, **changes: object) -> Record:
    base = Record(
        event="request", connector=KEY, status=200, source_ip="10.0.0.7", duration=0.0124, identity=WHO,
        info=parse_request(method, target, ""), target=target,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]  # any field may be given


@pytest.mark.parametrize(
    ("exchange", "text"),
    [
        pytest.param(record("GET", "/api/v1/namespaces/web/pods/a/log"),
                     "200 team-a/k8s get pods/log web/a (12 ms) by ci", id="a subresource"),
        pytest.param(record("GET", "/api/v1/nodes?limit=5"), "200 team-a/k8s list nodes (12 ms) by ci", id="a list"),
        pytest.param(record("GET", "/version"), "200 team-a/k8s request /version (12 ms) by ci", id="no resource"),
        pytest.param(record("GET", "/api/v1/pods?watch=1", event="stream", duration=61.0, cause="the proxy ends"),
                     "200 team-a/k8s end of watch pods (61 s) by ci: the proxy ends", id="the end of a stream"),
        pytest.param(record("POST", "/api/v1/namespaces/web/pods/a/exec?tty=1&command=ls&command=-l", status=101),
                     "101 team-a/k8s create pods/exec web/a command=ls command=-l (12 ms) by ci", id="an exec"),
        pytest.param(Record(event="connect", connector=None, status=407, source_ip="::1", duration=0.0,
                            target="a:b@h:443", cause="token"),
                     "407 - connect h:443 (0 ms) from ::1: token", id="a stranger"),
        pytest.param(record("GET", "/api/v1/nodes", status=502, cause="timeout", message="no answer\n" + "x" * 600),
                     "502 team-a/k8s list nodes (12 ms) by ci: timeout: no answer?" + "x" * 502, id="a refusal"),
        pytest.param(Record(event="connect", connector=None, status=0, source_ip="::1", duration=0.0,
                            cause="a\nb\x1b[2J"),
                     "- - connect (0 ms) from ::1: a?b?[2J", id="nothing of it draws on the terminal"),
    ],
)  # fmt: skip
def test_a_line(exchange: Record, text: str) -> None:
    clock, _, rest = format_text(exchange, now=1_700_000_000.5, commands=True).partition(" ")
    assert len(clock.split(":")) == 3
    assert rest == text


def test_commands_are_omitted_if_disabled() -> None:
    shown = format_text(record("POST", "/api/v1/namespaces/web/pods/a/exec?command=ls"), now=0, commands=False)
    assert "ls" not in shown
