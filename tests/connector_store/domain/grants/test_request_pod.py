"""Pod of a request: whether it is the right one, and when the controller looks again."""

from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.access_grant import PENDING_LIFETIME
from connector_store.domain.grants.request_pod import (
    MAX_POD_INTERVAL,
    MIN_POD_INTERVAL,
    is_gone,
    needs_pod,
    pod_interval,
    pod_uid,
)
from connector_store.domain.objects.access_objects import PodMount, PodReference
from tests.connector_store.domain.grants.access_objects import REQUEST

CREATED = REQUEST.created_at
MOUNT = PodMount("node-1", "pod-1")
REFERENCE = PodReference(key=ObjectKey("ci", "p"))
ASKED = replace(REQUEST, subject="system:serviceaccount:ci:builder", pod=REFERENCE)
BY_DRIVER = replace(ASKED, pod=replace(REFERENCE, mount=MOUNT))


def pod(uid: str = "pod-1", account: str = "builder", node: str = "node-1", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, **metadata}, "spec": {"serviceAccountName": account, "nodeName": node}}


@pytest.mark.parametrize("request_", [ASKED, BY_DRIVER], ids=["by hand", "by the driver"])
def test_the_pod_that_runs_as_the_subject_is_the_one(request_: Any) -> None:
    assert pod_uid(request_, pod()) == "pod-1"


@pytest.mark.parametrize(
    ("request_", "raw"),
    [
        pytest.param(REQUEST, pod(), id="a request without a pod"),
        pytest.param(ASKED, None, id="no pod"),
        pytest.param(ASKED, {}, id="an empty object"),
        pytest.param(ASKED, pod(account="default"), id="another account"),
        pytest.param(replace(ASKED, subject="builder"), pod(), id="a subject that is not an account"),
        pytest.param(
            replace(ASKED, subject="system:serviceaccount:team-a:builder"), pod(), id="an account of another namespace"
        ),
        pytest.param(ASKED, pod(deletionTimestamp="2026-01-02T00:00:00Z"), id="a pod that is being deleted"),
        pytest.param(BY_DRIVER, pod(node="node-2"), id="another node than the driver's"),
        pytest.param(BY_DRIVER, pod(uid="pod-2"), id="another pod of the same name"),
    ],
)
def test_this_is_not_the_pod_of_the_request(request_: Any, raw: dict[str, Any] | None) -> None:
    assert pod_uid(request_, raw) == ""


@pytest.mark.parametrize(
    ("reference", "raw", "gone"),
    [
        pytest.param(REFERENCE, None, False, id="a pod that does not exist yet"),
        pytest.param(replace(REFERENCE, uid="pod-1"), pod(), False, id="the pod"),
        pytest.param(replace(REFERENCE, uid="pod-1"), None, True, id="no pod"),
        pytest.param(replace(REFERENCE, uid="pod-1"), pod(uid="pod-2"), True, id="its successor"),
        pytest.param(replace(REFERENCE, mount=MOUNT), None, True, id="no pod of a volume"),
        pytest.param(replace(REFERENCE, mount=MOUNT), {}, True, id="an empty object"),
    ],
)
def test_a_pod_that_was_there_can_be_gone(reference: PodReference, raw: dict[str, Any] | None, gone: bool) -> None:
    assert is_gone(reference, raw) is gone


@pytest.mark.parametrize(
    ("request_", "is_decided", "age", "needed"),
    [
        pytest.param(REQUEST, False, 0, False, id="no pod"),
        pytest.param(ASKED, False, 0, True, id="pending"),
        pytest.param(ASKED, True, 0, True, id="approved before the UID was set"),
        pytest.param(replace(ASKED, pod=replace(REFERENCE, uid="u")), False, 0, True, id="pending with a UID"),
        pytest.param(replace(ASKED, pod=replace(REFERENCE, uid="u")), True, 0, False, id="decided"),
        pytest.param(ASKED, False, PENDING_LIFETIME + 1, False, id="too old to be approved"),
    ],
)
def test_the_pod_is_read_while_the_request_can_be_approved(
    request_: Any, is_decided: bool, age: float, needed: bool
) -> None:
    assert needs_pod(request_, is_decided=is_decided, now=CREATED + age) is needed


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(-60, MIN_POD_INTERVAL), (0, MIN_POD_INTERVAL), (60, 60), (PENDING_LIFETIME, MAX_POD_INTERVAL)],
)
def test_the_controller_looks_again_when_the_request_is_twice_as_old(age: float, seconds: float) -> None:
    assert pod_interval(ASKED, CREATED + age) == seconds
