"""The API server is down, slow or incomplete: the responses that callers get meanwhile, and the proxy's recovery."""

import itertools
from contextlib import ExitStack
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.waiting import wait_until
from tests.cluster.kube.front_proxy import FrontProxy
from tests.cluster.kube.installation import account_subject, grant_use, install_definitions, install_roles
from tests.cluster.kube.served_connector import RECHECK, ConnectResponse, KubectlWatch, ServedConnector, cluster_proxy
from tests.fakes.background import background

pytestmark = pytest.mark.timeout(900)
"""Seconds: each starts a proxy, and some a control plane, on a machine that may be busy."""

OUTAGE_GRACE = 60
"""Seconds, instead of 300."""

REVIEWS = ("tokenreviews", "subjectaccessreviews")


@pytest.fixture
def prepared(plane: ControlPlane, own_namespace: str) -> str:
    """A namespace with two ServiceAccounts that may use its Connector, and the target's."""
    plane.create_service_account(own_namespace, "target")
    plane.create_service_account(own_namespace, "newcomer")
    binding = ("rolebinding", "target", "--clusterrole=cluster-admin", f"--serviceaccount={own_namespace}:target")
    plane.kubectl("create", *binding, namespace=own_namespace)
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    grant_use(plane, own_namespace, subject=account_subject(own_namespace, "newcomer"), name="newcomer")
    return own_namespace


def test_verified_callers_keep_working_while_reviews_fail(plane: ControlPlane, prepared: str, tmp_path: Path) -> None:
    with background(FrontProxy(plane).serving()) as (front, _):
        proxy = cluster_proxy(tmp_path / "proxy", plane, server=front.url, options={"connector_recheck": "600"})
        with proxy:
            served = ServedConnector(plane=plane, proxy=proxy, namespace=prepared)
            served.apply()
            served.wait_until_synced()
            verified, newcomer = served.caller_token(), served.caller_token("newcomer")
            kubectl = served.kubectl(verified)
            assert served.checked_whoami(kubectl) == "target"
            front.statuses.update(dict.fromkeys(REVIEWS, 429))
            assert served.whoami(kubectl) == "target"
            refused = served.connect(newcomer)
            assert (refused.status, refused.retry_after) == (503, "7")
            front.statuses.update(dict.fromkeys(REVIEWS, 500))
            assert served.connect(newcomer).status == 503
            front.statuses.clear()
            assert served.checked_whoami(served.kubectl(newcomer)) == "target"


def test_a_failed_review_closes_no_live_connection(plane: ControlPlane, prepared: str, tmp_path: Path) -> None:
    with background(FrontProxy(plane).serving()) as (front, _):
        proxy = cluster_proxy(tmp_path / "proxy", plane, server=front.url)
        with proxy:
            served = ServedConnector(plane=plane, proxy=proxy, namespace=prepared)
            served.apply()
            served.wait_until_synced()
            names = (f"tick-{number}" for number in itertools.count())
            with KubectlWatch(
                served.kubectl(), "configmaps", namespace=prepared, log=tmp_path / "watch.log"
            ) as watching:
                watching.wait_until_open(
                    lambda: plane.kubectl("create", "configmap", next(names), namespace=prepared), "tick-"
                )
                front.statuses.update(dict.fromkeys(REVIEWS, 500))
                request_count = len(front.requested)
                wait_until(lambda: reviews(front, request_count) >= 3, f"rechecks, each {RECHECK} s")
                plane.kubectl("create", "configmap", "still-there", namespace=prepared)
                wait_until(lambda: watching.has_seen("still-there"), "the stream to go on")
                assert watching.is_running


def unavailable(answer: ConnectResponse) -> ConnectResponse | None:
    return answer if answer.status == 503 else None


def reviews(front: FrontProxy, since: int) -> int:
    return sum(each in REVIEWS for each in front.requested[since:])


def test_the_api_server_is_killed_and_restarted(
    disturbed_plane: ControlPlane, disturbed_namespace: str, tmp_path: Path
) -> None:
    """The target is the same API server, so callers open tunnels and get no response from it while it is down."""
    plane, namespace = disturbed_plane, disturbed_namespace
    plane.create_service_account(namespace, "target")
    grant_use(plane, namespace, subject=account_subject(namespace))
    options = {"connector_outage_grace": str(OUTAGE_GRACE)}
    with cluster_proxy(tmp_path / "proxy", plane, options=options) as proxy:
        served = ServedConnector(plane=plane, proxy=proxy, namespace=namespace)
        served.apply()
        served.wait_until_synced()
        token, newcomer = served.caller_token(), served.caller_token(lifetime=1800)
        assert served.checked_connect(token).status == 200
        pid = proxy.process.pid
        plane.kill()
        away = wait_until(lambda: unavailable(served.connect(newcomer)), "503 while it is away")
        assert away.retry_after is not None
        assert proxy.admin("/readyz")[0] == 200

        def uses_earlier_review() -> bool:
            assert served.connect(token).status == 200
            return "callers that were verified keep working" in proxy.log.read_text()

        wait_until(uses_earlier_review, f"the last review to be {RECHECK} s old")
        wait_until(lambda: unavailable(served.connect(token)), "the end of the grace")
        plane.start_apiserver()
        wait_until(lambda: served.whoami(served.kubectl(token)) == "target", "requests to go through again")
        assert proxy.process.pid == pid


def test_until_it_is_synced_every_caller_gets_503_with_retry_after(
    private_control_plane: ControlPlane, tmp_path: Path
) -> None:
    plane = private_control_plane
    install_roles(plane)
    plane.kubectl("delete", "clusterrolebinding", "connectors-proxy-namespace")
    plane.create_namespace("team-a")
    plane.create_service_account("team-a", "target")
    grant_use(plane, "team-a", subject=account_subject("team-a"))
    with ExitStack() as stack:
        proxy = cluster_proxy(tmp_path / "proxy", plane)
        stack.push(proxy)
        proxy.start()
        served = ServedConnector(plane=plane, proxy=proxy, namespace="team-a")
        wait_until(lambda: "deploy/rbac" in proxy.log.read_text() and "deploy/crds" in proxy.log.read_text(), "advice")
        assert proxy.admin("/readyz")[0] == 503
        early = served.connect(served.caller_token(), key=ObjectKey("team-a", "k8s"))
        assert early.status == 503
        assert early.retry_after is not None
        install_definitions(plane)
        install_roles(plane)
        served.apply()
        served.wait_until_synced()
        assert proxy.admin("/readyz")[0] == 200
        advice = [each for each in proxy.log.read_text().splitlines() if "kubectl apply -k deploy/" in each]
        assert len(advice) == len(set(advice))


def test_only_the_namespaces_that_are_named_are_served(
    plane: ControlPlane, prepared: str, namespace_elsewhere: str, tmp_path: Path
) -> None:
    with cluster_proxy(tmp_path / "proxy", plane, options={"connector_namespaces": prepared}) as proxy:
        served = ServedConnector(plane=plane, proxy=proxy, namespace=prepared)
        served.apply()
        served.wait_until_synced()
        elsewhere = ServedConnector(plane=plane, proxy=proxy, namespace=namespace_elsewhere)
        elsewhere.apply(account="default")
        grant_use(plane, namespace_elsewhere, subject=account_subject(namespace_elsewhere))
        response = wait_until(
            lambda: unavailable(elsewhere.checked_connect(elsewhere.caller_token())), "503 for the other namespace"
        )
        assert "is not served" in response.phrase


@pytest.fixture
def namespace_elsewhere(plane: ControlPlane) -> str:
    return plane.create_namespace("elsewhere")
