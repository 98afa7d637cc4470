"""Rows of the table of access requests."""

import json
from dataclasses import asdict
from typing import Any

import pytest
import yaml

from connector_store.domain.base.names import ObjectKey
from connectorctl.access_rows import parse_row
from connectorctl.output import render_value
from tests.connectorctl.fake_access_cluster import ready


def raw(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    fields = {"subject": {"kind": "User", "name": "jane"}, "connectorRef": {"name": "prod"}, **spec}
    return {
        "metadata": {"name": "prod-1", "namespace": "a"},
        "spec": fields,
        **({"status": status} if status is not None else {}),
    }


@pytest.mark.parametrize(
    ("status", "state", "is_ready", "is_pending"),
    [
        pytest.param(None, "Pending", False, True, id="no status yet"),
        pytest.param({"conditions": None}, "Pending", False, True, id="no conditions"),
        pytest.param({"conditions": [{"type": "Other", "status": "True"}]}, "Pending", False, True, id="another type"),
        pytest.param(ready("False", "Pending"), "Pending", False, True, id="too few approvals"),
        pytest.param(
            ready("False", "NotEnforced"), "NotEnforced", False, False, id="older than the proof of admission"
        ),
        pytest.param(ready("True", "Approved"), "Approved", True, False, id="approved"),
        pytest.param(ready("True", "Pending"), "Pending", True, False, id="ready, whatever its reason says"),
        pytest.param(ready("False", "Denied"), "Denied", False, False, id="denied"),
        pytest.param(ready("False", "Expired"), "Expired", False, False, id="ended"),
        pytest.param(ready("Unknown", "Approved"), "Approved", False, False, id="unknown is not ready"),
    ],
)
def test_the_state_is_that_of_the_condition(
    status: dict[str, Any] | None, state: str, is_ready: bool, is_pending: bool
) -> None:
    row = parse_row(raw(status))
    assert (row.state, row.is_ready, row.is_pending) == (state, is_ready, is_pending)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ({"kind": "User", "name": "jane"}, "jane"),
        ({"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}, "system:serviceaccount:ci:robot"),
    ],
)
def test_the_subject_is_a_user_name(subject: dict[str, str], name: str) -> None:
    assert parse_row(raw(subject=subject)).subject == name


REQUEST = {
    "metadata": {"name": "prod-1", "namespace": "a", "uid": "r"},
    "spec": {"requester": "jane", "subject": {"kind": "User", "name": "jane"}, "connectorRef": {"name": "prod"}},
}
_POLICIES: dict[str, dict[str, Any]] = {
    "one": {"approval": {}},
    "two": {"approval": {"required": 2}},
    "robots": {"approval": {"serviceAccountsMayApprove": True}},
    "default": {"defaultPermission": {"bindingTemplate": {"serviceAccounts": [{"names": ["ci"]}]}}},
    "checked": {"approval": {}, "checkGrantedPermission": {"spec": {"checks": [{"name": "own"}]}}},
}
POLICIES = [
    {"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": spec} for name, spec in _POLICIES.items()
]
ROBOT = "system:serviceaccount:ci:robot"


def approval(
    policy: str, by: str, decision: str = "Approved", *, second: int = 0, request: str = "r"
) -> dict[str, Any]:
    created = f"2026-01-31T18:00:{second:02}Z"
    return {
        "metadata": {"name": f"{policy}-{by[-3:]}", "namespace": "a", "uid": by, "creationTimestamp": created},
        "spec": {
            "requestRef": {"name": "prod-1", "uid": request},
            "policyRef": {"name": policy, "uid": policy},
            "by": by,
            "decision": decision,
        },
    }


@pytest.mark.parametrize(
    ("approvals", "state", "approvers"),
    [
        pytest.param([], "Pending", (), id="no approval"),
        pytest.param([approval("one", "joe")], "Approved", ("joe",), id="the one approval that is needed"),
        pytest.param([approval("one", "joe", "Denied")], "Denied", (), id="a denial"),
        pytest.param([approval("one", "jane")], "Pending", (), id="by the requester"),
        pytest.param([approval("one", "joe", request="x")], "Pending", (), id="of another request"),
        pytest.param([approval("two", "joe")], "Pending", (), id="one of two"),
        pytest.param(
            [approval("two", "joe"), approval("two", "joe", second=1)], "Pending", (), id="one approver twice"
        ),
        pytest.param(
            [approval("two", "joe", second=1), approval("two", "ann"), approval("two", "bob", second=2)],
            "Approved",
            ("ann", "joe"),
            id="two of two, and one more",
        ),
        pytest.param(
            [approval("two", "joe"), approval("one", "ann", second=1)], "Pending", (), id="of two policies: the first"
        ),
        pytest.param([approval("default", "joe")], "Pending", (), id="a policy without approvals"),
        pytest.param([approval("checked", "joe")], "Pending", (), id="a policy that is not supported"),
        pytest.param([approval("deleted", "joe")], "Pending", (), id="a policy that does not exist"),
        pytest.param([approval("deleted", "joe", "Denied")], "Pending", (), id="a denial that does not count"),
        pytest.param([approval("one", ROBOT)], "Pending", (), id="a ServiceAccount"),
        pytest.param([approval("robots", ROBOT)], "Approved", (ROBOT,), id="a ServiceAccount that may approve"),
    ],
)
def test_without_a_status_the_state_follows_from_the_approvals(
    approvals: list[dict[str, Any]], state: str, approvers: tuple[str, ...]
) -> None:
    row = parse_row(REQUEST, approvals, POLICIES)
    assert (row.state, row.approved_by, row.is_ready) == (state, approvers, state == "Approved")


def test_objects_that_are_being_deleted_do_not_count() -> None:
    gone = {"deletionTimestamp": "2026-01-31T18:00:00Z"}
    deleted = approval("one", "joe")
    deleted["metadata"] |= gone
    assert parse_row(REQUEST, [deleted], POLICIES).state == "Pending"
    policies = [each | {"metadata": each["metadata"] | gone} for each in POLICIES]
    assert parse_row(REQUEST, [approval("one", "joe")], policies).state == "Pending"


def test_fields_that_are_not_set_are_empty() -> None:
    row = parse_row(raw())
    assert (row.duration, row.until, row.approved_by, row.reason, row.message) == ("", "", (), "", "")
    assert row.key == ObjectKey("a", "prod-1")


def test_a_row_as_data_has_every_field() -> None:
    status = {
        **ready("True", "Approved", "until then"),
        "expirationTime": "2026-01-31T19:00:00Z",
        "approvedBy": ["joe", "jim"],
    }
    row = asdict(parse_row(raw(status, duration="1h", reason="INC-7")))
    document = yaml.safe_load(render_value(row, "yaml"))
    assert document == json.loads(render_value(row, "json"))
    assert document == {
        "namespace": "a",
        "name": "prod-1",
        "subject": "jane",
        "connector": "prod",
        "duration": "1h",
        "state": "Approved",
        "until": "2026-01-31T19:00:00Z",
        "approved_by": ["joe", "jim"],
        "reason": "INC-7",
        "message": "until then",
        "is_ready": True,
    }
