"""AccessLocks in force, as data and as cells."""

from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.label_selector import LabelRequirement, ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.store import Store
from connectorctl.lock_rows import LOCK_HEADER, describe_locks, describe_locks_of, lock_cells
from tests.connector_store.domain.grants.access_objects import CONNECTOR, LOCK

SYSTEM = "connectors-system"
TEAM_B = replace(LOCK, key=ObjectKey("team-b", "b"))
EVERYWHERE = replace(LOCK, key=ObjectKey(SYSTEM, "all-1"))
ENDED = replace(LOCK, key=ObjectKey("team-a", "ended"), until=1.0)


def make_store(*locks: AccessLock) -> Store:
    store = Store()
    store.access.system_namespace = SYSTEM
    store.replace("locks", locks)
    return store


def cells(lock: AccessLock) -> dict[str, str]:
    (document,) = describe_locks(make_store(lock), None)
    return dict(zip(LOCK_HEADER, lock_cells(document), strict=True))


@pytest.mark.parametrize(
    ("namespace", "namespaces"),
    [(None, [SYSTEM, "team-a", "team-b"]), ("team-a", [SYSTEM, "team-a"]), (SYSTEM, [SYSTEM]), ("other", [SYSTEM])],
)
def test_the_locks_of_a_namespace_are_its_own_and_those_for_all(namespace: str | None, namespaces: list[str]) -> None:
    locks = describe_locks(make_store(LOCK, TEAM_B, EVERYWHERE, ENDED), namespace)
    assert [lock["namespace"] for lock in locks] == namespaces
    assert "ended" not in [lock["name"] for lock in locks]


def test_the_locks_of_a_connector_are_those_that_hold_for_it() -> None:
    other = replace(LOCK, key=ObjectKey("team-a", "o"), connector=ObjectSelector(names=frozenset({"other"})))
    locks = describe_locks_of(make_store(LOCK, TEAM_B, EVERYWHERE, ENDED, other), CONNECTOR)
    assert [lock["namespace"] for lock in locks] == [SYSTEM, "team-a"]


@pytest.mark.parametrize(
    ("change", "column", "text"),
    [
        pytest.param({}, "LOCK", str(LOCK.key), id="its name"),
        pytest.param({}, "CALLERS", "all callers", id="all callers"),
        pytest.param(
            {"users": frozenset({"joe", "jane"}), "groups": frozenset({"dev"})}, "CALLERS", "jane, joe, group dev",
            id="users and a group",
        ),
        pytest.param({}, "CONNECTORS", "all in team-a", id="all Connectors of a namespace"),
        pytest.param({"key": ObjectKey(SYSTEM, "l")}, "CONNECTORS", "all in all namespaces", id="all Connectors"),
        pytest.param(
            {"connector": ObjectSelector(names=frozenset({"prod", "dev"}))}, "CONNECTORS", "dev or prod in team-a",
            id="names",
        ),
        pytest.param(
            {
                "connector": ObjectSelector(
                    labels=(("env", "prod"),),
                    requirements=(LabelRequirement(key="tier", operator="In", values=frozenset({"b", "a"})),),
                )
            },
            "CONNECTORS", "label env=prod, label tier In a b in team-a",
            id="labels",
        ),
        pytest.param(
            {"secret_names": frozenset({"s"}), "addresses": frozenset({"h:6443"})},
            "CONNECTORS", "Secret s, address h:6443 in team-a",
            id="copies",
        ),
        pytest.param({}, "UNTIL", "", id="no end"),
        pytest.param({"until": 4102444800.0}, "UNTIL", "2100-01-01T00:00:00Z", id="an end"),
        pytest.param({"until": 253402304400.0}, "UNTIL", "9999-12-31T23:59:59Z", id="after the last year"),
        pytest.param({"reason": "stolen laptop"}, "REASON", "stolen laptop", id="its reason"),
        pytest.param(
            {"problem": "spec.until: no"}, "REASON", "for all, because the lock has an error: spec.until: no",
            id="an error",
        ),
    ],
)  # fmt: skip
def test_each_cell_says_one_thing(change: dict[str, Any], column: str, text: str) -> None:
    assert cells(replace(LOCK, **change))[column] == text


def test_data_has_each_caller() -> None:
    (document,) = describe_locks(make_store(replace(LOCK, users=frozenset({"b", "a"}), reason="x")), None)
    assert document == {
        "namespace": "team-a",
        "name": LOCK.key.name,
        "users": ["a", "b"],
        "groups": [],
        "connectors": "all in team-a",
        "until": None,
        "reason": "x",
    }
