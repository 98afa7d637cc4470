"""Brings one Connector to what it should be: its Service, its conditions, its proxy's address.

Level-triggered: a key comes in, what is there is read from the caches, what differs is written. Nothing is remembered
between two calls but the answers of probes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from connector_controller.events import Regarding
from connector_controller.observed import Registry, SeenConnector
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.proxy_service import alias_url
from connector_store.domain.objects.auth import is_supported
from connector_store.domain.objects.models import Connector, Unusable
from connector_store.domain.status.conditions import (
    CA_CERT_READY,
    CREDENTIAL_FRESH,
    Assessment,
    ProbeOutcomes,
    assess,
    next_status,
    not_served,
)
from connector_store.domain.status.facts import Facts, gather_facts
from connector_store.domain.status.published import HttpAddress
from connector_store.domain.status.serving import NAMESPACE_NOT_SERVED
from connector_store.domain.status.status import CONDITION_READY, Condition, Status, status_patch
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.events import EventType
from connector_store.kube.resources import CONNECTORS
from connector_store.probes import ProbeRequest, probe_request
from connector_store.store import Store
from connector_store.trust import TrustStore

_LONGEST: Final = 7 * 86400.0
"""Seconds after which a credential is looked at again, however far its end is."""
_CA_EVENTS: Final = {"SecretNotFound": "CACertSecretNotFound", "InvalidPEM": "InvalidCACert"}
"""Reasons of events about CACertReady, which tell them from those about the auth Secret."""


class Services(Protocol):
    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment: ...

    async def remove(self, connector: ObjectKey) -> None: ...


class Probing(Protocol):
    def ask(self, key: ObjectKey, request: ProbeRequest, *, was_well: bool) -> ProbeOutcomes | None: ...

    def forget(self, key: ObjectKey) -> None: ...


class Events(Protocol):
    def record(self, regarding: Regarding, kind: EventType, reason: str, note: str) -> None: ...


class ConnectorReconciler:
    """`knows` tells whether a Secret that the store lacks is known to be absent; `ca` gives the PEM to publish."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        seen: Registry[ObjectKey, SeenConnector],
        *,
        services: Services,
        probing: Probing,
        events: Events,
        trust: TrustStore,
        settings: Settings,
        knows: Callable[[ObjectKey], bool],
        ca: Callable[[], bytes | None],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._seen = seen
        self._services = services
        self._probing = probing
        self._events = events
        self._trust = trust
        self._settings = settings
        self._knows = knows
        self._ca = ca
        self._now = now

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Seconds until it must be looked at again although nothing changed; ApiError to be tried again."""
        seen = self._seen.get(key)
        cls = self._store.connector_class(seen.connector.class_name) if seen else None
        if seen is None or not is_supported(seen.connector, cls):
            self._probing.forget(key)
            await self._services.remove(key)
            return None
        if seen.deleting:
            # Its Service is the garbage collector's by now.
            self._probing.forget(key)
            return None
        withheld = self._store.not_served_reason(key.namespace)
        if withheld is not None and withheld.reason == NAMESPACE_NOT_SERVED:
            self._probing.forget(key)
            await self._show(seen, not_served(withheld), None, None, self._now())
            return None
        facts = gather_facts(seen.connector, cls, self._store.secret, self._store.shared_ca, self._store.cluster_role)
        if self._unknown(seen):
            return None
        return await self._update(seen, self._checked(facts))

    def _unknown(self, seen: SeenConnector) -> bool:
        """True while a Secret that it names may be there and has not come yet; the change comes by `knows`."""
        connector = seen.connector
        if not isinstance(connector, Connector):
            return False
        return any(self._store.secret(each) is None and not self._knows(each) for each in connector.secret_keys)

    def _checked(self, facts: Facts) -> Facts:
        """With a CA that looks like PEM and cannot be loaded made unusable."""
        if not isinstance(facts.ca, bytes):
            return facts
        try:
            self._trust.openssl_context(facts.ca)
        except ParseError as error:
            ca = Unusable(key=facts.connector.key, reason="InvalidPEM", message=f"the target's CA is {error.reason}")
            return replace(facts, ca=ca)
        return facts

    async def _update(self, seen: SeenConnector, facts: Facts) -> float | None:
        request = probe_request(facts)
        probes = self._probing.ask(seen.key, request, was_well=_was_well(seen)) if request else None
        if request is None:
            self._probing.forget(seen.key)
        elif probes is None and seen.status.conditions:
            # What is shown stays until the probe is back, which is soon: nothing flaps when a controller starts.
            return None
        service = await self._services.ensure(seen.key, seen.connector.uid)
        now, soon = self._now(), self._settings.expiry_warning
        findings = assess(facts, probes, service, now=now.timestamp(), expiry_warning=soon)
        expires = facts.credential.expires_at if facts.credential is not None else None
        await self._show(seen, findings, self._address(seen, service), expires, now)
        return _sooner(None if service.holds else self._settings.probe_interval, _until(expires, now.timestamp(), soon))

    async def _show(
        self,
        seen: SeenConnector,
        findings: Mapping[str, Assessment],
        proxy: HttpAddress | None,
        expires: float | None,
        now: datetime,
    ) -> None:
        status = next_status(
            findings,
            seen.status,
            generation=seen.connector.generation,
            proxy=proxy,
            credential_expires_at=expires,
            now=now,
        )
        if status != seen.status:
            await self._write(seen, status)
            self._tell(seen, status)

    def _address(self, seen: SeenConnector, service: Assessment) -> HttpAddress | None:
        # Of a Service that is not ours nobody may learn as the proxy's: callers send their tokens there.
        if service.reason or not service.holds:
            return None
        ca = self._ca()
        if ca is None:
            # None yet, or one that cannot be read: what was published stays.
            return seen.status.proxy
        url = alias_url(seen.key, self._settings.cluster_domain)
        return HttpAddress(url=url, ca=ca, audience=self._settings.audience)

    async def _write(self, seen: SeenConnector, status: Status) -> None:
        metadata = {"uid": seen.connector.uid, "resourceVersion": seen.connector.resource_version}
        body: dict[str, Any] = {"metadata": metadata, "status": status_patch(status)}
        try:
            await self._client.patch(CONNECTORS.path(*seen.key, "status"), body)
        except ApiError as error:
            # Deleted meanwhile.
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def _tell(self, seen: SeenConnector, status: Status) -> None:
        regarding = Regarding("Connector", seen.key, seen.connector.uid)
        for kind, reason, note in transitions(seen.status, status):
            self._events.record(regarding, kind, reason, note)


def _was_well(seen: SeenConnector) -> bool:
    """Whether what is shown of this very spec is that it works."""
    ready = seen.status.ready
    current = seen.status.observed_generation == seen.connector.generation
    return current and ready is not None and ready.status == "True"


def transitions(old: Status, new: Status) -> list[tuple[EventType, str, str]]:
    """What is worth an event: a condition that became False, Ready becoming True, a credential that has ended."""
    told: list[tuple[EventType, str, str]] = []
    for each in new.conditions:
        before = old.condition(each.type)
        if before is not None and before.status == each.status and not _ended(before, each):
            continue
        if each.type == CONDITION_READY:
            if each.status == "True":
                told.append(("Normal", "Ready", "the target can be used"))
        elif each.status == "False":
            reason = _CA_EVENTS.get(each.reason, each.reason) if each.type == CA_CERT_READY else each.reason
            told.append(("Warning", reason, each.message))
    return told


def _ended(before: Condition, now: Condition) -> bool:
    return now.type == CREDENTIAL_FRESH and before.reason != now.reason


def _until(expires: float | None, now: float, soon: float) -> float | None:
    """Seconds until a credential is to be warned about, or has ended; None where neither is to come."""
    ahead = [] if expires is None else [each - now for each in (expires - soon, expires) if each > now]
    return min(ahead[0], _LONGEST) if ahead else None


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
