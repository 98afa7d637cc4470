"""Callers with real ServiceAccount tokens: grants, refusals, and the cases that differ."""

import asyncio
import time

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Refused
from connector_store.domain.config.settings import AccessRule
from connector_store.kube import config_loader, review
from connector_store.kube.access import KubeAccess
from connector_store.kube.client import KubeClient
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from lab.waiting import TIMEOUT
from tests.cluster.kube.front_proxy import FrontProxy
from tests.cluster.kube.installation import AUDIENCE, account_subject, grant_use, group_subject, proxy_client

RULE = AccessRule("use", "connectors", "proxy")
CALLERS = 1000
AT_ONCE = 50

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def patient_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the API server minutes for a review on a busy machine."""
    monkeypatch.setattr(review, "TIMEOUT", TIMEOUT)


def kube_access(client: KubeClient, *, recheck: float = 30) -> KubeAccess:
    return KubeAccess(client, audience=AUDIENCE, rule=RULE, recheck=recheck, refusal_ttl=0)


async def test_a_bound_service_account_is_granted_with_its_identity(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE], lifetime=600)
    async with proxy_client(plane) as client:
        answer = await kube_access(client).check(caller, key)
    assert isinstance(answer, Granted)
    assert answer.identity.user == f"system:serviceaccount:{own_namespace}:default"
    assert f"system:serviceaccounts:{own_namespace}" in answer.identity.groups
    assert answer.token_expires_at is not None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("system:serviceaccounts:{}", id="by the group of its namespace"),
        pytest.param("system:serviceaccounts", id="by the group of all ServiceAccounts"),
        pytest.param("system:authenticated", id="by the group of all who logged in"),
    ],
)
async def test_a_binding_to_a_group_counts(plane: ControlPlane, own_namespace: str, name: str) -> None:
    grant_use(plane, own_namespace, subject=group_subject(name.format(own_namespace)))
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE])
    async with proxy_client(plane) as client:
        assert isinstance(await kube_access(client).check(caller, ObjectKey(own_namespace, "k8s")), Granted)


async def test_a_caller_without_a_binding_does_not_learn_what_exists(plane: ControlPlane, own_namespace: str) -> None:
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE])
    async with proxy_client(plane) as client:
        answer = await kube_access(client).check(caller, ObjectKey(own_namespace, "k8s"))
        assert isinstance(answer, Refused)
        assert answer.check == "use"


@pytest.mark.parametrize(
    ("audience", "lifetime"),
    [
        pytest.param("elsewhere", 600, id="another audience"),
        pytest.param("https://kubernetes.default.svc.cluster.local", 600, id="the API server's own audience"),
        pytest.param(AUDIENCE, -60, id="expired"),
    ],
)
async def test_a_token_that_is_not_for_us(
    plane: ControlPlane, own_namespace: str, audience: str, lifetime: float
) -> None:
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    caller = plane.issue_token(own_namespace, "default", audiences=[audience], lifetime=lifetime)
    async with proxy_client(plane) as client:
        answer = await kube_access(client).check(caller, ObjectKey(own_namespace, "k8s"))
    assert isinstance(answer, Refused)
    assert answer.check == "token"


async def test_an_issued_token_is_valid_until_its_account_is_deleted(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    async with (
        KubeClient(await config_loader.load_configuration(kubeconfig=str(plane.kubeconfig))) as admin,
        proxy_client(plane) as client,
    ):
        caller = await admin.create_token(own_namespace, "default", AUDIENCE, 600)
        access = kube_access(client, recheck=0.001)
        answer = await access.check(caller, key)
        assert isinstance(answer, Granted)
        plane.kubectl("delete", "serviceaccount", "default", namespace=own_namespace)
        async with asyncio.timeout(TIMEOUT):  # the API server itself caches a valid token for 10 s
            while not isinstance(await access.check(caller, key), Refused):  # noqa: ASYNC110 - it sends no event
                await asyncio.sleep(0.2)
        assert isinstance(await access.recheck_token(caller, answer.identity), Refused)


async def test_a_revoked_right_ends_at_the_next_review(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE], lifetime=600)
    async with proxy_client(plane) as client:
        access = kube_access(client, recheck=600)
        answer = await access.check(caller, key)
        assert isinstance(answer, Granted)
        plane.kubectl("delete", "rolebinding", "use", namespace=own_namespace)
        wait_for_rbac(plane.api)
        assert isinstance(access.check_cached(caller, key), Granted)
        refused = await kube_access(client).recheck_use(caller, answer.identity, key)
        assert isinstance(refused, Refused)
        assert refused.check == "use"


async def test_another_products_access_rule_can_be_reviewed(plane: ControlPlane, own_namespace: str) -> None:
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE])
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "get"},
        "rules": [{"apiGroups": ["connectors.alauda.io"], "resources": ["connectors"], "verbs": ["get"]}],
    }
    plane.api.apply(role, namespace=own_namespace)
    binding = ("create", "rolebinding", "get", "--role=get", f"--serviceaccount={own_namespace}:default")
    plane.kubectl(*binding, namespace=own_namespace)
    wait_for_rbac(plane.api)
    async with proxy_client(plane) as client:
        access = KubeAccess(client, audience=AUDIENCE, rule=AccessRule("get", "connectors"))
        assert isinstance(await access.check(caller, ObjectKey(own_namespace, "k8s")), Granted)
        assert isinstance(await kube_access(client).check(caller, ObjectKey(own_namespace, "k8s")), Refused)


@pytest.mark.timeout(900)
async def test_each_token_of_an_account_is_reviewed_once_and_their_right_once(
    plane: ControlPlane, own_namespace: str
) -> None:
    key = ObjectKey(own_namespace, "k8s")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    callers = plane.token_issuer.issue_many(CALLERS, own_namespace, "default", audiences=[AUDIENCE], lifetime=3600)
    assert len(set(callers)) == CALLERS
    review_paths: list[str] = []
    async with proxy_client(plane) as client:
        access = KubeAccess(
            client,
            audience=AUDIENCE,
            rule=RULE,
            recheck=600,
            on_review=lambda what, result: review_paths.append(f"{what} {result}"),
        )
        for start in range(0, CALLERS, AT_ONCE):
            some = callers[start : start + AT_ONCE]
            answers = await asyncio.gather(*(access.check(each, key) for each in some))
            assert all(isinstance(each, Granted) for each in answers)
        for caller in callers:
            assert isinstance(access.check_cached(caller, key), Granted)
    assert (review_paths.count("token ok"), review_paths.count("use ok"), len(review_paths)) == (
        CALLERS,
        1,
        CALLERS + 1,
    )


async def test_an_expired_token_is_valid_while_its_owner_exists(plane: ControlPlane, own_namespace: str) -> None:
    """For streams that were opened while it was good; the proxy's own role looks for the owner."""
    key = ObjectKey(own_namespace, "k8s")
    plane.create_service_account(own_namespace, "caller")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace, "caller"))
    caller = plane.issue_token(own_namespace, "caller", audiences=[AUDIENCE], lifetime=600)
    ahead = 0.0
    async with proxy_client(plane) as client:
        access = KubeAccess(
            client,
            audience=AUDIENCE,
            rule=RULE,
            now=lambda: time.time() + ahead,
            clock=lambda: time.monotonic() + ahead,
        )
        granted = await access.check(caller, key)
        assert isinstance(granted, Granted)
        ahead = 700.0
        assert isinstance(await access.check(caller, key), Refused)
        assert isinstance(await access.recheck_token(caller, granted.identity), Granted)
        plane.kubectl("delete", "serviceaccount", "caller", namespace=own_namespace)
        plane.create_service_account(own_namespace, "caller")
        ahead += 30.0
        after_deletion = await access.recheck_token(caller, granted.identity)
    assert isinstance(after_deletion, Refused)
    assert "is another one now" in after_deletion.reason


async def test_a_flood_of_foreign_tokens_causes_no_reviews(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    other = plane.issue_token(own_namespace, "default", audiences=["somebody"])
    async with FrontProxy(plane).serving() as front, proxy_client(plane, server=front.url) as client:
        access = kube_access(client)
        for token in [*(f"bogus{number}" for number in range(3000)), other]:
            assert isinstance(access.check_cached(token, key), Refused)
            assert isinstance(await access.check(token, key), Refused)
        assert front.requested.count("tokenreviews") == 0
