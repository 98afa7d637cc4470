"""Conditions of a Connector, from its facts and probes.

    assessments = assess(facts, probes, service, …)     one Assessment for each condition
    status = next_status(assessments, old, …)           the old status with the changes

`Ready` is the first False of the conditions in COUNTED_IN_READY, else the first Unknown, else True. CACertReady,
CredentialFresh, MaskComplete and PermissionsEffective are only informational. A message says what is wrong and how to
fix it. lastTransitionTime changes when the status of a condition changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from connector_store.domain.base import rfc3339
from connector_store.domain.base.printable import printable
from connector_store.domain.objects.models import (
    PERMISSIONS_INVALID,
    SECRET_INVALID,
    ConnectorClass,
    InvalidConnector,
    Secret,
    Unusable,
)
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.status.facts import ConnectorFacts
from connector_store.domain.status.http_address import HttpAddress
from connector_store.domain.status.serving import NotServed
from connector_store.domain.status.status import CONDITION_READY, Condition, ConditionStatus, Status

CLASS_READY: Final = "ConnectorClassReady"
SECRET_READY: Final = "SecretReady"  # noqa: S105 - the type of a condition
PERMISSIONS_READY: Final = "PermissionsReady"
CA_CERT_READY: Final = "CACertReady"
LIVENESS_READY: Final = "LivenessReady"
AUTH_READY: Final = "AuthReady"
PROXY_SERVICE_READY: Final = "ProxyServiceReady"
CREDENTIAL_FRESH: Final = "CredentialFresh"
MASK_COMPLETE: Final = "MaskComplete"
"""Condition that exists only if the Connector masks Secrets."""
PERMISSIONS_EFFECTIVE: Final = "PermissionsEffective"
"""Condition that exists only if the permissions have a mask or dryRun."""
SERVED: Final = "Served"
"""Condition that exists only if it is False. A Connector that is not served gets no other conditions but Ready."""

COUNTED_IN_READY: Final = (
    CLASS_READY,
    SECRET_READY,
    PERMISSIONS_READY,
    LIVENESS_READY,
    AUTH_READY,
    PROXY_SERVICE_READY,
)
"""Conditions that decide Ready, in order of precedence."""

_INFORMATIONAL: Final = frozenset({CA_CERT_READY, CREDENTIAL_FRESH, MASK_COMPLETE, PERMISSIONS_EFFECTIVE})
OWN_CONDITIONS: Final = frozenset({*COUNTED_IN_READY, *_INFORMATIONAL, SERVED, CONDITION_READY})

NOT_PROBED: Final = "NotProbed"
AS_EXPECTED: Final = "AsExpected"
"""Default reason of a condition that is True. A condition always needs a reason (metav1.Condition)."""
MAX_MESSAGE: Final = 1024
"""Maximum characters of a message. It can contain text from the target, which has no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One condition without its history. `holds` is None for Unknown."""

    holds: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResponse:
    """HTTP response to a probe. `account` is the credential's user name at the target, or empty if unknown."""

    status: int
    account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailure:
    """A probe without an HTTP response. `message` says why, and how to fix it."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsentProbe:
    """A probe that was not sent, because no token was issued. `refused`: the target refused to issue one."""

    message: str
    refused: bool


ProbeOutcome = ProbeResponse | ProbeFailure | UnsentProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcomes:
    """Outcomes of the probes. A probe is None if the class does not have it, or if it was not possible."""

    liveness: ProbeOutcome | None = None
    auth: ProbeOutcome | None = None

    @property
    def failed_probe(self) -> Literal["", "liveness", "auth"]:
        """First probe to which the target did not respond like a healthy one, or empty."""
        if not (self.liveness is None or (isinstance(self.liveness, ProbeResponse) and self.liveness.status < 500)):
            return "liveness"
        accepted = self.auth is None or (isinstance(self.auth, ProbeResponse) and 200 <= self.auth.status < 300)
        return "" if accepted else "auth"


def assess(
    facts: ConnectorFacts, probes: ProbeOutcomes | None, service: Assessment, *, now: float, expiry_warning: float
) -> Mapping[str, Assessment]:
    """Assess all conditions. `probes` is None before the first results.

    `now` is in Unix seconds. The expiry of a credential is reported from its `expiry_warning_at`.
    """
    unprobed = {
        CLASS_READY: _class(facts),
        SECRET_READY: _secret(facts),
        PERMISSIONS_READY: _permissions(facts),
        CA_CERT_READY: _ca(facts),
        CREDENTIAL_FRESH: _credential_fresh(facts, now, expiry_warning),
    }
    assessments = {
        **unprobed,
        **_mask_complete(facts),
        **_permissions_effective(facts),
        **_probe_conditions(facts, probes, unprobed),
        PROXY_SERVICE_READY: service,
    }
    return {**assessments, CONDITION_READY: _ready(assessments)}


def not_served(cause: NotServed) -> Mapping[str, Assessment]:
    """Assess the conditions of a Connector that is not served."""
    assessment = Assessment(holds=False, reason=cause.reason, message=cause.message)
    return {SERVED: assessment, CONDITION_READY: assessment}


def next_status(
    assessments: Mapping[str, Assessment],
    old: Status,
    *,
    generation: int,
    proxy: HttpAddress | None,
    credential_expires_at: float | None = None,
    now: datetime,
) -> Status:
    """Return the status after `old`. It keeps conditions that are neither assessed nor in OWN_CONDITIONS unchanged.

    `credential_expires_at` is in Unix seconds.
    """
    own = tuple(_condition(kind, assessment, old, generation, now) for kind, assessment in assessments.items())
    own_types = OWN_CONDITIONS | assessments.keys()
    others = tuple(condition for condition in old.conditions if condition.type not in own_types)
    return Status(
        conditions=own + others,
        observed_generation=generation,
        proxy=proxy,
        credential_expires_at=None if credential_expires_at is None else float(int(credential_expires_at)),
    )


def _condition(kind: str, assessment: Assessment, old_status: Status, generation: int, now: datetime) -> Condition:
    status: ConditionStatus = "Unknown" if assessment.holds is None else "True" if assessment.holds else "False"
    new = Condition(
        type=kind,
        status=status,
        reason=assessment.reason or AS_EXPECTED,
        message=printable(assessment.message[:MAX_MESSAGE]),
        severity="Info" if kind in _INFORMATIONAL else "",
        last_transition_time=rfc3339.format_time(now),
        observed_generation=generation,
    )
    old = old_status.condition(kind)
    if old is None or old.status != status or not old.last_transition_time:
        return new
    new = replace(new, last_transition_time=old.last_transition_time)
    # Definitions of an earlier release drop the condition's generation. Writing it again would never end.
    is_same = old_status.observed_generation == generation and old == replace(new, observed_generation=0)
    return old if is_same else new


def _condition_of(connector: InvalidConnector) -> str:
    """Return the condition that says why the Connector is invalid."""
    return {SECRET_INVALID: SECRET_READY, PERMISSIONS_INVALID: PERMISSIONS_READY}.get(connector.reason, CLASS_READY)


def _class(facts: ConnectorFacts) -> Assessment:
    connector = facts.connector
    if isinstance(connector, InvalidConnector) and _condition_of(connector) == CLASS_READY:
        return Assessment(holds=False, reason=connector.reason, message=connector.message)
    if facts.cls is None:
        return Assessment(
            holds=False,
            reason="ConnectorClassNotFound",
            message=f'connectorclasses.connectors.alauda.io "{connector.class_name}" not found; '
            "create it, or set spec.connectorClassName to k8s",
        )
    return Assessment(holds=True)


def _secret(facts: ConnectorFacts) -> Assessment:
    connector = facts.connector
    if isinstance(connector, InvalidConnector):
        if _condition_of(connector) == SECRET_READY:
            return Assessment(holds=False, reason=connector.reason, message=connector.message)
        return _unknown("not checked while the Connector is invalid: " + connector.message)
    if facts.cls is None:
        return _unknown("not checked while the class is missing, because the class says which Secret is needed")
    if isinstance(facts.secret, Unusable):
        return Assessment(holds=False, reason=facts.secret.reason, message=facts.secret.message)
    if facts.secret is None:
        return Assessment(holds=True, reason="SecretOptional", message="the class needs no Secret, and none is named")
    return Assessment(holds=True)


def _permissions(facts: ConnectorFacts) -> Assessment:
    connector = facts.connector
    if isinstance(connector, InvalidConnector):
        if _condition_of(connector) == PERMISSIONS_READY:
            return Assessment(holds=False, reason=connector.reason, message=connector.message)
        return _unknown("not checked while the Connector is invalid: " + connector.message)
    if isinstance(facts.permissions, Unusable):
        return Assessment(holds=False, reason=facts.permissions.reason, message=facts.permissions.message)
    if facts.permissions is None:
        return Assessment(
            holds=True, reason="NotLimited", message="the Connector allows all that the credential can do"
        )
    return Assessment(holds=True)


def _mask_complete(facts: ConnectorFacts) -> Mapping[str, Assessment]:
    gaps = facts.permissions.mask_gaps if isinstance(facts.permissions, PermissionEvaluator) else None
    if gaps is None:
        return {}
    if not gaps:
        return {MASK_COMPLETE: Assessment(holds=True)}
    message = f"callers can get around the mask; add to spec.permissions.deny: {', '.join(gaps)}"
    return {MASK_COMPLETE: Assessment(holds=False, reason="WaysAround", message=message)}


def _permissions_effective(facts: ConnectorFacts) -> Mapping[str, Assessment]:
    problems = facts.permissions.ineffective_rights if isinstance(facts.permissions, PermissionEvaluator) else None
    if problems is None:
        return {}
    if not problems:
        return {PERMISSIONS_EFFECTIVE: Assessment(holds=True)}
    return {PERMISSIONS_EFFECTIVE: Assessment(holds=False, reason="FieldsConflict", message="; ".join(problems))}


def _credential_fresh(facts: ConnectorFacts, now: float, expiry_warning: float) -> Assessment:
    """Assess the credential's own expiry time. The condition is only informational, because clocks differ."""
    if facts.credential is None:
        return Assessment(holds=None, reason="NoCredential", message="the Connector has no credential that can expire")
    expires_at = facts.credential.expires_at
    if expires_at is None:
        return Assessment(holds=None, reason="NotKnown", message="the credential does not say when it expires")
    name = facts.secret.key.name if isinstance(facts.secret, Secret) else ""
    when = rfc3339.format_unix_time(expires_at)
    if expires_at <= now:
        return Assessment(
            holds=False,
            reason="Expired",
            message=f'the credential in secrets "{name}" expired at {when}; renew it there',
        )
    if now >= facts.credential.expiry_warning_at(expiry_warning):
        return Assessment(
            holds=False,
            reason="ExpiresSoon",
            message=f'the credential in secrets "{name}" expires at {when}; renew it there',
        )
    return Assessment(holds=True, message=f"the credential expires at {when}")


