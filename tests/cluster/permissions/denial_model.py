"""A model of `deny` beside that of the product: Kubernetes parses the request, and a real API server decides.

A request is denied if it can reach an object that a user with the entry's role could reach. A user is bound to the role
of each entry. The API server is asked about each object that the request can reach.
"""

from collections.abc import Iterator, Sequence

from connector_store.domain.base.request_info import RequestInfo
from tests.cluster.permissions.authorization_probe import AuthorizationProbe


def reachable(info: RequestInfo, namespaces: Sequence[str], names: Sequence[str]) -> Iterator[RequestInfo]:
    """Yield the requests for single objects, and for collections of one namespace, that `info` stands for."""
    if not info.resource:
        yield info
        return
    # Without a namespace, a collection is that of all namespaces. An object without a namespace is the cluster's own.
    is_collection = info.verb in ("list", "watch", "deletecollection") or not (info.name or info.verb == "create")
    for namespace in ("", *namespaces) if is_collection and not info.namespace else (info.namespace,):
        for name in (info.name,) if info.name else ("", *names):
            yield info._replace(namespace=namespace, name=name)


class DenialModel:
    """Answers of the API server by user and request."""

    def __init__(self, probe: AuthorizationProbe, *, namespaces: Sequence[str], names: Sequence[str]) -> None:
        self._probe = probe
        self._namespaces = namespaces
        self._names = names
        self._allowed: dict[tuple[str, RequestInfo], bool] = {}

    def ask(self, requests: Sequence[tuple[str, RequestInfo]]) -> None:
        """Ask the API server about everything that the requests can reach, each question once."""
        questions = {(user, each) for user, info in requests for each in self._reachable(info)}
        reviews = sorted(questions)
        self._allowed = dict(zip(reviews, self._probe.are_allowed(reviews), strict=True))

    def is_denied(self, user: str, info: RequestInfo) -> bool:
        """Return True if `deny` with the role of the user denies the request."""
        return any(self._allowed[user, each] for each in self._reachable(info))

    def _reachable(self, info: RequestInfo) -> Iterator[RequestInfo]:
        return (
            each._replace(path="") if each.resource else each for each in reachable(info, self._namespaces, self._names)
        )
