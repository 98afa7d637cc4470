"""Parts in a cluster with a real API server, which provides Connectors, callers and the proxy's CA."""

import asyncio
import base64
import socket
from pathlib import Path

import pytest

from addons.server.cluster import UnavailableAccess, resolve_own_addresses
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity, Unavailable
from lab.certificates import KeyPair, make_ca
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from tests.fakes.manifests import connector, secret
from tests.fakes.proxy import PATIENCE, ROOT, ClientConnection, Proxy, Response, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

USE = {"apiGroups": ["connectors.alauda.io"], "resources": ["connectors/proxy"], "verbs": ["use"]}


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    control_plane.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
    control_plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
    return control_plane


def may_use(namespace: str, account: str) -> list[dict[str, object]]:
    meta = {"name": "use", "namespace": namespace}
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [USE]},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "use"},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    ]


async def connect_checked(proxy: Proxy, authority: str, credentials: str) -> tuple[ClientConnection, Response]:
    """Send a CONNECT, again while the API server does not answer a review in time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            client, response = await proxy.connect(authority, credentials)
            if response.status != 503:
                return client, response
            client.close()
            await asyncio.sleep(0.1)


async def test_a_service_account_with_the_right_reaches_the_target_and_others_do_not(
    plane: ControlPlane,
    namespace: str,
    target: FakeTarget,
    confdir: Path,
    tmp_path: Path,
    target_ca: KeyPair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane.api.apply(
        connector("k8s", f"https://127.0.0.1:{target.port}", namespace=namespace),
        secret(namespace=namespace, ca=target_ca.pem),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": namespace}},
        *may_use(namespace, "default"),
    )
    wait_for_rbac(plane.api)
    signing = make_ca("shared CA")
    plane.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "ca", "namespace": namespace},
            "data": {"mitmproxy-ca.pem": base64.b64encode(signing.combined_pem).decode()},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "connectors-config", "namespace": namespace},
            "data": {"ca-secret": "ca", "targets-allow": "127.0.0.0/8"},
        },
    )
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    settings = {"connector_source": "kubernetes", "connector_system_namespace": namespace}
    async with running_proxy(tmp_path, confdir, **settings) as proxy:
        (confdir / "mitmproxy-ca-cert.pem").write_bytes(signing.pem)
        key, authority = f"{namespace}/k8s", f"127.0.0.1:{target.port}"
        good = plane.issue_token(namespace, "default", audiences=["connectors-proxy"], lifetime=600)
        client, answer = await connect_checked(proxy, authority, f"{key}:{good}")
        assert answer.status == 200
        await proxy.start_tls(client, "127.0.0.1")
        await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
        assert (await client.read_response()).status == 200
        other = plane.issue_token(namespace, "other", audiences=["connectors-proxy"], lifetime=600)
        wrong = plane.issue_token(namespace, "default", audiences=["somebody"], lifetime=600)
        for token, status in ((other, 403), (wrong, 407)):
            _, answer = await connect_checked(proxy, authority, f"{key}:{token}")
            assert answer.status == status
        plane.kubectl("delete", "connector", "k8s", namespace=namespace)
        await until(lambda: proxy.context.store.get(ObjectKey(namespace, "k8s")) is None)
        await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
        assert (await client.read_response()).status == 403


async def test_before_the_connection_to_the_api_server_every_caller_is_refused() -> None:
    access, key = UnavailableAccess(), ObjectKey("n", "a")
    assert isinstance(access.check_cached("t", key), Unavailable)
    assert isinstance(await access.check("t", key), Unavailable)
    assert isinstance(await access.recheck_token("t", Identity(user="u")), Unavailable)
    assert isinstance(await access.recheck_use("t", Identity(user="u"), key), Unavailable)


async def test_own_addresses_are_resolved_again_until_a_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | str] = [socket.EAI_AGAIN, "10.96.0.9", socket.EAI_NONAME]

    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        answer = answers.pop(0)
        if isinstance(answer, int):
            raise socket.gaierror(answer, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    problems = list[str]()
    assert await resolve_own_addresses(["proxy", None, "absent"], problems.append, retry=True, pause=0) == {"10.96.0.9"}
    assert len(problems) == 1
    assert "proxy" in problems[0]
    answers.append(socket.EAI_AGAIN)
    assert await resolve_own_addresses(["offline"], problems.append, retry=False) == set()
