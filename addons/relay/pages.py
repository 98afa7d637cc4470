"""Requests to the proxy itself: `GET /ca.crt`, and `GET /kubeconfig` with the caller's own credentials.

    curl -u team-a%2Fk8s:$TOKEN http://c-k8s.team-a/kubeconfig
    curl -u team-a%2Fk8s:$TOKEN http://c-k8s.team-a/kubeconfig?direct    the proxy is its server

The kubeconfig goes through the same checks, in the same order, as a CONNECT; everything else is 404.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from addons.access.admission import known
from addons.access.checks import Checks, ask
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.callers.caller import BasicAuthorization, parse_basic
from connector_store.domain.decision import denial, verdict
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from connector_store.domain.objects.models import Target

_METHODS: Final = (b"GET", b"HEAD")
_PATHS: Final = (b"/ca.crt", b"/kubeconfig")


def is_page(target: bytes) -> bool:
    """True for what the proxy itself serves; no Kubernetes API has such paths."""
    return target.partition(b"?")[0] in _PATHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A 200; to a HEAD the body is not sent."""

    content_type: bytes
    body: bytes


class Pages:
    """Answers them. `ca` gives the PEM of the CAs to trust, None while there is none.

    `proxy` gives the `http://HOST[:PORT]` under which a Connector's callers reach us; it is asked with the request's
    Host, for where nothing else says so. It is asked once access is known, and may look at the cluster.
    """

    def __init__(
        self,
        *,
        checks: Checks,
        ca: Callable[[], bytes | None],
        proxy: Callable[[Target, str], Awaitable[str]],
    ) -> None:
        self._checks = checks
        self._ca = ca
        self._proxy = proxy

    async def answer(self, method: bytes, target: bytes, headers: Headers, source: str) -> Page | Deny:
        """The answer to an origin-form request from the address `source`; it may wait for the access check."""
        path, _, query = target.partition(b"?")
        if method not in _METHODS or path not in _PATHS:
            return denial.not_found()
        ca = self._ca()
        if ca is None:
            return denial.not_synced()
        if path == b"/ca.crt":
            return Page(content_type=b"application/x-pem-file", body=ca)
        style = KubeconfigStyle(direct=b"direct" in query.split(b"&"))
        return await self._kubeconfig(headers, ca, source, style)

    async def _kubeconfig(self, headers: Headers, ca: bytes, source: str, style: KubeconfigStyle) -> Page | Deny:
        checks = self._checks
        caller = verdict.precheck_connect(audit_log_full=False, synced=not checks.missing, credentials=_caller(headers))
        if isinstance(caller, Deny):
            return _login(caller)
        token = caller.token or ""
        answer, found = known(checks, token, caller.key)
        if answer is None:
            answer = await ask(checks, token, caller.key, source)
            found = checks.lending.find(caller.key)
        # The address is the Connector's own: what is left to decide is who asks, and whether it can be used.
        authority = found.address.authority if isinstance(found, Target) else ""
        decided = verdict.decide_connect(
            audit_log_full=False,
            synced=not checks.missing,
            credentials=caller,
            access=answer,
            resolution=found,
            authority=authority,
            policy=checks.rules,
            connection_count=0,
        )
        match decided:
            case Deny():
                return _login(decided)
            case verdict.Inject() | verdict.Forward():
                return await self._page(token, decided.target, ca, headers, style)
            case verdict.AuthenticateInTunnel():
                return denial.internal_error()

    async def _page(
        self, token: str, target: Target, ca: bytes, headers: Headers, style: KubeconfigStyle
    ) -> Page | Deny:
        host = (headers.single_value(b"host") or b"").decode("latin-1")
        proxy = await self._proxy(target, host)
        try:
            entry = KubeconfigEntry(key=target.key, address=target.address, proxy=proxy, ca=ca, token=token)
            return Page(content_type=b"application/yaml", body=to_yaml(build_kubeconfig([entry], style)).encode())
        except ParseError:
            return denial.bad_request("the Host header is not HOST[:PORT]")


def _caller(headers: Headers) -> BasicAuthorization | ParseError:
    try:
        return parse_basic(headers.single_value(b"authorization"))
    except ParseError as error:
        return error


def _login(deny: Deny) -> Deny:
    """The refusal of a CONNECT, as an origin server says it (RFC 9110 section 15.5.2)."""
    return replace(deny, status=401, challenge="Basic") if deny.status == 407 else deny
