"""Access request of a volume: its identity, and what the driver reads from its status."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from connector_csi.failure import Failure
from connector_csi.mount_requests import MAX_PREFIX, MountRequest
from connector_store.domain.base.names import ObjectKey, is_dns_subdomain
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.access_objects import PodMount
from connector_store.domain.objects.manifest_access import parse_access_request

REQUEST = MountRequest(
    pod=Pod(namespace="ci", name="build-1", uid="pod-1", service_account="builder"),
    connector=ObjectKey("team-a", "prod"),
    requester="driver",
    node="node-1",
)
NOW = 1_000_000.0
CREATED = "1970-01-12T13:46:00Z"


def stored(reason: str = "", status: str = "False", **fields: Any) -> dict[str, Any]:
    """Return the request as the API server has it, with a condition Ready if there is a reason."""
    raw = deepcopy(REQUEST.manifest)
    raw["metadata"] |= {"namespace": "team-a", "uid": "u", "creationTimestamp": CREATED}
    if reason:
        ready = {"type": "Ready", "status": status, "reason": reason, "message": "because"}
        raw["status"] = {"conditions": [ready], **fields}
    return raw


def test_the_request_names_pod_account_connector_and_node() -> None:
    request = parse_access_request(stored())
    assert (request.requester, request.subject) == ("driver", "system:serviceaccount:ci:builder")
    assert (request.key, request.connector) == (REQUEST.key, "prod")
    assert request.pod is not None
    assert (request.pod.key, request.pod.uid) == (ObjectKey("ci", "build-1"), "")
    assert request.pod.mount == PodMount("node-1", "pod-1")
    assert (request.duration, request.has_reason, request.problem) == (None, True, "")


@pytest.mark.parametrize("name", ["a", "a" * 253, "a" * (MAX_PREFIX - 1) + ".b"])
def test_every_pod_has_a_valid_name_of_its_own(name: str) -> None:
    requests = [
        replace(REQUEST, pod=replace(REQUEST.pod, name=name, uid=uid), connector=ObjectKey("team-a", connector))
        for uid in ("1", "2")
        for connector in ("prod", "dev")
    ]
    assert len({each.key.name for each in requests}) == 4
    assert all(is_dns_subdomain(each.key.name) and len(each.key.name) <= 253 for each in requests)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(stored("Approved", "True"), id="without an end"),
        pytest.param(stored("Approved", "True", expirationTime="1970-01-12T13:46:41Z"), id="before its end"),
    ],
)
def test_an_approved_request_gives_access(raw: dict[str, Any]) -> None:
    assert REQUEST.assess(raw, NOW) is None


@pytest.mark.parametrize(
    ("raw", "is_decided", "text"),
    [
        pytest.param(stored(), False, "connectorctl approve team-a/build-1-", id="no status"),
        pytest.param(stored("Pending"), False, "connectorctl approve team-a/build-1-", id="pending"),
        pytest.param(stored("PodNotSet"), False, "connectorctl approve team-a/build-1-", id="the pod is not checked"),
        pytest.param(stored("TooLong"), False, "TooLong: because", id="another reason"),
        pytest.param(stored("Denied"), True, "Denied: because; to ask again, delete the pod", id="denied"),
        pytest.param(stored("NotApprovedInTime"), True, "NotApprovedInTime", id="too late"),
        pytest.param(stored("Ended"), True, "Ended", id="ended"),
        pytest.param(
            stored("Approved", "True", expirationTime="1970-01-12T13:46:40Z"),
            True,
            "Ended",
            id="a late controller",
        ),
    ],
)
def test_this_gives_no_access(raw: dict[str, Any], is_decided: bool, text: str) -> None:
    failure = REQUEST.assess(raw, NOW)
    assert isinstance(failure, Failure)
    assert (failure.is_decided, failure.is_final) == (is_decided, True)
    assert text in failure.message


def test_a_waiting_pod_does_not_learn_whether_the_connector_exists() -> None:
    assert '"prod" in namespace "team-a" does not exist, or ServiceAccount "builder"' in REQUEST.waiting().message
    assert REQUEST.assess(stored("Pending"), NOW) == REQUEST.waiting()


@pytest.mark.parametrize(
    "change",
    [
        {"requester": "mallory"},
        {"subject": {"kind": "ServiceAccount", "namespace": "ci", "name": "other"}},
        {"connectorRef": {"name": "other"}},
        {"context": None},
        {"context": {"objectRef": {"kind": "Pod", "namespace": "ci", "name": "build-1", "uid": "pod-1"}}},
        {
            "context": {
                "objectRef": {"kind": "Pod", "namespace": "ci", "name": "build-1"},
                "mount": {"nodeName": "node-1", "podUID": "pod-2"},
            }
        },
        {"duration": "x"},
    ],
    ids=["requester", "subject", "connector", "no pod", "no mount", "another pod", "not parsed"],
)
def test_a_request_of_another_user_under_this_name_gives_nothing(change: dict[str, Any]) -> None:
    raw = stored("Approved", "True")
    raw["spec"] |= change
    failure = REQUEST.assess(raw, NOW)
    assert isinstance(failure, Failure)
    assert not failure.is_decided
    assert failure.message == f"accessrequests.connectors.alauda.io {REQUEST.key} is not the driver's own; delete it"
