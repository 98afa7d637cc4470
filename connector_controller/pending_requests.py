"""Order of the pending AccessRequests of each subject. The oldest MAX_PENDING of a namespace are shown as pending.

A change of one request costs two binary searches. It gives a place to at most one other request, or takes it away.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessRequest
from connector_store.domain.status.access_status import MAX_PENDING


class RequestSubject(NamedTuple):
    """User name of a subject, in the namespace of its requests."""

    namespace: str
    user: str


class RequestRank(NamedTuple):
    """Place of a request in the order of its subject."""

    created_at: float
    name: str


@dataclass(slots=True)
class _SubjectQueue:
    """Ranks of the pending requests of a subject, and the number of all its requests."""

    ranks: list[RequestRank] = field(default_factory=list)
    request_count: int = 0


class _RequestEntry(NamedTuple):
    subject: RequestSubject
    rank: RequestRank
    is_pending: bool


class PendingRequests:
    """Index of requests by their subject, kept up to date one request at a time.

    `find_pending` returns the pending requests of a subject. It is called once for a subject, before its first change.
    Otherwise, the status of a request would change at each start of a controller, which gets requests in any order.
    """

    def __init__(self, find_pending: Callable[[RequestSubject], Iterable[AccessRequest]]) -> None:
        self._find_pending = find_pending
        self._queues: dict[RequestSubject, _SubjectQueue] = {}
        self._entries: dict[ObjectKey, _RequestEntry] = {}

    def update(self, request: AccessRequest, *, is_pending: bool) -> list[ObjectKey]:
        """Set the state of a request. Return the keys of the other requests that got or lost a place."""
        entry = _make_entry(request, is_pending=is_pending)
        keys: list[ObjectKey] = []
        if entry.subject not in self._queues:
            for each in self._find_pending(entry.subject):
                # A request of this name may have been of another subject.
                keys += self.remove(each.key)
                self._add(each.key, _make_entry(each, is_pending=True))
        if self._entries.get(request.key) != entry:
            keys += self.remove(request.key) + self._add(request.key, entry)
        return keys

    def remove(self, key: ObjectKey) -> list[ObjectKey]:
        """Forget a request. Return the key of the request that got its place."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        queue = self._queues[entry.subject]
        queue.request_count -= 1
        if not queue.request_count:
            del self._queues[entry.subject]
        if not entry.is_pending:
            return []
        index = bisect_left(queue.ranks, entry.rank)
        del queue.ranks[index]
        return _key_at(key.namespace, queue, MAX_PENDING - 1) if index < MAX_PENDING else []

    def is_surplus(self, request: AccessRequest) -> bool:
        """Return True if the subject has MAX_PENDING older pending requests in the namespace."""
        entry = _make_entry(request, is_pending=True)
        return bisect_left(self._queues[entry.subject].ranks, entry.rank) >= MAX_PENDING

    def _add(self, key: ObjectKey, entry: _RequestEntry) -> list[ObjectKey]:
        """Add a request. Return the key of the request that lost its place."""
        self._entries[key] = entry
        queue = self._queues.setdefault(entry.subject, _SubjectQueue())
        queue.request_count += 1
        if not entry.is_pending:
            return []
        index = bisect_left(queue.ranks, entry.rank)
        queue.ranks.insert(index, entry.rank)
        return _key_at(key.namespace, queue, MAX_PENDING) if index < MAX_PENDING else []


def _make_entry(request: AccessRequest, *, is_pending: bool) -> _RequestEntry:
    subject = RequestSubject(request.key.namespace, request.subject)
    return _RequestEntry(subject, RequestRank(request.created_at, request.key.name), is_pending)


def _key_at(namespace: str, queue: _SubjectQueue, index: int) -> list[ObjectKey]:
    return [ObjectKey(namespace, rank.name) for rank in queue.ranks[index : index + 1]]
