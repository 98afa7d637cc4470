import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.limits import (
    Limits,
    LimitScope,
    Rate,
    parse_limits,
    plan_spending,
    request_rates,
    scopes_of,
    session_rate,
)
from connector_store.domain.permissions.request_attributes import RequestAttributes

ALL = Limits(
    requests_per_second=5, burst=9, writes_per_minute=4, deletes_per_hour=3, bulk_deletes_per_hour=2, sessions=1
)
KEY = ObjectKey("team-a", "k8s")
PODS = "/api/v1/namespaces/web/pods"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def attributes(method: str, target: str, *, is_upgrade: bool = False) -> RequestAttributes:
    return RequestAttributes(info=parse_request(method, target, ""), is_upgrade=is_upgrade)


def fields_of(limits: Limits, method: str, target: str, *, is_upgrade: bool = False) -> list[str]:
    return [rate.field for rate in request_rates(limits, attributes(method, target, is_upgrade=is_upgrade))]


READ, WRITE = ["requestsPerSecond"], ["requestsPerSecond", "writesPerMinute"]
DELETE, BULK = [*WRITE, "deletesPerHour"], [*WRITE, "bulkDeletesPerHour"]


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        pytest.param("GET", f"{PODS}/a", READ, id="get"),
        pytest.param("GET", PODS, READ, id="list"),
        pytest.param("GET", f"{PODS}?watch=1", READ, id="watch"),
        pytest.param("HEAD", f"{PODS}/a", READ, id="head"),
        pytest.param("GET", "/healthz", READ, id="another path"),
        pytest.param("GET", f"{PODS}/a/log?follow=true", READ, id="a log"),
        pytest.param("POST", "/healthz", WRITE, id="a write of another path"),
        pytest.param("POST", PODS, WRITE, id="create"),
        pytest.param("PUT", f"{PODS}/a", WRITE, id="update"),
        pytest.param("PATCH", f"{PODS}/a", WRITE, id="patch"),
        pytest.param("POST", f"{PODS}?dryRun=All", WRITE, id="a dry run"),
        pytest.param("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", READ, id="a self-review"),
        pytest.param("DELETE", "/apis/authorization.k8s.io/v1/x/a", DELETE, id="no review"),
        pytest.param("DELETE", f"{PODS}/a", DELETE, id="delete"),
        pytest.param("DELETE", "/api/v1/namespaces/web/%70ods/a", DELETE, id="delete, with an escape"),
        pytest.param("POST", f"{PODS}/a/eviction", DELETE, id="eviction"),
        pytest.param("DELETE", PODS, BULK, id="deletecollection"),
        pytest.param("DELETE", "/api/v1/namespaces/web", BULK, id="a namespace"),
        pytest.param("DELETE", f"{DEFINITIONS}/a", BULK, id="a CustomResourceDefinition"),
        pytest.param("GET", f"{PODS}/a/exec", WRITE, id="exec by GET"),
        pytest.param("PROPFIND", f"{PODS}/a", WRITE, id="an unknown method"),
        pytest.param("GET", "/api/v1/proxy/namespaces/web/pods/a", WRITE, id="the former proxy verb"),
    ],
)
def test_a_request_counts_against_the_limits_of_what_it_does(method: str, target: str, fields: list[str]) -> None:
    assert fields_of(ALL, method, target) == fields


def test_an_upgrade_of_a_subresource_is_a_write_and_a_session() -> None:
    console = "/apis/subresources.kubevirt.io/v1/namespaces/web/virtualmachineinstances/a/console"
    assert fields_of(ALL, "GET", console, is_upgrade=True) == WRITE
    for target, is_upgrade, is_session in (
        (console, True, True),
        (console, False, False),
        (f"{PODS}/a/exec", False, True),
        (f"{PODS}/a/portforward", True, True),
        (f"{PODS}/a/log", True, False),
        (f"{PODS}?watch=1", True, False),
        (f"{PODS}/a", False, False),
    ):
        rate = session_rate(ALL, attributes("GET", target, is_upgrade=is_upgrade))
        assert (rate is not None) is is_session, target
    assert session_rate(Limits(deletes_per_hour=1), attributes("GET", f"{PODS}/a/exec")) is None


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        pytest.param(Limits(requests_per_second=1), None, id="writes have no limit"),
        pytest.param(Limits(writes_per_minute=5), 0, id="writes have a limit"),
        pytest.param(Limits(deletes_per_hour=5), 0, id="deletions have a limit"),
        pytest.param(Limits(writes_per_minute=5, bulk_deletes_per_hour=2), 2, id="set"),
        pytest.param(Limits(bulk_deletes_per_hour=2), 2, id="alone"),
    ],
)
def test_bulk_deletions_are_refused_by_default_if_writes_have_a_limit(limits: Limits, count: int | None) -> None:
    rates = request_rates(limits, attributes("DELETE", PODS))
    assert next((rate.amount for rate in rates if rate.field == "bulkDeletesPerHour"), None) == count


