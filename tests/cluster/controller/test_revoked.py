"""A target revokes the right to issue tokens: the condition and an event say so when the last token has expired."""

import time
from typing import Final

import pytest

from lab.controller import ConnectorCluster, Controller
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until
from tests.cluster.short_tokens import ShortTokens
from tests.fakes.background import background

LIFE: Final = 30
"""Lifetime of an issued token in seconds. It is renewed in its last fifth, which is enough on a busy machine."""
MINTER: Final = "minter"


@pytest.mark.waits
def test_a_revoked_issuing_right_fails_auth_ready_when_the_token_expires(
    world: ConnectorCluster, controller: Controller, namespace: str
) -> None:
    plane = world.plane
    plane.create_service_account(namespace, MINTER)
    bind = ("create", "rolebinding", MINTER, f"--role={MINTER}", f"--serviceaccount={namespace}:{MINTER}")
    plane.kubectl("create", "role", MINTER, "--verb=create", "--resource=serviceaccounts/token",
                  "--resource-name=default", namespace=namespace)  # fmt: skip
    plane.kubectl(*bind, namespace=namespace)
    wait_for_rbac(plane.api)
    minter_token = plane.issue_token(namespace, MINTER, lifetime=7 * 24 * 3600)
    world.put_secret(namespace, token=minter_token, ca_crt=plane.ca_pem)
    auth = {
        "name": "serviceAccountTokenAuth",
        "params": [{"name": "serviceAccount", "value": f"{namespace}/default"}],
        "secretRef": {"name": "s"},
    }
    with background(ShortTokens(plane, LIFE).serving()) as (front, _):
        assert isinstance(front, ShortTokens)
        started_at = time.monotonic()
        world.put_connector(namespace, address=front.url, auth=auth)
        world.wait_for_condition(namespace, "Ready", "True")
        account = f"system:serviceaccount:{namespace}:default"
        world.wait_for_condition(namespace, "AuthReady", "True", message=account)
        fresh = wait_until(lambda: world.get_condition(namespace, "CredentialFresh"), "the condition")
        assert fresh["status"] == "True", "it is of what the Secret holds"
        plane.kubectl("delete", "rolebinding", MINTER, namespace=namespace)
        reason = 'secrets "s" may not create serviceaccounts/token of "default"'
        failed = world.wait_for_condition(namespace, "Ready", "False", "AuthenticationFailed", message=reason)
        # The controller requests each token after this, and counts its lifetime from the request.
        assert time.monotonic() >= started_at + LIFE
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

        def has_event() -> bool:
            items = world.api.call("GET", path)["items"]
            return failed["message"] in [each["note"] for each in items if each["reason"] == "AuthenticationFailed"]

        wait_until(has_event, "the event")
        plane.kubectl(*bind, namespace=namespace)
        world.wait_for_condition(namespace, "Ready", "True")
        texts = str(world.api.call("GET", path)) + str(world.get_connector(namespace)) + controller.log
        assert not [each for each in front.issued["default"] if each.token in texts]
        assert "eyJ" not in texts
