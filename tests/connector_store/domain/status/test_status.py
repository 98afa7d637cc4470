import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.status.http_address import HttpAddress
from connector_store.domain.status.status import Condition, Status, parse_status, status_patch

PEM = b"-----BEGIN CERTIFICATE-----\n"
FULL = {
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "SecretNotFound",
            "message": "create it",
            "severity": "Info",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 7,
        }
    ],
    "observedGeneration": 7,
    "proxy": {"httpAddress": {"url": "http://c-k8s.a.svc", "CACerts": base64.b64encode(PEM).decode(), "audience": "x"}},
    "credential": {"expirationTime": "2027-01-02T03:04:05Z"},
}
READ = Status(
    conditions=(
        Condition(
            type="Ready",
            status="False",
            reason="SecretNotFound",
            message="create it",
            severity="Info",
            last_transition_time="2026-01-02T03:04:05Z",
            observed_generation=7,
        ),
    ),
    observed_generation=7,
    proxy=HttpAddress(url="http://c-k8s.a.svc", ca=PEM, audience="x"),
    credential_expires_at=1798859045.0,
)


def test_a_parsed_status_writes_the_same_status() -> None:
    assert parse_status({"status": FULL}) == READ
    assert status_patch(READ) == FULL


def test_conditions_are_looked_up_by_type() -> None:
    assert READ.ready == READ.conditions[0]
    assert READ.condition("LivenessReady") is None


def test_empty_fields_are_omitted_and_an_absent_proxy_is_removed() -> None:
    status = Status(conditions=(Condition(type="Ready", status="True"),))
    assert status_patch(status) == {
        "conditions": [{"type": "Ready", "status": "True"}],
        "observedGeneration": 0,
        "proxy": None,
        "credential": None,
    }
    assert "proxy" not in status_patch(status, with_proxy=False)
    bare = status_patch(Status(proxy=HttpAddress(url="http://p", ca=PEM)))
    assert bare["proxy"]["httpAddress"]["audience"] is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param({}, id="no status"),
        pytest.param({"status": None}, id="a null"),
        pytest.param({"status": []}, id="a list"),
        pytest.param({"status": {"conditions": {}, "observedGeneration": "3", "proxy": 1}}, id="wrong types"),
        pytest.param({"status": {"conditions": [1, {"type": "Ready"}, {"status": "True"}]}}, id="no conditions"),
        pytest.param({"status": {"conditions": [{"type": "Ready", "status": "Yes"}]}}, id="another status"),
        pytest.param({"status": {"proxy": {"httpAddress": {"url": ["x"]}}}}, id="a url of another type"),
    ],
)
def test_values_outside_the_schema_count_as_absent(raw) -> None:
    assert parse_status(raw) == Status()


def test_an_address_with_an_invalid_ca_counts_as_absent() -> None:
    raw = {"status": {"proxy": {"httpAddress": {"url": "http://p", "CACerts": "%%%"}}}}
    assert parse_status(raw).proxy is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "status", "conditions", "proxy", "httpAddress", "url", "CACerts"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_for_every_json_the_status_survives_a_round_trip(value) -> None:
    status = parse_status({"status": value})
    assert parse_status({"status": status_patch(status)}) == status
