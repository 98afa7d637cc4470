from dataclasses import replace
from typing import Any

import pytest

from connector_controller.services import (
    NAME_NOT_ALLOWED,
    NON_PROXY,
    belongs_to,
    build_service,
    conflict,
    not_found,
    proxy_missing,
    repair_patch,
)
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import is_alias_service, parse_service

KEY = ObjectKey("team-a", "k8s")
HOST = "connectors-proxy.connectors-system.svc.cluster.local"
BODY = build_service(KEY, "u1", HOST)


def raw(**metadata: Any) -> dict[str, Any]:
    return {**BODY, "metadata": {**BODY["metadata"], "uid": "s1", "resourceVersion": "7", **metadata}}


GOOD = parse_service(raw())


def test_the_built_service_is_a_valid_alias_service() -> None:
    assert (BODY["apiVersion"], BODY["kind"]) == ("v1", "Service")
    assert is_alias_service(GOOD, KEY, "u1", HOST)
    assert belongs_to(GOOD, KEY)
    owner = BODY["metadata"]["ownerReferences"][0]
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, False)


@pytest.mark.parametrize(
    ("service", "ours"),
    [
        pytest.param(replace(GOOD, is_managed=False), False, id="it has not our label, whoever owns it"),
        pytest.param(replace(GOOD, owner_uid="old"), True, id="the Connector was made anew"),
        pytest.param(replace(GOOD, external_name="evil"), True, id="it leads elsewhere"),
        pytest.param(replace(GOOD, external_name=None), True, id="it became another type"),
        pytest.param(replace(GOOD, owner_uid="", owner_name=None), False, id="it has our label only"),
        pytest.param(replace(GOOD, owner_name="other"), False, id="another Connector's"),
        pytest.param(parse_service({"metadata": {"name": "c-k8s", "namespace": "team-a"}}), False, id="a stranger's"),
    ],
)
def test_a_changed_service_is_repaired_if_it_belongs_to_the_connector(service, ours) -> None:
    assert not is_alias_service(service, KEY, "u1", HOST)
    assert belongs_to(service, KEY) is ours


def test_a_repair_patch_restores_the_service_and_has_its_resource_version() -> None:
    assert repair_patch(replace(GOOD, external_name="evil"), BODY) == {
        "metadata": {
            "resourceVersion": "7",
            "labels": BODY["metadata"]["labels"],
            "ownerReferences": BODY["metadata"]["ownerReferences"],
        },
        # The fields of other Service types are removed. Otherwise the API server refuses them, or they lead elsewhere.
        "spec": {
            "type": "ExternalName",
            "externalName": HOST,
            "clusterIP": None,
            "clusterIPs": None,
            "ports": None,
            "selector": None,
        },
    }


def test_assessments_have_a_reason() -> None:
    assert [(each.holds, each.reason) for each in (NON_PROXY, NAME_NOT_ALLOWED, conflict("c-k8s"))] == [
        (True, "NonProxy"),
        (False, "NameNotAllowed"),
        (False, "ProxyServiceConflict"),
    ]
    for assessment in (not_found("c-k8s", "quota"), proxy_missing(KEY)):
        assert (assessment.holds, assessment.reason) == (False, "ProxyServiceNotFound")
    assert "61 characters" in NAME_NOT_ALLOWED.message
    assert "proxy-service is empty" in NON_PROXY.message


def test_assessments_name_the_service() -> None:
    assert 'services "c-k8s" exists' in conflict("c-k8s").message
    assert not_found("c-k8s", "quota").message == 'services "c-k8s": quota'
    assert 'not found in namespace "sys"' in proxy_missing(ObjectKey("sys", "px")).message