def _ca(facts: ConnectorFacts) -> Assessment:
    if isinstance(facts.connector, InvalidConnector):
        return _unknown("not checked while the Connector is invalid: " + facts.connector.message)
    if isinstance(facts.ca, Unusable):
        return Assessment(holds=False, reason=facts.ca.reason, message=facts.ca.message)
    if facts.ca is None:
        return Assessment(holds=True, reason="NoCACert", message="the system's certificate authorities are trusted")
    return Assessment(holds=True, reason="Valid")


def _probe_conditions(
    facts: ConnectorFacts, probes: ProbeOutcomes | None, unprobed: Mapping[str, Assessment]
) -> Mapping[str, Assessment]:
    blocking = next(
        (unprobed[kind].message for kind in (CLASS_READY, SECRET_READY) if unprobed[kind].holds is not True), ""
    )
    if blocking or facts.cls is None:
        skipped = _unknown("not probed: " + blocking)
        return {LIVENESS_READY: skipped, AUTH_READY: skipped}
    if isinstance(facts.ca, Unusable):
        # CACertReady does not count in Ready, but a connection to the target needs the CA that the Connector sets.
        reason = "the target is not contacted without the CA of the Connector: " + facts.ca.message
        return {
            LIVENESS_READY: Assessment(holds=False, reason="ConnectionFailed", message=reason),
            AUTH_READY: _unknown("not probed: " + facts.ca.message),
        }
    return {LIVENESS_READY: _liveness(facts.cls, probes), AUTH_READY: _auth(facts, facts.cls, probes)}


