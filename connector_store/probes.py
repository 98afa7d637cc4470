"""Probe of one target, with the Connector's credential.

The liveness probe and the auth probe use one connection, and share TIMEOUT seconds. At most MAX_BODY bytes of a body
are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from connector_store.cache import Lru
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.json_document import load_json
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.objects.models import Address, Connector, HttpProbe, Secret, Unusable
from connector_store.domain.status.conditions import (
    ProbeFailure,
    ProbeOutcome,
    ProbeOutcomes,
    ProbeResponse,
    UnsentProbe,
)
from connector_store.domain.status.facts import ConnectorFacts
from connector_store.target_client import TargetClient, TargetError, TargetSession
from connector_store.token_manager import TokenEndpoint, TokenFailure, TokenManager

TIMEOUT: Final = 5.0
MAX_BODY: Final = 16384
_REVIEW_PATH: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_NO_KEY: Final = ObjectKey("", "")
_REVIEW_BODY: Final = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
MAX_ACCOUNTS: Final = 10_000
"""Maximum number of Connectors whose account name is cached."""
_NAME_MAX: Final = 256
"""Maximum length of an account's name, in characters. A longer name is not shown."""

_RESERVED_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"}
)
"""Headers that a class cannot set, because they belong to the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """Description of a probe. Requests that are equal have the same outcomes. `auth` needs a `credential`."""

    address: Address
    ca: bytes | None = None
    liveness: HttpProbe | None = None
    auth: HttpProbe | None = None
    credential: Credential | None = None
    key: ObjectKey = _NO_KEY
    """Key of the Connector. Its token is requested if the credential is a right to issue tokens."""
    secret_name: str = ""


def probe_request(facts: ConnectorFacts) -> ProbeRequest | None:
    """Return the probe of a Connector, or None while something that the probe needs is not usable."""
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
        secret_name=connector.secret_name or "",
    )


class Prober:
    """Sends probes with `client`. `token_manager` requests the tokens that they need."""

    def __init__(self, client: TargetClient, token_manager: TokenManager, *, timeout: float = TIMEOUT) -> None:
        self._client = client
        self._token_manager = token_manager
        self._timeout = timeout
        self._accounts = Lru[ObjectKey, tuple[Credential, str]](MAX_ACCOUNTS)

    async def probe(self, request: ProbeRequest) -> ProbeOutcomes:
        """Run the probe. Never raises for a failure of the target."""
        outcomes: dict[str, ProbeOutcome] = {}
        try:
            await self._run_probes(request, outcomes)
        except TargetError as error:
            failed_probe = "liveness" if request.liveness is not None and "liveness" not in outcomes else "auth"
            outcomes[failed_probe] = ProbeFailure(message=str(error))
        return ProbeOutcomes(liveness=outcomes.get("liveness"), auth=outcomes.get("auth"))

    async def _run_probes(self, request: ProbeRequest, outcomes: dict[str, ProbeOutcome]) -> None:
        identity = request.credential if isinstance(request.credential, ClientCertificate) else None
        async with self._client.connect(request.address, request.ca, identity, time_limit=self._timeout) as session:
            if request.liveness is not None:
                outcomes["liveness"] = await _send(session, request.liveness, {})
            if request.auth is None or not _is_alive(outcomes.get("liveness")):
                return
            credential = await self._get_credential(request)
            if isinstance(credential, TokenFailure):
                outcomes["auth"] = UnsentProbe(message=credential.message, refused=credential.refused)
            elif credential is not None:
                result = await _send(session, request.auth, _authorization_headers(credential))
                outcomes["auth"] = result
                if result.status == HTTPStatus.UNAUTHORIZED:
                    self._token_manager.invalidate(request.key, credential)
                if result.status < 300:
                    outcomes["auth"] = replace(result, account=await self._account_name(session, request, credential))

    async def _account_name(self, session: TargetSession, request: ProbeRequest, credential: Credential) -> str:
        """Return the account of a credential. It is asked for once, because it does not change."""
        cached = self._accounts.get(request.key)
        if cached is not None and cached[0] == request.credential:
            return cached[1]
        try:
            account = await _read_own_username(session, credential)
        except TargetError:
            # The probe itself succeeded. The next probe asks for the account again.
            return ""
        if request.credential is not None:
            self._accounts.put(request.key, (request.credential, account))
        return account

    async def _get_credential(self, request: ProbeRequest) -> Credential | TokenFailure | None:
        credential = request.credential
        if not isinstance(credential, IssuingCredential):
            return credential
        return await self._token_manager.get_token(
            TokenEndpoint(request.key, request.address, request.ca, credential, request.secret_name)
        )


async def _read_own_username(session: TargetSession, credential: Credential) -> str:
    """Return the user name that the target sees (SelfSubjectReview).

    Return "" if the target does not tell it. Targets before Kubernetes 1.28 do not.
    """
    headers = [("Content-Type", "application/json"), *_authorization_headers(credential).items()]
    response = await session.request("POST", _REVIEW_PATH, headers, body=_REVIEW_BODY, max_body=MAX_BODY)
    if response.status != HTTPStatus.CREATED or not response.is_complete:
        return ""
    try:
        username = Fields(load_json(response.body), "").child("status").child("userInfo").text("username") or ""
    except ValueError:
        return ""
    return username if username.isprintable() and len(username) <= _NAME_MAX else ""


def _authorization_headers(credential: Credential) -> Mapping[str, str]:
    authorization = credential.authorization
    return {} if authorization is None else {"Authorization": authorization.decode("ascii")}


async def _send(session: TargetSession, probe: HttpProbe, headers: Mapping[str, str]) -> ProbeResponse:
    own_names = {name.lower() for name in headers}
    probe_headers = [
        (name, value) for name, value in probe.headers if name.lower() not in _RESERVED_HEADERS | own_names
    ]
    body = b"" if probe.method == "POST" else None
    response = await session.request(
        probe.method, probe.path, [*probe_headers, *headers.items()], body=body, max_body=MAX_BODY
    )
    return ProbeResponse(status=response.status)


def _is_alive(outcome: ProbeOutcome | None) -> bool:
    return outcome is None or (isinstance(outcome, ProbeResponse) and outcome.status < 500)
