"""Which Services lead to the proxy, by a watch and by one read. tests/cluster/deploy uses real Services."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import ALIAS_SELECTOR, MANAGED_BY, MANAGER, Service, parse_service
from connector_store.kube.aliases import Aliases, leads_to_proxy
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import SERVICES
from tests.fakes.api_server import FakeApiServer, refusal

KEY = ObjectKey("team-a", "k8s")
HOST = "connectors-proxy.connectors-system.svc.cluster.local"


def raw(name: str = "k8s", uid: str = "u1", **spec: Any) -> dict[str, Any]:
    owner = {"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "name": name, "uid": uid}
    labels = {MANAGED_BY: MANAGER}
    return {
        "metadata": {"name": f"c-{name}", "namespace": "team-a", "labels": labels, "ownerReferences": [owner]},
        "spec": {"type": "ExternalName", "externalName": HOST} | spec,
    }


GOOD = parse_service(raw())
EVIL = replace(GOOD, external_name="evil")


def test_only_the_owning_connector_has_the_alias() -> None:
    aliases = Aliases(HOST)
    assert not aliases.has_alias(KEY, "u1")
    aliases.update(KEY, GOOD)
    assert aliases.has_alias(KEY, "u1")
    assert not aliases.has_alias(KEY, "u2")
    assert not aliases.has_alias(ObjectKey("team-b", "k8s"), "u1")


def test_a_connector_without_uid_has_none() -> None:
    aliases = Aliases(HOST)
    aliases.update(KEY, replace(GOOD, owner_uid=""))
    assert not aliases.has_alias(KEY, "")


@pytest.mark.parametrize("now", [EVIL, None], ids=["edited", "deleted"])
def test_the_alias_is_removed_when_the_service_is(now: Service | None) -> None:
    aliases = Aliases(HOST)
    aliases.update(KEY, GOOD)
    assert aliases.has_alias(KEY, "u1")
    aliases.update(KEY, now)
    assert not aliases.has_alias(KEY, "u1")
    assert len(aliases) == 0


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        pytest.param(raw(), True, id="ours"),
        pytest.param(raw(externalName="evil"), False, id="edited"),
        pytest.param(raw(uid="u2"), False, id="another Connector's of that name"),
        pytest.param(raw("other"), False, id="none of that name"),
    ],
)
async def test_one_read_finds_out_if_the_service_leads_to_the_proxy(
    server: FakeApiServer, service: dict[str, Any], expected: bool
) -> None:
    await server.put(SERVICES, service)
    async with KubeClient(server.configuration) as client:
        assert await leads_to_proxy(client, KEY, "u1", HOST) is expected
        [(_, _, query)] = server.requests
        assert (query["fieldSelector"], query["labelSelector"]) == ("metadata.name=c-k8s", ALIAS_SELECTOR)


async def test_a_name_that_no_service_can_have_is_not_read(server: FakeApiServer) -> None:
    async with KubeClient(server.configuration) as client:
        assert not await leads_to_proxy(client, ObjectKey("team-a", "a.b"), "u1", HOST)
    assert server.requests == []


async def test_a_refused_read_is_logged_and_returns_false(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(SERVICES, raw())
    server.faults.append(lambda _: refusal(403, "Forbidden", "services is forbidden"))
    async with KubeClient(server.configuration) as client:
        with caplog.at_level(logging.WARNING):
            assert not await leads_to_proxy(client, KEY, "u1", HOST)
    assert "'c-k8s'" in caplog.text
    assert "services is forbidden" in caplog.text
