"""What is known of a Connector -> the conditions that its status shows.

    findings = assess(facts, probes, service)           what holds now, one Finding for each condition
    status = next_status(findings, old, …, now)         the old status with what changed

`Ready` is the first False of the others, else the first Unknown; CACertReady informs only. A message says what is
wrong and what to do. lastTransitionTime moves when the status of a condition does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from connector_store.domain.base import rfc3339
from connector_store.domain.objects.models import ConnectorClass, Rejected, Secret, Unusable
from connector_store.domain.status.facts import Facts
from connector_store.domain.status.published import HttpAddress
from connector_store.domain.status.serving import Withheld
from connector_store.domain.status.status import CONDITION_READY, Condition, Status, Truth

CLASS: Final = "ConnectorClassReady"
SECRET: Final = "SecretReady"  # noqa: S105 - the type of a condition
PERMISSIONS: Final = "PermissionsReady"
CA_CERT: Final = "CACertReady"
LIVENESS: Final = "LivenessReady"
AUTH: Final = "AuthReady"
SERVICE: Final = "ProxyServiceReady"
CREDENTIAL: Final = "CredentialFresh"
SERVED: Final = "Served"
"""There only where it is False: of a Connector that is not served nothing else is looked at."""

COUNTED: Final = (CLASS, SECRET, PERMISSIONS, LIVENESS, AUTH, SERVICE)
"""In the order in which the first that is not True is the one that Ready names."""

OURS: Final = frozenset({*COUNTED, CA_CERT, CREDENTIAL, SERVED, CONDITION_READY})

NOT_PROBED: Final = "NotProbed"
AS_EXPECTED: Final = "AsExpected"
"""Of a condition that holds and has nothing more to say: a condition always has a reason (metav1.Condition)."""
MAX_MESSAGE: Final = 1024
"""Characters of a message; a target can answer anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition without its history; `holds` None is Unknown."""

    holds: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A probe got an HTTP answer. `account` is as whom the target knows us, as far as it says."""

    status: int
    account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """A probe got none: why, and what to do."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLent:
    """There was nothing to ask with: no token could be minted. `refused`: the target has said so."""

    message: str
    refused: bool


Outcome = Answered | Unreachable | NotLent


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Outcomes of the probes that the class has and that could be made."""

    liveness: Outcome | None = None
    auth: Outcome | None = None

    @property
    def well(self) -> bool:
        """Whether the target answered all that it was asked as a good one does."""
        alive = self.liveness is None or (isinstance(self.liveness, Answered) and self.liveness.status < 500)
        accepted = self.auth is None or (isinstance(self.auth, Answered) and 200 <= self.auth.status < 300)
        return alive and accepted


def assess(facts: Facts, probes: Probes | None, service: Finding, *, now: float, soon: float) -> Mapping[str, Finding]:
    """`probes` None: they are not back yet. `soon` is how many seconds before its end a credential is warned about."""
    static = {
        CLASS: _class(facts),
        SECRET: _secret(facts),
        PERMISSIONS: _permissions(facts),
        CA_CERT: _ca(facts),
        CREDENTIAL: _fresh(facts, now, soon),
    }
    findings = {**static, **_probed(facts, probes, static), SERVICE: service}
    return {**findings, CONDITION_READY: _ready(findings)}


def not_served(why: Withheld) -> Mapping[str, Finding]:
    """Of a Connector whose namespace is not served."""
    finding = Finding(holds=False, reason=why.reason, message=why.message)
    return {SERVED: finding, CONDITION_READY: finding}


def next_status(
    findings: Mapping[str, Finding],
    old: Status,
    *,
    generation: int,
    proxy: HttpAddress | None,
    expires: float | None = None,
    now: datetime,
) -> Status:
    """`expires`: the credential's end, unix seconds. Conditions in `old` that are not of OURS are kept as they are."""
    ours = tuple(_condition(kind, finding, old.condition(kind), now) for kind, finding in findings.items())
    others = tuple(each for each in old.conditions if each.type not in OURS)
    return Status(
        conditions=ours + others,
        observed_generation=generation,
        proxy=proxy,
        expires=None if expires is None else float(int(expires)),
    )


