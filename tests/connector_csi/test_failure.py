"""Failures name the object and the next step."""

import errno

import pytest
from grpc import StatusCode

from connector_csi.failure import from_os, may_not_use
from connector_store.domain.names import ObjectKey
from connector_store.domain.volume import Pod

POD = Pod(namespace="team-a", name="web", uid="u", service_account="runner")


def test_the_grant_is_a_command_for_the_connectors_namespace() -> None:
    failure = may_not_use(POD, ObjectKey("team-a", "k8s"))
    assert failure.code is StatusCode.PERMISSION_DENIED
    assert failure.message.endswith(
        "kubectl create rolebinding connectors-user-runner --clusterrole=connectors-user "
        "--serviceaccount=team-a:runner --namespace=team-a"
    )


def test_a_binding_for_another_namespace_has_another_name() -> None:
    message = may_not_use(POD, ObjectKey("shared", "k8s")).message
    assert "rolebinding connectors-user-team-a-runner " in message
    assert message.endswith("--serviceaccount=team-a:runner --namespace=shared")


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        pytest.param(errno.EPERM, StatusCode.INTERNAL, "privileged: true", id="tmpfs not permitted"),
        pytest.param(errno.ENOSPC, StatusCode.RESOURCE_EXHAUSTED, "is full", id="disk full"),
        pytest.param(errno.ENOMEM, StatusCode.RESOURCE_EXHAUSTED, "no memory", id="no memory"),
        pytest.param(errno.EIO, StatusCode.INTERNAL, "it: Input/output error", id="anything else"),
        pytest.param(None, StatusCode.INTERNAL, "it: OSError", id="no number"),
    ],
)
def test_what_the_kernel_says_is_told_with_advice(number: int | None, code: StatusCode, text: str) -> None:
    error = OSError() if number is None else OSError(number, "secret text", "/secret/path")
    failure = from_os("cannot do it", error)
    assert failure.code is code
    assert text in failure.message
    assert "secret" not in failure.message
