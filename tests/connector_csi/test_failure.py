"""Failures name the object and the next step."""

import errno

import pytest
from grpc import StatusCode

from connector_csi.failure import (
    MAX_MESSAGE,
    Failure,
    from_os_error,
    invalid,
    join_failures,
    permission_denied,
    truncate,
    unavailable,
)
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import AccessRule, Settings
from connector_store.domain.kubeconfig.volume_request import Pod

POD = Pod(namespace="team-a", name="web", uid="u", service_account="runner")
USE = Settings().access


def test_the_grant_is_a_command_for_the_connectors_namespace() -> None:
    failure = permission_denied(POD, ObjectKey("team-a", "k8s"), USE)
    assert failure.code is StatusCode.PERMISSION_DENIED
    assert failure.message.endswith(
        "kubectl create rolebinding connectors-user-runner --clusterrole=connectors-user "
        "--serviceaccount=team-a:runner --namespace=team-a"
    )


def test_a_binding_for_another_namespace_has_another_name() -> None:
    message = permission_denied(POD, ObjectKey("shared", "k8s"), USE).message
    assert "rolebinding connectors-user-team-a-runner " in message
    assert message.endswith("--serviceaccount=team-a:runner --namespace=shared")


@pytest.mark.parametrize(
    ("rule", "ending"),
    [
        pytest.param(
            AccessRule("get", "connectors"),
            "rolebinding connectors-viewer-runner --clusterrole=connectors-viewer "
            "--serviceaccount=team-a:runner --namespace=team-a",
            id="the other product's rule",
        ),
        pytest.param(
            AccessRule("use", "connectors", "strict"),
            "--clusterrole=ROLE --serviceaccount=team-a:runner --namespace=team-a, "
            "with a ClusterRole that has verb use on connectors/strict in connectors.alauda.io",
            id="a rule without a role",
        ),
        pytest.param(
            AccessRule("list", "connectors"),
            "with a ClusterRole that has verb list on connectors in connectors.alauda.io",
            id="one without a subresource",
        ),
    ],
)
def test_the_grant_matches_the_setting_access(rule: AccessRule, ending: str) -> None:
    assert permission_denied(POD, ObjectKey("team-a", "k8s"), rule).message.endswith(ending)


def test_the_first_few_messages_are_joined() -> None:
    failures = [unavailable("a"), *(invalid(f"b{number}") for number in range(31))]
    assert join_failures(failures) == unavailable("a; b0; b1; and 29 more")
    assert join_failures(failures[:3]) == unavailable("a; b0; b1")


def test_a_message_is_truncated_for_all_clients() -> None:
    assert truncate("x" * MAX_MESSAGE) == "x" * MAX_MESSAGE
    assert truncate("x" * (MAX_MESSAGE + 1)) == "x" * (MAX_MESSAGE - 1) + "…"


@pytest.mark.parametrize(
    ("code", "final"), [(StatusCode.INTERNAL, True), (StatusCode.NOT_FOUND, True), (StatusCode.ABORTED, False)]
)
def test_final_codes_are_those_of_kubelet(code: StatusCode, final: bool) -> None:
    assert Failure(code=code, message="").is_final is final


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
def test_an_os_error_has_advice(number: int | None, code: StatusCode, text: str) -> None:
    error = OSError() if number is None else OSError(number, "secret text", "/secret/path")
    failure = from_os_error("cannot do it", error)
    assert failure.code is code
    assert text in failure.message
    assert "secret" not in failure.message
