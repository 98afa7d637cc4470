"""Settings that all programs share: the ConfigMap `connectors-config`, read at the start and followed afterwards.

They are never guessed. In a pod, a failed read of the ConfigMap is retried, whatever the status was. An API server that
has just started answers 401 and 403 for a while, and the defaults of `targets-deny`, `access` or `ca-secret` would open
what the ConfigMap closes. Outside of a pod, a missing right to read the ConfigMap means that the defaults apply.

A change of a live setting takes effect without a restart. If the ConfigMap is deleted or becomes invalid, the previous
settings stay in effect, for the same reason.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, Never

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.schema import suggest_name
from connector_store.domain.config.settings import (
    CONFIG_MAP,
    MAX_NAMESPACES,
    SETTINGS,
    Program,
    Settings,
    is_feature_flag,
    parse_settings,
)
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import in_pod
from connector_store.kube.errors import ApiError
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import CONFIG_MAPS, ROLE_BINDINGS
from connector_store.kube.sinks import ObjectSink

logger = logging.getLogger(__name__)

INITIAL_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 10.0
"""Seconds between two attempts. They double with each failure, and a random half of them may be cut off."""

ROLE_BINDING_BY_PROGRAM: Final[Mapping[Program, str]] = {
    "addons": "connectors-proxy-namespace",
    "connector_controller": "connectors-controller-namespace",
    "connector_csi": "connectors-proxy-namespace",
}
"""Name of the RoleBindings whose namespaces a program serves if `namespaces` is `RoleBinding`. The CSI driver serves
those of the proxy."""

_Binding = tuple[str, str]
"""Creation time in RFC 3339, and namespace of a RoleBinding."""

_FORBIDDEN_STATUSES: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class SharedSettings:
    """Settings of one program. Call `read` once, then run `follow`."""

    def __init__(
        self,
        client: KubeClient,
        program: Program,
        *,
        explicit: Mapping[str, str],
        environ: Mapping[str, str],
        in_cluster: bool = True,
    ) -> None:
        """Create them with the values that need no ConfigMap. Raises ParseError if one of these is invalid."""
        self._client = client
        self._program: Program = program
        self._explicit = explicit
        self._environ = environ
        self._in_cluster = in_cluster
        self._subscribers: list[Callable[[Settings], None]] = []
        self._bindings_task: asyncio.Task[Never] | None = None
        self._may_follow = True
        self._has_config_map = False
        self._logged_problem = ""
        self.current = self._parse({})
        self.is_rejected = False
        """True while the ConfigMap is invalid or was deleted, so that previous settings are in effect."""

    def subscribe(self, subscriber: Callable[[Settings], None]) -> Callable[[], None]:
        """Call `subscriber` after each change. Return a function to unsubscribe."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    async def read(
        self,
        *,
        until_valid: bool = False,
        on_problem: Callable[[str], None] = lambda problem: None,
        initial_backoff: float = INITIAL_BACKOFF,
    ) -> Settings:
        """Read the settings, and the served namespaces if RoleBindings select them.

        At each failed attempt, `on_problem` gets the reason. Raises ParseError for invalid settings. With
        `until_valid`, an invalid ConfigMap is read again instead. `explicit` and `environ` do not change.
        """
        backoff = initial_backoff
        while True:
            try:
                config_map = await self._read_config_map()
                self.current = await self._with_bound_namespaces(self._parse(config_map))
            except ApiError as error:
                problem, delay = str(error), max(backoff, float(error.retry_after or 0))
            except ParseError as error:
                if not until_valid:
                    raise
                problem, delay = str(error), backoff
            else:
                self._logged_problem = ""
                self._warn_of_unknown_keys(config_map)
                return self.current
            on_problem(problem)
            self._warn_once(f"{problem}; retrying until it is usable")
            backoff = min(backoff * 2, MAX_BACKOFF)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not security

    async def follow(self) -> Never:
        """Follow the live settings until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._may_follow:
                tasks.create_task(self._make_watch(tasks).run())
                self._follow_bindings(tasks)
            await asyncio.Event().wait()
        raise AssertionError("a reflector ended")

    def _make_watch(self, tasks: asyncio.TaskGroup) -> Reflector[RawObject]:
        def on_change(raw: RawObject | None) -> None:
            self._on_config_map(raw)
            self._follow_bindings(tasks)

        return Reflector(
            self._client,
            CONFIG_MAPS,
            lambda raw: raw,
            ObjectSink(on_change),
            namespace=self.current.system_namespace,
            field_selector=f"metadata.name={CONFIG_MAP}",
            watch_timeout=self.current.watch_timeout,
        )

    def _follow_bindings(self, tasks: asyncio.TaskGroup) -> None:
        """Run the watch of RoleBindings only while they select the namespaces."""
        if self.current.follows_role_bindings and self._bindings_task is None:
            reflector = Reflector(
                self._client,
                ROLE_BINDINGS,
                _binding_of,
                _BindingSink(self._on_bindings),
                field_selector=f"metadata.name={ROLE_BINDING_BY_PROGRAM[self._program]}",
                watch_timeout=self.current.watch_timeout,
            )
            self._bindings_task = tasks.create_task(reflector.run())
        elif not self.current.follows_role_bindings and self._bindings_task is not None:
            self._bindings_task.cancel()
            self._bindings_task = None

    def _on_config_map(self, raw: RawObject | None) -> None:
        if raw is None:
            if self._has_config_map:
                self.is_rejected = True
                self._warn_once(f"{self._source} was deleted; the previous settings stay in effect")
            return
        self._has_config_map = True
        config_map = raw.get("data") or {}
        try:
            parsed = self._parse(config_map)
        except ParseError as error:
            self.is_rejected = True
            self._warn_once(f"{error}; the previous settings stay in effect")
            return
        self.is_rejected = False
        pending = self.current.keys_awaiting_restart(parsed, self._program)
        self._warn_once(f"{self._source}: restart this program to apply {', '.join(pending)}" if pending else "")
        newer = self.current.with_live(parsed)
        if newer.unknown_keys != self.current.unknown_keys:
            self._warn_of_unknown_keys(config_map)
        if newer.follows_role_bindings:
            # The watch of RoleBindings reports the namespaces.
            newer = replace(newer, namespaces=self.current.namespaces)
        self._set(newer)

    def _on_bindings(self, bindings: frozenset[_Binding]) -> None:
        if self.current.follows_role_bindings:
            self._set(replace(self.current, namespaces=self._select_namespaces(bindings)))

    def _select_namespaces(self, bindings: Iterable[_Binding]) -> tuple[str, ...]:
        """Return the namespaces of the oldest bindings. So a new one never takes the place of one that is served."""
        namespaces = [namespace for _, namespace in sorted(bindings)]
        if len(namespaces) > MAX_NAMESPACES:
            name = ROLE_BINDING_BY_PROGRAM[self._program]
            self._warn_once(
                f'{len(namespaces)} namespaces have rolebindings "{name}", but at most {MAX_NAMESPACES} are served; '
                f"the newest are not, such as {namespaces[-1]}; leave the setting namespaces empty to serve all"
            )
        return tuple(sorted(namespaces[:MAX_NAMESPACES]))

    def _set(self, settings: Settings) -> None:
        if settings == self.current:
            return
        self.current = settings
        logger.info("%s: the changed settings are in effect", self._source)
        for subscriber in tuple(self._subscribers):
            subscriber(settings)

    def _parse(self, config_map: Mapping[str, str]) -> Settings:
        return parse_settings(
            explicit=self._explicit, environ=self._environ, config_map=config_map, in_cluster=self._in_cluster
        )

    async def _read_config_map(self) -> Mapping[str, str]:
        """Return the ConfigMap's data, empty if it does not exist. The programs' roles allow list, not get."""
        path = CONFIG_MAPS.path(self.current.system_namespace)
        try:
            config_maps = await self._client.get(path, {"fieldSelector": f"metadata.name={CONFIG_MAP}"})
        except ApiError as error:
            if in_pod(self._environ) or error.status not in _FORBIDDEN_STATUSES:
                raise _with_context(error, f"{self._source} cannot be read") from error
            self._may_follow = False
            logger.warning("%s cannot be read: %s; the defaults apply", self._source, error)
            return {}
        items: list[dict[str, Any]] = config_maps.get("items") or []
        self._has_config_map = bool(items)
        return (items[0].get("data") or {}) if items else {}

    async def _with_bound_namespaces(self, settings: Settings) -> Settings:
        if not settings.follows_role_bindings:
            return settings
        name = ROLE_BINDING_BY_PROGRAM[self._program]
        try:
            page = await self._client.get(ROLE_BINDINGS.path(), {"fieldSelector": f"metadata.name={name}"})
        except ApiError as error:
            raise _with_context(error, f'rolebindings "{name}", which select the namespaces, cannot be read') from error
        return replace(settings, namespaces=self._select_namespaces(map(_binding_of, page.get("items") or ())))

    @property
    def _source(self) -> str:
        return f'configmaps "{CONFIG_MAP}" in namespace "{self.current.system_namespace}"'

    def _warn_once(self, problem: str) -> None:
        if problem and problem != self._logged_problem:
            logger.warning("%s", problem)
        self._logged_problem = problem

    def _warn_of_unknown_keys(self, config_map: Mapping[str, str]) -> None:
        for key in sorted(key for key in config_map.keys() - SETTINGS.keys() if not is_feature_flag(key)):
            hint = suggest_name(key, SETTINGS)
            logger.warning("%s: key %s is not a setting and has no effect%s", self._source, key, hint)
        flags = ", ".join(sorted(filter(is_feature_flag, config_map)))
        if flags:
            logger.warning("%s: feature flags of the Alauda product have no effect: %s", self._source, flags)


class _BindingSink:
    """Sink for the RoleBindings of one name. `on_change` gets all of them."""

    def __init__(self, on_change: Callable[[frozenset[_Binding]], None]) -> None:
        self._bindings: frozenset[_Binding] = frozenset()
        self._on_change = on_change

    def replace(self, bindings: tuple[_Binding, ...]) -> None:
        self._update(frozenset(bindings))

    def put(self, binding: _Binding) -> None:
        self._update(self._without(binding) | {binding})

    def remove(self, binding: _Binding) -> None:
        self._update(self._without(binding))

    def _without(self, binding: _Binding) -> frozenset[_Binding]:
        """Return the bindings of other namespaces. One that was created again has another time."""
        return frozenset(each for each in self._bindings if each[1] != binding[1])

    def _update(self, bindings: frozenset[_Binding]) -> None:
        self._bindings = bindings
        self._on_change(bindings)


def _with_context(error: ApiError, context: str) -> ApiError:
    return ApiError(error.status, f"{context}: {error.message}", reason=error.reason, retry_after=error.retry_after)


def _binding_of(raw: RawObject) -> _Binding:
    metadata = raw["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["namespace"]
