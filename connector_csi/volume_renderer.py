"""Rendering of a volume: its attributes and its pod's token become files, or a Failure.

The driver checks the token as the proxy does, before it looks up any Connector.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from grpc import StatusCode

from connector_csi.failure import Failure, join_failures, permission_denied, unavailable
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Granted, Refused, Unavailable
from connector_store.domain.callers.pod_token import TOKENS_KEY, PodToken, parse_pod_token
from connector_store.domain.config.settings import CONFIG_MAP, Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.proxy_service import alias_service_name, proxy_url_for
from connector_store.domain.kubeconfig.volume_files import render_files
from connector_store.domain.kubeconfig.volume_request import Pod, VolumeRequest, parse_volume
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.models import Address, Connector, InvalidConnector
from connector_store.domain.status.serving import namespace_not_configured

SYNC_TIMEOUT: Final = 10.0
"""Seconds that a call waits for a driver that has just started. kubelet waits two minutes for a response."""

Endpoints = Mapping[str, tuple[str, str]]
"""Address and proxy URL in the files of a volume, by NAMESPACE/NAME of the Connector."""

_NO_ENDPOINT: Final = ("", "")


class ClusterView(Protocol):
    """The part of the cluster that rendering reads. `cluster_cache.ClusterCache` implements it."""

    @property
    def settings(self) -> Settings: ...

    @property
    def access(self) -> Access: ...

    @property
    def ca(self) -> bytes | None: ...

    @property
    def synced(self) -> asyncio.Event: ...

    @property
    def stale_reason(self) -> str | None: ...

    async def load(self, keys: Iterable[ObjectKey]) -> None: ...

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None: ...

    def is_alias_verified(self, key: ObjectKey) -> bool: ...


class RefusedPods(Protocol):
    """Access of pods that the API server refused. `pod_access.PodAccess` implements it."""

    async def check(
        self, pod: Pod, key: ObjectKey, refusal: Refused, denied: Failure, *, is_new: bool
    ) -> Failure | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A parsed volume request. `ignored` lists attributes that have no effect."""

    volume: VolumeRequest
    token: PodToken
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderInputs:
    """Everything that the files depend on and that can change during the life of a volume. `token` is a digest."""

    token: bytes
    ca: bytes | None
    addresses: tuple[Address | None, ...]
    proxies: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeContent:
    """The files of a volume.

    `unverified_aliases` are the Connectors whose own Service was not seen to lead to the proxy. The files name the
    proxy's own Service instead. `problems` are the Connectors that cannot be used now. The files name their previous
    address.
    """

    files: Mapping[str, bytes] = field(repr=False)
    inputs: RenderInputs
    endpoints: Endpoints
    unverified_aliases: tuple[ObjectKey, ...] = ()
    problems: Mapping[ObjectKey, Failure] = field(default_factory=dict)


