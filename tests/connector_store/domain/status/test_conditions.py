"""The conditions table of the API page: one good Connector, and one change for each row."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.objects.builtin import K8S
from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES, CREDENTIALS_ROLE, SHIPPED_ROLES
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.restrictions import Restrictions
from connector_store.domain.status.conditions import (
    MASK_COMPLETE,
    MAX_MESSAGE,
    PERMISSIONS_EFFECTIVE,
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
from tests.connector_store.domain.status.conditions_table import CONNECTOR, GOOD, HEALTHY, ROWS, SECRET

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def assess_with(
    connector=CONNECTOR,
    cls=K8S,
    secrets=(SECRET,),
    shared_ca=None,
    probes: ProbeOutcomes | None = HEALTHY,
    service=GOOD,
    roles=(),
):
    facts = gather_facts(
        connector,
        cls,
        {secret.key: secret for secret in secrets}.get,
        shared_ca,
        {role.name: role for role in roles}.get,
    )
    return assess(facts, probes, service, now=NOW.timestamp(), expiry_warning=86400.0)


@pytest.mark.parametrize(("change", "kind", "holds", "reason", "message_parts", "ready"), ROWS)
def test_rows(change, kind, holds, reason, message_parts, ready) -> None:
    assessments = assess_with(**change)
    assert (assessments[kind].holds, assessments[kind].reason) == (holds, reason)
    for text in message_parts:
        assert text in assessments[kind].message
    if ready == "same":
        assert assessments["Ready"] == assessments[kind]
    elif ready == "yes":
        assert assessments["Ready"] == GOOD
    else:
        assert assessments["Ready"].holds is not True


def test_a_mask_has_a_condition_that_names_the_ways_around_it() -> None:
    permissions = Permissions(allow=None, restrictions=Restrictions(masks_secrets=True))
    masked = replace(CONNECTOR, permissions=permissions)
    assert MASK_COMPLETE not in assess_with()
    assessment = assess_with(connector=masked)[MASK_COMPLETE]
    assert (assessment.holds, assessment.reason) == (False, "WaysAround")
    assert "spec.permissions.deny: connectors-credentials-issuing (tokens and certificates), " in assessment.message
    assert assess_with(connector=masked)["Ready"] == GOOD
    denied = replace(permissions, deny=(RoleEntry(cluster_role=CREDENTIALS_ROLE),))
    complete = assess_with(connector=replace(masked, permissions=denied), roles=(SHIPPED_ROLES[CREDENTIALS_ROLE],))
    assert complete[MASK_COMPLETE].holds is True
    condition = next_status(complete, Status(), generation=1, proxy=None, now=NOW).condition(MASK_COMPLETE)
    assert condition is not None
    assert condition.severity == "Info"


def test_fields_that_do_not_work_together_have_a_condition() -> None:
    edit = (RoleEntry(cluster_role="edit"),)
    planned = replace(
        CONNECTOR, permissions=Permissions(allow=edit, restrictions=Restrictions(dry_run=True, masks_secrets=True))
    )
    assert PERMISSIONS_EFFECTIVE not in assess_with()
    assessment = assess_with(connector=planned, roles=(BUILTIN_ROLES["edit"],))[PERMISSIONS_EFFECTIVE]
    assert (assessment.holds, assessment.reason) == (False, "FieldsConflict")
    assert "writes of Secrets, which edit of allow covers; dryRun refuses exec" in assessment.message
    view = replace(
        CONNECTOR,
        permissions=Permissions(allow=(RoleEntry(cluster_role="view"),), restrictions=Restrictions(dry_run=True)),
    )
    assert assess_with(connector=view, roles=(BUILTIN_ROLES["view"],))[PERMISSIONS_EFFECTIVE].holds is True


def test_ready_prefers_a_false_condition_to_an_unknown_one() -> None:
    broken = Assessment(holds=False, reason="NameNotAllowed", message="too long")
    assert assess_with(probes=None, service=broken)["Ready"] == broken


@given(
    st.sampled_from(["", "cls", "secrets", "probes", "service"]),
    st.sampled_from([None, ProbeFailure(message="x"), *(ProbeResponse(status=code) for code in (200, 401, 503))]),
    st.sampled_from([None, *(ProbeResponse(status=code) for code in (200, 302, 401, 429))]),
)
def test_for_every_state_ready_is_the_conjunction_of_the_counted_conditions(broken, liveness, auth) -> None:
    changes: dict[str, dict[str, Any]] = {
        "cls": {"cls": None},
        "secrets": {"secrets": ()},
        "service": {"service": Assessment(holds=False, reason="ProxyServiceConflict")},
        "probes": {"probes": None},
    }
    assessments = assess_with(**{"probes": ProbeOutcomes(liveness=liveness, auth=auth), **changes.get(broken, {})})
    counted = [
        each.holds for kind, each in assessments.items() if kind not in ("Ready", "CACertReady", "CredentialFresh")
    ]
    expected = False if False in counted else None if None in counted else True
    assert assessments["Ready"].holds is expected


def condition(of: Status, kind: str) -> Condition:
    return next(condition for condition in of.conditions if condition.type == kind)


def status(assessments, old=Status(), now=NOW, generation=1, proxy=None) -> Status:  # noqa: B008 - a frozen value
    return next_status(assessments, old, generation=generation, proxy=proxy, now=now)


def test_the_first_status_has_all_conditions_generation_and_address() -> None:
    address = HttpAddress(url="http://c-k8s.team-a.svc.cluster.local", ca=b"pem")
    first = status(assess_with(), proxy=address, generation=4)
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


def test_the_credential_expiry_is_in_whole_seconds() -> None:
    result = next_status(assess_with(), Status(), generation=1, proxy=None, credential_expires_at=7.9, now=NOW)
    assert result.credential_expires_at == 7.0
    assert status(assess_with()).credential_expires_at is None


def test_without_changes_the_status_stays_equal() -> None:
    first = status(assess_with())
    assert status(assess_with(), first, now=NOW.replace(year=2027)) == first


def test_the_transition_time_changes_with_the_status_and_not_with_the_reason() -> None:
    later = NOW.replace(hour=9)
    first = status(assess_with())
    second = status(assess_with(secrets=()), first, now=later)
    assert condition(second, "SecretReady").last_transition_time == "2026-01-02T09:04:05Z"
    assert condition(second, "ConnectorClassReady").last_transition_time == "2026-01-02T03:04:05Z"
    third = status(assess_with(secrets=(replace(SECRET, credential=None),)), second, now=later.replace(hour=11))
    assert condition(third, "SecretReady").reason == "SecretKeyMissing"
    assert condition(third, "SecretReady").last_transition_time == "2026-01-02T09:04:05Z"


def test_a_condition_without_a_time_gets_one() -> None:
    old = Status(conditions=(Condition(type="Ready", status="True"),))
    assert condition(status(assess_with(), old), "Ready").last_transition_time == "2026-01-02T03:04:05Z"


def test_each_condition_has_the_generation_that_it_is_about() -> None:
    first = status(assess_with(), generation=3)
    assert {each.observed_generation for each in first.conditions} == {3}
    assert {each.observed_generation for each in status(assess_with(), first, generation=4).conditions} == {4}


def test_definitions_that_drop_the_generation_of_conditions_cause_no_endless_writes() -> None:
    written = status(assess_with())
    read = replace(written, conditions=tuple(replace(each, observed_generation=0) for each in written.conditions))
    assert status(assess_with(), read) == read
    changed = status(assess_with(secrets=()), read)
    assert condition(changed, "SecretReady").observed_generation == changed.observed_generation


def test_other_controllers_conditions_stay_unchanged() -> None:
    foreign = Condition(type="Approved", status="True", last_transition_time="2020-01-01T00:00:00Z")
    assert status(assess_with(), Status(conditions=(foreign,))).condition("Approved") == foreign


def test_a_long_message_is_truncated() -> None:
    assessments = assess_with(service=Assessment(holds=False, reason="ProxyServiceNotFound", message="x" * 5000))
    assert len(condition(status(assessments), "ProxyServiceReady").message) == MAX_MESSAGE


def test_a_message_has_printable_characters_only() -> None:
    assessments = assess_with(service=Assessment(holds=False, reason="ProxyServiceNotFound", message="role \x1b\nb"))
    assert condition(status(assessments), "ProxyServiceReady").message == "role ??b"


@pytest.mark.parametrize(
    ("probes", "failed_probe"),
    [
        pytest.param(ProbeOutcomes(), "", id="no probes"),
        pytest.param(
            ProbeOutcomes(liveness=ProbeResponse(status=401), auth=ProbeResponse(status=200)),
            "",
            id="alive and accepted",
        ),
        pytest.param(ProbeOutcomes(liveness=ProbeResponse(status=500)), "liveness", id="a broken target"),
        pytest.param(ProbeOutcomes(liveness=ProbeFailure(message="unreachable")), "liveness", id="no target"),
        pytest.param(ProbeOutcomes(auth=ProbeResponse(status=401)), "auth", id="a refused credential"),
        pytest.param(
            ProbeOutcomes(auth=ProbeFailure(message="unreachable")), "auth", id="no response about the credential"
        ),
    ],
)
def test_the_first_failed_probe_is_reported(probes: ProbeOutcomes, failed_probe: str) -> None:
    assert probes.failed_probe == failed_probe


def test_a_connector_that_is_not_served_has_no_other_conditions() -> None:
    assessments = not_served(namespace_not_configured("team-a"))
    assert assessments.keys() == {"Served", "Ready"}
    assert {(each.holds, each.reason) for each in assessments.values()} == {(False, "NamespaceNotServed")}
