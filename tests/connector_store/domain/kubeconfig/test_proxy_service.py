from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import (
    ALIAS_SELECTOR,
    MANAGED_BY,
    MANAGER,
    Service,
    alias_service_name,
    alias_url,
    connector_of_alias,
    is_alias,
    is_alias_service,
    parse_service,
    proxy_url_for,
)

KEY = ObjectKey("team-a", "k8s")
HOST = "connectors-proxy.connectors-system.svc.cluster.local"


def raw(**changes: Any) -> dict[str, Any]:
    """Return a Service from the API server, with `changes` in its metadata."""
    owner = {"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector", "name": "k8s", "uid": "u1"}
    metadata = {
        "name": "c-k8s",
        "namespace": "team-a",
        "uid": "s1",
        "resourceVersion": "7",
        "labels": {MANAGED_BY: MANAGER},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata | changes, "spec": {"type": "ExternalName", "externalName": HOST}}


GOOD = parse_service(raw())


@pytest.mark.parametrize(
    ("connector", "name"),
    [
        pytest.param("k8s", "c-k8s", id="a short one"),
        pytest.param("x" * 61, "c-" + "x" * 61, id="61 characters"),
        pytest.param("x" * 62, None, id="62 characters"),
        pytest.param("a.b", None, id="a dot"),
    ],
)
def test_names(connector, name) -> None:
    assert alias_service_name(connector) == name


def test_the_connector_of_a_service() -> None:
    assert connector_of_alias(ObjectKey("team-a", "c-k8s")) == ObjectKey("team-a", "k8s")


def test_the_alias_url() -> None:
    url = alias_url(ObjectKey("team-a", "k8s"), "cluster.local")
    assert url == "http://c-k8s.team-a.svc.cluster.local"


def test_the_selector_selects_the_label() -> None:
    assert ALIAS_SELECTOR == f"{MANAGED_BY}={MANAGER}" == "app.kubernetes.io/managed-by=connectors-controller"


def test_a_service_is_parsed() -> None:
    assert (
        Service(
            key=ObjectKey("team-a", "c-k8s"),
            uid="s1",
            resource_version="7",
            is_managed=True,
            owner_name="k8s",
            owner_uid="u1",
            external_name=HOST,
        )
        == GOOD
    )


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        pytest.param(raw(), True, id="the controller's own"),
        pytest.param(raw(labels=None), False, id="without a label"),
        pytest.param(raw(labels={MANAGED_BY: "helm"}), False, id="another label"),
        pytest.param(raw(ownerReferences=None), False, id="without an owner"),
        pytest.param(
            raw(ownerReferences=[{"kind": "Connector", "apiVersion": "other/v1", "name": "k8s", "uid": "u1"}]),
            False,
            id="owned by another group's Connector",
        ),
        pytest.param(
            raw(ownerReferences=[{"kind": "Pod", "apiVersion": "v1", "name": "k8s", "uid": "u1"}]),
            False,
            id="owned by another kind",
        ),
        *(
            pytest.param(raw(ownerReferences=[owner | change]), False, id=f"owned by {owner_text}")
            for change, owner_text in (
                ({"kind": "ConnectorClass"}, "another kind of the group"),
                ({"name": "other"}, "another Connector"),
                ({"uid": "u0"}, "a deleted Connector of that name"),
                ({"apiVersion": "connectors.alauda.io.evil/v1"}, "a group with that prefix"),
            )
            for owner in raw()["metadata"]["ownerReferences"]
        ),
        pytest.param(raw() | {"spec": {"type": "ExternalName", "externalName": "evil"}}, False, id="leads elsewhere"),
        pytest.param(raw() | {"spec": {"externalName": HOST}}, False, id="not an ExternalName"),
        pytest.param({"metadata": raw()["metadata"]}, False, id="without a spec"),
        pytest.param(raw(name="c-other"), False, id="the name of another alias"),
        pytest.param(raw(namespace="team-b"), False, id="another namespace"),
    ],
)
def test_a_service_is_the_alias_only_if_label_owner_and_target_match(service: dict[str, Any], expected: bool) -> None:
    assert is_alias_service(parse_service(service), KEY, "u1", HOST) is expected


def test_a_recreated_connector_has_no_alias_yet() -> None:
    assert not is_alias_service(GOOD, KEY, "u2", HOST)
    assert not is_alias_service(replace(GOOD, owner_name="other"), KEY, "u1", HOST)


@pytest.mark.parametrize(
    ("settings", "alias_verified", "expected"),
    [
        pytest.param(Settings(), True, "http://c-k8s.team-a.svc.cluster.local", id="the verified alias"),
        pytest.param(Settings(), False, f"http://{HOST}", id="the proxy's own Service"),
        pytest.param(Settings(proxy_service=None), True, None, id="no Service of the proxy"),
        pytest.param(Settings(proxy_tls=True), True, "https://c-k8s.team-a.svc.cluster.local", id="the alias with TLS"),
        pytest.param(Settings(proxy_tls=True), False, f"https://{HOST}", id="the proxy's own Service with TLS"),
    ],
)
def test_the_proxy_url_for_a_kubeconfig(settings: Settings, alias_verified: bool, expected: str | None) -> None:
    assert proxy_url_for(KEY, settings, alias_verified=alias_verified) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("c-k8s.team-a.svc.cluster.local", True),
        ("c-k8s.team-b.svc.cluster.local", False),
        ("c-k8s.team-a", False),
        (HOST, False),
    ],
)
def test_a_host_is_the_alias_of_one_connector(host: str, expected: bool) -> None:
    assert is_alias(host, KEY) is expected
