"""Reconciler of one Connector: its Service, its conditions, and its proxy's address.

It is level-triggered: for a key, it reads the caches and writes what differs. Between two calls, it keeps only the
outcomes of probes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from connector_controller.event_recorder import Regarding
from connector_controller.observed import ObjectCache, ObservedConnector
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.kubeconfig.proxy_service import alias_url
from connector_store.domain.objects.credential_kinds import is_supported
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
from connector_store.domain.status.facts import ConnectorFacts, gather_facts
from connector_store.domain.status.http_address import HttpAddress
from connector_store.domain.status.serving import NAMESPACE_NOT_SERVED
from connector_store.domain.status.status import CONDITION_READY, Condition, Status, status_patch
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import suppress_status
from connector_store.kube.events import EventType
from connector_store.kube.resources import CONNECTORS
from connector_store.probes import ProbeRequest, probe_request
from connector_store.store import Store
from connector_store.trust import TrustStore

_MAX_REQUEUE: Final = 7 * 86400.0
"""Seconds after which a credential is checked again, even if it expires later."""
_CA_EVENT_REASONS: Final = {"SecretNotFound": "CACertSecretNotFound", "InvalidPEM": "InvalidCACert"}
"""Reasons of events about CACertReady, which distinguish them from events about the auth Secret."""


class ServiceEnsurer(Protocol):
    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment: ...

    async def remove(self, connector: ObjectKey) -> None: ...


class ProbeLookup(Protocol):
    def get_result(self, key: ObjectKey, request: ProbeRequest, *, was_ready: bool) -> ProbeOutcomes | None: ...

    def forget(self, key: ObjectKey) -> None: ...


class EventSink(Protocol):
    def record(self, regarding: Regarding, event_type: EventType, reason: str, note: str) -> None: ...


class ConnectorReconciler:
    """Reconciler of Connectors.

    `has_read_secret` returns True if a Secret that the store lacks does not exist. `ca_pem` returns the PEM to publish.
    """

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        observed_connectors: ObjectCache[ObjectKey, ObservedConnector],
        *,
        services: ServiceEnsurer,
        probe_schedule: ProbeLookup,
        events: EventSink,
        trust: TrustStore,
        settings: Settings,
        has_read_secret: Callable[[ObjectKey], bool],
        ca_pem: Callable[[], bytes | None],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._observed_connectors = observed_connectors
        self._services = services
        self._probe_schedule = probe_schedule
        self._events = events
        self._trust = trust
        self.settings = settings
        """Shared settings. The live ones may be replaced while it runs."""
        self._has_read_secret = has_read_secret
        self._ca_pem = ca_pem
        self._now = now

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Return the seconds to the next run without a change, or None. Raises ApiError if it must be retried."""
        observed = self._observed_connectors.get(key)
        cls = self._store.connector_class(observed.connector.class_name) if observed else None
        if observed is None or not is_supported(observed.connector, cls):
            self._probe_schedule.forget(key)
            await self._services.remove(key)
            return None
        if observed.is_deleting:
            # The garbage collector deletes its Service.
            self._probe_schedule.forget(key)
            return None
        not_served_reason = self._store.not_served_reason(key.namespace)
        if not_served_reason is not None and not_served_reason.reason == NAMESPACE_NOT_SERVED:
            self._probe_schedule.forget(key)
            await self._update_status(observed, not_served(not_served_reason), None, None, self._now())
            return None
        facts = gather_facts(
            observed.connector, cls, self._store.secret, self._store.shared_ca, self._store.cluster_role
        )
        if self._awaits_secret(observed):
            return None
        return await self._update(observed, self._check_ca(facts))

    def _awaits_secret(self, observed: ObservedConnector) -> bool:
        """Return True while a Secret that the Connector names may exist and has not been read.

        When it has been read, the key is enqueued again.
        """
        connector = observed.connector
        if not isinstance(connector, Connector):
            return False
        return any(
            self._store.secret(each) is None and not self._has_read_secret(each) for each in connector.secret_keys
        )

    def _check_ca(self, facts: ConnectorFacts) -> ConnectorFacts:
        """Return `facts`, with the CA marked unusable if it looks like PEM and cannot be loaded."""
        if not isinstance(facts.ca, bytes):
            return facts
        try:
            self._trust.openssl_context(facts.ca)
        except ParseError as error:
            ca = Unusable(key=facts.connector.key, reason="InvalidPEM", message=f"the target's CA is {error.reason}")
            return replace(facts, ca=ca)
        return facts

    async def _update(self, observed: ObservedConnector, facts: ConnectorFacts) -> float | None:
        request = probe_request(facts)
        probes = (
            self._probe_schedule.get_result(observed.key, request, was_ready=_was_ready(observed)) if request else None
        )
        if request is None:
            self._probe_schedule.forget(observed.key)
        elif probes is None and observed.status.conditions:
            # Keep the status until the first probe is done, so that it does not flap when a controller starts.
            return None
        service = await self._services.ensure(observed.key, observed.connector.uid)
        now, expiry_warning = self._now(), self.settings.expiry_warning
        assessments = assess(facts, probes, service, now=now.timestamp(), expiry_warning=expiry_warning)
        credential = facts.credential
        expires_at = credential.expires_at if credential is not None else None
        await self._update_status(observed, assessments, self._published_address(observed, service), expires_at, now)
        return _earliest(
            None if service.holds else self.settings.probe_interval,
            _seconds_until_expiry_step(credential, now.timestamp(), expiry_warning),
        )

    async def _update_status(
        self,
        observed: ObservedConnector,
        assessments: Mapping[str, Assessment],
        proxy: HttpAddress | None,
        expires_at: float | None,
        now: datetime,
    ) -> None:
        status = next_status(
            assessments,
            observed.status,
            generation=observed.connector.generation,
            proxy=proxy,
            credential_expires_at=expires_at,
            now=now,
        )
        if status != observed.status:
            await self._patch_status(observed, status)
            self._record_events(observed, status)

    def _published_address(self, observed: ObservedConnector, assessment: Assessment) -> HttpAddress | None:
        # Do not publish a Service that is not ours as the proxy's, because callers send their tokens there.
        if assessment.reason or not assessment.holds:
            return None
        ca = self._ca_pem()
        if ca is None:
            # There is no CA yet, or it is not readable. Keep what was published.
            return observed.status.proxy
        url = alias_url(observed.key, self.settings.cluster_domain)
        return HttpAddress(url=url, ca=ca, audience=self.settings.audience)

    async def _patch_status(self, observed: ObservedConnector, status: Status) -> None:
        metadata = {"uid": observed.connector.uid, "resourceVersion": observed.connector.resource_version}
        body: dict[str, Any] = {"metadata": metadata, "status": status_patch(status)}
        # The Connector may have been deleted meanwhile.
        with suppress_status(HTTPStatus.NOT_FOUND):
            await self._client.patch(CONNECTORS.path(*observed.key, "status"), body)

    def _record_events(self, observed: ObservedConnector, status: Status) -> None:
        regarding = Regarding("Connector", observed.key, observed.connector.uid)
        for kind, reason, note in transitions(observed.status, status):
            self._events.record(regarding, kind, reason, note)