@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "X"]),
    st.sampled_from([PODS, f"{PODS}/a", f"{PODS}/a/eviction", f"{PODS}/a/exec", DEFINITIONS, "/api/v1/watch/x", "/x"]),
)
def test_every_deletion_is_a_write_and_every_write_a_request(method: str, target: str) -> None:
    fields = fields_of(ALL, method, target)
    assert fields in (READ, WRITE, DELETE, BULK)
    if method == "DELETE" and target.startswith(PODS):
        assert fields in (DELETE, BULK)


def test_rates_have_their_period_and_burst() -> None:
    assert request_rates(ALL, attributes("DELETE", f"{PODS}/a")) == (
        Rate("requestsPerSecond", 5, "second", 9),
        Rate("writesPerMinute", 4, "minute", 4),
        Rate("deletesPerHour", 3, "hour", 3),
    )
    assert [rate.per_second for rate in request_rates(ALL, attributes("DELETE", PODS))] == [5, 4 / 60, 2 / 3600]
    [rate] = request_rates(Limits(requests_per_second=5), attributes("GET", PODS))
    assert rate.burst == 5


@pytest.mark.parametrize(
    ("user", "scopes"),
    [
        pytest.param("jane", [("", "jane", 1), ("connector", "", 16)], id="a user"),
        pytest.param(
            "system:serviceaccount:web:a",
            [("", "system:serviceaccount:web:a", 1), ("namespace", "web", 4), ("connector", "", 16)],
            id="a ServiceAccount",
        ),
        pytest.param("web:a", [("", "web:a", 1), ("connector", "", 16)], id="a user with a colon"),
        pytest.param(
            "system:serviceaccount:a", [("", "system:serviceaccount:a", 1), ("connector", "", 16)], id="no account"
        ),
    ],
)
def test_a_caller_shares_the_limits_of_its_namespace_and_of_the_connector(
    user: str, scopes: list[tuple[str, str, int]]
) -> None:
    assert [tuple(scope) for scope in scopes_of(user)] == scopes
    assert all(isinstance(scope, LimitScope) for scope in scopes_of(user))


def test_what_an_earlier_decision_counted_does_not_count_again() -> None:
    read = plan_spending(ALL, KEY, "1", "jane", attributes("GET", f"{PODS}/a"))
    deletion = plan_spending(ALL, KEY, "1", "jane", attributes("DELETE", f"{PODS}/a"))
    assert read.minus(None) == read
    assert read.minus(read).rates == ()
    assert [rate.field for rate in deletion.minus(read).rates] == ["writesPerMinute", "deletesPerHour"]
    for other in (deletion._replace(uid="2"), deletion._replace(key=ObjectKey("b", "b")), deletion._replace(scopes=())):
        assert deletion.minus(other) == deletion


def parse(limits: object) -> Limits | None:
    return parse_limits(Fields({"limits": limits}, "spec"))


def test_all_fields_are_parsed() -> None:
    assert parse(None) is None
    assert parse({"deletesPerHour": 0}) == Limits(deletes_per_hour=0)
    parsed = parse(
        {
            "requestsPerSecond": 5,
            "burst": 9,
            "writesPerMinute": 4,
            "deletesPerHour": 3,
            "bulkDeletesPerHour": 2,
            "sessions": 1,
        }
    )
    assert parsed == ALL


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        pytest.param([], "spec.limits: is not an object", id="a list"),
        pytest.param({}, "spec.limits: is empty; set one of its fields, or leave it out", id="empty"),
        pytest.param({"requests": 1}, "spec.limits.requests: is not a field; limits has requestsPerSecond,", id="name"),
        pytest.param({"sessions": "1"}, "spec.limits.sessions: is not a whole number", id="a string"),
        pytest.param({"sessions": -1}, "spec.limits.sessions: is not between 0 and 1000000", id="negative"),
        pytest.param({"sessions": 1000001}, "spec.limits.sessions: is not between 0 and 1000000", id="too large"),
        pytest.param({"requestsPerSecond": 0}, "spec.limits.requestsPerSecond: is not between 1 and", id="no requests"),
        pytest.param({"requestsPerSecond": 5, "burst": 4}, "spec.limits.burst: is smaller than", id="a small burst"),
        pytest.param({"burst": 4}, "spec.limits.burst: is smaller than requestsPerSecond, or", id="burst alone"),
    ],
)
def test_what_cannot_be_a_limit_is_an_error_that_names_the_field(limits: object, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(limits)
    assert str(caught.value).startswith(error)
