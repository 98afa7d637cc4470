"""A volume's request and its pod's token -> the files, or why not.

The token is checked as the proxy checks it, before anything about a Connector is looked up.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from grpc import StatusCode

from connector_csi.failure import Failure, joined, may_not_use, unavailable
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused, Unavailable
from connector_store.domain.callers.pod_token import TOKENS_KEY, PodToken, parse_pod_token
from connector_store.domain.config.settings import CONFIG_MAP, Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.proxy_service import alias_service_name, proxy_url_for
from connector_store.domain.kubeconfig.volume import VolumeRequest, parse_volume
from connector_store.domain.kubeconfig.volume_files import render_files
from connector_store.domain.objects.matching import parse_address
from connector_store.domain.objects.models import Address, Connector, InvalidConnector
from connector_store.domain.status.serving import namespace_not_configured

SYNC_TIMEOUT: Final = 10.0
"""Seconds that a volume waits for a driver that has just started; kubelet waits two minutes for an answer."""

Kept = Mapping[str, tuple[str, str]]
"""NAMESPACE/NAME of a Connector -> the address and the proxy that a volume's files name."""

_NOTHING: Final = ("", "")


class Knowledge(Protocol):
    """What is needed of the cluster; `cluster.Cluster` has it."""

    @property
    def settings(self) -> Settings: ...

    @property
    def access(self) -> Access: ...

    @property
    def ca(self) -> bytes | None: ...

    @property
    def synced(self) -> asyncio.Event: ...

    @property
    def stale(self) -> str | None: ...

    async def know(self, keys: Iterable[ObjectKey]) -> None: ...

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None: ...

    def alias_seen(self, key: ObjectKey) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request that was understood; `ignored` says what of it does nothing."""

    volume: VolumeRequest
    token: PodToken
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that the files depend on and that may change while a volume lives; the token by its digest."""

    token: bytes
    ca: bytes | None
    addresses: tuple[Address | None, ...]
    proxies: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """`unseen` are the Connectors whose own Service is not known to lead to the proxy, so that its own is named.

    `problems` has the Connectors that cannot be used now, and of which the files name the address that they had.
    """

    files: Mapping[str, bytes] = field(repr=False)
    inputs: Inputs
    kept: Kept
    unseen: tuple[ObjectKey, ...] = ()
    problems: Mapping[ObjectKey, Failure] = field(default_factory=dict)