def _condition(kind: str, finding: Finding, old: Condition | None, now: datetime) -> Condition:
    truth: Truth = "Unknown" if finding.holds is None else "True" if finding.holds else "False"
    new = Condition(
        type=kind,
        status=truth,
        reason=finding.reason or AS_EXPECTED,
        message=finding.message[:MAX_MESSAGE],
        severity="Info" if kind in (CA_CERT, CREDENTIAL) else "",
        transition=rfc3339.format_time(now),
    )
    if old is not None and old.status == truth and old.transition:
        return replace(new, transition=old.transition)
    return new


def _class(facts: Facts) -> Finding:
    connector = facts.connector
    if isinstance(connector, Rejected) and not connector.reason.startswith(("Secret", "Permissions")):
        return Finding(holds=False, reason=connector.reason, message=connector.message)
    if facts.cls is None:
        return Finding(
            holds=False,
            reason="ConnectorClassNotFound",
            message=f'connectorclasses.connectors.alauda.io "{connector.class_name}" not found; '
            "create it, or set spec.connectorClassName to k8s",
        )
    return Finding(holds=True)


def _secret(facts: Facts) -> Finding:
    connector = facts.connector
    if isinstance(connector, Rejected):
        if connector.reason.startswith("Secret"):
            return Finding(holds=False, reason=connector.reason, message=connector.message)
        return _unknown("not looked at while the Connector cannot be read: " + connector.message)
    if facts.cls is None:
        return _unknown("not looked at while the class is missing, which says what Secret is needed")
    if isinstance(facts.auth, Unusable):
        return Finding(holds=False, reason=facts.auth.reason, message=facts.auth.message)
    if facts.auth is None:
        return Finding(holds=True, reason="SecretOptional", message="the class needs no Secret, and none is named")
    return Finding(holds=True)


def _permissions(facts: Facts) -> Finding:
    connector = facts.connector
    if isinstance(connector, Rejected):
        if connector.reason.startswith("Permissions"):
            return Finding(holds=False, reason=connector.reason, message=connector.message)
        return _unknown("not looked at while the Connector cannot be read: " + connector.message)
    if isinstance(facts.lending, Unusable):
        return Finding(holds=False, reason=facts.lending.reason, message=facts.lending.message)
    if facts.lending is None:
        return Finding(holds=True, reason="NotLimited", message="all that the credential may do is lent")
    return Finding(holds=True)


def _fresh(facts: Facts, now: float, soon: float) -> Finding:
    """When the credential ends, as it says itself; nothing depends on it, because clocks differ."""
    if facts.credential is None:
        return Finding(holds=None, reason="NoCredential", message="there is no credential that could end")
    expires = facts.credential.expires_at
    if expires is None:
        return Finding(holds=None, reason="NotKnown", message="the credential does not say when it ends")
    name = facts.auth.key.name if isinstance(facts.auth, Secret) else ""
    when = rfc3339.format_time(datetime.fromtimestamp(expires, UTC))
    if expires <= now:
        return Finding(
            holds=False, reason="Expired", message=f'the credential in secrets "{name}" ended at {when}; renew it there'
        )
    if expires <= now + soon:
        return Finding(
            holds=False,
            reason="ExpiresSoon",
            message=f'the credential in secrets "{name}" ends at {when}; renew it there',
        )
    return Finding(holds=True, message=f"the credential ends at {when}")


def _ca(facts: Facts) -> Finding:
    if isinstance(facts.connector, Rejected):
        return _unknown("not looked at while the Connector cannot be read: " + facts.connector.message)
    if isinstance(facts.ca, Unusable):
        return Finding(holds=False, reason=facts.ca.reason, message=facts.ca.message)
    if facts.ca is None:
        return Finding(holds=True, reason="NoCACert", message="the system's certificate authorities are trusted")
    return Finding(holds=True, reason="Valid")


