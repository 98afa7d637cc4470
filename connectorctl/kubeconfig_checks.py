"""Checks of `connectorctl doctor KUBECONFIG`: what a client does with the kubeconfig, one phase at a time."""

import asyncio
import base64
import contextlib
import json
import shlex
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import format_relative_time, read_token_times
from connector_store.domain.base.names import ObjectKey
from connectorctl.connector_context import ConnectorContext
from connectorctl.diagnosis import CheckFailedError, CheckSkippedError, HealthCheck
from connectorctl.kubeconfig_fields import CURRENT_CONTEXT
from connectorctl.proxy_client import make_context
from connectorctl.proxy_program import DEFAULT_LISTEN
from connectorctl.proxy_route import ProxyRoute, RouteResponse, describe_error

TIMEOUT: Final = 20.0
"""Seconds for one check. The proxy gives a target 10 s."""
MAX_RULES: Final = 8
"""Maximum number of rules that the last check lists."""
_KUBECONFIG_STEPS: Final = {
    "--context": "name one of these contexts",
    CURRENT_CONTEXT: "set it: kubectl config use-context NAME; or name a context with --context",
}
"""Next step by the field that is wrong."""
_OTHER_KUBECONFIG_STEP: Final = "name a kubeconfig of connectorctl, or of a volume of the CSI driver"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(kw_only=True)
class KubeconfigSubject:
    """Kubeconfig to check. The first checks fill in the rest."""

    path: Path
    context_name: str | None = None
    context: ConnectorContext | None = None
    token: str = ""
    """Token of requests."""

    @property
    def checked_context(self) -> ConnectorContext:
        """Context that the first check read."""
        assert self.context is not None  # noqa: S101 - all other checks need the first
        return self.context

    @property
    def renewal(self) -> str:
        """Command that writes the kubeconfig again."""
        context = self.checked_context
        route = ProxyRoute(context)
        options = "" if context.proxy is not None else " --direct"
        if route.address[0] in _LOOPBACK and route.authority != DEFAULT_LISTEN:
            options += f" --proxy {'https' if route.uses_proxy_tls else 'http'}://{route.authority}"
        file = shlex.quote(str(self.path))
        return f"make the kubeconfig again: connectorctl kubeconfig {context.key}{options} -o {file}"


async def _check_file(subject: KubeconfigSubject) -> str:
    try:
        context = ConnectorContext.read(subject.path, subject.context_name)
        if context.ca:
            make_context(context.ca)
    except FileNotFoundError:
        raise CheckFailedError(
            f"{subject.path} does not exist", "make it: connectorctl kubeconfig NAMESPACE/NAME -o FILE"
        ) from None
    except ssl.SSLError:
        raise CheckFailedError("certificate-authority has no certificate", "make the kubeconfig again") from None
    except ParseError as error:
        raise CheckFailedError(str(error), _KUBECONFIG_STEPS.get(error.path, _OTHER_KUBECONFIG_STEP)) from None
    except OSError as error:
        raise CheckFailedError(f"{subject.path}: {error.strerror}", "make the file readable to you") from None
    subject.context = context
    way = "through a CONNECT tunnel" if context.proxy is not None else "by direct access"
    return f'context "{context.name}" leads to Connector {context.key} {way}'


async def _check_token(subject: KubeconfigSubject) -> str:
    context = subject.checked_context
    try:
        subject.token = context.request_token()
    except ParseError as error:
        raise CheckFailedError(str(error), "see that the file or the program exists and works") from None
    # A password that is not a JWT stands for the token in the requests.
    token = context.connect_token if read_claims(context.connect_token) is not None else subject.token
    if not token:
        raise CheckFailedError("the kubeconfig has no token", subject.renewal)
    claims = read_claims(token)
    if claims is None:
        raise CheckSkippedError("the token is not a JWT, so its expiry cannot be read")
    return _describe_token(claims, token, subject)


