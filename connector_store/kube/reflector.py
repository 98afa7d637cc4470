"""Reflector of one collection of the API server into a sink: list, watch, resume, and list again.

`WatchCursor` is the protocol. This module has the requests, the time and the log. A failure is logged once when it
begins and once when it ends.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Never, Protocol

from connector_store.domain.objects.watch_cursor import (
    EXPIRED,
    Deleted,
    HistoryRewoundError,
    Listed,
    PositionLostError,
    RawObject,
    Upserted,
    WatchCursor,
    WatchError,
)
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import Resource

logger = logging.getLogger(__name__)

WATCH_TIMEOUT: Final = 300.0
"""Seconds; the setting `watch-timeout`."""

_WATCH_GRACE: Final = 10.0
"""Seconds to wait longer than the server's timeout. A watch that is silent for so long is dead."""

_INITIAL_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 10.0
_MISSING_KIND_INTERVAL: Final = 10.0
"""Seconds between two looks whether the API server has an optional kind."""

REFUSAL_THRESHOLD: Final = 3
"""Refusals in a row that count as an answer. An API server that starts may refuse for a moment what it will grant."""

_REFUSAL_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

_WATCH_LIST_UNSUPPORTED: Final = frozenset({400, 422})
"""Statuses with which a server refuses sendInitialEvents if it lacks WatchList, or if it is disabled."""

_RELIST_STATUSES: Final = frozenset({EXPIRED, *_WATCH_LIST_UNSUPPORTED})
"""Statuses of a resume that a retry cannot change, but a new list can."""


class Sink[T](Protocol):
    """Destination of a reflector. It calls each method on the event loop. The methods must not block."""

    def replace(self, objects: tuple[T, ...]) -> None: ...

    def put(self, obj: T) -> None: ...

    def remove(self, obj: T) -> None: ...