def _was_ready(observed: ObservedConnector) -> bool:
    """Return True if the status says that this generation of the spec is ready."""
    ready = observed.status.ready
    current = observed.status.observed_generation == observed.connector.generation
    return current and ready is not None and ready.status == "True"


def transitions(old: Status, new: Status) -> list[tuple[EventType, str, str]]:
    """Return the events for a status change.

    These are a condition that became False, Ready that became True, and a credential that has expired.
    """
    events: list[tuple[EventType, str, str]] = []
    for each in new.conditions:
        previous = old.condition(each.type)
        if previous is not None and previous.status == each.status and not _reason_changed(previous, each):
            continue
        if each.type == CONDITION_READY:
            if each.status == "True":
                events.append(("Normal", "Ready", "the target can be used"))
        elif each.status == "False":
            reason = _CA_EVENT_REASONS.get(each.reason, each.reason) if each.type == CA_CERT_READY else each.reason
            events.append(("Warning", reason, each.message))
    return events


def _reason_changed(previous: Condition, now: Condition) -> bool:
    return now.type == CREDENTIAL_FRESH and previous.reason != now.reason


def _seconds_until_expiry_step(credential: Credential | None, now: float, expiry_warning: float) -> float | None:
    """Return the seconds until a credential's expiry warning or its expiry, or None if both are over."""
    if credential is None or credential.expires_at is None:
        return None
    times = credential.expiry_warning_at(expiry_warning), credential.expires_at
    delays = [each - now for each in times if each > now]
    return min(delays[0], _MAX_REQUEUE) if delays else None


def _earliest(first: float | None, second: float | None) -> float | None:
    return min((each for each in (first, second) if each is not None), default=None)
