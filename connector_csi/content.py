"""A volume's request and its pod's token -> the files, or why not.

The token is checked as the proxy checks it, before anything about a Connector is looked up.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from grpc import StatusCode

from connector_csi.failure import Failure, may_not_use, unavailable
from connector_store.domain.access import Access, Granted, Refused, Unavailable
from connector_store.domain.errors import ParseError
from connector_store.domain.kubeconfig import Entry
from connector_store.domain.models import Address, Connector, Rejected
from connector_store.domain.names import ObjectKey
from connector_store.domain.pod_token import PodToken, parse_pod_token
from connector_store.domain.proxy_service import proxy_for, service_name
from connector_store.domain.serving import not_named
from connector_store.domain.settings import CONFIG_MAP, Settings
from connector_store.domain.volume import VolumeRequest, parse_volume
from connector_store.domain.volume_files import render_files

SYNC_TIMEOUT: Final = 10.0
"""Seconds that a volume waits for a driver that has just started; kubelet waits two minutes for an answer."""


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

    def connector(self, key: ObjectKey) -> Connector | Rejected | None: ...

    def alias_seen(self, key: ObjectKey) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request that was understood."""

    volume: VolumeRequest
    token: PodToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that the files depend on and that may change while a volume lives; the token by its digest."""

    token: bytes
    ca: bytes | None
    addresses: tuple[Address | None, ...]
    proxies: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """`unseen` are the Connectors whose own Service is not known to lead to the proxy, so that its own is named."""

    files: Mapping[str, bytes] = field(repr=False)
    inputs: Inputs
    unseen: tuple[ObjectKey, ...] = ()


class Contents:
    """Makes them; waits for reviews only."""

    def __init__(self, cluster: Knowledge, *, sync_timeout: float = SYNC_TIMEOUT) -> None:
        self._cluster = cluster
        self._sync_timeout = sync_timeout

    async def wait_synced(self) -> Failure | None:
        """Before anything else: until then not even the audience of the tokens is known."""
        try:
            async with asyncio.timeout(self._sync_timeout):
                await self._cluster.synced.wait()
        except TimeoutError:
            return unavailable(
                "the driver has not listed the Connectors of the cluster yet; see its log for what the API server says"
            )
        return None

    def parse(self, context: Mapping[str, str], secrets: Mapping[str, str]) -> Wish | Failure:
        try:
            volume = parse_volume(context)
        except ParseError as e:
            return Failure(code=StatusCode.INVALID_ARGUMENT, message=f"volumeAttributes: {e}")
        try:
            token = parse_pod_token(secrets, context, self._cluster.settings.audience)
        except ParseError as e:
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=str(e))
        return Wish(volume=volume, token=token)

    def inputs(self, wish: Wish) -> Inputs:
        """Of a volume as things are now."""
        found = (self._cluster.connector(key) for key in wish.volume.connectors)
        return Inputs(
            token=hashlib.sha256(wish.token.token.encode()).digest(),
            ca=self._cluster.ca,
            addresses=tuple(each.address if isinstance(each, Connector) else None for each in found),
            proxies=tuple(self._proxy(key) for key in wish.volume.connectors),
        )

    async def make(self, wish: Wish) -> Content | Failure:
        """Check access to all Connectors of the volume, then render."""
        if (refused := await self._check(wish)) is not None:
            return refused
        # Nothing waits from here on: inputs and files are of one moment.
        inputs = self.inputs(wish)
        entries = self._entries(wish)
        if isinstance(entries, Failure):
            return entries
        files = render_files(entries, wish.volume.configurations, wish.volume.left_out)
        return Content(files=files, inputs=inputs, unseen=tuple(filter(self._lacks_alias, wish.volume.connectors)))

    def _proxy(self, key: ObjectKey) -> str | None:
        return proxy_for(key, self._cluster.settings, seen=self._cluster.alias_seen(key))

    def _lacks_alias(self, key: ObjectKey) -> bool:
        return service_name(key.name) is not None and not self._cluster.alias_seen(key)

    async def _check(self, wish: Wish) -> Failure | None:
        keys, access = wish.volume.connectors, self._cluster.access
        # The first alone: the token is then known, and reviewed once for all of them.
        answers = [await access.check(wish.token.token, keys[0])]
        if isinstance(answers[0], Granted):
            answers += await asyncio.gather(*(access.check(wish.token.token, key) for key in keys[1:]))
        refused: list[Failure] = []
        for key, answer in zip(keys, answers, strict=False):
            match answer:
                case Unavailable(reason=reason):
                    return unavailable(f"access could not be checked: {reason}")
                case Refused(what="token", reason=reason):
                    return Failure(code=StatusCode.UNAUTHENTICATED, message=f"the pod's own token: {reason}")
                case Refused():
                    refused.append(may_not_use(wish.volume.pod, key))
        return _joined(refused)

    def _entries(self, wish: Wish) -> list[Entry] | Failure:
        ca, settings = self._cluster.ca, self._cluster.settings
        if ca is None:
            return unavailable(
                f'configmaps "{settings.ca_configmap}" in namespace "{settings.system_namespace}" holds no CA of the '
                f"proxy; see that the controller runs: kubectl get pods --namespace={settings.system_namespace}"
            )
        entries: list[Entry] = []
        problems: list[Failure] = []
        for key in wish.volume.connectors:
            connector, proxy = self._cluster.connector(key), self._proxy(key)
            if not settings.serves(key.namespace):
                problems.append(Failure(code=StatusCode.FAILED_PRECONDITION, message=not_named(key.namespace).message))
            elif connector is None:
                problems.append(may_not_use(wish.volume.pod, key))
            elif isinstance(connector, Rejected):
                message = f"connectors.connectors.alauda.io {key} cannot be used: {connector.message}"
                problems.append(Failure(code=StatusCode.FAILED_PRECONDITION, message=message))
            elif proxy is None:
                message = f"{key} cannot be reached: ConfigMap {CONFIG_MAP} names no proxy-service"
                problems.append(Failure(code=StatusCode.FAILED_PRECONDITION, message=message))
            else:
                entries.append(Entry(key=key, address=connector.address, proxy=proxy, ca=ca, token=wish.token.token))
        return _joined(problems) or entries


def _joined(failures: list[Failure]) -> Failure | None:
    """All of them in one; the first gives the code."""
    if not failures:
        return None
    return Failure(code=failures[0].code, message="; ".join(each.message for each in failures))
