import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.decision.warning import (
    MAX_WARNING,
    dry_run_warning,
    expiry_warning_text,
    warning_header,
)
from connector_store.domain.objects.models import Address, Target

HOUR = 3600.0
DAY = 24 * HOUR
QUOTED = re.compile(rb'299 kubernetes-connector "((?:[^"\\]|\\["\\])*)"')
"""Format that ParseWarningHeader of k8s.io/apimachinery accepts."""


def target(
    secret_name: str | None = "target-token", *, expires_at: float | None = None, issued_at: float | None = None
) -> Target:
    return Target(
        key=ObjectKey("team-a", "k8s"),
        uid="",
        address=Address(host="t", port=6443),
        credential=Credential(b"Bearer t", expires_at, issued_at),
        secret_name=secret_name,
        ca=None,
    )


def read(value: bytes) -> str:
    """Return the text that a client prints."""
    match = QUOTED.fullmatch(value)
    assert match is not None, value
    return re.sub(rb"\\(.)", rb"\1", match[1]).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("renew Secret k8s", "renew Secret k8s", id="a plain sentence"),
        pytest.param('secrets "a" not found', 'secrets "a" not found', id="quotes are kept"),
        pytest.param("a\\b", "a\\b", id="a backslash is kept"),
        pytest.param("a\r\nSet-Cookie: x", "a??Set-Cookie: x", id="a line end does not begin a header"),
        pytest.param("Größe", "Gr??e", id="non-ASCII is replaced"),
        pytest.param("x" * 229, "x" * 229, id="as long as fits"),
        pytest.param("x" * 230, "x" * 226 + "...", id="a byte too long"),
        pytest.param('"' * 200, '"' * 113 + "...", id="truncated between escapes"),
        pytest.param("x" * 9000, "x" * 226 + "...", id="much too long"),
    ],
)
def test_a_warning_is_one_quoted_line(text: str, expected: str) -> None:
    name, value = warning_header(text)
    assert (name, read(value)) == (b"Warning", expected)


@given(st.text())
def test_every_warning_can_be_parsed_and_is_short(text: str) -> None:
    _, value = warning_header(text)
    assert len(value) <= MAX_WARNING
    assert all(0x20 <= byte <= 0x7E for byte in value)
    printed = read(value)
    assert printed.endswith("...") or len(printed) == len(text)


@pytest.mark.parametrize(
    ("remaining", "message"),
    [
        pytest.param(DAY + 1, None, id="later than the time to warn"),
        pytest.param(DAY, "expires in 24 h", id="just at the time to warn"),
        pytest.param(3.9 * HOUR, "expires in 3 h", id="hours are rounded down"),
        pytest.param(90 * 60, "expires in 90 min", id="less than two hours"),
        pytest.param(119, "expires in 119 s", id="less than two minutes"),
        pytest.param(0, "has expired", id="just now"),
        pytest.param(-HOUR, "has expired", id="an hour ago"),
    ],
)
def test_a_credential_that_expires_soon_gets_a_warning(remaining: float, message: str | None) -> None:
    text = expiry_warning_text(target(expires_at=1e9 + remaining), now=1e9, expiry_warning=DAY)
    assert text == (message and f"the credential of Connector team-a/k8s {message}; renew Secret target-token")


def test_long_durations_are_in_days() -> None:
    text = expiry_warning_text(target(None, expires_at=1e9 + 6 * DAY), now=1e9, expiry_warning=7 * DAY)
    assert text == "the credential of Connector team-a/k8s expires in 6 d"


@pytest.mark.parametrize(
    ("lifetime", "remaining", "warns"),
    [
        pytest.param(2 * HOUR, 25 * 60, False, id="two hours, before the last fifth"),
        pytest.param(2 * HOUR, 24 * 60, True, id="two hours, in the last fifth"),
        pytest.param(365 * DAY, DAY + 1, False, id="a year, before the last day"),
        pytest.param(365 * DAY, DAY, True, id="a year, on the last day"),
    ],
)
def test_a_short_lived_credential_gets_a_warning_in_the_last_fifth_of_its_life(
    lifetime: float, remaining: float, warns: bool
) -> None:
    expires_at = 1e9 + remaining
    text = expiry_warning_text(
        target(expires_at=expires_at, issued_at=expires_at - lifetime), now=1e9, expiry_warning=DAY
    )
    assert (text is not None) is warns


def test_a_credential_without_an_expiry_gets_no_warning() -> None:
    assert expiry_warning_text(target(), now=1e9, expiry_warning=DAY) is None


def test_a_dry_run_says_that_nothing_was_changed() -> None:
    name, value = dry_run_warning(ObjectKey("team-a", "prod"))
    assert name == b"Warning"
    assert b"nothing was changed: Connector team-a/prod allows dry runs only" in value