class Contents:
    """Makes them; waits for reviews only."""

    def __init__(self, cluster: Knowledge, *, sync_timeout: float = SYNC_TIMEOUT) -> None:
        self._cluster = cluster
        self._sync_timeout = sync_timeout

    async def wait_synced(self) -> Failure | None:
        """Before anything else: until then not even the audience of the tokens is known.

        A Failure also where what is known is too old to rely on.
        """
        try:
            async with asyncio.timeout(self._sync_timeout):
                await self._cluster.synced.wait()
        except TimeoutError:
            return unavailable(
                "the driver has not listed the Connectors of the cluster yet; see its log for what the API server says"
            )
        stale = self._cluster.stale
        return unavailable(stale) if stale is not None else None

    def parse(self, context: Mapping[str, str], secrets: Mapping[str, str]) -> Wish | Failure:
        try:
            volume = parse_volume(context)
        except ParseError as e:
            return Failure(code=StatusCode.INVALID_ARGUMENT, message=f"volumeAttributes: {e}")
        try:
            token = parse_pod_token(secrets, context, self._cluster.settings.audience)
        except ParseError as e:
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=str(e))
        # Where kubelet sends it in the context, its own is the one that is there.
        typed = (f"{TOKENS_KEY}: kubelet sends its own",) if TOKENS_KEY in secrets and TOKENS_KEY in context else ()
        return Wish(volume=volume, token=token, ignored=volume.warnings + typed)

    def inputs(self, wish: Wish) -> Inputs:
        """Of a volume as things are now."""
        found = (self._cluster.connector(key) for key in wish.volume.connectors)
        return Inputs(
            token=hashlib.sha256(wish.token.token.encode()).digest(),
            ca=self._cluster.ca,
            addresses=tuple(each.address if isinstance(each, Connector) else None for each in found),
            proxies=tuple(self._proxy(key) for key in wish.volume.connectors),
        )

    async def make(self, wish: Wish, kept: Kept | None = None) -> Content | Failure:
        """Check access to all Connectors of the volume, then render.

        All or nothing, unless the volume is there already and `kept` is what its files name: then a Connector that
        cannot be used keeps its address, and the others, the token and the CA are renewed. The token is the pod's own
        and the proxy decides anyway, so nothing is given away. None that can be used, and nothing is touched, but for
        a proxy's host that must not be named any more.
        """
        refused = await self._check(wish)
        if isinstance(refused, Failure):
            return refused
        unread = await self._read(wish, refused)
        if unread is not None:
            return unread
        # Nothing waits from here on: inputs and files are of one moment.
        ca, inputs = self._cluster.ca, self.inputs(wish)
        if ca is None:
            return self._no_ca()
        problems = {key: why for key in wish.volume.connectors if (why := refused.get(key) or self._problem(wish, key))}
        none_works = len(problems) == len(wish.volume.connectors)
        if problems and (kept is None or (none_works and self._is_current(wish, kept))):
            return joined(tuple(problems.values()))
        entries: list[KubeconfigEntry] = []
        for key in wish.volume.connectors:
            entry = self._entry(wish, key, ca) if key not in problems else self._old_entry(wish, key, ca, kept or {})
            if entry is None:
                return problems.get(key) or self._no_proxy(key)
            entries.append(entry)
        return Content(
            files=render_files(
                entries,
                wish.volume.configurations,
                wish.volume.excluded_files,
                namespace=wish.volume.pod.namespace,
            ),
            inputs=inputs,
            kept={str(each.key): (str(each.address), each.proxy) for each in entries},
            unseen=tuple(filter(self._lacks_alias, wish.volume.connectors)),
            problems=problems,
        )

    async def _check(self, wish: Wish) -> Mapping[ObjectKey, Failure] | Failure:
        """Who may not be used; a Failure where that cannot be told, or the token is no good."""
        keys, access = wish.volume.connectors, self._cluster.access
        # The first alone: the token is then known, and reviewed once for all of them.
        answers = [await access.check(wish.token.token, keys[0])]
        if isinstance(answers[0], Granted) or (isinstance(answers[0], Refused) and answers[0].check == "use"):
            answers += await asyncio.gather(*(access.check(wish.token.token, key) for key in keys[1:]))
        refused: dict[ObjectKey, Failure] = {}
        for key, answer in zip(keys, answers, strict=False):
            match answer:
                case Unavailable(reason=reason):
                    return unavailable(f"access could not be checked: {reason}")
                case Refused(check="token", reason=reason):
                    return Failure(code=StatusCode.UNAUTHENTICATED, message=f"the pod's own token: {reason}")
                case Refused():
                    refused[key] = self._may_not_use(wish, key)
        return refused

    async def _read(self, wish: Wish, refused: Mapping[ObjectKey, Failure]) -> Failure | None:
        """Of Connectors that the pod may use; others are not looked at."""
        try:
            async with asyncio.timeout(self._sync_timeout):
                await self._cluster.know(key for key in wish.volume.connectors if key not in refused)
        except TimeoutError:
            return unavailable(
                "the driver has not read the volume's Connectors yet; see its log for what the API server says"
            )
        return None

    def _problem(self, wish: Wish, key: ObjectKey) -> Failure | None:
        connector = self._cluster.connector(key)
        if not self._cluster.settings.serves(key.namespace):
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=namespace_not_configured(key.namespace).message)
        if connector is None:
            return self._may_not_use(wish, key)
        if isinstance(connector, InvalidConnector):
            message = f"connectors.connectors.alauda.io {key} cannot be used: {connector.message}"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        return None

    def _may_not_use(self, wish: Wish, key: ObjectKey) -> Failure:
        return may_not_use(wish.volume.pod, key, self._cluster.settings.access)

    def _entry(self, wish: Wish, key: ObjectKey, ca: bytes) -> KubeconfigEntry | None:
        connector, proxy = self._cluster.connector(key), self._proxy(key)
        if not isinstance(connector, Connector) or proxy is None:
            return None
        return KubeconfigEntry(key=key, address=connector.address, proxy=proxy, ca=ca, token=wish.token.token)

    def _old_entry(self, wish: Wish, key: ObjectKey, ca: bytes, kept: Kept) -> KubeconfigEntry | None:
        proxy = self._proxy(key)
        try:
            address = parse_address(kept.get(str(key), _NOTHING)[0])
        except ParseError:
            return None
        return KubeconfigEntry(key=key, address=address, proxy=proxy, ca=ca, token=wish.token.token) if proxy else None

    def _is_current(self, wish: Wish, kept: Kept) -> bool:
        """False if files name a proxy's host that is not to be named any more."""
        return all(kept.get(str(key), _NOTHING)[1] == self._proxy(key) for key in wish.volume.connectors)

    def _no_ca(self) -> Failure:
        settings = self._cluster.settings
        return unavailable(
            f'configmaps "{settings.ca_configmap}" in namespace "{settings.system_namespace}" holds no CA of the '
            f"proxy; see that the controller runs: kubectl get pods --namespace={settings.system_namespace}"
        )

    def _no_proxy(self, key: ObjectKey) -> Failure:
        message = f"{key} cannot be reached: ConfigMap {CONFIG_MAP} names no proxy-service"
        return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)

    def _proxy(self, key: ObjectKey) -> str | None:
        return proxy_url_for(key, self._cluster.settings, alias_verified=self._cluster.alias_seen(key))

    def _lacks_alias(self, key: ObjectKey) -> bool:
        return alias_service_name(key.name) is not None and not self._cluster.alias_seen(key)