def _describe_token(claims: Mapping[str, Any], token: str, subject: KubeconfigSubject) -> str:
    audiences = claims.get("aud")
    audience = ", ".join(map(str, audiences)) if isinstance(audiences, list) else str(audiences or "")
    expires_at = read_token_times(token).expires_at
    if expires_at is not None and expires_at <= time.time():
        raise CheckFailedError(f"the token expired {format_relative_time(expires_at - time.time())}", subject.renewal)
    if not audience:
        raise CheckFailedError("the token has no audience, so that every API server of its issuer accepts it",
                               subject.renewal)  # fmt: skip
    expiry = (
        f"expires {format_relative_time(expires_at - time.time())}" if expires_at is not None else "does not expire"
    )
    return f"{claims.get('sub', 'the token')}, for the audience {audience}; {expiry}"


async def _check_reachable(subject: KubeconfigSubject) -> str:
    route = ProxyRoute(subject.checked_context)
    start = "check the name, the network and the proxy's pods"
    if route.address[0] in _LOOPBACK:
        listen = "" if route.authority == DEFAULT_LISTEN else f" --listen {route.authority}"
        start = f"start it: connectorctl proxy{listen}; or start the port-forward that leads to it"
    async with _closing(route):
        try:
            async with asyncio.timeout(TIMEOUT):
                await route.dial()
        except (OSError, ValueError) as error:
            raise CheckFailedError(f"{route.authority}: {describe_error(error)}", start) from None
    return route.authority


async def _check_proxy_tls(subject: KubeconfigSubject) -> str:
    context = subject.checked_context
    route = ProxyRoute(context)
    if not route.uses_proxy_tls:
        raise CheckSkippedError("the URL of the proxy is http; TLS begins in the tunnel")
    async with _closing(route):
        await _phase(route.dial(), subject.renewal)
        await _phase(route.start_proxy_tls(), subject.renewal)
    return f"the CA of the kubeconfig signed the certificate of {route.address[0]}"


async def _check_connect(subject: KubeconfigSubject) -> str:
    context = subject.checked_context
    if context.proxy is None:
        raise CheckSkippedError("direct access does not use CONNECT")
    async with _closing(ProxyRoute(context)) as route:
        await _connect(route, subject)
    return f"the proxy opens a tunnel to {context.server.netloc}"


async def _check_target_tls(subject: KubeconfigSubject) -> str:
    if subject.checked_context.proxy is None:
        raise CheckSkippedError("with direct access there is one TLS connection")
    async with _open(subject):
        return "the CA of the kubeconfig signed the certificate in the tunnel"


async def _check_target(subject: KubeconfigSubject) -> str:
    response = await _request(subject, "GET", "/version")
    if response.status >= 500 or response.status in (401, 407, 429) or response.is_refusal:
        raise _failure(response, subject, _describe(response))
    if response.status != 200:
        return f"it answers {response.status} {response.message}"
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return f"Kubernetes {response.json()['gitVersion']}"
    raise CheckFailedError("its answer is not that of an API server", "check spec.address of the Connector")


async def _check_identity(subject: KubeconfigSubject) -> str:
    review = await _review(subject, "selfsubjectreviews", "authentication.k8s.io", {})
    user = review["status"]["userInfo"]
    return f"{user['username']} at the target"


async def _check_rules(subject: KubeconfigSubject) -> str:
    namespace = subject.checked_context.namespace
    review = await _review(subject, "selfsubjectrulesreviews", "authorization.k8s.io", {"namespace": namespace})
    rules = [_describe_rule(rule) for rule in review["status"]["resourceRules"]]
    shown = "; ".join(rules[:MAX_RULES]) or "nothing"
    return f"in namespace {namespace}: {shown}" + (
        f"; and {len(rules) - MAX_RULES} more" if len(rules) > MAX_RULES else ""
    )


