"""Tokens and kubeconfig entries with a fake API server. tests/cluster/connectorctl uses a real one."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.proxy_service import MANAGED_BY, MANAGER
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, SERVICES
from connectorctl import cluster_tokens
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca
from tests.connectorctl.published_connector import CA, CALLER_OPTIONS, KEY, PUBLISHED, connector
from tests.fakes.api_server import FakeApiServer

SETTINGS = Settings()


def alias(**spec: str) -> dict[str, Any]:
    """Return the Connector's Service. The uids of the fake API server are paths."""
    uid = f"uid-{CONNECTORS.path(KEY.namespace, KEY.name)}"
    owner = {"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "name": KEY.name, "uid": uid}
    metadata = {"name": "c-k8s", "namespace": KEY.namespace, "labels": {MANAGED_BY: MANAGER}}
    return {
        "metadata": metadata | {"ownerReferences": [owner]},
        "spec": {"type": "ExternalName", "externalName": SETTINGS.proxy_host} | spec,
    }


async def entries(
    source_options: SourceOptions, caller_options: CallerOptions = CALLER_OPTIONS, proxy: str | None = None
) -> list[KubeconfigEntry]:
    return await asyncio.to_thread(
        cluster_tokens.build_entries, source_options, ClusterSource(), [KEY], caller_options, SETTINGS, proxy=proxy
    )


async def test_an_entry_has_the_published_address(server: FakeApiServer, source_options: SourceOptions) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED))
    await server.put(SERVICES, alias())
    (entry,) = await entries(source_options)
    assert (entry.key, entry.proxy, entry.ca, entry.token) == (KEY, PUBLISHED["url"], CA.pem, "token-of-robot")
    assert str(entry.address) == "https://192.0.2.1:6443"
    (body,) = [body["body"] for method, path, body in server.requests if method == "POST"]
    assert body["spec"] == {"audiences": ["own"], "expirationSeconds": CALLER_OPTIONS.ttl}


async def test_a_foreign_service_is_replaced_by_the_proxys_own(
    server: FakeApiServer, source_options: SourceOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED))
    await server.put(SERVICES, alias(externalName="evil.example"))
    (entry,) = await entries(source_options)
    assert entry.proxy == "http://connectors-proxy.connectors-system.svc.cluster.local"
    assert 'services "c-k8s" in namespace "a" is not seen to be the controller' in capsys.readouterr().err


async def test_a_published_url_without_a_service_is_used(server: FakeApiServer, source_options: SourceOptions) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED | {"url": "http://proxy.example"}))
    (entry,) = await entries(source_options)
    assert entry.proxy == "http://proxy.example"


async def test_flags_name_a_proxy_with_its_own_ca(
    server: FakeApiServer, source_options: SourceOptions, tmp_path: Path
) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED))
    other = make_ca()
    (tmp_path / CA_FILE).write_bytes(other.pem)
    (entry,) = await entries(source_options, replace(CALLER_OPTIONS, confdir=tmp_path), "http://127.0.0.1:1")
    assert (entry.proxy, entry.ca) == ("http://127.0.0.1:1", other.pem)


async def test_without_a_controller_the_proxy_option_is_required(
    server: FakeApiServer, source_options: SourceOptions
) -> None:
    await server.put(CONNECTORS, connector())
    with pytest.raises(ParseError, match="see that the controller runs"):
        await entries(source_options)


async def test_a_token_without_a_controller_has_the_audience_of_the_settings(
    server: FakeApiServer, source_options: SourceOptions
) -> None:
    await server.put(CONNECTORS, connector())
    assert (
        await asyncio.to_thread(
            cluster_tokens.issue_token, source_options, ClusterSource(), KEY, CALLER_OPTIONS, SETTINGS
        )
        == "token-of-robot"
    )
    (body,) = [body["body"] for method, path, body in server.requests if method == "POST"]
    assert body["spec"]["audiences"] == ["connectors-proxy"]


async def test_a_missing_connector_is_not_found(server: FakeApiServer, source_options: SourceOptions) -> None:
    with pytest.raises(ApiError) as refused:
        await entries(source_options)
    assert refused.value.status == 404


async def test_an_invalid_connector_has_a_reason(server: FakeApiServer, source_options: SourceOptions) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED, address="ftp://x"))
    with pytest.raises(ParseError, match=r"Connector a/k8s: spec\.address"):
        await entries(source_options)


async def test_a_token_needs_a_service_account(server: FakeApiServer, source_options: SourceOptions) -> None:
    await server.put(CONNECTORS, connector(PUBLISHED))
    with pytest.raises(ParseError, match="--service-account"):
        await entries(source_options, CallerOptions())
