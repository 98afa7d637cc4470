"""The order of authorizers, as a table: what each of them says, and who decides."""

from dataclasses import replace

import pytest

from connector_store.domain.callers.access import AccessResult, Granted, Refused, Unavailable
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.access_index import NO_ENTITLEMENT, Entitlement
from connector_store.domain.grants.authorizers import AUTHORIZERS, Authorization, authorize
from tests.connector_store.domain.grants.access_objects import APPROVAL, JANE, NOW, REQUEST

CALLER = Granted(identity=JANE, token_expires_at=NOW)
NO_OPINION = Refused(check="use", reason="no RBAC policy matched", authentication=CALLER)
DENIED = Refused(check="use", reason="denied by a webhook")
BAD_TOKEN = Refused(check="token", reason="expired")
AWAY = Unavailable(reason="the API server does not respond")
GRANT = AccessGrant(
    request=REQUEST.key,
    request_uid=REQUEST.uid,
    policy="on-call",
    approved_by=("joe",),
    approval_uid=APPROVAL.uid,
    pod_uid="",
    started_at=NOW,
    duration=60,
)
LONGER = replace(GRANT, duration=90)
POLICY = Entitlement("ci", ())
APPROVED = Entitlement("", (LONGER, GRANT))
BOTH = Entitlement("ci", (GRANT,))


def test_the_order_of_authorizers() -> None:
    assert [name for name, _ in AUTHORIZERS] == ["rbac", "default permission", "access request"]


@pytest.mark.parametrize(
    ("access", "entitlement", "result"),
    [
        pytest.param(CALLER, NO_ENTITLEMENT, Authorization(CALLER), id="RBAC allows"),
        pytest.param(CALLER, BOTH, Authorization(CALLER), id="RBAC allows, so the grant is not used"),
        pytest.param(NO_OPINION, NO_ENTITLEMENT, Authorization(NO_OPINION), id="nobody has an opinion"),
        pytest.param(NO_OPINION, POLICY, Authorization(CALLER), id="no opinion, and a policy allows"),
        pytest.param(NO_OPINION, APPROVED, Authorization(CALLER, LONGER), id="no opinion, and a request is approved"),
        pytest.param(NO_OPINION, BOTH, Authorization(CALLER), id="the policy is before the request"),
        pytest.param(DENIED, BOTH, Authorization(DENIED), id="denied: policies and requests do not help"),
        pytest.param(BAD_TOKEN, BOTH, Authorization(BAD_TOKEN), id="a bad token: nothing helps"),
        pytest.param(AWAY, BOTH, Authorization(AWAY), id="unavailable ends the chain"),
    ],
)
def test_who_decides(access: AccessResult, entitlement: Entitlement, result: Authorization) -> None:
    assert authorize(access, entitlement) == result