class Reflector[T]:
    """Reflector of one collection. `run` never returns.

    `synced` is set by the first complete state. `synced_or_refused` is set by that, or by REFUSAL_THRESHOLD refusals in
    a row.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        parse: Callable[[RawObject], T | None],
        sink: Sink[T],
        *,
        namespace: str | None = None,
        field_selector: str = "",
        label_selector: str = "",
        watch_timeout: float = WATCH_TIMEOUT,
        on_restart: Callable[[str], None] = lambda kind: None,
        changes_only: bool = False,
        is_optional: bool = False,
    ) -> None:
        """Create a reflector. `on_restart` gets the kind for each watch that broke, expired or was refused.

        With `changes_only`, the sink gets an empty `replace` and then each change. `parse` then gets only metadata
        (PartialObjectMetadata of meta.k8s.io/v1). With `is_optional`, there are no objects if the API server does not
        have the kind, which only its discovery can say.
        """
        self.synced = asyncio.Event()
        self.synced_or_refused = asyncio.Event()
        self.kind = resource.kind
        self.namespace = namespace
        self._client = client
        self._resource = resource
        self._path = resource.path(namespace)
        self._changes_only = changes_only
        self._is_optional = is_optional
        self._sink = sink
        self._watch_timeout = watch_timeout
        self._on_restart = on_restart
        self._cursor = WatchCursor(parse)
        self._uses_watch_list = True
        self._failure_count = 0
        self._retry_after = 0
        self._opened_at: float | None = None
        self._in_sync_at: float | None = None
        self._refusal_count = 0
        self._refusal: ApiError | None = None
        scope = f" in namespace {namespace}" if namespace is not None else ""
        selector = field_selector or label_selector
        self._log = _OutageLog(f"{resource}{scope}" + (f" ({selector})" if selector else ""))
        self._selectors = {
            key: value for key, value in (("fieldSelector", field_selector), ("labelSelector", label_selector)) if value
        }

    @property
    def refusal(self) -> ApiError | None:
        """Last error if the API server refused this watch REFUSAL_THRESHOLD times in a row, or None."""
        return self._refusal if self._refusal_count >= REFUSAL_THRESHOLD else None

    def age(self, now: float) -> float:
        """Return the seconds since the sink was in sync with the server. `now` is the event loop's time.

        If it never was, they count from the first call. A server sends bookmarks every minute. A server without
        bookmarks ends the watch after `watch_timeout` without an error, which also shows that the sink is in sync.
        """
        if self._in_sync_at is None:
            self._in_sync_at = now
        return now - self._in_sync_at

    async def run(self) -> Never:
        while True:
            try:
                await self._step()
            except ApiError as e:
                if self._is_optional and await self._lacks_kind(e):
                    self._replace_by_nothing()
                    await asyncio.sleep(_MISSING_KIND_INTERVAL)
                    continue
                self._handle_error(e)
            except PositionLostError as e:
                self._on_restart(self._resource.kind)
                level = logging.WARNING if isinstance(e, HistoryRewoundError) else logging.INFO
                self._log.report_failure(type(e).__name__, str(e), level=level)
            except Exception as e:  # without this, the sink's content would never change again
                self._cursor.restart()
                self._on_restart(self._resource.kind)
                self._log.report_failure(type(e).__name__, "the response is not understood; listing again", e)
            else:
                self._failure_count = 0
                continue
            self._failure_count += 1
            await asyncio.sleep(self._backoff)

    async def _lacks_kind(self, error: ApiError) -> bool:
        """Return True if discovery says that the API server does not have the kind."""
        if error.status != HTTPStatus.NOT_FOUND or self._opened_at is not None:
            return False
        try:
            discovery = await self._client.get(f"/apis/{self._resource.api_version}", {})
        except ApiError:
            return False
        resources = discovery.get("resources")
        if discovery.get("kind") != "APIResourceList" or not isinstance(resources, list):
            return False
        return all(each.get("name") != self._resource.plural for each in resources)

    def _replace_by_nothing(self) -> None:
        self._cursor.restart()
        self._apply(Listed(()))
        self._mark_in_sync()

    async def _step(self) -> None:
        """Run one list, or one watch until it ends. Return if the next one may follow without a pause."""
        self._cursor.start_request()
        self._opened_at, self._retry_after = None, 0
        if self._cursor.resource_version is not None:
            if self._failure_count:
                await self._check_history()
            await self._watch()
        elif self._changes_only:
            page = await self._client.get(self._path, {**self._selectors, "limit": "1"}, metadata="list")
            self._apply(self._cursor.finish_list(_version_of(page)))
            self._mark_in_sync()
        elif self._uses_watch_list:
            await self._watch()
        else:
            await self._list()

    async def _check_history(self) -> None:
        """After a failure, check that the server still has the history that was seen. Raises PositionLostError."""
        last, path, params = self._cursor.last_change, self._path, {**self._selectors, "limit": "1"}
        if last is not None:
            path = self._resource.path(last.namespace or None)
            selectors = (self._selectors.get("fieldSelector"), f"metadata.name={last.name}")
            params["fieldSelector"] = ",".join(filter(None, selectors))
        page = await self._client.get(path, params, metadata="list")
        self._cursor.check_version(_version_of(page))
        self._cursor.check_last_change(page.get("items") or ())

    async def _list(self) -> None:
        resource_version = ""
        async for page in self._client.list_pages(self._path, self._selectors):
            # The items of a list have neither apiVersion nor kind.
            type_meta = {"apiVersion": page.get("apiVersion"), "kind": self._resource.kind}
            self._cursor.add_page({**type_meta, **item} for item in page.get("items") or ())
            resource_version = _version_of(page)
        self._apply(self._cursor.finish_list(resource_version))
        self._mark_in_sync()

    async def _watch(self) -> None:
        is_resume = self._cursor.resource_version is not None
        seconds = max(1, round(self._watch_timeout * random.uniform(0.75, 1.0)))  # noqa: S311 - jitter, not security
        try:
            async with self._client.watch(
                self._path,
                self._watch_params(seconds),
                time_limit=seconds + _WATCH_GRACE,
                metadata_only=self._changes_only,
            ) as chunks:
                self._opened_at = asyncio.get_running_loop().time()
                async for data in chunks:
                    self._feed(data)
        except ApiError as e:
            if is_resume or e.status not in _WATCH_LIST_UNSUPPORTED:
                raise
            self._uses_watch_list = False
            return
        if self._open_duration() < seconds - 1:
            raise ApiError(0, "the API server ended the watch early")
        if self._cursor.resource_version is not None:
            self._mark_in_sync()

    def _feed(self, data: bytes) -> None:
        previous_progress = self._cursor.progress_count
        try:
            for event in self._cursor.feed(data):
                self._apply(event)
        finally:
            if self._cursor.progress_count > previous_progress:
                self._mark_in_sync()

    def _mark_in_sync(self) -> None:
        """Record that the sink is in sync with the server, and that earlier failures are over."""
        self._in_sync_at = asyncio.get_running_loop().time()
        self._refusal_count, self._refusal = 0, None
        self._log.report_recovery()

    def _open_duration(self) -> float:
        return 0.0 if self._opened_at is None else asyncio.get_running_loop().time() - self._opened_at

    def _watch_params(self, seconds: int) -> dict[str, str]:
        params = {
            **self._selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        if self._cursor.resource_version is None:
            return params | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return params | {"resourceVersion": self._cursor.resource_version}

    def _apply(self, event: Upserted[T] | Deleted[T] | Listed[T] | WatchError) -> None:
        match event:
            case Upserted(value):
                self._sink.put(value)
            case Deleted(value):
                self._sink.remove(value)
            case Listed(values):
                self._sink.replace(values)
                self.synced.set()
                self.synced_or_refused.set()
            case WatchError(code, message):
                raise ApiError(code, message)

    def _handle_error(self, error: ApiError) -> None:
        if self._open_duration() > _MAX_BACKOFF:
            self._failure_count = 0
        self._retry_after = error.retry_after or 0
        if error.status in _RELIST_STATUSES:
            self._cursor.restart()
        elif self._opened_at is not None:
            self._cursor.count_broken_stream()
        if error.status in _REFUSAL_STATUSES and self._opened_at is None:
            self._refusal_count, self._refusal = self._refusal_count + 1, error
            if self._refusal_count >= REFUSAL_THRESHOLD:
                self.synced_or_refused.set()
        self._on_restart(self._resource.kind)
        # An expired position is part of the protocol, not a problem.
        level = logging.INFO if error.status == EXPIRED else logging.WARNING
        self._log.report_failure(str(error.status), _describe_error(error, self._resource), level=level)

    @property
    def _backoff(self) -> float:
        max_backoff = min(_MAX_BACKOFF, _INITIAL_BACKOFF * 2.0 ** min(self._failure_count - 1, 8))
        return max(max_backoff * random.uniform(0.5, 1.0), self._retry_after)  # noqa: S311 - jitter, not security


class _OutageLog:
    """Log of failures: one line when a kind of failure begins, and one when the watch works again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reported: set[str] = set()

    def report_failure(
        self, failure: str, text: str, error: Exception | None = None, *, level: int = logging.WARNING
    ) -> None:
        if failure not in self._reported:
            self._reported.add(failure)
            logger.log(level, "watch of %s: %s", self._name, text, exc_info=error)

    def report_recovery(self) -> None:
        if self._reported:
            self._reported.clear()
            logger.info("watch of %s: up to date again", self._name)


def _version_of(page: RawObject) -> str:
    return (page.get("metadata") or {}).get("resourceVersion") or ""


def _describe_error(error: ApiError, resource: Resource) -> str:
    match error.status:
        case 401:
            return (
                f"{error}; the API server does not accept our token: see that ours is of this cluster and not expired"
            )
        case 403:
            return f"{error}; grant list and watch on {resource} (kubectl apply -k deploy/rbac)"
        case 404:
            return f"{error}; the API server does not serve {resource} (kubectl apply -k deploy/crds)"
        case 410:
            return f"{error}; listing again"
        case _:
            return f"{error}; trying again"
