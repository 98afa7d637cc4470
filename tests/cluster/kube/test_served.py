"""Callers of a real cluster through a real proxy: what takes effect, how soon, and how it shows."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.kube.installation import account_subject, connector, grant_use, group_subject, secret
from tests.cluster.kube.served_connector import (
    KubectlWatch,
    ServedConnector,
    checked_connect,
    cluster_proxy,
    connectorctl,
)
from tests.cluster.proxy.running_proxy import RunningProxy

pytestmark = pytest.mark.timeout(900)


@contextmanager
def watch(served: ServedConnector, kubectl: Kubectl, tmp_path: Path) -> Iterator[KubectlWatch]:
    """The watch is open, because it saw a change."""
    names = (f"tick-{number}" for number in itertools.count())
    with KubectlWatch(kubectl, "configmaps", namespace=served.namespace, log=tmp_path / "watch.log") as watching:
        path = f"/api/v1/namespaces/{served.namespace}/configmaps"
        watching.wait_until_open(
            lambda: served.plane.api.call("POST", path, {"metadata": {"name": next(names)}}), "configmap/tick-"
        )
        yield watching


def test_the_seed_case(served: ServedConnector, tmp_path: Path) -> None:
    done = connectorctl(
        served.plane, "kubeconfig", str(served.key), "--service-account", f"{served.namespace}/default",
        "--proxy", f"http://127.0.0.1:{served.proxy.port}", "--confdir", str(served.proxy.confdir),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "kubeconfig"
    path.write_text(done.stdout)
    kubectl = Kubectl(served.plane.programs / "kubectl", path)
    assert served.checked_whoami(kubectl) == "target"
    assert "forbidden" in kubectl.run("get", "namespaces").stderr.lower()
    assert "kube-root-ca.crt" not in kubectl("get", "configmaps", namespace=served.namespace)


def test_a_caller_without_the_right_learns_nothing(served: ServedConnector) -> None:
    served.plane.create_service_account(served.namespace, "stranger")
    stranger = served.caller_token("stranger")
    here, nowhere = (
        served.checked_connect(stranger),
        served.checked_connect(stranger, key=ObjectKey(served.namespace, "none")),
    )
    assert here.status == 403
    assert (here.status, here.phrase.replace("k8s", "none")) == (nowhere.status, nowhere.phrase)
    assert served.checked_connect(served.caller_token(), key=ObjectKey(served.namespace, "none")).status == 403
    kubectl = served.kubectl(stranger)
    wait_until(lambda: here.phrase in kubectl.run("get", "pods").stderr, "the refusal in the output of kubectl")


def test_a_binding_to_a_group_lets_its_members_in(served: ServedConnector) -> None:
    served.plane.create_service_account(served.namespace, "member")
    grant_use(
        served.plane,
        served.namespace,
        subject=group_subject(f"system:serviceaccounts:{served.namespace}"),
        name="group",
    )
    assert served.checked_whoami(served.kubectl(served.caller_token("member"))) == "target"


@pytest.mark.parametrize(
    ("audience", "lifetime"),
    [
        pytest.param("elsewhere", 3600, id="another audience"),
        pytest.param("connectors-proxy", -60, id="an expired token"),
    ],
)
def test_an_invalid_token_gets_407(served: ServedConnector, audience: str, lifetime: float) -> None:
    assert served.checked_connect(served.caller_token(audience=audience, lifetime=lifetime)).status == 407


def test_a_deleted_service_account_is_refused(served: ServedConnector) -> None:
    served.plane.create_service_account(served.namespace, "leaver")
    grant_use(served.plane, served.namespace, subject=account_subject(served.namespace, "leaver"), name="leaver")
    token = served.caller_token("leaver")
    assert served.checked_connect(token).status == 200
    served.plane.kubectl("delete", "serviceaccount", "leaver", namespace=served.namespace)
    wait_until(lambda: served.connect(token).status == 407, "the token of a deleted ServiceAccount to be refused")


def test_a_rotated_token_is_used_by_the_next_request_and_closes_nothing(
    served: ServedConnector, tmp_path: Path
) -> None:
    kubectl = served.kubectl()
    with watch(served, kubectl, tmp_path) as watching:
        served.rotate(account="other")
        wait_until(lambda: served.whoami(kubectl) == "other", "the next request to use the new token")
        served.plane.kubectl("create", "configmap", "after", namespace=served.namespace)
        wait_until(lambda: watching.has_seen("configmap/after"), "the old stream to go on")
        assert watching.is_running


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param(("delete", "connector", "k8s"), 403, id="the Connector is deleted"),
        pytest.param(("delete", "secret", "k8s-secret"), 503, id="its Secret is deleted"),
        pytest.param(
            ("patch", "connector", "k8s", "--type=merge", "-p", '{"spec": {"address": "https://192.0.2.1:6443"}}'),
            403,
            id="its address is changed",
        ),
    ],
)
def test_a_change_closes_live_connections_and_refuses_new_requests(
    served: ServedConnector, tmp_path: Path, change: tuple[str, ...], status: int
) -> None:
    with watch(served, served.kubectl(), tmp_path) as watching:
        served.plane.kubectl(*change, namespace=served.namespace)
        watching.wait_for_end()
    assert served.checked_connect(served.caller_token()).status == status


def test_a_revoked_right_closes_live_connections_within_the_recheck(served: ServedConnector, tmp_path: Path) -> None:
    with watch(served, served.kubectl(), tmp_path) as watching:
        served.plane.kubectl("delete", "rolebinding", "use", namespace=served.namespace)
        watching.wait_for_end()
    assert served.checked_connect(served.caller_token()).status == 403


def test_expiry_closes_no_live_connection_and_refuses_the_next_request(served: ServedConnector, tmp_path: Path) -> None:
    token = served.caller_token(lifetime=60)
    with watch(served, served.kubectl(token), tmp_path) as watching:
        wait_until(lambda: served.connect(token).status == 407, "the token to expire")
        served.plane.kubectl("create", "configmap", "later", namespace=served.namespace)
        wait_until(lambda: watching.has_seen("configmap/later"), "the stream to go on after the expiry")
        assert watching.is_running


def test_an_invalid_connector_does_not_affect_others(served: ServedConnector) -> None:
    served.plane.api.apply(
        secret("bad", token="two\nlines"), connector("bad", secret="bad"), namespace=served.namespace
    )
    bad = ObjectKey(served.namespace, "bad")
    wait_until(lambda: served.connect(served.caller_token(), key=bad).status == 503, "the neighbour to be seen")
    assert served.checked_whoami(served.kubectl()) == "target"


def test_loopback_is_not_a_target_unless_it_is_allowed(served: ServedConnector, tmp_path: Path) -> None:
    strict = cluster_proxy(tmp_path / "strict", served.plane, options={"connector_targets_allow": ""})
    with strict:
        answer = checked_connect(strict, served.key, served.caller_token(), served.plane.url.removeprefix("https://"))
    assert answer.status == 503
    assert "127.0.0.1" in answer.phrase


def test_the_settings_come_from_the_config_map_too(
    plane: ControlPlane, served: ServedConnector, tmp_path: Path
) -> None:
    plane.api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "connectors-config"},
            "data": {"audience": "another"},
        },
        namespace="connectors-system",
    )
    try:
        other = cluster_proxy(tmp_path / "other", plane)
        with other:
            authority = plane.url.removeprefix("https://")
            assert checked_connect(other, served.key, served.caller_token(audience="another"), authority).status == 200
            assert checked_connect(other, served.key, served.caller_token(), authority).status == 407
    finally:
        plane.kubectl("delete", "configmap", "connectors-config", namespace="connectors-system")


def test_no_token_is_in_what_the_proxy_printed(served: ServedConnector, proxy: RunningProxy) -> None:
    token = served.caller_token()
    assert served.checked_whoami(served.kubectl(token)) == "target"
    printed = proxy.log.read_text(errors="replace")
    assert token not in printed
    assert "eyJ" not in printed