CHECKS: Final = (
    HealthCheck(name="kubeconfig", run=_check_file),
    HealthCheck(name="token", run=_check_token, needs=("kubeconfig",)),
    HealthCheck(name="proxy reachable", run=_check_reachable, needs=("kubeconfig",)),
    HealthCheck(name="TLS to the proxy", run=_check_proxy_tls, needs=("proxy reachable",)),
    HealthCheck(name="CONNECT", run=_check_connect, needs=("TLS to the proxy",)),
    HealthCheck(name="TLS in the tunnel", run=_check_target_tls, needs=("CONNECT",)),
    HealthCheck(name="target", run=_check_target, needs=("TLS in the tunnel", "token")),
    HealthCheck(name="who am I", run=_check_identity, needs=("target",)),
    HealthCheck(name="what is allowed", run=_check_rules, needs=("target",)),
)
"""Checks in the order in which a client would fail."""


def read_claims(token: str) -> Mapping[str, Any] | None:
    """Return the claims of a JWT, unverified, or None if `token` is not a JWT."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


@contextlib.asynccontextmanager
async def _closing(route: ProxyRoute) -> AsyncIterator[ProxyRoute]:
    try:
        yield route
    finally:
        route.close()


@contextlib.asynccontextmanager
async def _open(subject: KubeconfigSubject) -> AsyncIterator[ProxyRoute]:
    async with _closing(ProxyRoute(subject.checked_context)) as route:
        await _connect(route, subject)
        await _phase(route.start_target_tls(), f"the proxy has another CA; {subject.renewal}")
        yield route


async def _connect(route: ProxyRoute, subject: KubeconfigSubject) -> None:
    again = "run connectorctl doctor again; the proxy answered a moment ago"
    await _phase(route.dial(), again)
    await _phase(route.start_proxy_tls(), again)
    response = await _phase(
        route.connect(), "check that the port is that of the proxy; a proxy that starts needs a few seconds"
    )
    if response is not None:
        raise _failure(response, subject, f"{response.status} {response.reason}")


async def _request(subject: KubeconfigSubject, method: str, path: str, body: object = None) -> RouteResponse:
    async with _open(subject) as route:
        return await _phase(route.request(method, path, subject.token, body), "read the proxy's log")


async def _review(subject: KubeconfigSubject, plural: str, group: str, spec: Mapping[str, str]) -> Any:
    """Create a review of oneself, and return it. Raises CheckSkippedError if it is refused or unknown."""
    kind = {"selfsubjectreviews": "SelfSubjectReview", "selfsubjectrulesreviews": "SelfSubjectRulesReview"}[plural]
    body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
    response = await _request(subject, "POST", f"/apis/{group}/v1/{plural}", body)
    if response.status != 201:
        raise CheckSkippedError(_describe(response))
    try:
        review = response.json()
        review["status"]["userInfo" if plural == "selfsubjectreviews" else "resourceRules"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckSkippedError("the answer is not that of an API server") from None
    return review


async def _phase[T](work: Awaitable[T], next_step: str) -> T:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await work
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
        raise CheckFailedError(describe_error(error), next_step) from None


def _describe(response: RouteResponse) -> str:
    origin = "the proxy" if response.is_refusal else "the target"
    return f"{origin} answers {response.status}: {response.message}"


def _failure(response: RouteResponse, subject: KubeconfigSubject, detail: str) -> CheckFailedError:
    # The last clause of a refusal by the proxy is its next step.
    detail, _, step = detail.rpartition("; ") if response.is_refusal and "; " in detail else (detail, "", "")
    if response.status in (401, 407) or _names_other_address(response, subject.checked_context.key):
        step = subject.renewal
    return CheckFailedError(detail, step or "ask the owner of the Connector")


def _names_other_address(response: RouteResponse, key: ObjectKey) -> bool:
    """Return True for a refusal because of the address, the path or the host, in the words of `domain.decision`."""
    return response.is_refusal and f"Connector {key} is for " in response.message


def _describe_rule(rule: Mapping[str, Any]) -> str:
    verbs, resources = (",".join(map(str, rule.get(name) or ())) for name in ("verbs", "resources"))
    return f"{verbs} {resources}"
