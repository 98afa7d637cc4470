"""Manifests of AccessRequests, AccessApprovals and AccessLocks. The proxy's own parsers read them."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.names import ObjectKey, is_dns_subdomain
from connector_store.domain.objects.manifest_access import (
    MAX_DURATION,
    parse_access_approval,
    parse_access_lock,
    parse_access_request,
)
from connectorctl.access_manifests import (
    MAX_PREFIX,
    format_duration,
    make_approval,
    make_key,
    make_lock,
    make_request,
    make_subject,
)

ACCOUNT = "system:serviceaccount:ci:robot"
PROD = ObjectKey("a", "prod")
CREATED_AT = "2026-01-31T18:00:00Z"


def stored(manifest: dict[str, Any], uid: str = "u") -> dict[str, Any]:
    """Return the manifest as the API server stores it."""
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid, "creationTimestamp": CREATED_AT}}


def request(**fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "requester": "jane",
        "user": None,
        "duration": None,
        "reason": "x",
        "roles": (),
        "namespaces": (),
    }
    return make_request(PROD, **{**defaults, **fields})


@given(
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True).filter(is_dns_subdomain),
)
def test_every_name_of_a_connector_gives_names_of_objects(prefix: str) -> None:
    key = make_key("a", prefix)
    assert is_dns_subdomain(key.name)
    assert key.name.startswith(prefix[: MAX_PREFIX - 1].rstrip("-."))
    assert key != make_key("a", prefix)


@pytest.mark.parametrize("end", ["-", ".", ".-", "--"])
def test_a_long_name_is_cut_before_its_separators(end: str) -> None:
    prefix = "x" * (MAX_PREFIX - len(end)) + end + "y"
    name = make_key("a", prefix).name
    assert is_dns_subdomain(name)
    assert name.startswith("x" * (MAX_PREFIX - len(end)) + "-")


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("jane", {"kind": "User", "name": "jane"}),
        ("system:admin", {"kind": "User", "name": "system:admin"}),
        ("oidc:ci:robot", {"kind": "User", "name": "oidc:ci:robot"}),
        (ACCOUNT, {"kind": "ServiceAccount", "namespace": "ci", "name": "robot"}),
    ],
)
def test_the_subject_of_a_user_name(user: str, subject: dict[str, str]) -> None:
    assert make_subject(user) == subject


def test_a_request_is_for_the_requester_and_leaves_out_what_is_not_given() -> None:
    manifest = request()
    assert manifest["spec"] == {
        "requester": "jane",
        "subject": {"kind": "User", "name": "jane"},
        "connectorRef": {"name": "prod"},
        "reason": "x",
    }
    parsed = parse_access_request(stored(manifest))
    assert (parsed.problem, parsed.subject, parsed.connector, parsed.duration) == ("", "jane", "prod", None)
    assert (parsed.key.namespace, parsed.has_reason, parsed.roles) == ("a", True, ())


@pytest.mark.parametrize("user", ["joe", ACCOUNT])
def test_a_request_for_another_user_names_both(user: str) -> None:
    parsed = parse_access_request(stored(request(user=user)))
    assert (parsed.problem, parsed.requester, parsed.subject) == ("", "jane", user)


@pytest.mark.parametrize(
    ("namespaces", "parsed_namespaces"), [((), None), (("web", "db"), frozenset({"web", "db"}))], ids=["all", "two"]
)
def test_each_role_of_a_request_is_for_all_its_namespaces(
    namespaces: tuple[str, ...], parsed_namespaces: frozenset[str] | None
) -> None:
    parsed = parse_access_request(stored(request(roles=("edit", "view"), namespaces=namespaces)))
    assert [(role.cluster_role, role.namespaces) for role in parsed.roles] == [
        ("edit", parsed_namespaces),
        ("view", parsed_namespaces),
    ]


@given(st.integers(1, int(MAX_DURATION)))
def test_every_duration_is_read_back(seconds: int) -> None:
    text = format_duration(seconds)
    assert parse_duration(text) == seconds
    assert len(text) <= 16, "the limit of the CustomResourceDefinition"
    assert parse_access_request(stored(request(duration=seconds))).duration == seconds


@pytest.mark.parametrize("decision", ["Approved", "Denied"])
def test_an_approval_names_the_uids(decision: Literal["Approved", "Denied"]) -> None:
    policy = {"metadata": {"name": "on-call", "namespace": "a", "uid": "p-1"}}
    asked = stored(request(), "r-1")
    manifest = make_approval(asked, policy, by="joe", decision=decision, comment=None)
    assert "comment" not in manifest["spec"]
    parsed = parse_access_approval(stored(manifest))
    assert (parsed.key.namespace, parsed.request_name) == ("a", asked["metadata"]["name"])
    assert (parsed.request_uid, parsed.policy_name, parsed.policy_uid) == ("r-1", "on-call", "p-1")
    assert (parsed.by, parsed.is_approved) == ("joe", decision == "Approved")
    commented = make_approval(asked, policy, by="joe", decision=decision, comment="fine")
    assert commented["spec"]["comment"] == "fine"


@pytest.mark.parametrize(
    ("users", "groups", "expected"),
    [
        ((), (), (set(), set())),
        (("joe", ACCOUNT), (), ({"joe", ACCOUNT}, set())),
        ((), ("devs",), (set(), {"devs"})),
        (("joe",), ("devs",), ({"joe"}, {"devs"})),
    ],
    ids=["all callers", "users", "a group", "a user and a group"],
)
def test_a_lock_is_for_its_callers(
    users: tuple[str, ...], groups: tuple[str, ...], expected: tuple[set[str], set[str]]
) -> None:
    manifest = make_lock("a", "prod", users=users, groups=groups, reason="stolen", until=None)
    assert ("subjects" in manifest["spec"]) == bool(users or groups), "an empty list is not valid"
    lock = parse_access_lock(manifest)
    assert lock.problem == ""
    assert (set(lock.users), set(lock.groups)) == expected
    assert (lock.reason, lock.until) == ("stolen", None)


def test_a_lock_is_for_one_connector_or_for_all_and_can_end() -> None:
    one = make_lock("a", "prod", users=(), groups=(), reason="x", until="2026-01-31T18:00:00Z")
    assert one["metadata"]["name"].startswith("prod-")
    lock = parse_access_lock(one)
    assert lock.connector.matches("prod", {})
    assert not lock.connector.matches("other", {})
    assert lock.until is not None
    all_connectors = make_lock("a", None, users=(), groups=(), reason="x", until=None)
    assert all_connectors["metadata"]["name"].startswith("all-")
    assert parse_access_lock(all_connectors).connector.matches("other", {})
