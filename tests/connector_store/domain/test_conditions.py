"""The conditions table of the API page: one good Connector, and one change for each row."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.builtin import K8S
from connector_store.domain.conditions import (
    MAX_MESSAGE,
    Answered,
    Finding,
    Probes,
    Unreachable,
    assess,
    next_status,
)
from connector_store.domain.facts import gather
from connector_store.domain.models import BEARER_TOKEN_SECRET, Address, Connector, Credential, Rejected, Secret
from connector_store.domain.names import ObjectKey
from connector_store.domain.published import HttpAddress
from connector_store.domain.status import Condition, Status

CONNECTOR = Connector(
    key=ObjectKey("team-a", "k8s"),
    class_name="k8s",
    address=Address(host="h", port=6443),
    auth_name="bearerTokenAuth",
    secret_name="s",
)
SECRET = Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET, token=Credential("t"))
OPTIONAL = replace(K8S, auth_types=(replace(K8S.auth_types[0], optional=True),))
WELL = Probes(liveness=Answered(status=200), auth=Answered(status=200))
GOOD = Finding(holds=True)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def findings(
    connector=CONNECTOR, cls=K8S, secrets=(SECRET,), shared_ca=None, probes: Probes | None = WELL, service=GOOD
):
    facts = gather(connector, cls, {each.key: each for each in secrets}.get, shared_ca)
    return assess(facts, probes, service)


def rejected(reason: str) -> Rejected:
    return Rejected(key=CONNECTOR.key, class_name="k8s", reason=reason, message="spec.x: write it so")


def probed(liveness=WELL.liveness, auth=WELL.auth):
    return {"probes": Probes(liveness=liveness, auth=auth)}


def row(change, kind, holds, reason, *says, ready="same", id):
    return pytest.param(change, kind, holds, reason, says, ready, id=id)


@pytest.mark.parametrize(
    ("change", "kind", "holds", "reason", "says", "ready"),
    [
        row({}, "ConnectorClassReady", True, "", ready="yes", id="the class is there"),
        row({}, "SecretReady", True, "", ready="yes", id="the Secret is good"),
        row({}, "CACertReady", True, "NoCACert", "system", ready="yes", id="the system's CAs"),
        row({}, "LivenessReady", True, "", ready="yes", id="the target lives"),
        row({}, "AuthReady", True, "", ready="yes", id="the token is accepted"),
        row({}, "ProxyServiceReady", True, "", ready="yes", id="the Service is there"),
        row({"cls": None}, "ConnectorClassReady", False, "ConnectorClassNotFound", "create it", id="no class"),
        row({"connector": rejected("AddressInvalid")}, "ConnectorClassReady", False, "AddressInvalid", id="address"),
        row(
            {"connector": replace(CONNECTOR, secret_name=None), "cls": OPTIONAL, "secrets": ()},
            "SecretReady",
            True,
            "SecretOptional",
            ready="yes",
            id="no Secret is needed",
        ),
        row({"secrets": ()}, "SecretReady", False, "SecretNotFound", '"s" not found', "create it", id="no Secret"),
        row(
            {"secrets": (replace(SECRET, type="Opaque"),)},
            "SecretReady",
            False,
            "SecretTypeMismatch",
            "create it anew",
            id="a Secret of another type",
        ),
        row(
            {"secrets": (replace(SECRET, token=None),)},
            "SecretReady",
            False,
            "SecretKeyMissing",
            'no key "token"',
            id="a Secret without the key",
        ),
        row(
            {"secrets": (replace(SECRET, token=None, token_problem="data[token]: has a blank"),)},
            "SecretReady",
            False,
            "SecretInvalid",
            "has a blank",
            id="a token with a blank",
        ),
        row({"connector": rejected("SecretInvalid")}, "SecretReady", False, "SecretInvalid", id="another namespace"),
        row({"shared_ca": b"pem"}, "CACertReady", True, "Valid", ready="yes", id="a CA"),
        row(
            {"connector": replace(CONNECTOR, ca_secret_name="ca")},
            "CACertReady",
            False,
            "SecretNotFound",
            ready="other",
            id="the CA's Secret is missing",
        ),
        row(
            {"secrets": (replace(SECRET, ca_problem="data[ca.crt]: no PEM"),)},
            "CACertReady",
            False,
            "InvalidPEM",
            "no PEM",
            ready="other",
            id="a CA that cannot be read",
        ),
        row(
            {"secrets": (replace(SECRET, ca_problem="data[ca.crt]: no PEM"),)},
            "LivenessReady",
            False,
            "ConnectionFailed",
            "no PEM",
            id="without the CA nothing can be reached",
        ),
        row(
            {"cls": replace(K8S, liveness=None)},
            "LivenessReady",
            True,
            "NonLivenessProbe",
            ready="yes",
            id="no liveness probe",
        ),
        row(
            probed(Unreachable(message="connection refused; start it"), None),
            "LivenessReady",
            False,
            "ConnectionFailed",
            "start it",
            id="nobody answers",
        ),
        row(
            probed(Answered(status=503), None),
            "LivenessReady",
            False,
            "ConnectionFailed",
            "/livez",
            "503",
            id="the target is broken",
        ),
        row(probed(Answered(status=401)), "LivenessReady", True, "", ready="yes", id="anonymous access is off"),
        row(probed(Answered(status=302)), "LivenessReady", True, "", ready="yes", id="a redirect is a sign of life"),
        row(
            {"cls": replace(K8S, auth_probes={})},
            "AuthReady",
            True,
            "NonAuthProbe",
            ready="yes",
            id="no auth probe",
        ),
        row(
            {"connector": replace(CONNECTOR, secret_name=None), "cls": OPTIONAL, "secrets": ()},
            "AuthReady",
            True,
            "NonAuthProbe",
            ready="yes",
            id="no token to probe with",
        ),
        row(
            probed(auth=Answered(status=401)),
            "AuthReady",
            False,
            "AuthenticationFailed",
            "Authentication failed: status code 401",
            'renew it in secrets "s"',
            id="the token is refused",
        ),
        row(
            probed(auth=Answered(status=403)),
            "AuthReady",
            False,
            "AuthenticationFailed",
            "Authentication failed: status code 403",
            "system:discovery",
            id="the token may nothing",
        ),
        row(
            probed(auth=Answered(status=302)),
            "AuthReady",
            False,
            "AuthenticationFailed",
            "Authentication failed: status code 302",
            "base URL",
            id="a login page",
        ),
        row(probed(auth=Answered(status=429)), "AuthReady", None, "NotProbed", "429", id="too many requests"),
        row(probed(auth=Answered(status=500)), "AuthReady", None, "NotProbed", "500", id="a broken /api"),
        row(probed(auth=Unreachable(message="reset")), "AuthReady", None, "NotProbed", "reset", id="reset at /api"),
        row(
            probed(Unreachable(message="x"), None), "AuthReady", None, "NotProbed", ready="other", id="no auth if dead"
        ),
        row({"probes": None}, "LivenessReady", None, "NotProbed", "not back", id="not probed yet"),
        row({"probes": None}, "AuthReady", None, "NotProbed", "not back", ready="other", id="not probed yet either"),
        row({"cls": None}, "SecretReady", None, "NotProbed", ready="other", id="no class says which Secret"),
        row({"cls": None}, "LivenessReady", None, "NotProbed", "create it", ready="other", id="no class, no probe"),
        row({"secrets": ()}, "AuthReady", None, "NotProbed", "create it", ready="other", id="no Secret, no probe"),
        row({"connector": rejected("AddressInvalid")}, "SecretReady", None, "NotProbed", ready="other", id="unread"),
        row({"connector": rejected("AddressInvalid")}, "CACertReady", None, "NotProbed", ready="other", id="unread CA"),
        row(
            {"service": Finding(holds=False, reason="ProxyServiceConflict", message="delete it")},
            "ProxyServiceReady",
            False,
            "ProxyServiceConflict",
            "delete it",
            id="somebody else's Service",
        ),
    ],
)
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
    broken = Finding(holds=False, reason="NameNotAllowed", message="too long")
    assert findings(probes=None, service=broken)["Ready"] == broken


@given(
    st.sampled_from(["", "cls", "secrets", "probes", "service"]),
    st.sampled_from([None, Unreachable(message="x"), *(Answered(status=code) for code in (200, 401, 503))]),
    st.sampled_from([None, *(Answered(status=code) for code in (200, 302, 401, 429))]),
)
def test_for_every_state_ready_is_the_and_of_the_counted_ones(broken, liveness, auth) -> None:
    changes: dict[str, dict[str, Any]] = {
        "cls": {"cls": None},
        "secrets": {"secrets": ()},
        "service": {"service": Finding(holds=False, reason="ProxyServiceConflict")},
        "probes": {"probes": None},
    }
    found = findings(**{"probes": Probes(liveness=liveness, auth=auth), **changes.get(broken, {})})
    counted = [each.holds for kind, each in found.items() if kind not in ("Ready", "CACertReady")]
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
        "CACertReady",
        "LivenessReady",
        "AuthReady",
        "ProxyServiceReady",
        "Ready",
    ]
    assert {each.transition for each in first.conditions} == {"2026-01-02T03:04:05Z"}
    assert [each.type for each in first.conditions if each.severity == "Info"] == ["CACertReady"]
    assert (first.observed_generation, first.proxy) == (4, address)


def test_nothing_new_gives_an_equal_status_however_late() -> None:
    first = status(findings())
    assert status(findings(), first, now=NOW.replace(year=2027)) == first


def test_the_transition_time_moves_with_the_status_and_not_with_the_reason() -> None:
    later = NOW.replace(hour=9)
    first = status(findings())
    second = status(findings(secrets=()), first, now=later)
    assert condition(second, "SecretReady").transition == "2026-01-02T09:04:05Z"
    assert condition(second, "ConnectorClassReady").transition == "2026-01-02T03:04:05Z"
    third = status(findings(secrets=(replace(SECRET, token=None),)), second, now=later.replace(hour=11))
    assert condition(third, "SecretReady").reason == "SecretKeyMissing"
    assert condition(third, "SecretReady").transition == "2026-01-02T09:04:05Z"


def test_a_condition_without_a_time_gets_one() -> None:
    old = Status(conditions=(Condition(type="Ready", status="True"),))
    assert condition(status(findings(), old), "Ready").transition == "2026-01-02T03:04:05Z"


def test_other_controllers_conditions_are_kept() -> None:
    theirs = Condition(type="Approved", status="True", transition="2020-01-01T00:00:00Z")
    assert status(findings(), Status(conditions=(theirs,))).condition("Approved") == theirs


def test_a_long_message_is_cut() -> None:
    found = findings(service=Finding(holds=False, reason="ProxyServiceNotFound", message="x" * 5000))
    assert len(condition(status(found), "ProxyServiceReady").message) == MAX_MESSAGE
