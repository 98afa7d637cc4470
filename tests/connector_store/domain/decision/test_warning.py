import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.warning import (
    MAX_WARNING,
    expiry_warning_text,
    permissions_warning,
    warning_header,
)
from connector_store.domain.objects.models import Address, Target

HOUR = 3600.0
DAY = 24 * HOUR
QUOTED = re.compile(rb'299 kubernetes-connector "((?:[^"\\]|\\["\\])*)"')
"""As ParseWarningHeader of k8s.io/apimachinery reads it."""


def target(secret_name: str | None = "target-token") -> Target:
    return Target(
        key=ObjectKey("team-a", "k8s"),
        uid="",
        address=Address(host="t", port=6443),
        credential=None,
        secret_name=secret_name,
        ca=None,
    )


def read(value: bytes) -> str:
    """What a client prints."""
    match = QUOTED.fullmatch(value)
    assert match is not None, value
    return re.sub(rb"\\(.)", rb"\1", match[1]).decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("renew Secret k8s", "renew Secret k8s", id="a sentence as it is"),
        pytest.param('secrets "a" not found', 'secrets "a" not found', id="quotes come through"),
        pytest.param("a\\b", "a\\b", id="a backslash comes through"),
        pytest.param("a\r\nSet-Cookie: x", "a??Set-Cookie: x", id="a line end begins no header"),
        pytest.param("Größe", "Gr??e", id="what is not ASCII is left out"),
        pytest.param("x" * 229, "x" * 229, id="as long as fits"),
        pytest.param("x" * 230, "x" * 226 + "...", id="a byte too long"),
        pytest.param('"' * 200, '"' * 113 + "...", id="cut between escapes"),
        pytest.param("x" * 9000, "x" * 226 + "...", id="much too long"),
    ],
)
def test_a_warning_is_one_quoted_line(text: str, shown: str) -> None:
    name, value = warning_header(text)
    assert (name, read(value)) == (b"Warning", shown)


@given(st.text())
def test_for_every_text_the_value_can_be_read_and_is_short(text: str) -> None:
    _, value = warning_header(text)
    assert len(value) <= MAX_WARNING
    assert all(0x20 <= each <= 0x7E for each in value)
    shown = read(value)
    assert shown.endswith("...") or len(shown) == len(text)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        pytest.param(DAY + 1, None, id="later than the time to warn"),
        pytest.param(DAY, "ends in 24 h", id="just at the time to warn"),
        pytest.param(3.9 * HOUR, "ends in 3 h", id="hours are rounded down"),
        pytest.param(90 * 60, "ends in 90 min", id="less than two hours"),
        pytest.param(119, "ends in 119 s", id="less than two minutes"),
        pytest.param(0, "has ended", id="just now"),
        pytest.param(-HOUR, "has ended", id="an hour ago"),
    ],
)
def test_a_credential_that_ends_soon_is_said(left: float, says: str | None) -> None:
    found = expiry_warning_text(target(), expires_at=1e9 + left, now=1e9, expiry_warning=DAY)
    assert found == (says and f"the credential of Connector team-a/k8s {says}; renew Secret target-token")


def test_a_long_time_to_warn_is_counted_in_days() -> None:
    found = expiry_warning_text(target(None), expires_at=1e9 + 6 * DAY, now=1e9, expiry_warning=7 * DAY)
    assert found == "the credential of Connector team-a/k8s ends in 6 d"


def test_a_review_of_oneself_is_said_to_be_of_the_credential() -> None:
    name, value = permissions_warning(ObjectKey("team-a", "prod"))
    assert name == b"Warning"
    assert read(value) == (
        "Connector team-a/prod lends less than the target says here of its credential; see: connectorctl can-i VERB "
        "RESOURCE --connector team-a/prod, or: kubectl get connector prod -n team-a -o yaml"
    )