def _probed(facts: Facts, probes: Probes | None, static: Mapping[str, Finding]) -> Mapping[str, Finding]:
    blocking = next((static[kind].message for kind in (CLASS, SECRET) if static[kind].holds is not True), "")
    if blocking or facts.cls is None:
        skipped = _unknown("not probed: " + blocking)
        return {LIVENESS: skipped, AUTH: skipped}
    if isinstance(facts.ca, Unusable):
        # CACertReady is not counted, but nothing can be reached without the trust that the Connector asks for.
        reason = "no connection is made without the CA that is asked for: " + facts.ca.message
        return {
            LIVENESS: Finding(holds=False, reason="ConnectionFailed", message=reason),
            AUTH: _unknown("not probed: " + facts.ca.message),
        }
    return {LIVENESS: _liveness(facts.cls, probes), AUTH: _auth(facts, facts.cls, probes)}


def _liveness(cls: ConnectorClass, probes: Probes | None) -> Finding:
    """Any HTTP answer but 5xx proves life: where anonymous access is off, /livez answers 401 or 403."""
    if cls.liveness is None:
        return Finding(holds=True, reason="NonLivenessProbe", message=f"class {cls.name} has no liveness probe")
    match probes.liveness if probes else None:
        case None:
            return _unknown("the first probe is not back yet")
        case Unreachable(message=message):
            return Finding(holds=False, reason="ConnectionFailed", message=message)
        case Answered(status=status) if status >= 500:
            return Finding(
                holds=False,
                reason="ConnectionFailed",
                message=f"the target answered {cls.liveness.path} with status code {status}; "
                "mend the API server, or what stands before it",
            )
        case _:
            return Finding(holds=True)


def _auth(facts: Facts, cls: ConnectorClass, probes: Probes | None) -> Finding:
    probe = cls.auth_probes.get(facts.auth_name or "")
    if probe is None:
        return Finding(holds=True, reason="NonAuthProbe", message=f"class {cls.name} has no probe of this auth type")
    if facts.credential is None:
        return Finding(holds=True, reason="NonAuthProbe", message="there is no token to probe with")
    match probes.auth if probes else None:
        case None:
            return _unknown("not probed while the target does not answer" if probes else "the probe is not back yet")
        case Unreachable(message=message):
            return _unknown(message)
        case NotLent(message=message, refused=refused):
            return _failed(message) if refused else _unknown(message)
        case Answered(status=status, account=account) if 200 <= status < 300:
            return Finding(holds=True, message=f"the target knows it as {account}" if account else "")
        case Answered(status=status) if status == 429 or status >= 500:
            return _unknown(f"the target answered {probe.path} with status code {status}; it is asked again")
        case refused:
            mend = _mend(facts, probe.path, refused.status)
            return _failed(f"Authentication failed: status code {refused.status}; {mend}")


def _failed(message: str) -> Finding:
    return Finding(holds=False, reason="AuthenticationFailed", message=message)


def _mend(facts: Facts, path: str, status: int) -> str:
    secret = facts.auth.key.name if isinstance(facts.auth, Secret) else ""
    if status == 401:
        return f'the target does not accept the token; renew it in secrets "{secret}"'
    if status == 403:
        return f'the token in secrets "{secret}" may not get {path}; bind system:discovery to its user on the target'
    return f"{path} is not there; check that spec.address is the base URL of a Kubernetes API server"


def _ready(findings: Mapping[str, Finding]) -> Finding:
    counted = [findings[kind] for kind in COUNTED]
    false = next((each for each in counted if each.holds is False), None)
    return false or next((each for each in counted if each.holds is None), None) or Finding(holds=True)


def _unknown(message: str) -> Finding:
    return Finding(holds=None, reason=NOT_PROBED, message=message)