class VolumeRenderer:
    """Renders volumes from the cluster's state."""

    def __init__(self, cluster: ClusterView, refused_pods: RefusedPods, *, sync_timeout: float = SYNC_TIMEOUT) -> None:
        self._cluster = cluster
        self._refused_pods = refused_pods
        self._sync_timeout = sync_timeout

    async def wait_synced(self) -> Failure | None:
        """Wait until the cluster's state is complete. Return a Failure on timeout, or if the state is too old to use.

        Call this method before the others: the audience of the tokens is one of the settings.
        """
        try:
            async with asyncio.timeout(self._sync_timeout):
                await self._cluster.synced.wait()
        except TimeoutError:
            return unavailable(
                "the driver has not listed the Connectors of the cluster yet; see its log for what the API server says"
            )
        stale_reason = self._cluster.stale_reason
        return unavailable(stale_reason) if stale_reason is not None else None

    def parse(self, context: Mapping[str, str], secrets: Mapping[str, str]) -> VolumeSpec | Failure:
        try:
            volume = parse_volume(context)
        except ParseError as e:
            return Failure(code=StatusCode.INVALID_ARGUMENT, message=f"volumeAttributes: {e}")
        try:
            token = parse_pod_token(secrets, context, self._cluster.settings.audience)
        except ParseError as e:
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=str(e))
        # An older kubelet sends the tokens in the context. Then the entry there is kubelet's own.
        ignored_tokens = (
            (f"{TOKENS_KEY}: kubelet sends its own",) if TOKENS_KEY in secrets and TOKENS_KEY in context else ()
        )
        return VolumeSpec(volume=volume, token=token, ignored=volume.warnings + ignored_tokens)

    def compute_inputs(self, spec: VolumeSpec) -> RenderInputs:
        """Return the current inputs of a volume."""
        connectors = (self._cluster.connector(key) for key in spec.volume.connectors)
        return RenderInputs(
            token=hashlib.sha256(spec.token.token.encode()).digest(),
            ca=self._cluster.ca,
            addresses=tuple(
                connector.address if isinstance(connector, Connector) else None for connector in connectors
            ),
            proxies=tuple(self._proxy_url(key) for key in spec.volume.connectors),
        )

    async def render(self, spec: VolumeSpec, previous_endpoints: Endpoints | None = None) -> VolumeContent | Failure:
        """Check access to all Connectors of the volume, then render its files.

        Without `previous_endpoints` (a first publish), one unusable Connector is a Failure. On a republish
        `previous_endpoints` are those in the current files. An unusable Connector then keeps its address, and the
        other Connectors, the token and the CA are refreshed. This gives nothing away: the token is the pod's own, and
        the proxy decides about each use. If no Connector is usable, the result is a Failure and the files stay, unless
        they name a proxy host that is not valid any more. After a denied access request, a new volume has no files.
        """
        denials = await self._check_access(spec, is_new=previous_endpoints is None)
        if isinstance(denials, Failure):
            return denials
        load_failure = await self._load_connectors(spec, denials)
        if load_failure is not None:
            return load_failure
        # There is no await from here on, so the inputs and the files belong to the same moment.
        ca, inputs = self._cluster.ca, self.compute_inputs(spec)
        if ca is None:
            return self._missing_ca()
        problems = {
            key: failure
            for key in spec.volume.connectors
            if (failure := denials.get(key) or self._unusable_failure(spec, key))
        }
        if any(failure.is_decided and str(key) not in (previous_endpoints or {}) for key, failure in problems.items()):
            # The pod starts with the error file, and fails promptly.
            return VolumeContent(files={}, inputs=inputs, endpoints={}, problems=problems)
        all_failed = len(problems) == len(spec.volume.connectors)
        if problems and (
            previous_endpoints is None or (all_failed and self._has_current_proxies(spec, previous_endpoints))
        ):
            return join_failures(tuple(problems.values()))
        entries: list[KubeconfigEntry] = []
        for key in spec.volume.connectors:
            entry = (
                self._build_entry(spec, key, ca)
                if key not in problems
                else self._build_previous_entry(spec, key, ca, previous_endpoints or {})
            )
            if entry is None:
                return problems.get(key) or self._missing_proxy(key)
            entries.append(entry)
        return VolumeContent(
            files=render_files(
                entries,
                spec.volume.configurations,
                spec.volume.excluded_files,
                namespace=spec.volume.pod.namespace,
            ),
            inputs=inputs,
            endpoints={str(entry.key): (str(entry.address), entry.proxy) for entry in entries},
            unverified_aliases=tuple(filter(self._is_alias_unverified, spec.volume.connectors)),
            problems=problems,
        )

    async def _check_access(self, spec: VolumeSpec, *, is_new: bool) -> Mapping[ObjectKey, Failure] | Failure:
        """Return the Connectors that the pod may not use. Return one Failure if the token or a check fails."""
        keys, access = spec.volume.connectors, self._cluster.access
        # The first check runs alone, so that one TokenReview serves all Connectors.
        results = [await access.check(spec.token.token, keys[0])]
        if isinstance(results[0], Granted) or (isinstance(results[0], Refused) and results[0].check == "use"):
            results += await asyncio.gather(*(access.check(spec.token.token, key) for key in keys[1:]))
        refusals: dict[ObjectKey, Refused] = {}
        for key, result in zip(keys, results, strict=False):
            match result:
                case Unavailable(reason=reason):
                    return unavailable(f"access could not be checked: {reason}")
                case Refused(check="token", reason=reason):
                    return Failure(code=StatusCode.UNAUTHENTICATED, message=f"the pod's own token: {reason}")
                case Refused():
                    refusals[key] = result
        failures = await asyncio.gather(
            *(self._check_refused(spec, key, refusal, is_new=is_new) for key, refusal in refusals.items())
        )
        denials: dict[ObjectKey, Failure] = {}
        for key, failure in zip(refusals, failures, strict=True):
            if failure is not None and not failure.is_final:
                return failure
            if failure is not None:
                denials[key] = failure
        return denials

    async def _check_refused(
        self, spec: VolumeSpec, key: ObjectKey, refusal: Refused, *, is_new: bool
    ) -> Failure | None:
        denied = self._permission_denied(spec, key)
        try:
            async with asyncio.timeout(self._sync_timeout):
                return await self._refused_pods.check(spec.volume.pod, key, refusal, denied, is_new=is_new)
        except TimeoutError:
            return unavailable("access requests could not be checked in time; see the log of the driver")

    async def _load_connectors(self, spec: VolumeSpec, denials: Mapping[ObjectKey, Failure]) -> Failure | None:
        """Load the Connectors that the pod may use, and no others."""
        try:
            async with asyncio.timeout(self._sync_timeout):
                await self._cluster.load(key for key in spec.volume.connectors if key not in denials)
        except TimeoutError:
            return unavailable(
                "the driver has not read the volume's Connectors yet; see its log for what the API server says"
            )
        return None

    def _unusable_failure(self, spec: VolumeSpec, key: ObjectKey) -> Failure | None:
        connector = self._cluster.connector(key)
        if not self._cluster.settings.serves(key.namespace):
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=namespace_not_configured(key.namespace).message)
        if connector is None:
            return self._permission_denied(spec, key)
        if isinstance(connector, InvalidConnector):
            message = f"connectors.connectors.alauda.io {key} cannot be used: {connector.message}"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        return None

    def _permission_denied(self, spec: VolumeSpec, key: ObjectKey) -> Failure:
        return permission_denied(spec.volume.pod, key, self._cluster.settings.access)

    def _build_entry(self, spec: VolumeSpec, key: ObjectKey, ca: bytes) -> KubeconfigEntry | None:
        connector, proxy = self._cluster.connector(key), self._proxy_url(key)
        if not isinstance(connector, Connector) or proxy is None:
            return None
        return KubeconfigEntry(key=key, address=connector.address, proxy=proxy, ca=ca, token=spec.token.token)

    def _build_previous_entry(
        self, spec: VolumeSpec, key: ObjectKey, ca: bytes, previous_endpoints: Endpoints
    ) -> KubeconfigEntry | None:
        proxy = self._proxy_url(key)
        try:
            address = parse_address(previous_endpoints.get(str(key), _NO_ENDPOINT)[0])
        except ParseError:
            return None
        return KubeconfigEntry(key=key, address=address, proxy=proxy, ca=ca, token=spec.token.token) if proxy else None

    def _has_current_proxies(self, spec: VolumeSpec, previous_endpoints: Endpoints) -> bool:
        """Return False if the current files name a proxy host that is not valid any more."""
        return all(
            previous_endpoints.get(str(key), _NO_ENDPOINT)[1] == self._proxy_url(key) for key in spec.volume.connectors
        )

    def _missing_ca(self) -> Failure:
        settings = self._cluster.settings
        return unavailable(
            f'configmaps "{settings.ca_configmap}" in namespace "{settings.system_namespace}" holds no CA of the '
            f"proxy; see that the controller runs: kubectl get pods --namespace={settings.system_namespace}"
        )

    def _missing_proxy(self, key: ObjectKey) -> Failure:
        message = f"{key} cannot be reached: ConfigMap {CONFIG_MAP} names no proxy-service"
        return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)

    def _proxy_url(self, key: ObjectKey) -> str | None:
        return proxy_url_for(key, self._cluster.settings, alias_verified=self._cluster.is_alias_verified(key))

    def _is_alias_unverified(self, key: ObjectKey) -> bool:
        return alias_service_name(key.name) is not None and not self._cluster.is_alias_verified(key)
