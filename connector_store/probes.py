"""One probe of one target: HTTPS over the proxy's own trust and address policy.

The name is resolved once, denied addresses are dropped, and what is left is what is dialled. All of it, the liveness
probe and the auth probe over one connection, has TIMEOUT seconds. Redirects are not followed, and of an answer's body
a few kB are read.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from connector_store.domain.address_policy import AddressPolicy
from connector_store.domain.conditions import Answered, Outcome, Probes, Unreachable
from connector_store.domain.credentials import Credential
from connector_store.domain.errors import ParseError
from connector_store.domain.facts import Facts
from connector_store.domain.models import Address, Connector, HttpProbe, Secret, Unusable
from connector_store.trust import TrustStore

TIMEOUT: Final = 5.0
BODY: Final = 4096
HEADERS: Final = 8190
"""Bytes of one header line of the answer, aiohttp's own limit."""

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


def probe_request(facts: Facts) -> ProbeRequest | None:
    """What there is to ask; None while something that the question needs is not usable."""
    connector, cls = facts.connector, facts.cls
    if not isinstance(connector, Connector) or cls is None:
        return None
    if isinstance(facts.auth, Unusable) or isinstance(facts.ca, Unusable):
        return None
    auth = cls.auth_probes.get(facts.auth_name or "") if isinstance(facts.auth, Secret) else None
    return ProbeRequest(
        address=connector.address,
        ca=facts.ca,
        liveness=cls.liveness,
        auth=auth if facts.credential else None,
        credential=facts.credential if auth else None,
    )


class DeniedError(OSError):
    """The name resolves to denied addresses only."""


class Prober:
    """Makes probes; `executor` resolves names, on threads that a dead name server may hold."""

    def __init__(
        self,
        trust: TrustStore,
        policy: AddressPolicy,
        executor: Executor | None = None,
        *,
        user_agent: str = "connectors-controller",
    ) -> None:
        self.policy = policy
        self._trust = trust
        self._executor = executor
        self._user_agent = user_agent

    async def probe(self, request: ProbeRequest) -> Probes:
        """Never raises for what the target does."""
        outcomes: dict[str, Outcome] = {}
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._ask(request, outcomes)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failed = "liveness" if request.liveness is not None and "liveness" not in outcomes else "auth"
            outcomes[failed] = Unreachable(message=explain(error, request.address))
        return Probes(liveness=outcomes.get("liveness"), auth=outcomes.get("auth"))

    async def _ask(self, request: ProbeRequest, outcomes: dict[str, Outcome]) -> None:
        connector = aiohttp.TCPConnector(
            limit=1,
            ssl=self._trust.ssl_context(request.ca),
            resolver=_Resolver(self.policy, self._executor),
            use_dns_cache=False,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=BODY,
            max_line_size=HEADERS,
            max_field_size=HEADERS,
        ) as session:
            self._refuse_literal(request.address)
            if request.liveness is not None:
                outcomes["liveness"] = await self._send(session, request.address, request.liveness, {})
            if request.auth is not None and request.credential is not None and _alive(outcomes.get("liveness")):
                written = request.credential.authorization
                headers = {} if written is None else {"Authorization": written.decode("ascii")}
                outcomes["auth"] = await self._send(session, request.address, request.auth, headers)

    async def _send(
        self, session: aiohttp.ClientSession, address: Address, probe: HttpProbe, ours: Mapping[str, str]
    ) -> Answered:
        url = URL(f"{address}{probe.path}", encoded=True)
        theirs = {name: value for name, value in probe.headers if name.lower() not in _OURS}
        headers = {"User-Agent": self._user_agent, "Accept": "application/json, */*", **theirs, **ours}
        async with session.request(probe.method, url, headers=headers, allow_redirects=False) as response:
            await response.content.read(BODY)
            return Answered(status=response.status)

    def _refuse_literal(self, address: Address) -> None:
        """A literal address is dialled without the resolver."""
        if ":" in address.host or address.host.replace(".", "").isdigit():
            _permitted([address.host], self.policy)


def _alive(outcome: Outcome | None) -> bool:
    return outcome is None or (isinstance(outcome, Answered) and outcome.status < 500)


class _Resolver(AbstractResolver):
    """getaddrinfo, without the addresses that the policy denies."""

    def __init__(self, policy: AddressPolicy, executor: Executor | None) -> None:
        self._policy = policy
        self._executor = executor

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        infos = await loop.run_in_executor(self._executor, _getaddrinfo, host, port, family)
        permitted = _permitted([str(info[4][0]) for info in infos], self._policy)
        return [
            ResolveResult(
                hostname=host,
                host=str(info[4][0]),
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in infos
            if str(info[4][0]) in permitted
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _getaddrinfo(host: str, port: int, family: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


def _permitted(addresses: list[str], policy: AddressPolicy) -> frozenset[str]:
    found = frozenset(each for each in addresses if policy.permits(each))
    if not found:
        raise DeniedError(", ".join(sorted(set(addresses))[:4]))
    return found


def explain(error: Exception, address: Address) -> str:
    """What went wrong and what to do; never holds a header."""
    where = address.authority
    match error:
        case TimeoutError():
            return f"{where} did not answer within {TIMEOUT:.0f} s; check the address, and firewalls on the way"
        case DeniedError():
            return (
                f"{where} resolves to denied addresses only ({error}); "
                "targets-allow of the ConfigMap connectors-config can allow them"
            )
        case aiohttp.ClientConnectorError(os_error=DeniedError() as denied):
            return explain(denied, address)
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as cause):
            return (
                f"{where}: its certificate is not valid: {cause.verify_message}; put the CA of the target under ca.crt"
            )
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return f"{where} does not speak TLS as it should; check the port in spec.address"
        case aiohttp.ClientConnectorDNSError():
            return f"{where}: the name cannot be resolved; check spec.address and the cluster's DNS"
        case aiohttp.ClientConnectorError(os_error=OSError() as cause):
            # asyncio puts words of its own into strerror.
            reason = os.strerror(cause.errno) if cause.errno else "no connection"
            return f"{where}: {reason}; check that an API server listens there"
        case ParseError():
            return f"the CA of the target is {error.reason}"
        case ValueError():
            return f"{where} cannot be asked: the class's probe is not a valid request"
        case _:
            return f"{where} broke off its answer ({type(error).__name__}); check that an API server listens there"
