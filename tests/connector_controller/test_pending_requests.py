"""Which pending requests of a subject are shown as pending, next to a model that sorts all of them."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_controller import pending_requests
from connector_controller.pending_requests import PendingRequests, RequestRank, RequestSubject
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessRequest
from connector_store.domain.status.access_status import MAX_PENDING

NAMESPACE = "team-a"


def make_request(number: int, *, subject: str = "jane", created_at: float | None = None) -> AccessRequest:
    key = ObjectKey(NAMESPACE, f"r-{number:05}")
    return AccessRequest(
        key=key, uid=key.name, subject=subject, created_at=number if created_at is None else created_at
    )


class World:
    """The index, and all requests with their state."""

    def __init__(self, requests: Iterable[AccessRequest] = ()) -> None:
        self.states = {request.key: (request, True) for request in requests}
        self.searches: list[RequestSubject] = []
        self.index = PendingRequests(self._find_pending)

    def _find_pending(self, subject: RequestSubject) -> list[AccessRequest]:
        self.searches.append(subject)
        assert subject.namespace == NAMESPACE
        return self.pending(subject.user)

    def pending(self, user: str) -> list[AccessRequest]:
        """Return the pending requests of a subject, the oldest first."""
        requests = [request for request, is_pending in self.states.values() if is_pending and request.subject == user]
        return sorted(requests, key=lambda each: (each.created_at, each.key.name))

    def surplus(self) -> set[ObjectKey]:
        users = {request.subject for request, _ in self.states.values()}
        return {request.key for user in users for request in self.pending(user)[MAX_PENDING:]}

    def update(self, request: AccessRequest, *, is_pending: bool = True) -> list[ObjectKey]:
        self.states[request.key] = request, is_pending
        return self.index.update(request, is_pending=is_pending)

    def remove(self, key: ObjectKey) -> list[ObjectKey]:
        self.states.pop(key, None)
        return self.index.remove(key)


def test_the_request_after_the_last_place_gets_a_place_that_becomes_free() -> None:
    requests = [make_request(number) for number in range(MAX_PENDING + 2)]
    world = World()
    assert [key for request in requests for key in world.update(request)] == []
    assert [world.index.is_surplus(each) for each in requests] == [False] * MAX_PENDING + [True] * 2
    assert world.remove(requests[-1].key) == [], "it had no place"
    assert world.update(requests[3], is_pending=False) == [requests[MAX_PENDING].key]
    assert not world.index.is_surplus(requests[MAX_PENDING])
    assert world.remove(requests[3].key) == [], "it was not pending"
    assert world.remove(requests[3].key) == []
    assert world.remove(requests[0].key) == [], "no other request waits for a place"


def test_an_older_request_takes_the_last_place() -> None:
    world = World()
    for number in range(1, MAX_PENDING + 1):
        world.update(make_request(number))
    assert world.update(make_request(0)) == [make_request(MAX_PENDING).key]
    assert world.update(make_request(0)) == [], "nothing changed"


def test_what_was_pending_before_the_first_change_counts_and_is_searched_for_once() -> None:
    requests = [make_request(number) for number in range(MAX_PENDING + 1)]
    world = World(requests)
    assert world.update(requests[-1]) == []
    assert world.index.is_surplus(requests[-1])
    assert world.update(requests[0], is_pending=False) == [requests[-1].key]
    assert world.searches == [RequestSubject(NAMESPACE, "jane")]
    for request in requests:
        world.remove(request.key)
    assert not world.index._queues, "a subject without requests is forgotten"
    assert not world.index._entries


def test_a_request_of_the_same_name_can_be_of_another_subject() -> None:
    requests = [make_request(number) for number in range(MAX_PENDING + 1)]
    world = World(requests)
    world.update(requests[0])
    assert world.update(replace(requests[0], subject="joe")) == [requests[-1].key]
    assert not world.index.is_surplus(requests[-1])


def test_ten_thousand_requests_of_one_subject_cost_two_searches_each(monkeypatch: pytest.MonkeyPatch) -> None:
    comparisons = 0

    class CountingRank(RequestRank):
        def __lt__(self, other: tuple[object, ...]) -> bool:
            nonlocal comparisons
            comparisons += 1
            return tuple(self) < tuple(other)

    monkeypatch.setattr(pending_requests, "RequestRank", CountingRank)
    requests = [make_request(number) for number in range(10_000)]
    world = World()
    for request in requests:
        world.update(request)
        world.index.is_surplus(request)
    promoted = [key for request in requests for key in world.remove(request.key)]
    assert promoted == [request.key for request in requests[MAX_PENDING:]]
    # A binary search in 10,000 entries takes 14 comparisons.
    assert comparisons <= 3 * 15 * len(requests)
    assert len(world.searches) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 29), st.sampled_from(("jane", "joe")), st.integers(0, 3), st.sampled_from("+-x")),
        max_size=60,
    )
)
def test_for_every_history_the_oldest_have_a_place_and_who_gets_or_loses_one_is_told(
    history: list[tuple[int, str, int, str]],
) -> None:
    initial = [make_request(number, created_at=number % 4) for number in range(25)]
    world = World(initial)
    world.index.update(initial[0], is_pending=True)
    for number, subject, created_at, action in history:
        request = make_request(number, subject=subject, created_at=created_at)
        before = world.surplus()
        keys = world.remove(request.key) if action == "x" else world.update(request, is_pending=action == "+")
        assert (before ^ world.surplus()) - {request.key} <= set(keys)
        for each, is_pending in world.states.values():
            if is_pending and each.subject in {queue.user for queue in world.index._queues}:
                assert world.index.is_surplus(each) is (each.key in world.surplus())
