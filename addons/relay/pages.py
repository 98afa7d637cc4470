"""Pages of the proxy itself: `GET /ca.crt`, and `GET /kubeconfig` with the credentials of the caller.

    curl -u team-a%2Fk8s:$TOKEN http://c-k8s.team-a/kubeconfig
    curl -u team-a%2Fk8s:$TOKEN http://c-k8s.team-a/kubeconfig?direct    for direct access

A request for the kubeconfig passes the checks of a CONNECT in the same order. Every other path returns 404.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from addons.access.authorizer import get_cached
from addons.access.caller_checks import AccessContext, check_caller
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.callers.authorization_header import BasicAuthorization, parse_basic
from connector_store.domain.decision import decide, denial, direct_access
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from connector_store.domain.objects.models import Target

_PAGE_METHODS: Final = (b"GET", b"HEAD")
_PAGE_PATHS: Final = (b"/ca.crt", b"/kubeconfig")


def is_page(target: bytes) -> bool:
    """Return True if the proxy itself serves this path. No Kubernetes API has such a path."""
    return target.partition(b"?")[0] in _PAGE_PATHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Content of a response with status 200. A response to HEAD omits the body."""

    content_type: bytes
    body: bytes


class Pages:
    """Handler of requests for pages. `ca` returns the PEM of the CAs to trust, None if they are not available yet.

    `proxy_url` returns the `http://HOST[:PORT]` at which callers of a Connector reach the proxy. It gets the Host of
    the request as a fallback. It is called after the access decision, and may read from the cluster.
    """

    def __init__(
        self,
        *,
        access_context: AccessContext,
        ca: Callable[[], bytes | None],
        proxy_url: Callable[[Target, str], Awaitable[str]],
    ) -> None:
        self._access_context = access_context
        self._ca = ca
        self._proxy_url = proxy_url

    async def respond(self, method: bytes, target: bytes, headers: Headers, source_ip: str) -> Page | Deny:
        """Respond to an origin-form request from the address `source_ip`. May wait for the access decision."""
        path, _, query = target.partition(b"?")
        if method not in _PAGE_METHODS or path not in _PAGE_PATHS:
            return denial.not_found()
        ca = self._ca()
        if ca is None:
            return denial.not_synced()
        if path == b"/ca.crt":
            return Page(content_type=b"application/x-pem-file", body=ca)
        style = KubeconfigStyle(direct=b"direct" in query.split(b"&"))
        return await self._authorize_kubeconfig(headers, ca, source_ip, style)

    async def _authorize_kubeconfig(
        self, headers: Headers, ca: bytes, source_ip: str, style: KubeconfigStyle
    ) -> Page | Deny:
        if direct_access.is_cross_site(headers):
            return denial.cross_site()
        access_context, caller = self._access_context, _parse_caller(headers)
        question = decide.Question(
            is_connect=True,
            key=None if isinstance(caller, ParseError) else caller.key,
            authority=None,
            token=caller if isinstance(caller, ParseError) else caller.token,
            method=b"CONNECT",
            target=b"",
            headers=headers,
            audit_log_full=False,
            synced=not access_context.unsynced,
            policy=access_context.policy,
        )
        decision = decide.decide(question)
        if isinstance(caller, ParseError) or decision is not decide.UNCHECKED:
            return _as_origin_refusal(decision if isinstance(decision, Deny) else denial.internal_error())
        token = caller.token or ""
        access, resolution = get_cached(access_context, token, caller.key)
        if access is None:
            access = await check_caller(access_context, token, caller.key, source_ip)
            resolution = access_context.target_tokens.get(caller.key)
        decision = decide.decide(
            question._replace(access=access, resolution=resolution, synced=not access_context.unsynced)
        )
        match decision:
            case Deny():
                return _as_origin_refusal(decision)
            case decide.Inject() | decide.Forward():
                return await self._render_kubeconfig(token, decision.target, ca, headers, style)
            case decide.AuthenticateInTunnel():
                return denial.internal_error()

    async def _render_kubeconfig(
        self, token: str, target: Target, ca: bytes, headers: Headers, style: KubeconfigStyle
    ) -> Page | Deny:
        host = (headers.single_value(b"host") or b"").decode("latin-1")
        proxy_url = await self._proxy_url(target, host)
        try:
            entry = KubeconfigEntry(key=target.key, address=target.address, proxy=proxy_url, ca=ca, token=token)
            return Page(content_type=b"application/yaml", body=to_yaml(build_kubeconfig([entry], style)).encode())
        except ParseError:
            return denial.bad_request("the Host header is not HOST[:PORT]")


def _parse_caller(headers: Headers) -> BasicAuthorization | ParseError:
    try:
        return parse_basic(headers.single_value(b"authorization"))
    except ParseError as error:
        return error


def _as_origin_refusal(deny: Deny) -> Deny:
    """Convert the refusal of a CONNECT to that of an origin server (RFC 9110 section 15.5.2)."""
    return replace(deny, status=401, challenge="Basic") if deny.status == 407 else deny
