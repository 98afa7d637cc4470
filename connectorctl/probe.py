"""Probes of `connectorctl check --probe`: dial, verify and query each target, as the controller does."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from connector_store.domain.config.settings import Settings
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.status.conditions import AUTH_READY, LIVENESS_READY, Assessment, assess
from connector_store.domain.status.facts import ConnectorFacts
from connector_store.folder.manifests import LocatedObject
from connector_store.probes import TIMEOUT, Prober, probe_request
from connector_store.resolver import Resolver
from connector_store.target_client import TargetClient
from connector_store.token_manager import TokenManager
from connector_store.trust import TrustStore
from connectorctl import check

MAX_CONCURRENT_PROBES: Final = 16
"""Maximum number of probes at the same time."""
_ADDRESS: Final = "spec.address"
_SECRET: Final = "spec.auth.secretRef.name"  # noqa: S105 - the path of a field


def probe_targets(targets: Sequence[tuple[ConnectorFacts, LocatedObject]], settings: Settings) -> list[check.Finding]:
    """Probe the targets. Return what prevents their use, at the field to change."""
    return asyncio.run(_probe(targets, settings))


async def _probe(targets: Sequence[tuple[ConnectorFacts, LocatedObject]], settings: Settings) -> list[check.Finding]:
    policy = AddressPolicy.from_settings(allow=settings.targets_allow, deny=settings.targets_deny, in_cluster=False)
    slots = asyncio.Semaphore(MAX_CONCURRENT_PROBES)
    resolver = Resolver()
    client = TargetClient(TrustStore(), policy, resolver, user_agent="connectorctl")
    prober = Prober(client, TokenManager(client, timeout=TIMEOUT))

    async def probe_target(facts: ConnectorFacts, located: LocatedObject) -> list[check.Finding]:
        request = probe_request(facts)
        if request is None:
            return []
        async with slots:
            probes = await prober.probe(request)
        conditions = assess(
            facts, probes, Assessment(holds=True), now=time.time(), expiry_warning=settings.expiry_warning
        )
        assessments = ((_ADDRESS, conditions[LIVENESS_READY]), (_SECRET, conditions[AUTH_READY]))
        return list(_first_failure(located, assessments))

    results = await asyncio.gather(*(probe_target(*target) for target in targets))
    return [finding for findings in results for finding in findings]


def _first_failure(located: LocatedObject, assessments: Sequence[tuple[str, Assessment]]) -> Iterator[check.Finding]:
    """Return the first condition that does not hold. If the target does not respond, the credential may be good."""
    for path, assessment in assessments:
        if assessment.holds is not True:
            yield check.finding_at(located, path, "error", assessment.message)
            return