def _liveness(cls: ConnectorClass, probes: ProbeOutcomes | None) -> Assessment:
    """Assess the liveness probe. Any status below 500 is good: without anonymous access, /livez answers 401 or 403."""
    if cls.liveness is None:
        return Assessment(holds=True, reason="NonLivenessProbe", message=f"class {cls.name} has no liveness probe")
    match probes.liveness if probes else None:
        case None:
            return _unknown("the first probe has not finished yet")
        case ProbeFailure(message=message):
            return Assessment(holds=False, reason="ConnectionFailed", message=message)
        case ProbeResponse(status=status) if status >= 500:
            return Assessment(
                holds=False,
                reason="ConnectionFailed",
                message=f"the target answered {cls.liveness.path} with status code {status}; "
                "fix the API server, or the load balancer in front of it",
            )
        case _:
            return Assessment(holds=True)


def _auth(facts: ConnectorFacts, cls: ConnectorClass, probes: ProbeOutcomes | None) -> Assessment:
    probe = cls.auth_probes.get(facts.auth_name or "")
    if probe is None:
        return Assessment(holds=True, reason="NonAuthProbe", message=f"class {cls.name} has no probe of this auth type")
    if facts.credential is None:
        return Assessment(holds=True, reason="NonAuthProbe", message="the Connector has no token to probe with")
    match probes.auth if probes else None:
        case None:
            return _unknown(
                "not probed while the target does not answer" if probes else "the first probe has not finished yet"
            )
        case ProbeFailure(message=message):
            return _unknown(message)
        case UnsentProbe(message=message, refused=refused):
            return _failed(message) if refused else _unknown(message)
        case ProbeResponse(status=status, account=account) if 200 <= status < 300:
            return Assessment(
                holds=True, message=f"the target authenticates the credential as {account}" if account else ""
            )
        case ProbeResponse(status=status) if status == 429 or status >= 500:
            return _unknown(f"the target answered {probe.path} with status code {status}; it is asked again")
        case response:
            fix = _fix_hint(facts, probe.path, response.status)
            return _failed(f"Authentication failed: status code {response.status}; {fix}")


def _failed(message: str) -> Assessment:
    return Assessment(holds=False, reason="AuthenticationFailed", message=message)


def _fix_hint(facts: ConnectorFacts, path: str, status: int) -> str:
    secret = facts.secret.key.name if isinstance(facts.secret, Secret) else ""
    if status == 401:
        return f'the target does not accept the token; renew it in secrets "{secret}"'
    if status == 403:
        return f'the token in secrets "{secret}" may not get {path}; bind system:discovery to its user on the target'
    return f"the target does not serve {path}; check that spec.address is the base URL of a Kubernetes API server"


def _ready(assessments: Mapping[str, Assessment]) -> Assessment:
    counted = [assessments[kind] for kind in COUNTED_IN_READY]
    first_false = next((assessment for assessment in counted if assessment.holds is False), None)
    first_unknown = next((assessment for assessment in counted if assessment.holds is None), None)
    return first_false or first_unknown or Assessment(holds=True)


def _unknown(message: str) -> Assessment:
    return Assessment(holds=None, reason=NOT_PROBED, message=message)
