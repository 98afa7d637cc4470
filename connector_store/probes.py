"""One probe of one target, with the credential that callers are lent.

All of it, the liveness probe and the auth probe over one connection, has TIMEOUT seconds. Of an answer's body a few kB
are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from connector_store.cache import Lru
from connector_store.domain.base.document import load_json
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.credential.minting import IssuingCredential
from connector_store.domain.objects.models import Address, Connector, HttpProbe, Secret, Unusable
from connector_store.domain.status.conditions import (
    ProbeFailure,
    ProbeOutcome,
    ProbeOutcomes,
    ProbeResponse,
    TokenNotIssued,
)
from connector_store.domain.status.facts import Facts
from connector_store.minter import Failure, Minter, Source
from connector_store.target_client import Session, TargetClient, TargetError

TIMEOUT: Final = 5.0
BODY: Final = 16384
_SELF: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_NOBODY: Final = ObjectKey("", "")
_WHO: Final = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
ACCOUNTS: Final = 10_000
"""Connectors whose account is remembered."""
_NAME_MAX: Final = 256
"""Characters of an account's name that are shown."""

_OURS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"})
"""Headers that a class cannot set: they belong to the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """What to ask; two that are equal have the same answer, as far as we know. `auth` needs a `credential`."""

    address: Address
    ca: bytes | None = None
    liveness: HttpProbe | None = None
    auth: HttpProbe | None = None
    credential: Credential | None = None
    key: ObjectKey = _NOBODY
    """The Connector's, whose token is minted where the credential is a right to do so."""
    secret: str = ""


def probe_request(facts: Facts) -> ProbeRequest | None:
    """What there is to ask; None while something that the question needs is not usable."""
    connector, cls = facts.connector, facts.cls
    if not isinstance(connector, Connector) or cls is None:
        return None
    if isinstance(facts.secret, Unusable) or isinstance(facts.ca, Unusable):
        return None
    auth = cls.auth_probes.get(facts.auth_name or "") if isinstance(facts.secret, Secret) else None
    return ProbeRequest(
        address=connector.address,
        ca=facts.ca,
        liveness=cls.liveness,
        auth=auth if facts.credential else None,
        credential=facts.credential if auth else None,
        key=connector.key,
        secret=connector.secret_name or "",
    )


class Prober:
    """Makes probes by `client`; what has to be minted first, `minter` mints."""

    def __init__(self, client: TargetClient, minter: Minter, *, timeout: float = TIMEOUT) -> None:
        self._client = client
        self._minter = minter
        self._timeout = timeout
        self._accounts = Lru[ObjectKey, tuple[Credential, str]](ACCOUNTS)

    async def probe(self, request: ProbeRequest) -> ProbeOutcomes:
        """Never raises for what the target does."""
        outcomes: dict[str, ProbeOutcome] = {}
        try:
            await self._ask(request, outcomes)
        except TargetError as error:
            failed = "liveness" if request.liveness is not None and "liveness" not in outcomes else "auth"
            outcomes[failed] = ProbeFailure(message=str(error))
        return ProbeOutcomes(liveness=outcomes.get("liveness"), auth=outcomes.get("auth"))

    async def _ask(self, request: ProbeRequest, outcomes: dict[str, ProbeOutcome]) -> None:
        identity = request.credential if isinstance(request.credential, ClientCertificate) else None
        async with self._client.connect(request.address, request.ca, identity, seconds=self._timeout) as session:
            if request.liveness is not None:
                outcomes["liveness"] = await _send(session, request.liveness, {})
            if request.auth is None or not _alive(outcomes.get("liveness")):
                return
            lent = await self._lent(request)
            if isinstance(lent, Failure):
                outcomes["auth"] = TokenNotIssued(message=lent.message, refused=lent.refused)
            elif lent is not None:
                answered = await _send(session, request.auth, _headers(lent))
                outcomes["auth"] = answered
                if answered.status == HTTPStatus.UNAUTHORIZED:
                    self._minter.refused(request.key, lent)
                if answered.status < 300:
                    outcomes["auth"] = replace(answered, account=await self._account(session, request, lent))

    async def _account(self, session: Session, request: ProbeRequest, lent: Credential) -> str:
        """Asked once for each credential: whose it is does not change."""
        known = self._accounts.get(request.key)
        if known is not None and known[0] == request.credential:
            return known[1]
        try:
            found = await _who(session, lent)
        except TargetError:
            # The probe itself was answered; whose account it was is asked by the next one.
            return ""
        if request.credential is not None:
            self._accounts.put(request.key, (request.credential, found))
        return found

    async def _lent(self, request: ProbeRequest) -> Credential | Failure | None:
        right = request.credential
        if not isinstance(right, IssuingCredential):
            return right
        return await self._minter.lend(Source(request.key, request.address, request.ca, right, request.secret))


async def _who(session: Session, credential: Credential) -> str:
    """As whom the target knows us (SelfSubjectReview); empty where it does not say, as before Kubernetes 1.28."""
    headers = [("Content-Type", "application/json"), *_headers(credential).items()]
    answer = await session.request("POST", _SELF, headers, body=_WHO, most=BODY)
    if answer.status != HTTPStatus.CREATED or not answer.whole:
        return ""
    try:
        found = Fields(load_json(answer.body), "").child("status").child("userInfo").text("username") or ""
    except ValueError:
        return ""
    return found if found.isprintable() and len(found) <= _NAME_MAX else ""


def _headers(credential: Credential) -> Mapping[str, str]:
    """What a request of our own carries of a credential."""
    written = credential.authorization
    return {} if written is None else {"Authorization": written.decode("ascii")}


async def _send(session: Session, probe: HttpProbe, ours: Mapping[str, str]) -> ProbeResponse:
    mine = {name.lower() for name in ours}
    theirs = [(name, value) for name, value in probe.headers if name.lower() not in _OURS | mine]
    body = b"" if probe.method == "POST" else None
    answer = await session.request(probe.method, probe.path, [*theirs, *ours.items()], body=body, most=BODY)
    return ProbeResponse(status=answer.status)


def _alive(outcome: ProbeOutcome | None) -> bool:
    return outcome is None or (isinstance(outcome, ProbeResponse) and outcome.status < 500)
