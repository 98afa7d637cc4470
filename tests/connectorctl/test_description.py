"""Description of a Connector: each part as data and as a line."""

import time

import click
import jwt
import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Secret
from connector_store.domain.status.status import Condition
from connector_store.store import Store
from connectorctl.description import ConnectorDetails, build_description, render_description
from connectorctl.inventory import Inventory

KEY = ObjectKey("a", "k8s")
PERMISSIONS = {
    "allow": [{"clusterRole": "view", "namespaces": ["web", "api"]}, {"clusterRole": "nodes"}],
    "deny": [{"clusterRole": "connectors-credentials"}],
    "onRequest": {"allow": [{"clusterRole": "edit", "namespaces": ["web"]}]},
    "mask": [{"resources": ["secrets"]}],
    "dryRun": True,
}
CONDITION = Condition(type="Ready", status="False", reason="SecretNotFound", message="create Secret s")
EVENT = {"time": "2026-01-01T00:00:00Z", "type": "Warning", "reason": "NotReady", "message": "two\nlines"}


def make_details(address: str = "https://192.0.2.1:6443", **spec: object) -> ConnectorDetails:
    auth = {"name": "bearerTokenAuth", "secretRef": {"name": "s"}}
    whole = {"connectorClassName": "k8s", "address": address, "auth": auth, **spec}
    store = Store()
    token = jwt.encode({"exp": int(time.time()) + 7260}, "0" * 32)
    secret = Secret(
        key=ObjectKey("a", "s"),
        type="connectors.cpaas.io/bearer-token",
        credential=BearerToken(token),
    )
    store.replace("x", [parse_connector({"metadata": {"name": "k8s", "namespace": "a"}, "spec": whole}), secret])
    return ConnectorDetails(
        inventory=Inventory(store=store),
        callers=["Group ci"],
        conditions=[CONDITION],
        events=[EVENT],
        kubeconfig_command="connectorctl kubeconfig a/k8s",
    )


def describe(details: ConnectorDetails) -> dict[str, str]:
    """Return the value by the label of each line. Lines without a label belong to the label before them."""
    lines: dict[str, str] = {}
    label = ""
    for line in click.unstyle(render_description(build_description(details, KEY))).splitlines():
        label = line[:14].strip().rstrip(":") or label
        lines[label] = f"{lines[label]} | {line[14:]}" if label in lines else line[14:]
    return lines


def test_a_limited_connector_has_each_limit_in_words() -> None:
    lines = describe(make_details(permissions=PERMISSIONS, impersonate={}, limits={"requestsPerSecond": 5}))
    assert lines["Connector"] == "a/k8s"
    assert lines["Address"] == "https://192.0.2.1:6443"
    assert lines["Auth"] == "bearerTokenAuth from Secret s"
    assert lines["Impersonates"] == "the caller"
    assert lines["Allows"] == "ClusterRole view in namespaces api, web | ClusterRole nodes in all namespaces"
    assert lines["Denies"] == "ClusterRole connectors-credentials in all namespaces"
    assert lines["On request"] == "ClusterRole edit in namespaces web"
    assert (lines["Masks"], lines["Dry run"]) == ("secrets", "each write changes nothing")
    assert lines["Limits"] == "requests per second: 5"
    assert lines["Callers"] == "Group ci"
    assert lines["Conditions"] == "Ready  False  SecretNotFound  create Secret s"
    assert lines["Events"].startswith("2026-01-01T00:00:00Z  Warning  NotReady  two")
    assert lines["Kubeconfig"] == "connectorctl kubeconfig a/k8s"


def test_only_words_that_say_whether_it_works_are_coloured() -> None:
    coloured = [
        line for line in render_description(build_description(make_details(), KEY)).splitlines() if "\x1b" in line
    ]
    assert coloured == [
        "Usable:       \x1b[31mno\x1b[0m",
        "Conditions:   Ready  \x1b[31mFalse\x1b[0m  SecretNotFound  create Secret s",
    ]


def test_an_unlimited_connector_says_so() -> None:
    lines = describe(make_details())
    assert lines["Allows"] == "everything that the credential can do"
    assert lines["Credential"] == "expires in 2 h"
    absent = ("Impersonates", "Denies", "On request", "Masks", "Dry run", "Limits")
    assert [lines[name] for name in absent] == ["no", "none", "none", "none", "no", "none"]


def test_locks_in_force_are_shown_if_there_are_any() -> None:
    details = make_details()
    assert "locks" not in build_description(details, KEY)
    lock = AccessLock(
        key=ObjectKey("a", "k8s-1"), users=frozenset({"jane"}), until=4102444800.0, reason="stolen laptop"
    )
    others = AccessLock(key=ObjectKey("a", "k8s-2"), groups=frozenset({"ops"}), reason="x\ny")
    elsewhere = AccessLock(key=ObjectKey("b", "l"), reason="x")
    details.inventory.store.replace("locks", [lock, others, elsewhere])
    assert [each["name"] for each in build_description(details, KEY)["locks"]] == ["k8s-1", "k8s-2"]
    assert describe(details)["Locks"] == (
        "a/k8s-1  jane  until 2100-01-01T00:00:00Z  stolen laptop | a/k8s-2  group ops  x?y"
    )


def test_an_invalid_connector_has_the_reason_and_no_spec() -> None:
    lines = describe(make_details(address="ftp://x"))
    assert lines["Usable"].startswith("no | ")
    assert "spec.address" in lines["Usable"]
    assert lines["Credential"] == "no known expiry"
    assert "Allows" not in lines


def test_a_connector_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ParseError, match='"absent" not found in namespace "a"'):
        build_description(make_details(), ObjectKey("a", "absent"))
