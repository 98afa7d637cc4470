"""The conditions table of the API page: one good Connector, and one change for each row."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.objects.builtin import K8S
from connector_store.domain.status.conditions import (
    MAX_MESSAGE,
    Assessment,
    ProbeFailure,
    ProbeOutcomes,
    ProbeResponse,
    assess,
    next_status,
    not_served,
)
from connector_store.domain.status.facts import gather_facts
from connector_store.domain.status.http_address import HttpAddress
from connector_store.domain.status.serving import namespace_not_configured
from connector_store.domain.status.status import Condition, Status
from tests.connector_store.domain.status.conditions_table import CONNECTOR, GOOD, ROWS, SECRET, WELL

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def findings(
    connector=CONNECTOR,
    cls=K8S,
    secrets=(SECRET,),
    shared_ca=None,
    probes: ProbeOutcomes | None = WELL,
    service=GOOD,
    roles=(),
):
    facts = gather_facts(
        connector, cls, {each.key: each for each in secrets}.get, shared_ca, {each.name: each for each in roles}.get
    )
    return assess(facts, probes, service, now=NOW.timestamp(), expiry_warning=86400.0)


@pytest.mark.parametrize(("change", "kind", "holds", "reason", "says", "ready"), ROWS)
def test_rows(change, kind, holds, reason, says, ready) -> None:
    found = findings(**change)
    assert (found[kind].holds, found[kind].reason) == (holds, reason)
    for text in says:
        assert text in found[kind].message
    if ready == "same":
        assert found["Ready"] == found[kind]
    elif ready == "yes":
        assert found["Ready"] == GOOD
    else:
        assert found["Ready"].holds is not True


def test_a_false_condition_is_named_before_an_unknown_one() -> None:
    broken = Assessment(holds=False, reason="NameNotAllowed", message="too long")
    assert findings(probes=None, service=broken)["Ready"] == broken


@given(
    st.sampled_from(["", "cls", "secrets", "probes", "service"]),
    st.sampled_from([None, ProbeFailure(message="x"), *(ProbeResponse(status=code) for code in (200, 401, 503))]),
    st.sampled_from([None, *(ProbeResponse(status=code) for code in (200, 302, 401, 429))]),
)
def test_for_every_state_ready_is_the_and_of_the_counted_ones(broken, liveness, auth) -> None:
    changes: dict[str, dict[str, Any]] = {
        "cls": {"cls": None},
        "secrets": {"secrets": ()},
        "service": {"service": Assessment(holds=False, reason="ProxyServiceConflict")},
        "probes": {"probes": None},
    }
    found = findings(**{"probes": ProbeOutcomes(liveness=liveness, auth=auth), **changes.get(broken, {})})
    counted = [each.holds for kind, each in found.items() if kind not in ("Ready", "CACertReady", "CredentialFresh")]
    expected = False if False in counted else None if None in counted else True
    assert found["Ready"].holds is expected


def condition(of: Status, kind: str) -> Condition:
    return next(each for each in of.conditions if each.type == kind)


def status(found, old=Status(), now=NOW, generation=1, proxy=None) -> Status:  # noqa: B008 - a frozen value
    return next_status(found, old, generation=generation, proxy=proxy, now=now)


def test_the_first_status_carries_all_conditions_generation_and_address() -> None:
    address = HttpAddress(url="http://c-k8s.team-a.svc.cluster.local", ca=b"pem")
    first = status(findings(), proxy=address, generation=4)
    assert [each.type for each in first.conditions] == [
        "ConnectorClassReady",
        "SecretReady",
        "PermissionsReady",
        "CACertReady",
        "CredentialFresh",
        "LivenessReady",
        "AuthReady",
        "ProxyServiceReady",
        "Ready",
    ]
    assert {each.last_transition_time for each in first.conditions} == {"2026-01-02T03:04:05Z"}
    assert [each.type for each in first.conditions if each.severity == "Info"] == ["CACertReady", "CredentialFresh"]
    assert (first.observed_generation, first.proxy) == (4, address)


def test_the_end_of_the_credential_is_shown_in_whole_seconds() -> None:
    shown = next_status(findings(), Status(), generation=1, proxy=None, credential_expires_at=7.9, now=NOW)
    assert shown.credential_expires_at == 7.0
    assert status(findings()).credential_expires_at is None


def test_nothing_new_gives_an_equal_status_however_late() -> None:
    first = status(findings())
    assert status(findings(), first, now=NOW.replace(year=2027)) == first


def test_the_transition_time_moves_with_the_status_and_not_with_the_reason() -> None:
    later = NOW.replace(hour=9)
    first = status(findings())
    second = status(findings(secrets=()), first, now=later)
    assert condition(second, "SecretReady").last_transition_time == "2026-01-02T09:04:05Z"
    assert condition(second, "ConnectorClassReady").last_transition_time == "2026-01-02T03:04:05Z"
    third = status(findings(secrets=(replace(SECRET, credential=None),)), second, now=later.replace(hour=11))
    assert condition(third, "SecretReady").reason == "SecretKeyMissing"
    assert condition(third, "SecretReady").last_transition_time == "2026-01-02T09:04:05Z"


def test_a_condition_without_a_time_gets_one() -> None:
    old = Status(conditions=(Condition(type="Ready", status="True"),))
    assert condition(status(findings(), old), "Ready").last_transition_time == "2026-01-02T03:04:05Z"


def test_other_controllers_conditions_are_kept() -> None:
    theirs = Condition(type="Approved", status="True", last_transition_time="2020-01-01T00:00:00Z")
    assert status(findings(), Status(conditions=(theirs,))).condition("Approved") == theirs


def test_a_long_message_is_cut() -> None:
    found = findings(service=Assessment(holds=False, reason="ProxyServiceNotFound", message="x" * 5000))
    assert len(condition(status(found), "ProxyServiceReady").message) == MAX_MESSAGE


@pytest.mark.parametrize(
    ("probes", "well"),
    [
        pytest.param(ProbeOutcomes(), True, id="nothing was asked"),
        pytest.param(
            ProbeOutcomes(liveness=ProbeResponse(status=401), auth=ProbeResponse(status=200)),
            True,
            id="alive and accepted",
        ),
        pytest.param(ProbeOutcomes(liveness=ProbeResponse(status=500)), False, id="a broken target"),
        pytest.param(ProbeOutcomes(liveness=ProbeFailure(message="gone")), False, id="no target"),
        pytest.param(ProbeOutcomes(auth=ProbeResponse(status=401)), False, id="a refused credential"),
        pytest.param(ProbeOutcomes(auth=ProbeFailure(message="gone")), False, id="no answer about the credential"),
    ],
)
def test_a_target_is_well_that_answers_all_that_it_was_asked(probes: ProbeOutcomes, well: bool) -> None:
    assert probes.is_healthy is well


def test_of_what_is_not_served_nothing_else_is_said() -> None:
    found = not_served(namespace_not_configured("team-a"))
    assert found.keys() == {"Served", "Ready"}
    assert {(each.holds, each.reason) for each in found.values()} == {(False, "NamespaceNotServed")}
