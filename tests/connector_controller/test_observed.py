from typing import Any

from connector_controller.observed import ObjectCache, ObservedConnector, parse_observed_class, parse_observed_connector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Connector, InvalidConnector


def raw(name: str = "k8s", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2},
        "spec": {
            "connectorClassName": "k8s",
            "address": "https://h:6443",
            "auth": {"secretRef": {"name": "s"}},
            **spec,
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 1},
    }


def test_a_connector_is_parsed_with_its_status() -> None:
    observed = parse_observed_connector(raw())
    assert observed is not None
    assert isinstance(observed.connector, Connector)
    assert observed.key == ObjectKey("a", "k8s")
    assert (observed.connector.resource_version, observed.status.observed_generation) == ("7", 1)
    assert not observed.is_deleting


def test_a_connector_that_waits_for_finalizers_is_deleting() -> None:
    going = raw()
    going["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    observed = parse_observed_connector(going)
    assert observed is not None
    assert observed.is_deleting


def test_an_unusable_connector_is_parsed_and_one_without_a_name_is_not(caplog) -> None:
    observed = parse_observed_connector(raw(address="ftp://h"))
    assert observed is not None
    assert isinstance(observed.connector, InvalidConnector)
    assert parse_observed_connector({"metadata": {}}) is None
    assert parse_observed_class({"metadata": {}}) is None
    assert len(caplog.records) == 2


def test_a_class_is_parsed_with_its_resource_version() -> None:
    observed = parse_observed_class({"metadata": {"name": "k8s", "resourceVersion": "9"}, "spec": {}})
    assert observed is not None
    assert (observed.key, observed.resource_version) == ("k8s", "9")


def test_an_equal_object_of_another_version_is_stored_and_not_reported() -> None:
    """Our own write may change nothing, or only fields that we do not read. The next write needs its version."""
    changed_keys: list[ObjectKey] = []
    registry: ObjectCache[ObjectKey, ObservedConnector] = ObjectCache(lambda each: each.key, changed_keys.append)
    versions = list[str]()
    for version in ("1", "2"):
        one = raw()
        one["metadata"]["resourceVersion"] = version
        observed = parse_observed_connector(one)
        assert observed is not None
        registry.put(observed)
        cached = registry.get(observed.key)
        assert cached is not None
        versions.append(cached.connector.resource_version)
    assert len(changed_keys) == 1
    assert versions == ["1", "2"]


def test_a_cache_reports_only_changed_keys() -> None:
    changed_keys: list[str] = []
    registry: ObjectCache[str, tuple[str, int]] = ObjectCache(lambda each: each[0], changed_keys.append)
    registry.replace((("a", 1), ("b", 1)))
    registry.replace((("a", 1), ("c", 1)))
    assert sorted(changed_keys) == ["a", "b", "b", "c"]
    changed_keys.clear()
    registry.put(("a", 1))
    registry.put(("a", 2))
    registry.remove(("c", 1))
    registry.remove(("c", 1))
    assert changed_keys == ["a", "c"]
    assert registry.get("a") == ("a", 2)
    assert registry.get("c") is None
    assert list(registry) == [("a", 2)]
