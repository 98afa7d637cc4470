"""Who is locked out of which Connector."""

from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.label_selector import ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.grants.locks import applies_to, find_lock, is_in_force
from connector_store.domain.objects.models import Address
from tests.connector_store.domain.grants.access_objects import CONNECTOR, JANE, LOCK, NOW

SYSTEM = "connectors-system"


@pytest.mark.parametrize(
    ("change", "applies"),
    [
        pytest.param({}, True, id="a lock without limits, in the Connector's namespace"),
        pytest.param({"key": ObjectKey("team-b", "l")}, False, id="a lock of another namespace"),
        pytest.param({"key": ObjectKey(SYSTEM, "l")}, True, id="a lock of the installation's namespace"),
        pytest.param({"connector": ObjectSelector(names=frozenset({"prod"}))}, True, id="its name"),
        pytest.param({"connector": ObjectSelector(names=frozenset({"dev"}))}, False, id="another name"),
        pytest.param({"connector": ObjectSelector(labels=(("env", "prod"),))}, True, id="its label"),
        pytest.param({"connector": ObjectSelector(labels=(("env", "dev"),))}, False, id="another label"),
        pytest.param({"secret_names": frozenset({"token"})}, True, id="its Secret"),
        pytest.param({"secret_names": frozenset({"other"})}, False, id="another Secret"),
        pytest.param({"addresses": frozenset({"h:6443"})}, True, id="its address"),
        pytest.param({"addresses": frozenset({"h:443"})}, False, id="another address"),
        pytest.param(
            {"secret_names": frozenset({"token"}), "addresses": frozenset({"h:443"})}, False, id="all must match"
        ),
        pytest.param({"problem": "spec.subjects: is not a list"}, True, id="a lock that cannot be parsed"),
    ],
)
def test_a_lock_is_for_a_connector(change: dict[str, Any], applies: bool) -> None:
    assert applies_to(replace(LOCK, **change), CONNECTOR, SYSTEM) is applies


def test_a_copy_of_a_connector_is_locked_by_its_secret_and_its_address() -> None:
    copy = replace(CONNECTOR, key=ObjectKey("team-a", "copy"), labels={})
    elsewhere = replace(copy, key=ObjectKey("team-b", "copy"), secret_name="other")
    assert applies_to(replace(LOCK, secret_names=frozenset({"token"})), copy, SYSTEM)
    by_address = replace(LOCK, key=ObjectKey(SYSTEM, "l"), addresses=frozenset({"h:6443"}))
    assert applies_to(by_address, elsewhere, SYSTEM)
    assert not applies_to(by_address, replace(elsewhere, address=Address(host="i", port=6443)), SYSTEM)


@pytest.mark.parametrize(
    ("change", "now", "holds"),
    [
        pytest.param({}, NOW, True, id="all callers"),
        pytest.param({"users": frozenset({"jane"})}, NOW, True, id="the user"),
        pytest.param({"users": frozenset({"joe"})}, NOW, False, id="another user"),
        pytest.param({"groups": frozenset({"dev"})}, NOW, True, id="a group of the user"),
        pytest.param({"groups": frozenset({"ops"})}, NOW, False, id="another group"),
        pytest.param({"users": frozenset({"joe"}), "groups": frozenset({"dev"})}, NOW, True, id="user or group"),
        pytest.param({"until": NOW + 1}, NOW, True, id="before its end"),
        pytest.param({"until": NOW}, NOW, False, id="at its end"),
    ],
)
def test_a_lock_holds_for_a_caller(change: dict[str, Any], now: float, holds: bool) -> None:
    lock = replace(LOCK, **change)
    assert find_lock([lock], JANE, now) == (lock if holds else None)


@pytest.mark.parametrize(
    ("until", "expected"), [(None, True), (NOW + 1, True), (NOW, False)], ids=["no end", "before its end", "at its end"]
)
def test_a_lock_is_in_force_until_its_end(until: float | None, expected: bool) -> None:
    assert is_in_force(replace(LOCK, until=until), NOW) is expected


def test_the_exempt_group_is_never_locked_out() -> None:
    assert find_lock([LOCK], JANE, NOW, exempt_group="dev") is None
    assert find_lock([LOCK], JANE, NOW, exempt_group="break-glass") is LOCK
    assert find_lock([LOCK], replace(JANE, groups=("",)), NOW, exempt_group="") is LOCK
